from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from lightning_trackers.batches import TargetBatch
from lightning_trackers.methods.sintpp.environment import OcclusionSettings
from lightning_trackers.methods.sintpp.hptn import HPTN, Learning, bellman_targets
from lightning_trackers.methods.sintpp.occluders import AgentOccluder, RandomOccluder
from lightning_trackers.methods.sintpp.occlusion import Action
from lightning_trackers.methods.sintpp.regions import PixelFeatures
from lightning_trackers.methods.sintpp.replay import Transitions

SIZE = 24


class BrightPatch:
    """A tracker that looks for one thing: the share of a target's bright pixels that still show."""

    def against(self, exemplars):
        bright = (exemplars[:, 0] > 200).float()

        def score(images, rows=slice(None)):
            own = bright[rows]
            return ((images[:, 0] > 200) * own).sum((1, 2)) / own.sum((1, 2))

        return score


def batch(count=16, seed=0):
    """Dark targets with a bright patch of 6 × 6 px somewhere, beside nothing bright."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(20, 60, (count, 3, SIZE, SIZE), generator=generator).byte()
    backgrounds = torch.randint(0, 100, (count, 3, SIZE, SIZE), generator=generator).byte()
    for target, (x, y) in zip(
        targets, torch.randint(2, SIZE - 8, (count, 2), generator=generator), strict=True
    ):
        target[:, y : y + 6, x : x + 6] = 255
    return TargetBatch(targets, targets, backgrounds, [f"target {i}" for i in range(count)])


def agent(lr=1e-3, hidden=(16,), settings=None, **learning):
    torch.manual_seed(0)
    known = {"batch_size": 20, "warm_up": 40, "epsilon_batches": 4, "target_interval": 5}
    return HPTN(
        BrightPatch(),
        PixelFeatures(4),
        partial(torch.optim.Adam, lr=lr),
        settings or OcclusionSettings(step_limit=4, search_occluder=False),
        Learning(**(known | learning)),
        hidden,
    )


def fit(module, batches, folder=None, resume=None, callbacks=(), epochs=1):
    trainer = pl.Trainer(
        max_epochs=epochs, callbacks=list(callbacks), logger=False, accelerator="cpu",
        enable_checkpointing=bool(callbacks), enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(module, DataLoader(batches, batch_size=None), ckpt_path=resume)
    return trainer


def test_the_bellman_target_of_a_table_worked_by_hand():
    rewards = torch.tensor([1.0, -1.0, 3.0])
    done = torch.tensor([False, False, True])
    values = torch.tensor([[0.5, 2.0], [-4.0, -3.0], [10.0, 20.0]])
    # 1 + 0.9 · 2; −1 + 0.9 · (−3); 3 alone, because the search has ended.
    expected = torch.tensor([2.8, -3.7, 3.0])
    torch.testing.assert_close(bellman_targets(rewards, done, values, 0.9), expected)


def test_the_loss_compares_the_chosen_action_s_value_with_the_target_network_s():
    module = agent()
    size = module.network[0].in_features
    for network, value in ((module.network, 2.0), (module.target_network, 5.0)):
        for parameter in network.parameters():
            parameter.data.zero_()
        network[-1].bias.data[Action.UP] = value
    drawn = Transitions(
        torch.zeros(2, size),
        torch.tensor([Action.UP, Action.LEFT]),
        torch.tensor([1.0, -1.0]),
        torch.zeros(2, size),
        torch.tensor([False, True]),
    )
    # Targets 1 + 0.9 · 5 = 5.5 and −1; values 2 and 0.
    assert module.loss(drawn).item() == pytest.approx((3.5**2 + 1) / 2)


def test_no_gradient_reaches_the_target_network():
    module = agent()
    assert not any(p.requires_grad for p in module.target_network.parameters())
    assert len(module.configure_optimizers().param_groups[0]["params"]) == 4


def test_the_target_network_moves_every_tau_updates_and_not_between():
    module = agent(target_interval=4, warm_up=16)
    begin = {n: v.clone() for n, v in module.target_network.state_dict().items()}
    moved = []

    def record():
        now = module.target_network.state_dict()
        moved.append(any(not torch.equal(v, begin[n]) for n, v in now.items()))
        begin.update({n: v.clone() for n, v in now.items()})

    update = module._update
    module._update = lambda generator: (update(generator), record())[0]
    fit(module, [batch()] * 3)  # 4 steps each, an update after each
    assert moved == [False, False, False, True] * 3
    for a, b in zip(module.network.parameters(), module.target_network.parameters(), strict=True):
        assert torch.equal(a, b)


def test_epsilon_falls_on_a_line_and_stays():
    learning = Learning(first_epsilon=1.0, last_epsilon=0.2, epsilon_batches=4)
    assert [learning.epsilon(n) for n in (0, 1, 2, 4, 9)] == pytest.approx([1, 0.8, 0.6, 0.2, 0.2])


def test_epsilon_is_the_share_of_random_actions():
    module = agent()
    module.network[-1].weight.data.zero_()
    module.network[-1].bias.data[Action.DOWN] = 1.0
    states = torch.zeros(4000, module.network[0].in_features)
    generator = torch.Generator().manual_seed(0)
    assert (module.act(states, generator) == Action.DOWN).all()
    other = (module.act(states, generator, 0.9) != Action.DOWN).float().mean().item()
    assert other == pytest.approx(0.9 * 8 / 9, abs=0.03)  # four deviations


def test_an_interrupted_and_resumed_training_equals_an_uninterrupted_one(tmp_path):
    class StopAfter(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            trainer.should_stop = trainer.current_epoch == 1

    batches = [batch(seed=s) for s in range(2)]
    whole, first, resumed = agent(), agent(), agent()
    fit(whole, batches, epochs=4)
    checkpoint = pl.callbacks.ModelCheckpoint(tmp_path, save_last=True)
    fit(first, batches, tmp_path, callbacks=[checkpoint, StopAfter()], epochs=4)
    checkpoint = pl.callbacks.ModelCheckpoint(tmp_path, save_last=True)
    fit(resumed, batches, tmp_path, tmp_path / "last.ckpt", [checkpoint], epochs=4)
    moved = 0
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
        moved += not torch.equal(first.state_dict()[name], value)
    assert moved > 3
    assert torch.equal(whole.replay.state_dict()["kept"][0], resumed.replay.state_dict()["kept"][0])


def test_an_agent_that_never_terminates_still_hides_every_target():
    module = agent(settings=OcclusionSettings(step_limit=3))
    for parameter in module.network.parameters():
        parameter.data.zero_()
    module.network[-1].bias.data[Action.LARGER] = 1.0
    hidden = AgentOccluder(module).hidden(batch(5), torch.Generator().manual_seed(0))
    # Three times larger, and then three times the patch of the background.
    assert hidden.areas.tolist() == pytest.approx([(0.3 * 1.2**3) ** 2] * 5)
    assert not torch.equal(hidden.images, batch(5).targets)


def test_learning_refuses_what_cannot_be():
    with pytest.raises(ValueError, match="shares in"):
        Learning(discount=1.5)
    with pytest.raises(ValueError, match="warm_up <= capacity"):
        Learning(warm_up=10, capacity=5)


@pytest.mark.slow
def test_an_agent_learns_to_cover_the_one_patch_that_decides_the_score():
    module = agent(
        hidden=(128,),
        settings=OcclusionSettings(
            start_side=0.5, max_side=0.6, step_limit=12, threshold=0.05, search_occluder=False
        ),
        batch_size=100, warm_up=500, epsilon_batches=150, target_interval=100,
    )  # fmt: skip
    fit(module, [batch(32, seed=s) for s in range(300)])
    seen = batch(200, seed=10_000)
    hidden = AgentOccluder(module).hidden(seen, torch.Generator().manual_seed(0))
    at_random = RandomOccluder().covered(seen, hidden.areas, torch.Generator().manual_seed(0))
    random_scores = BrightPatch().against(seen.exemplars)(at_random)
    assert (hidden.scores <= 0.05).float().mean() > 0.9
    assert hidden.scores.mean() < 0.1 < 0.4 < random_scores.mean()
