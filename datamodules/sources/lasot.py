"""LaSOT's training split as a training source.

A frame shows its target if it is neither marked fully occluded nor out of view. Boxes are 1-based in
the files.

Source: Fan et al., LaSOT: A High-quality Benchmark for Large-scale Single Object Tracking, CVPR 2019;
the test split is that of its evaluation toolkit.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from datamodules.errors import DatasetError
from datamodules.sources.indexing import Entry, build_index, default_index_path, state_of
from datamodules.sources.reading import (
    BadEntryError,
    FramePattern,
    read_bytes,
    require_folder,
    subfolders,
)
from datamodules.sources.text import parse_boxes, parse_flags
from datamodules.sources.tracks import TrackSource
from datamodules.sources.videos import one_target

LAYOUT = """expected layout:
  <root>/airplane/airplane-2/img/00000001.jpg, ...
  <root>/airplane/airplane-2/groundtruth.txt, full_occlusion.txt, out_of_view.txt"""

_TEST_NUMBERS = """
airplane 1 9 13 15; basketball 1 6 7 11; bear 2 4 6 17; bicycle 2 7 9 18; bird 2 3 15 17; boat
3 4 12 17; book 3 10 11 19; bottle 1 12 14 18; bus 2 5 17 19; car 2 6 9 17; cat 1 3 18 20;
cattle 2 7 12 13; chameleon 3 6 11 20; coin 3 6 7 18; crab 3 6 12 18; crocodile 3 4 10 14; cup
1 4 7 17; deer 4 8 10 14; dog 1 7 15 19; drone 2 7 13 15; electricfan 1 10 18 20; elephant 1
12 16 18; flag 2 3 5 9; fox 2 3 5 20; frog 3 4 9 20; gametarget 1 2 7 13; gecko 1 5 16 19;
giraffe 2 10 13 15; goldfish 3 7 8 10; gorilla 4 6 9 13; guitar 3 8 10 16; hand 2 3 9 16; hat
1 2 5 18; helmet 5 11 13 19; hippo 1 7 9 20; horse 1 4 12 15; kangaroo 2 5 11 14; kite 4 6 10
15; leopard 1 7 16 20; licenseplate 6 12 13 15; lion 1 5 12 20; lizard 1 3 6 13; microphone 2
6 14 16; monkey 3 4 9 17; motorcycle 1 3 9 18; mouse 1 8 9 17; person 1 5 10 12; pig 2 10 13
18; pool 3 7 12 15; rabbit 10 13 17 19; racing 10 15 16 20; robot 1 5 8 19; rubicCube 1 6 14
19; sepia 6 8 13 16; shark 2 3 5 6; sheep 3 5 7 9; skateboard 3 8 16 19; spider 14 16 18 20;
squirrel 8 11 13 19; surfboard 4 5 8 12; swing 10 14 17 20; tank 6 9 14 16; tiger 4 6 12 18;
train 1 7 11 20; truck 3 6 7 16; turtle 5 8 9 16; umbrella 2 9 17 19; volleyball 1 13 18 19;
yoyo 7 15 17 19; zebra 10 14 16 17
"""

TEST_SPLIT = frozenset(
    f"{category}-{number}"
    for category, numbers in re.findall(r"([a-zA-Z]+)((?:\s+\d+)+)", _TEST_NUMBERS)
    for number in numbers.split()
)
"""The 280 sequences of the test split, four of each class; training never sees them."""


class LaSOTSource(TrackSource):
    """Pairs from LaSOT's training split; the index is made at the first use and after a change.

    Every sequence under the root that is not of the test split is used, so that a root which holds a
    part of the dataset works as well.

    Args:
        root: Folder that holds the classes.
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
        name: str = "lasot",
        index_path: str | Path | None = None,
        same_category: float = 0.0,
    ) -> None:
        root = Path(root)
        videos = _videos(require_folder(root, LAYOUT))
        settings = "lasot"
        parts = ("groundtruth.txt", "full_occlusion.txt", "out_of_view.txt", "img")
        index = build_index(
            Path(index_path) if index_path else default_index_path(root, "lasot", settings),
            read_video,
            lambda: videos,
            state_of(settings, root, [video / part for video in videos for part in parts]),
            LAYOUT,
        )
        frame_path = FramePattern(root, "{video}/img/{frame:08d}.jpg")
        super().__init__(name, index, frame_path, same_category)


def parse_annotation(
    groundtruth: bytes, full_occlusion: bytes, out_of_view: bytes, where: str
) -> tuple[np.ndarray, np.ndarray]:
    """Parse the three files of a video.

    Returns:
        Boxes xyxy, 0-based, ``(T, 4)``, px, and which frames show the target, bool ``(T,)``.

    Raises:
        BadEntryError: If one is malformed or their lengths differ.
    """
    boxes_xyxy = parse_boxes(groundtruth, where, origin=1)
    hidden = parse_flags(full_occlusion, f"{where}, full_occlusion.txt", len(boxes_xyxy))
    outside = parse_flags(out_of_view, f"{where}, out_of_view.txt", len(boxes_xyxy))
    return boxes_xyxy, (hidden == 0) & (outside == 0)


def read_video(folder: Path) -> Iterator[Entry]:
    """Yield the track of a video and what is wrong with it."""
    where = str(folder / "groundtruth.txt")
    try:
        boxes_xyxy, visible = parse_annotation(
            read_bytes(folder / "groundtruth.txt"),
            read_bytes(folder / "full_occlusion.txt"),
            read_bytes(folder / "out_of_view.txt"),
            where,
        )
    except BadEntryError as error:
        yield error.skipped()
        return
    yield from one_target(
        f"{folder.parent.name}/{folder.name}",
        folder.parent.name,
        boxes_xyxy,
        visible,
        np.zeros(len(visible), dtype=bool),
        folder / "img",
        "{:08d}.jpg",
        1,
        where,
    )


def _videos(root: Path) -> list[Path]:
    found = [
        video
        for category in subfolders(root)
        for video in subfolders(category)
        if video.name.startswith(f"{category.name}-")
    ]
    videos = [video for video in found if video.name not in TEST_SPLIT]
    if not videos:
        what = "only sequences of the test split" if found else "no sequence"
        raise DatasetError(f"{root}: {what} in it; {LAYOUT}")
    return videos
