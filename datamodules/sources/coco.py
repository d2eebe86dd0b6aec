"""COCO, objects in still images, as a training source.

A video is an image, a track an annotation of it with one frame, a category COCO's name for it. A
positive pair shows one image twice. Annotations of crowds are left out.

Source: Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014; pytracking drops crowds too,
pysot keeps them.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.errors import DatasetError
from datamodules.sources.indexing import Entry, build_index, cleaned, default_index_path, state_of
from datamodules.sources.reading import (
    BadEntryError,
    FramePattern,
    check_size,
    file_names,
    require_folder,
)
from datamodules.sources.tracks import TrackSource
from datamodules.tracks import Skipped, Track
from lightning_trackers.boxes import xywh_to_xyxy

LAYOUT = """expected layout:
  <root>/annotations/instances_train2017.json, instances_val2017.json
  <root>/train2017/000000000009.jpg, ..., <root>/val2017/..."""

_IMAGES_PER_UNIT = 500
_HUGE = 1e30  # a whole number of JSON may be larger than any float


class COCOSource(TrackSource):
    """Pairs from COCO; the index is made at the first use and after a change.

    Args:
        root: Folder that holds ``annotations`` and the folders of images.
        splits: Names of image folders, each with its ``annotations/instances_<split>.json``.
        name: Name of the source in ids and messages.
        index_path: Where the index is kept, beside the data by default.
        same_category: See :class:`~datamodules.sources.tracks.TrackSource`.

    Raises:
        DatasetError: If the layout is not as expected, or holds nothing to train on.
        PermissionError: If the index cannot be written.
    """

    def __init__(
        self,
        root: str | Path,
        splits: Sequence[str] = ("train2017",),
        name: str = "coco",
        index_path: str | Path | None = None,
        same_category: float = 0.0,
    ) -> None:
        root, splits = Path(root), tuple(splits)
        require_folder(root / "annotations", LAYOUT)
        files = [root / "annotations" / f"instances_{split}.json" for split in splits]
        for split, file in zip(splits, files, strict=True):
            require_folder(root / split, LAYOUT)
            if not file.is_file():
                raise DatasetError(f"{file}: no such file; {LAYOUT}")
        settings = ("coco", splits)
        index = build_index(
            Path(index_path) if index_path else default_index_path(root, "coco", settings),
            read_images,
            lambda: [
                unit
                for split, file in zip(splits, files, strict=True)
                for unit in _units(split, file, root / split)
            ],
            state_of(settings, root, [*files, *(root / split for split in splits)]),
            LAYOUT,
        )
        super().__init__(name, index, FramePattern(root, "{video}"), same_category)


@dataclass
class Image:
    """One image and its annotations.

    Args:
        name: Its path under the root.
        image_wh: Width and height, px.
        objects: Annotation id, category and box xyxy of each object, px.
    """

    name: str
    image_wh: tuple[int, int]
    objects: list[tuple[str, str, np.ndarray]] = field(default_factory=list)


@dataclass
class Images:
    """What a file says.

    Args:
        images: Its images.
        skipped: What could not be understood, and crowds.
    """

    images: list[Image] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def parse_instances(data: bytes, where: str) -> list[Any]:
    """Return ``images``, ``annotations`` and ``categories`` of a file, each a list of dictionaries.

    Outlines are dropped while parsing: they would take gigabytes.

    Raises:
        DatasetError: If it is no JSON or one of the lists is missing.
    """
    try:
        content = json.loads(data, object_hook=_without_outline)
    except (ValueError, RecursionError) as error:
        raise DatasetError(
            f"{where}: malformed JSON ({error}); copy or download the file again"
        ) from error
    parts = []
    for key in ("images", "annotations", "categories"):
        part = content.get(key) if isinstance(content, dict) else None
        if not isinstance(part, list):
            raise DatasetError(
                f"{where}: expected a list {key!r} at the top, as in instances_train2017.json"
            )
        parts.append(part)
    return parts


def group_instances(parts: list[Any], split: str, where: str) -> Images:
    """Return the annotations by image; what is not as expected is left out and counted.

    Args:
        parts: What :func:`parse_instances` returns.
        split: Folder of the images.
        where: Name of the file, for messages.
    """
    images, annotations, categories = parts
    found = Images()
    names = {}
    for entry in categories:
        if isinstance(entry, dict) and _is_id(entry.get("id")):
            names[entry["id"]] = str(entry.get("name"))
    by_id: dict[int, Image] = {}
    for entry in images:
        try:
            number, image = _image(entry, split, where)
            if number in by_id:
                raise BadEntryError("duplicate image id", f"{where}: image {number}")
        except BadEntryError as error:
            found.skipped.append(error.skipped())
        else:
            by_id[number] = image
    for entry in annotations:
        try:
            number, described = _annotation(entry, names, where)
            if number not in by_id:
                raise BadEntryError("annotation of an unknown image", f"{where}: image {number}")
        except BadEntryError as error:
            found.skipped.append(error.skipped())
        else:
            by_id[number].objects.append(described)
    found.images = list(by_id.values())
    return found


def read_images(unit: Images) -> Iterator[Entry]:
    """Yield the objects of some images and what was left out before."""
    yield from unit.skipped
    for image in unit.images:
        for number, category, box_xyxy in image.objects:
            yield from cleaned(
                Track(
                    video=image.name,
                    track=number,
                    category=category,
                    frames=np.zeros(1, dtype=np.int32),
                    boxes_xyxy=box_xyxy[None],
                    visible=np.ones(1, dtype=bool),
                    occluded=np.zeros(1, dtype=bool),
                    image_wh=np.array([image.image_wh]),
                ),
                image.name,
            )


def _units(split: str, file: Path, folder: Path) -> list[Images]:
    found = group_instances(parse_instances(file.read_bytes(), str(file)), split, str(file))
    present = set(file_names(folder))
    images = [image for image in found.images if image.objects]
    missing = [image for image in images if image.name.rpartition("/")[2] not in present]
    if missing:
        found.skipped.append(
            Skipped(
                "frame missing or unreadable", len(missing), str(folder.parent / missing[0].name)
            )
        )
        gone = {image.name for image in missing}
        images = [image for image in images if image.name not in gone]
    step = _IMAGES_PER_UNIT
    units = [Images(images[i : i + step]) for i in range(0, len(images), step)]
    return [Images(skipped=found.skipped), *units]


def _without_outline(entry: dict[str, Any]) -> dict[str, Any]:
    entry.pop("segmentation", None)
    return entry


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _image(entry: Any, split: str, where: str) -> tuple[int, Image]:
    number, name, width, height = _fields(entry, ("id", "file_name", "width", "height"), where)
    numbers = all(isinstance(v, int | float) for v in (width, height))
    if not (_is_id(number) and isinstance(name, str) and name and "/" not in name and numbers):
        raise BadEntryError("image is not described as expected", f"{where}: {str(entry)[:200]}")
    return number, Image(f"{split}/{name}", check_size(width, height, f"{where}: {name}"))


def _annotation(
    entry: Any, names: dict[int, str], where: str
) -> tuple[int, tuple[str, str, np.ndarray]]:
    keys = ("id", "image_id", "category_id", "bbox")
    number, image, category, box_xywh = _fields(entry, keys, where)
    if entry.get("iscrowd"):
        raise BadEntryError("crowd", f"{where}: annotation {number}")
    ids = all(_is_id(v) for v in (number, image, category))
    is_box = isinstance(box_xywh, list) and len(box_xywh) == 4
    if not (ids and is_box and all(isinstance(v, int | float) for v in box_xywh)):
        reason = "annotation is not described as expected"
        raise BadEntryError(reason, f"{where}: {str(entry)[:200]}")
    with np.errstate(over="ignore", invalid="ignore"):
        box_xyxy = xywh_to_xyxy(np.array([max(-_HUGE, min(v, _HUGE)) for v in box_xywh], float))
    if category not in names:
        raise BadEntryError("annotation of an unknown category", f"{where}: annotation {number}")
    return image, (str(number), names[category], box_xyxy)


def _fields(entry: Any, keys: Sequence[str], where: str) -> list[Any]:
    if not isinstance(entry, dict) or not all(key in entry for key in keys):
        reason = f"entry without {', '.join(keys)}"
        raise BadEntryError(reason, f"{where}: {str(entry)[:200]}")
    return [entry[key] for key in keys]
