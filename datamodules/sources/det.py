"""ILSVRC DET, object detection in still images, as a training source.

A video is an image, a track an object of it with one frame, a category a WordNet id. A positive pair
shows one image twice.

Source: Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 2015.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.errors import DatasetError
from datamodules.sources.imagenet import parse_annotation
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
  <root>/{Data,Annotations}/DET/train/ILSVRC2013_train/<wnid>/<image>.{JPEG,xml}
  <root>/{Data,Annotations}/DET/train/ILSVRC2014_train_0000/<image>.{JPEG,xml}, ... 0006
  <root>/{Data,Annotations}/DET/val/<image>.{JPEG,xml}"""

SPLITS = ("train", "val")


class DETSource(TrackSource):
    """Pairs from ILSVRC DET; the index is made at the first use and after a change.

    Args:
        root: Folder that holds ``Data`` and ``Annotations``.
        splits: Any of train and val. pysot trains on both.
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
        name: str = "det",
        index_path: str | Path | None = None,
        same_category: float = 0.0,
    ) -> None:
        root, splits = Path(root), tuple(splits)
        folders = [f for split in splits for f in _folders(root, split)]
        settings = ("det", splits)
        index = build_index(
            Path(index_path) if index_path else default_index_path(root, "det", settings),
            read_folder,
            lambda: folders,
            state_of(settings, root, [f for s in folders for f in (s.annotations, s.images)]),
            LAYOUT,
        )
        super().__init__(
            name, index, FramePattern(root / "Data" / "DET", "{video}.JPEG"), same_category
        )


@dataclass(frozen=True)
class ImageFolder:
    """Images that lie in one folder.

    Args:
        name: Its path under ``Data/DET``.
        annotations: Folder of the XML files.
        images: Folder of the images.
    """

    name: str
    annotations: Path
    images: Path


def read_folder(folder: ImageFolder) -> Iterator[Entry]:
    """Yield the objects of all images of a folder and what is wrong with it."""
    images = set(file_names(folder.images, ".JPEG"))
    for name in file_names(folder.annotations, ".xml"):
        file, stem = folder.annotations / name, name.removesuffix(".xml")
        try:
            image = parse_annotation(read_bytes(file), str(file))
        except BadEntryError as error:
            yield error.skipped()
            continue
        yield from image.skipped
        if image.objects and f"{stem}.JPEG" not in images:
            yield Skipped("frame missing or unreadable", 1, str(folder.images / f"{stem}.JPEG"))
            continue
        for number, found in enumerate(image.objects):
            yield from cleaned(
                Track(
                    video=f"{folder.name}/{stem}",
                    track=str(number),
                    category=found.category,
                    frames=np.zeros(1, dtype=np.int32),
                    boxes_xyxy=np.array([found.box_xyxy]),
                    visible=np.ones(1, dtype=bool),
                    occluded=np.array([found.occluded]),
                    image_wh=np.array([image.image_wh]),
                ),
                str(file),
            )


def _folders(root: Path, split: str) -> list[ImageFolder]:
    if split not in SPLITS:
        raise ValueError(f"det: expected splits of {', '.join(SPLITS)}, got {split!r}")
    top = require_folder(root / "Annotations" / "DET" / split, LAYOUT)
    images = require_folder(root / "Data" / "DET" / split, LAYOUT).parent
    folders = [top]
    if split == "train":  # the images of 2013 lie by category, those of 2014 do not
        folders = [f for part in subfolders(top) for f in (subfolders(part) or [part])]
    if not folders:
        raise DatasetError(f"{top}: no folder of annotations in it; {LAYOUT}")
    names = [f.relative_to(top.parent).as_posix() for f in folders]
    return [ImageFolder(n, f, images / n) for n, f in zip(names, folders, strict=True)]
