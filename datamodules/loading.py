"""What data modules of drawn samples share: numbering, resuming and frames that cannot be read.

A sample's number and the seed determine it, so a sample is the same in any process, and going on in the
middle of an epoch means beginning at a later number. This is why no state of a generator or of a
worker is saved, and why a run may go on with another number of workers.
"""

import logging
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import cv2
import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from datamodules.errors import DatasetError
from datamodules.frames import FrameError

log = logging.getLogger(__name__)

Sample = TypeVar("Sample")

_DRAWS_IN_A_ROW = 10
_FEW_FAILURES = 100
_MOST_FAILING = 0.01


class EpochSampler(DistributedSampler[int]):
    """Numbers the samples of an epoch: epoch e takes e * n to (e + 1) * n - 1, dealt out to the ranks.

    Samples are independent draws, so there is nothing to shuffle, and an epoch's samples depend neither
    on earlier epochs nor on the number of workers. Being a ``DistributedSampler``, it is not dealt
    out a second time by Lightning.

    Args:
        length: Samples per epoch over all ranks; what does not divide among them is left out.
        rank: This process.
        world_size: Number of processes.
    """

    def __init__(self, length: int, rank: int = 0, world_size: int = 1) -> None:
        super().__init__(range(length), world_size, rank, shuffle=False, drop_last=True)  # type: ignore[arg-type]
        self.length = length
        self.start = 0
        """Samples of this rank that are left out at the beginning; the length stays the whole."""

    def __iter__(self) -> Iterator[int]:
        """Yield this rank's sample numbers."""
        first = self.epoch * self.length + self.rank
        step = self.num_replicas
        return iter(range(first + self.start * step, first + len(self) * step, step))


class SampleLoader(DataLoader[Sample]):
    """A data loader that goes on behind the last batch it handed out.

    Lightning keeps its ``state_dict`` in every checkpoint. Batches that workers have drawn ahead but
    that were not handed out are not part of the state, so they are drawn again.

    Args:
        dataset: Samples by number.
        sampler: Their numbers; every epoch is numbered anew, wherever Lightning resumes.
        batch_size: Samples per batch.
        collate_fn: Makes a batch.
        num_workers: Processes that draw samples.
        multiprocessing_context: How they are started; the system's way by default.
    """

    def __init__(
        self,
        dataset: Dataset[Sample],
        sampler: EpochSampler,
        batch_size: int,
        collate_fn: Callable[[list[Sample]], Any],
        num_workers: int = 0,
        multiprocessing_context: str | None = None,
    ) -> None:
        super().__init__(
            dataset,
            sampler=sampler,
            batch_size=batch_size,
            collate_fn=collate_fn,
            drop_last=True,
            **worker_options(num_workers, multiprocessing_context),
        )
        self.numbers = sampler
        self._total_batch = batch_size * sampler.num_replicas
        self._served = 0
        self._resumed = {"epoch": -1, "samples": 0, "total_batch": self._total_batch}

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yield the batches of the sampler's epoch, or what is left of it in a resumed run.

        The first batch is asked for after Lightning has told the sampler its epoch, and only then is
        anything drawn.
        """
        resumed, self._resumed = self._resumed, self._resumed | {"epoch": -1}
        samples = resumed["samples"] if resumed["epoch"] == self.numbers.epoch else 0
        if samples and resumed["total_batch"] != self._total_batch:
            log.warning(
                "resumed in the middle of an epoch with %s samples a step instead of %s: this epoch "
                "is cut differently, the next ones are whole",
                self._total_batch,
                resumed["total_batch"],
            )
        self._served = samples
        self.numbers.start = samples // self.numbers.num_replicas
        for batch in super().__iter__():
            self._served += self._total_batch
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and how many of its samples were handed out, over all ranks."""
        return {
            "epoch": self.numbers.epoch,
            "samples": self._served,
            "total_batch": self._total_batch,
        }

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Let the next iteration go on where ``state_dict`` was taken, if it is of that epoch."""
        self._resumed = dict(state_dict)


class Redraws:
    """Draws again where a frame cannot be read, and gives up on a source that has many such frames.

    Every file is named once in the log. A second draw goes on with the pair's own random numbers, so
    what replaces a pair depends on its number alone.

    Args:
        name: What to call the source in messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.drawn = 0
        self.failed = 0
        self._named: set[str] = set()

    def draw(self, attempt: Callable[[], Sample]) -> Sample:
        """Return what ``attempt`` returns, calling it again after a frame that cannot be read.

        Raises:
            DatasetError: If that happens ten times in a row, or, after the first hundred times,
                with more than one sample in a hundred.
        """
        self.drawn += 1
        for _ in range(_DRAWS_IN_A_ROW):
            try:
                return attempt()
            except FrameError as error:
                self._note(error)
        raise DatasetError(
            f"source {self.name}: {_DRAWS_IN_A_ROW} frames in a row could not be read, see the "
            "messages before this one; check that the source's root is the folder that was indexed"
        )

    def _note(self, error: FrameError) -> None:
        self.failed += 1
        if str(error) not in self._named:
            self._named.add(str(error))
            log.warning("%s; something else of source %s is drawn instead", error, self.name)
        if self.failed > max(_FEW_FAILURES, _MOST_FAILING * self.drawn):
            raise DatasetError(
                f"source {self.name}: {self.failed} frames could not be read in {self.drawn} draws, "
                f"the last being {error}; copy the source again or prepare its index again"
            ) from error


def usable_cores() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def worker_options(num_workers: int, multiprocessing_context: str | None = None) -> dict[str, Any]:
    """Return the options of a ``DataLoader`` whose workers draw samples, one thread each."""
    return {
        "num_workers": num_workers,
        "persistent_workers": num_workers > 0,
        "pin_memory": torch.cuda.is_available(),
        "worker_init_fn": _single_threaded,
        "multiprocessing_context": multiprocessing_context if num_workers else None,
    }


def _single_threaded(_: int) -> None:
    """Keep OpenCV from starting a thread per core in every worker."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
