"""The positive sample generation network: training of many videos' autoencoders, and walks on them.

Source: Wang et al., SINT++, CVPR 2018, Section 4.1 and Fig. 3.
"""

import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_trackers.methods.sintpp.generated import latent_figure, read_samples, write_samples
from lightning_trackers.methods.sintpp.vae import SIDE, ConvolutionalVAEs, DenseVAEs, VideoVAEs

log = logging.getLogger(__name__)

_NOISE_BLOCK = 64  # epochs whose noise is drawn at once


@dataclass(frozen=True)
class PSGNSettings:
    """How autoencoders are trained and walked on.

    Args:
        convolutional: Whether to take the convolutional variant.
        hidden: Width of the dense network's layers; of the convolutional one, channels of the first.
        latent: Length of the latent variable.
        epochs: Passes over all targets of a video, which are one batch.
        learning_rate: RMSprop's.
        smoothing: RMSprop's memory: 0.9 in Keras, with which the authors worked; PyTorch's is 0.99.
        grid: Points along each axis of the walk, which is over the whole latent plane.
        tail: Share of the prior beyond the walk on either side of an axis; not in the paper.
        mean_start: Whether decoders begin at the mean of their video's targets. Not in the paper,
            whose 20,000 epochs learn it; with hundreds of epochs little else would be learnt.
        videos_at_once: Autoencoders that learn together, a limit of memory: at the paper's size one
            takes 0.2 GB with gradients and optimizer.
        seed: Seed of all draws.

    Raises:
        ValueError: If a number is out of range.
    """

    convolutional: bool = False
    hidden: int = 512
    latent: int = 2
    epochs: int = 20_000
    learning_rate: float = 1e-3
    smoothing: float = 0.9
    grid: int = 15
    tail: float = 0.05
    mean_start: bool = False
    videos_at_once: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        counts = (self.hidden, self.latent, self.epochs, self.grid, self.videos_at_once)
        if min(counts) < 1 or self.learning_rate <= 0 or not 0 < self.tail < 0.5:
            raise ValueError(
                "psgn: expected counts of at least 1, learning_rate > 0 and tail in (0, 0.5), got "
                f"{self}"
            )

    def network(self, names: Sequence[str]) -> VideoVAEs:
        """Return new autoencoders; a video's depends on its name and the seed alone."""
        seeds = [_seed(self.seed, name) for name in names]
        if self.convolutional:
            return ConvolutionalVAEs(seeds, self.hidden, self.latent)
        return DenseVAEs(seeds, self.hidden, self.latent)


