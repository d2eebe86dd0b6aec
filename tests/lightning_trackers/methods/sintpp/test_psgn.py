import logging
from dataclasses import replace

import pytest
import torch

from lightning_trackers.methods.sintpp.generated import read_samples, sample_file
from lightning_trackers.methods.sintpp.psgn import (
    PSGNModule,
    PSGNSettings,
    generate_positives,
    latent_grid,
    train_manifolds,
)
from lightning_trackers.methods.sintpp.vae import SIDE

SMALL = PSGNSettings(hidden=4, epochs=3, grid=3)


def targets(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)


def trained(settings, videos, epochs):
    module = PSGNModule(settings.network(list(videos)), list(videos.values()), 1e-3)
    optimizer = module.configure_optimizers()
    for epoch in range(epochs):
        optimizer.zero_grad()
        (-module.bounds(epoch).sum()).backward()
        optimizer.step()
    return module


@pytest.mark.parametrize("convolutional", [False, True])
def test_training_together_equals_training_alone(convolutional):
    settings = PSGNSettings(convolutional=convolutional, hidden=3)
    videos = {"a": targets(5), "b": targets(2, 1), "c": targets(9, 2)}
    together = trained(settings, videos, 5)
    for v, (name, own) in enumerate(videos.items()):
        alone = trained(settings, {name: own}, 5)
        for a, b in zip(
            alone.network.parameters(), together.network.one(v).parameters(), strict=True
        ):
            assert (a - b).abs().max() < 1e-4
        start = settings.network([name])
        moved = [
            float((a - b).detach().abs().max())
            for a, b in zip(alone.network.parameters(), start.parameters(), strict=True)
        ]
        assert min(moved) > 1e-3  # the agreement is not that of weights that stay


def test_what_fills_up_a_batch_does_not_count():
    settings = PSGNSettings(hidden=4)
    few = {"a": targets(2)}
    padded = PSGNModule(settings.network(["a", "b"]), [targets(2), targets(7, 1)])
    alone = PSGNModule(settings.network(["a"]), list(few.values()))
    torch.testing.assert_close(padded.bounds(0)[:1], alone.bounds(0))
    padded.targets[0, 2:] = 255  # were it counted, this would change the bound
    torch.testing.assert_close(padded.bounds(0)[:1], alone.bounds(0))


def test_noise_is_new_in_every_epoch_and_across_blocks():
    module = PSGNModule(PSGNSettings(hidden=2).network(["a"]), [targets(3)])
    drawn = torch.stack([module._noise(e) for e in (0, 1, 63, 64, 65)])
    assert len(torch.unique(drawn)) == drawn.numel()
    assert torch.equal(drawn[0], module._noise(0))  # back again, as after a resume


def test_the_bound_rises():
    settings = PSGNSettings(hidden=16)
    # Black and white, so that the best likelihood is 1.
    video = {"a": (targets(1) > 127).to(torch.uint8).mul(255).repeat(2, 1, 1, 1)}
    before = PSGNModule(settings.network(["a"]), list(video.values())).bounds(0).item()
    assert trained(settings, video, 40).bounds(0).item() > before + 400  # of -8500 nats


def test_the_walk_is_even_under_the_prior():
    grid = latent_grid(3, tail=0.05)
    q = 1.6448536  # 95 % of the normal distribution lie below
    expected = [[a, b] for a in (-q, 0, q) for b in (-q, 0, q)]
    torch.testing.assert_close(grid, torch.tensor(expected))
    assert latent_grid(1).tolist() == [[0, 0]]


def test_generated_positives_are_the_decoder_s_probabilities():
    vae = SMALL.network(["a"])
    grid = latent_grid(3)
    pictures = generate_positives(vae, grid)
    assert pictures.shape == (9, 3, SIDE, SIDE)
    assert pictures.dtype == torch.uint8
    expected = vae.decode(grid[None])[0].sigmoid().detach().view(9, 3, SIDE, SIDE) * 255
    torch.testing.assert_close(pictures.float(), expected, atol=0.51, rtol=0)
    with pytest.raises(ValueError, match="one video's autoencoder, got 2"):
        generate_positives(SMALL.network(["a", "b"]), grid)


def test_samples_are_written_with_what_they_were_made_from(tmp_path, caplog):
    videos = {"drawn/0": targets(3), "drawn/1": targets(1, 1), "drawn/2": targets(5, 2)}
    with caplog.at_level(logging.WARNING):
        made = train_manifolds(videos, tmp_path, SMALL, "cpu")
    assert made == ["drawn/0", "drawn/2"]
    assert "drawn/1: 1 usable target" in caplog.text
    assert not sample_file(tmp_path, "drawn/1").exists()
    for name in made:
        assert read_samples(tmp_path, name).shape == (9, 3, SIDE, SIDE)
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    kept = {name: sample_file(tmp_path, name).stat().st_mtime_ns for name in made}
    # The same again: nothing is trained. Other targets of one video: it alone is.
    train_manifolds(videos, tmp_path, SMALL, "cpu")
    assert kept == {n: sample_file(tmp_path, n).stat().st_mtime_ns for n in made}
    train_manifolds({**videos, "drawn/0": targets(4)}, tmp_path, SMALL, "cpu")
    changed = [n for n in made if sample_file(tmp_path, n).stat().st_mtime_ns != kept[n]]
    assert changed == ["drawn/0"]


def test_a_group_s_size_does_not_change_the_samples(tmp_path):
    videos = {f"v{i}": targets(2 + i, i) for i in range(3)}
    train_manifolds(videos, tmp_path / "a", SMALL, "cpu")
    one_by_one = PSGNSettings(hidden=4, epochs=3, grid=3, videos_at_once=1)
    train_manifolds(videos, tmp_path / "b", one_by_one, "cpu")
    for name in videos:
        a, b = (read_samples(tmp_path / f, name).int() for f in "ab")
        assert (a - b).abs().max() <= 1


def test_a_damaged_file_is_named(tmp_path):
    sample_file(tmp_path, "a").write_bytes(b"not a zip")
    with pytest.raises(ValueError, match=r"a\.npz: not a file of generated positives"):
        read_samples(tmp_path, "a")


def test_targets_of_another_size_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"v: expected uint8 targets of shape \(N, 3, 64, 64\)"):
        train_manifolds({"v": torch.zeros(2, 3, 32, 32, dtype=torch.uint8)}, tmp_path, SMALL)


@pytest.mark.parametrize("convolutional", [False, True])
def test_decoders_begin_at_the_mean_of_their_video_s_targets(tmp_path, convolutional):
    bright, dark = targets(3) // 4 + 150, targets(4, 1) // 4 + 20
    dark[:, 0] += 100  # red
    settings = replace(
        SMALL, convolutional=convolutional, epochs=1, learning_rate=1e-9, mean_start=True
    )
    train_manifolds({"bright": bright, "dark": dark}, tmp_path, settings, "cpu")
    for name, own in (("bright", bright), ("dark", dark)):
        shown = read_samples(tmp_path, name).float().mean((0, 2, 3))
        torch.testing.assert_close(shown, own.float().mean((0, 2, 3)), atol=8, rtol=0)


def test_a_training_that_diverges_is_named_with_what_to_do(tmp_path):
    settings = replace(SMALL, epochs=5, learning_rate=1e3)
    with pytest.raises(RuntimeError, match=r"first one is a; set psgn.learning_rate below 1000"):
        train_manifolds({"a": targets(3)}, tmp_path, settings, "cpu")
    assert not list(tmp_path.iterdir())
