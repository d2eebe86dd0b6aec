"""What learns in any epoch is what the optimizer holds from the start, in every exp and profile."""

from types import SimpleNamespace

import pytest
import torch

from experiments.config import made
from tests.experiments.composing import composed
from tests.experiments.test_config import EXPS, PROFILES


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("exp", EXPS)
def test_every_trainable_parameter_is_in_the_optimizer_once(exp, profile, monkeypatch):
    cfg = composed(f"+exp={exp}", f"profile={profile}", "initial_weights=random")
    for name in ("kaiming_normal_", "kaiming_uniform_"):  # takes a second for a ResNet-50
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)
    module = made(cfg.module)
    trainer = SimpleNamespace(
        datamodule=SimpleNamespace(batch_size=8, domains=3), world_size=1, accumulate_grad_batches=1,
        max_epochs=cfg.trainer.max_epochs, estimated_stepping_batches=2 * cfg.trainer.max_epochs,
    )  # fmt: skip
    module._trainer = trainer
    module.setup("fit")
    configured = module.configure_optimizers()  # nothing where a tracker learns only online
    groups = configured["optimizer"].param_groups if configured else []
    held = [id(p) for group in groups for p in group["params"]]
    module.train()
    learning = set()
    for epoch in range(trainer.max_epochs):
        trainer.current_epoch = epoch
        module.on_train_epoch_start()
        learning |= {name for name, p in module.named_parameters() if p.requires_grad}
    in_optimizer = {name for name, p in module.named_parameters() if id(p) in set(held)}
    assert bool(learning) == bool(configured)
    assert learning == in_optimizer
    assert len(held) == len(set(held)) == len(in_optimizer)
