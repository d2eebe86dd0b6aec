"""ILSVRC2015 VID, object detection in video, as a training source.

A video is a snippet, a track one ``trackid`` in it, a category a WordNet id.

Source: Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 2015.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.errors import DatasetError
from datamodules.sources.imagenet import AnnotatedObject, parse_annotation
from datamodules.sources.indexing import Entry, build_index, cleaned, default_index_path, state_of
from datamodules.sources.reading import (
    BadEntryError,
    FramePattern,
    file_names,
    read_bytes,
    require_folder,
    subfolders,
)
from datamodules.sources.tracks import TrackSource
from datamodules.tracks import Skipped, Track

LAYOUT = """expected layout:
  <root>/Data/VID/train/ILSVRC2015_VID_train_0000/<snippet>/000000.JPEG, ...
  <root>/Annotations/VID/train/ILSVRC2015_VID_train_0000/<snippet>/000000.xml, ...
  <root>/Data/VID/val/<snippet>/..., <root>/Annotations/VID/val/<snippet>/..."""

SPLITS = ("train", "val")


class VIDSource(TrackSource):
    """Pairs from ILSVRC VID; the index is made at the first use and after a change.

    Args:
        root: Folder that holds ``Data`` and ``Annotations``.
        splits: Any of train and val. pysot trains on both.
        use_occluded: Whether frames marked occluded are drawn (pysot does; pytracking does not).
        name: Name of the source in ids and messages.
        index_path: Where the index is kept, beside the data by default.
        same_category: See :class:`~datamodules.sources.tracks.TrackSource`.

    Raises:
        DatasetError: If the layout is not as expected, or holds nothing to train on.
        ValueError: If a split is unknown.
        PermissionError: If the index cannot be written.
    """

    def __init__(
        self,
        root: str | Path,
        splits: Sequence[str] = ("train",),
        use_occluded: bool = True,
        name: str = "vid",
        index_path: str | Path | None = None,
        same_category: float = 0.0,
    ) -> None:
        root, splits = Path(root), tuple(splits)
        snippets = [s for split in splits for s in _snippets(root, split, use_occluded)]
        settings = ("vid", splits, use_occluded)
        index = build_index(
            Path(index_path) if index_path else default_index_path(root, "vid", settings),
            read_snippet,
            lambda: snippets,
            state_of(settings, root, [f for s in snippets for f in (s.annotations, s.images)]),
            LAYOUT,
        )
        frame_path = FramePattern(root / "Data" / "VID", "{video}/{frame:06d}.JPEG")
        super().__init__(name, index, frame_path, same_category)


@dataclass(frozen=True)
class Snippet:
    """One video.

    Args:
        name: Its path under ``Data/VID``.
        annotations: Folder of its XML files.
        images: Folder of its frames.
        use_occluded: Whether a frame marked occluded counts as visible.
    """

    name: str
    annotations: Path
    images: Path
    use_occluded: bool


def read_snippet(snippet: Snippet) -> Iterator[Entry]:
    """Yield the tracks of a snippet and what is wrong with it."""
    objects: dict[str, list[tuple[int, tuple[int, int], AnnotatedObject]]] = defaultdict(list)
    for name in file_names(snippet.annotations, ".xml"):
        file = snippet.annotations / name
        try:
            frame = _frame_number(name, file)
            image = parse_annotation(read_bytes(file), str(file))
        except BadEntryError as error:
            yield error.skipped()
            continue
        yield from image.skipped
        for found in image.objects:
            if not found.track:
                yield Skipped("object without trackid", 1, str(file))
            elif found.track in objects and objects[found.track][0][2].category != found.category:
                where = f"{file}, track {found.track}: {found.category}"
                yield Skipped("target changes its category", 1, where)
            else:
                objects[found.track].append((frame, image.image_wh, found))
    images = set(file_names(snippet.images))
    for track, rows in objects.items():
        frames = [frame for frame, _, _ in rows]
        occluded = np.array([found.occluded for _, _, found in rows])
        yield from cleaned(
            Track(
                video=snippet.name,
                track=track,
                category=rows[0][2].category,
                frames=np.array(frames),
                boxes_xyxy=np.array([found.box_xyxy for _, _, found in rows]),
                visible=np.full(len(rows), True) if snippet.use_occluded else ~occluded,
                occluded=occluded,
                image_wh=np.array([image_wh for _, image_wh, _ in rows]),
            ),
            str(snippet.annotations),
            np.array([f"{frame:06d}.JPEG" in images for frame in frames]),
        )


def _snippets(root: Path, split: str, use_occluded: bool) -> list[Snippet]:
    if split not in SPLITS:
        raise ValueError(f"vid: expected splits of {', '.join(SPLITS)}, got {split!r}")
    folder = require_folder(root / "Annotations" / "VID" / split, LAYOUT)
    images = require_folder(root / "Data" / "VID" / split, LAYOUT).parent
    # The training snippets lie in parts, those of val do not.
    folders = [f for part in subfolders(folder) for f in subfolders(part)]
    folders = folders if split == "train" else subfolders(folder)
    if not folders:
        raise DatasetError(f"{folder}: no snippet in it; {LAYOUT}")
    names = [f"{f.relative_to(folder.parent).as_posix()}" for f in folders]
    return [
        Snippet(name, f, images / name, use_occluded)
        for name, f in zip(names, folders, strict=True)
    ]


def _frame_number(name: str, file: Path) -> int:
    stem = name.removesuffix(".xml")
    if not (stem.isascii() and stem.isdigit() and len(stem) <= 9):
        raise BadEntryError("file name is no frame number", str(file))
    return int(stem)
