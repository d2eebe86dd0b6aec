import pytest

from tests.experiments.composing import checked


@pytest.mark.parametrize(
    ("exp", "stages", "generated"),
    [
        ("sintpp", ["sint", "vaes", "agent", "agent_positives"], True),
        ("sint_vae_ro", ["vaes", "random_positives"], True),
        ("sint_adversarial", ["sint", "adversary", "adversary_positives"], False),
    ],
)
def test_rows_differ_in_their_stages_as_the_paper_says(exp, stages, generated):
    cfg = checked(f"+exp={exp}")
    assert list(cfg.pipeline) == stages
    assert cfg.stages == [*stages, "tracker"]
    shown = cfg.datamodule.train_sources.videos.source
    assert shown.positives == f"out/stages/{stages[-1]}/positives.npz"
    make = cfg.pipeline[stages[-1]].make
    assert make.generated == ("out/stages/vaes/positives.npz" if generated else None)
    assert make.sources == shown.sources
    assert make.frames == shown.frames
    if "sint" in stages:  # the same training without hard positives
        first = cfg.pipeline.sint
        assert first.datamodule.train_sources.videos.source.positives is None
        assert first.datamodule.pairs_per_epoch == cfg.datamodule.pairs_per_epoch
        assert first.max_epochs == cfg.trainer.max_epochs
        assert first.module == cfg.module


def test_the_row_of_psgn_alone_shows_what_its_stage_generates():
    cfg = checked("+exp=sint_vae")
    assert list(cfg.pipeline) == ["vaes"]
    shown = cfg.datamodule.train_sources.videos.source
    assert shown.positives == "out/stages/vaes/positives.npz"
    assert cfg.pipeline.vaes.make.sources == shown.sources


def test_the_paper_s_agent_has_the_paper_s_numbers():
    cfg = checked("+exp=sintpp", "profile=paper", "initial_weights=random", "paths.train_root=here")
    agent = cfg.pipeline.agent.module
    assert agent.optimizer._target_ == "torch.optim.Adam"
    assert agent.optimizer.lr == 1e-6
    assert agent.learning.batch_size == 100
    assert agent.features._target_.endswith("VGGFeatures")
    assert cfg.optimizer.lr == 1e-4
    assert cfg.optimizer.momentum == 0.9
    assert cfg.optimizer.weight_decay == 5e-4


def test_an_interrupted_run_goes_on_in_its_own_folder():
    cfg = checked("+exp=sintpp", "seed=3")
    assert cfg.resume == "auto"
    assert cfg.run_dir.endswith("sintpp_laptop_seed3")
