"""What a network answered, kept on disk and read through the page cache.

A folder holds one memo; whoever is interrupted loses at most the answer being written.
"""

import json
from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lightning_trackers.files import write_text

KEY_NUMBERS = 4

Key = tuple[int, int, int, int]
"""Frame, zoom level, column, row."""


class OutputMemo:
    """Answers by key: tuples of float32 tensors whose shapes never change.

    One process writes at a time; others see what was added after :meth:`refresh`.

    Args:
        folder: Where the files are; made if missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._records, self._keys = folder / "records.f32", folder / "keys.i32"
        self._shapes: list[torch.Size] = []
        self._rows: dict[Key, int] = {}
        self._mapped = np.empty((0, 0), np.float32)
        self.refresh()

    def __len__(self) -> int:
        """Return the number of answers."""
        return len(self._rows)

    def __contains__(self, key: Hashable) -> bool:
        """Return whether there is an answer of this key."""
        return key in self._rows

    @property
    def note(self) -> dict[str, object]:
        """What was noted beside the answers; empty before anything was."""
        path = self.folder / "note.json"
        return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}

    def write_note(self, note: dict[str, object]) -> None:
        """Note something beside the answers, in place of what was noted before."""
        write_text(self.folder / "note.json", json.dumps(note))

    def refresh(self) -> None:
        """Read what others have added; an answer that was half written is left out."""
        shapes = self.folder / "shapes.json"
        if not shapes.is_file():
            return
        self._shapes = [torch.Size(shape) for shape in json.loads(shapes.read_text("utf-8"))]
        size = sum(shape.numel() for shape in self._shapes)
        # A key is written after its record, so every whole key has one.
        keys = np.fromfile(self._keys, np.int32) if self._keys.is_file() else np.empty(0, np.int32)
        count = len(keys) // KEY_NUMBERS
        rows = keys[: count * KEY_NUMBERS].reshape(count, KEY_NUMBERS).tolist()
        for index in range(len(self._rows), count):
            frame, level, column, row = rows[index]
            self._rows[frame, level, column, row] = index
        if count:
            self._mapped = np.memmap(self._records, np.float32, "r", shape=(count, size))

    def add(self, keys: Sequence[Key], answers: Sequence[Tensor]) -> None:
        """Keep answers, ``(N, ...)`` each, that are not there yet.

        Raises:
            ValueError: If their shapes differ from those kept before.
        """
        shapes = [answer.shape[1:] for answer in answers]
        if not self._shapes:
            write_text(self.folder / "shapes.json", json.dumps(shapes))
            self._shapes = shapes
        elif shapes != self._shapes:
            raise ValueError(
                f"{self.folder}: expected answers of shapes {self._shapes}, got {shapes}"
            )
        flat = torch.cat([answer.flatten(1) for answer in answers], dim=1).numpy()
        _append(self._records, flat.astype(np.float32, copy=False), len(self._rows))
        _append(self._keys, np.array(keys, np.int32), len(self._rows))
        self.refresh()

    def read(self, keys: Sequence[Key]) -> tuple[Tensor, ...]:
        """Return the answers of keys, ``(N, ...)`` each.

        Raises:
            KeyError: If one of them is not there.
        """
        flat = np.array(self._mapped[[self._rows[key] for key in keys]])  # (N, all of an answer)
        ends = np.cumsum([shape.numel() for shape in self._shapes])
        return tuple(
            torch.from_numpy(part).reshape(len(keys), *shape)
            for part, shape in zip(np.split(flat, ends[:-1], axis=1), self._shapes, strict=True)
        )


def _append(path: Path, rows: np.ndarray, count: int) -> None:
    """Write rows after the first ``count`` of a file; what an interrupted write left goes."""
    with path.open("r+b" if path.is_file() else "w+b") as file:
        file.seek(count * rows[0].nbytes)
        file.truncate()
        file.write(rows.tobytes())