class PSGNModule(pl.LightningModule):
    """Trains the autoencoders of several videos together.

    A step is an epoch: all targets of all videos are one batch, so they are kept on the device and the
    data loader serves nothing but numbers. Videos with fewer targets than others are filled up with
    what does not count. RMSprop works on each weight by itself, so one optimizer serves all videos.

    Args:
        network: The autoencoders.
        targets: Targets of each video, uint8 RGB, shape ``(N_v, 3, 64, 64)``.
        learning_rate: RMSprop's.
        smoothing: RMSprop's memory.

    Raises:
        ValueError: If there is not one set of targets per autoencoder, or one is empty.
    """

    targets: Tensor
    counted: Tensor

    def __init__(
        self,
        network: VideoVAEs,
        targets: Sequence[Tensor],
        learning_rate: float = 1e-3,
        smoothing: float = 0.9,
    ) -> None:
        super().__init__()
        counts = [len(x) for x in targets]
        if len(counts) != len(network.seeds) or min(counts, default=0) < 1:
            raise ValueError(
                f"psgn: expected targets of {len(network.seeds)} videos, got as many as {counts}"
            )
        self.network = network
        self.learning_rate = learning_rate
        self.smoothing = smoothing
        padded = nn.utils.rnn.pad_sequence([x.flatten(1) for x in targets], batch_first=True)
        counted = torch.arange(max(counts)) < torch.tensor(counts)[:, None]  # (V, N)
        self.register_buffer("targets", padded, persistent=False)  # (V, N, P)
        self.register_buffer("counted", counted, persistent=False)
        self._block = (-1, torch.empty(0))

    def bounds(self, epoch: int) -> Tensor:
        """Return each video's bound on its targets, the mean over them, ``(V,)``, nats."""
        images = self.targets.float() / 255
        bounds: Tensor = self.network(images, self._noise(epoch))  # (V, N)
        return (bounds * self.counted).sum(1) / self.counted.sum(1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Return the sum over videos, so that each one's gradient is what it would be alone."""
        bounds = self.bounds(int(batch[0]))
        self.log("train/bound", bounds.detach().mean(), batch_size=1)
        return -bounds.sum()

    def train_dataloader(self) -> DataLoader[int]:
        """Return the numbers of the epochs."""
        epochs: list[int] = list(range(int(self.trainer.max_steps)))
        return DataLoader(epochs)  # type: ignore[arg-type]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return RMSprop with Keras's constants."""
        return torch.optim.RMSprop(
            self.parameters(), self.learning_rate, self.smoothing, eps=1e-7, foreach=True
        )

    def _noise(self, epoch: int) -> Tensor:
        """Return the noise of an epoch, ``(V, N, J)``; a video's depends on its seed alone."""
        block, place = divmod(epoch, _NOISE_BLOCK)
        if self._block[0] != block:
            rows = self.counted.sum(1).tolist()
            drawn = [
                # Epoch by epoch one after another, so that padding does not change what is drawn.
                torch.randn(
                    (n, _NOISE_BLOCK, self.network.latent),
                    generator=torch.Generator().manual_seed(seed * 100_003 + block),
                )
                for seed, n in zip(self.network.seeds, rows, strict=True)
            ]
            noise = nn.utils.rnn.pad_sequence(drawn, batch_first=True)  # (V, N, E, J)
            self._block = block, noise.to(self.device)
        return self._block[1][:, :, place]


def latent_grid(side: int, latent: int = 2, tail: float = 0.05) -> Tensor:
    """Return points that walk over the latent space, evenly under the prior, ``(side ** J, J)``.

    Row by row, from the upper left of Fig. 3's pictures on.

    Args:
        side: Points along each axis.
        latent: J.
        tail: Share of the prior beyond the first and the last point of an axis.
    """
    shares = torch.linspace(tail, 1 - tail, side, dtype=torch.float64)
    if side == 1:
        shares = shares.new_tensor([0.5])
    along = torch.special.ndtri(shares).float()
    return torch.cartesian_prod(*[along] * latent).view(-1, latent)


@torch.inference_mode()
def generate_positives(vae: VideoVAEs, grid: Tensor) -> Tensor:
    """Return what one video's autoencoder shows at points of its latent space.

    Args:
        vae: The autoencoder of one video, e.g. ``network.one(0)``.
        grid: Points, shape ``(K, J)``, e.g. of :func:`latent_grid`.

    Returns:
        Pictures, uint8 RGB, shape ``(K, 3, 64, 64)``.

    Raises:
        ValueError: If these are the autoencoders of several videos.
    """
    if len(vae.seeds) != 1:
        raise ValueError(f"psgn: expected one video's autoencoder, got {len(vae.seeds)}")
    like = next(vae.parameters())
    pictures = vae.decode(grid.to(like)[None])[0].sigmoid()  # (K, P)
    return (pictures * 255).round().to(torch.uint8).view(-1, 3, SIDE, SIDE).cpu()


def train_manifolds(
    videos: Mapping[str, Tensor],
    folder: Path,
    settings: PSGNSettings,
    accelerator: str = "auto",
    loggers: Sequence[pl.loggers.Logger] = (),
) -> list[str]:
    """Train an autoencoder for every video, and write what it generates and a figure of its manifold.

    Videos whose samples are there already, made from the same targets with the same settings, are left
    out, so an interrupted call goes on behind the last group of videos.

    Args:
        videos: Targets by video, uint8 RGB, shape ``(N_v, 3, 64, 64)``.
        folder: Where ``<video>.npz`` and ``<video>.png`` are written.
        settings: How.
        accelerator: Lightning's name of the device.
        loggers: Where the bound is logged.

    Returns:
        The videos that have samples.

    Raises:
        ValueError: If a video's targets are not 64 × 64.
        RuntimeError: If the training was interrupted, or diverged.
    """
    for name, targets in videos.items():
        if targets.dtype != torch.uint8 or targets.shape[1:] != (3, SIDE, SIDE):
            raise ValueError(
                f"{name}: expected uint8 targets of shape (N, 3, {SIDE}, {SIDE}), got "
                f"{targets.dtype} {tuple(targets.shape)}"
            )
    usable = {}
    for name, targets in videos.items():
        if len(targets) > 1:
            usable[name] = targets
        else:
            log.warning(
                "%s: %d usable target; one picture is no manifold, so no autoencoder is trained and "
                "no positives are generated",
                name,
                len(targets),
            )
    provenance = {name: _provenance(name, usable[name], settings) for name in usable}
    missing = [n for n in usable if read_samples(folder, n, provenance[n]) is None]
    # Alike numbers of targets together: less is filled up.
    missing.sort(key=lambda name: len(usable[name]))
    for names in _groups(missing, settings.videos_at_once):
        network = settings.network(names)
        if settings.mean_start:
            means = [usable[name].flatten(1).float().mean(0) / 255 for name in names]
            network.begin_at(torch.stack(means))
        module = PSGNModule(
            network,
            [usable[name] for name in names],
            settings.learning_rate,
            settings.smoothing,
        )
        trainer = pl.Trainer(
            accelerator=accelerator,
            devices=1,
            max_epochs=-1,
            max_steps=settings.epochs,
            logger=list(loggers) or False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            log_every_n_steps=100,
        )
        trainer.fit(module)
        if trainer.global_step < settings.epochs:
            raise RuntimeError(
                f"interrupted after {trainer.global_step} of {settings.epochs} epochs of "
                f"{len(names)} videos; start again to go on, finished videos are kept in {folder}"
            )
        bounds = module.bounds(0)
        if not bool(bounds.isfinite().all()):
            lost = [name for name, bound in zip(names, bounds, strict=True) if not bound.isfinite()]
            raise RuntimeError(
                f"psgn: the autoencoders of {len(lost)} videos diverged, the first one is {lost[0]}; "
                f"set psgn.learning_rate below {settings.learning_rate:g}"
            )
        grid = latent_grid(settings.grid, settings.latent, settings.tail)
        for i, name in enumerate(names):
            pictures = generate_positives(network.one(i), grid)
            latent_figure(folder, name, pictures, usable[name])
            write_samples(folder, name, pictures, grid, provenance[name])
        log.info("%d videos: samples in %s", len(names), folder)
    return list(usable)


def _groups(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for begin in range(0, len(names), size):
        yield names[begin : begin + size]


def _provenance(name: str, targets: Tensor, settings: PSGNSettings) -> dict[str, object]:
    """Return what a video's samples depend on."""
    config = {k: v for k, v in asdict(settings).items() if k != "videos_at_once"}
    digest = zlib.crc32(np.ascontiguousarray(targets.numpy()).tobytes())
    return {"video": name, "frames": len(targets), "targets_crc32": digest, **config}


def _seed(seed: int, name: str) -> int:
    # Room for the numbers of layers between the seeds of two videos.
    return (zlib.crc32(name.encode()) ^ (seed * 2_654_435_761 % 2**32)) * 16
