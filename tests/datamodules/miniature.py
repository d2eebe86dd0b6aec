"""Miniature trees of every training set in its official layout, with drawn frames.

Each function writes a tree below a folder and returns the tracks that its reader must find, in order.
Frames show every target as a square of its own colour on a grey that tells the frame's number.
"""

from pathlib import Path

import cv2
import numpy as np

from datamodules.tracks import Track

WIDTH, HEIGHT = 96, 72


def colour(target):
    """Return the colour of target number ``target``, RGB."""
    return (40 + 50 * target % 200, 220 - 60 * target % 200, 30 + 90 * target % 200)


def write_frame(path: Path, boxes_xyxy, number=0, wh=(WIDTH, HEIGHT)):
    """Draw targets (None where one does not show) and write the frame, also to non-ASCII paths."""
    image = np.full((wh[1], wh[0], 3), 100 + number % 100, np.uint8)
    for target, box in enumerate(boxes_xyxy):
        if box is not None:
            x1, y1, x2, y2 = (round(float(v)) for v in box)
            cv2.rectangle(image, (x1, y1), (x2 - 1, y2 - 1), colour(target)[::-1], -1)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = ".jpg" if path.suffix.lower() in (".jpg", ".jpeg") else path.suffix
    path.write_bytes(cv2.imencode(suffix, image)[1].tobytes())


def moving_box(seed, t):
    """Return a target's box at frame ``t``, xyxy, whole px, inside the frame for t < 40."""
    x1, y1 = 4 + 5 * seed % 23 + t, 3 + 7 * seed % 19 + t // 2
    return (x1, y1, x1 + 16 + 3 * seed % 7, y1 + 12 + 2 * seed % 9)


def track(video, name, category, frames, boxes, visible=None, occluded=None, wh=(WIDTH, HEIGHT)):
    """Return a track; the box of an invisible frame is not compared."""
    count = len(frames)
    return Track(
        video=video,
        track=name,
        category=category,
        frames=np.array(frames, np.int32),
        boxes_xyxy=np.array(boxes, np.float32).reshape(count, 4),
        visible=np.ones(count, bool) if visible is None else np.array(visible, bool),
        occluded=np.zeros(count, bool) if occluded is None else np.array(occluded, bool),
        image_wh=np.broadcast_to(np.array(wh, np.uint16), (count, 2)),
    )


def assert_same_tracks(index, expected):
    """Compare an index with tracks, box for box."""
    assert [(t.video, t.track) for t in map(index.track, range(len(index)))] == [
        (t.video, t.track) for t in expected
    ]
    for i, wanted in enumerate(expected):
        got = index.track(i)
        assert got.category == wanted.category
        for column in ("frames", "visible", "occluded", "image_wh"):
            np.testing.assert_array_equal(getattr(got, column), getattr(wanted, column))
        # Files carry up to four decimals; whole numbers must come back exactly.
        shown = wanted.visible
        np.testing.assert_allclose(
            got.boxes_xyxy[shown], wanted.boxes_xyxy[shown], rtol=0, atol=2e-4
        )


def voc_xml(wh, objects):
    """Return an ILSVRC annotation; objects are dicts with name, box and what else stands in it."""
    parts = [f"<size><width>{wh[0]}</width><height>{wh[1]}</height></size>"]
    for given in objects:
        rest = dict(given)
        x1, y1, x2, y2 = rest.pop("box")
        fields = "".join(f"<{key}>{value}</{key}>" for key, value in rest.items())
        # The official files write xmax before xmin.
        box = f"<xmax>{x2}</xmax><xmin>{x1}</xmin><ymax>{y2}</ymax><ymin>{y1}</ymin>"
        parts.append(f"<object>{fields}<bndbox>{box}</bndbox></object>")
    return f"<annotation><folder>f</folder>{''.join(parts)}</annotation>"


def write_text(path: Path, text: str):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def vid(root: Path, videos=3, frames=8):
    """ILSVRC2015 VID: ``videos`` training snippets with two targets each, one snippet in val.

    The second target enters at frame 2 and is marked occluded in its last frame.
    """
    root = Path(root)
    names = [
        f"train/ILSVRC2015_VID_train_000{v % 2}/ILSVRC2015_train_{v:08d}" for v in range(videos)
    ]
    expected = []
    for v, name in enumerate([*sorted(names), "val/ILSVRC2015_val_00000000"]):
        targets = [(v, "n02691156", 0), (v + 7, "n02084071", 2)]
        for t in range(frames):
            objects = []
            boxes = []
            for number, (seed, category, start) in enumerate(targets):
                shown = t >= start
                boxes.append(moving_box(seed, t) if shown else None)
                if shown:
                    occluded = int(number == 1 and t == frames - 1)
                    objects.append(
                        {"trackid": number, "name": category, "box": moving_box(seed, t)}
                        | {"occluded": occluded, "generated": 0}
                    )
            file = f"{name}/{t:06d}"
            write_frame(root / "Data/VID" / f"{file}.JPEG", boxes, t)
            write_text(root / "Annotations/VID" / f"{file}.xml", voc_xml((WIDTH, HEIGHT), objects))
        for number, (seed, category, start) in enumerate(targets):
            shown = range(start, frames)
            expected.append(
                track(
                    name,
                    str(number),
                    category,
                    list(shown),
                    [moving_box(seed, t) for t in shown],
                    occluded=[number == 1 and t == frames - 1 for t in shown],
                )
            )
    return expected
