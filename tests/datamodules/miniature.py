"""Miniature trees of every training set in its official layout, with drawn frames.

Each function writes a tree below a folder and returns the tracks that its reader must find, in order.
Frames show every target as a square of its own colour on a grey that tells the frame's number.
"""

import json
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


def det(root: Path, images=3):
    """ILSVRC DET: ``images`` in a folder of 2013, in a flat folder of 2014 and in val."""
    root = Path(root)
    folders = ["train/ILSVRC2013_train/n02084071", "train/ILSVRC2014_train_0000", "val"]
    expected = []
    for f, folder in enumerate(folders):
        for i in range(images):
            name = f"{folder}/ILSVRC_{f}_{i:08d}"
            wh = (WIDTH + 4 * i, HEIGHT + 2 * i)
            boxes = [moving_box(3 * f + i + 5 * k, 2 * k) for k in range(1 + i % 2)]
            objects = [
                {"name": f"n0208407{k + 1}", "box": box, "truncated": 0}
                for k, box in enumerate(boxes)
            ]
            write_frame(root / "Data/DET" / f"{name}.JPEG", boxes, i, wh)
            write_text(root / "Annotations/DET" / f"{name}.xml", voc_xml(wh, objects))
            expected += [
                track(name, str(k), f"n0208407{k + 1}", [0], [box], wh=wh)
                for k, box in enumerate(boxes)
            ]
        # An image without objects is no mistake.
        write_text(root / "Annotations/DET" / f"{folder}/none.xml", voc_xml((WIDTH, HEIGHT), []))
    return expected


def coco(root: Path, images=4, split="train2017"):
    """COCO: ``images`` with one or two objects each and one crowd; boxes with two decimals."""
    root = Path(root)
    content = {"info": {}, "images": [], "annotations": [], "categories": []}
    content["categories"] = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]
    expected = []
    for i in range(images):
        name = f"{10 + 7 * i:012d}.jpg"
        content["images"].append(
            {"id": 10 + 7 * i, "file_name": name, "width": WIDTH, "height": HEIGHT}
        )
        boxes = [moving_box(i + 4 * k, k) for k in range(1 + i % 2)]
        write_frame(root / split / name, boxes, i)
        for k, (x1, y1, x2, y2) in enumerate(boxes):
            number = 1000 + 10 * i + k
            x1, y1 = x1 + 0.25, y1 + 0.5
            content["annotations"].append(
                {
                    "id": number,
                    "image_id": 10 + 7 * i,
                    "category_id": (1, 18)[k],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": 1.5,
                    "iscrowd": 0,
                    "segmentation": [[1, 2, 3, 4, 5, 6]],
                }
            )
            expected.append(
                track(f"{split}/{name}", str(number), ("person", "dog")[k], [0], [(x1, y1, x2, y2)])
            )
    crowd = dict(content["annotations"][0], id=1, iscrowd=1, segmentation={"counts": [1]})
    content["annotations"].insert(1, crowd)
    write_text(root / f"annotations/instances_{split}.json", json.dumps(content))
    return expected


def got10k(root: Path, videos=3, frames=8, split="train"):
    """GOT-10k: the target is absent in frame 3, hidden (cover 0) in 4, half covered in 5."""
    root = Path(root) / split
    names = [f"GOT-10k_{split.title()}_{v + 1:06d}" for v in range(videos)]
    write_text(root / "list.txt", "\n".join(names) + "\n")
    expected = []
    absence = [int(t == 2) for t in range(frames)]
    cover = [0 if t in (2, 3) else 4 if t == 4 else 8 for t in range(frames)]
    for v, name in enumerate(names):
        boxes = [np.add(moving_box(v, t), [0.25, 0.5, 0.25, 0.5]) for t in range(frames)]
        lines = [
            f"{x1 + 1:.4f},{y1 + 1:.4f},{x2 - x1:.4f},{y2 - y1:.4f}" for x1, y1, x2, y2 in boxes
        ]
        write_text(root / name / "groundtruth.txt", "\n".join(lines) + "\n")
        for part, flags in (("absence", absence), ("cover", cover), ("cut_by_image", absence)):
            write_text(root / name / f"{part}.label", "\n".join(map(str, flags)) + "\n")
        category = ("bear", "cart")[v % 2]
        write_text(
            root / name / "meta_info.ini",
            f"[METAINFO]\nurl: https://example.org/%20{v}\nanno_fps: 10Hz\n"
            f"object_class: {category}\nresolution: ({WIDTH}, {HEIGHT})\n",
        )
        for t in range(frames):
            write_frame(root / name / f"{t + 1:08d}.jpg", [None if t in (2, 3) else boxes[t]], t)
        expected.append(
            track(
                name,
                "0",
                category,
                range(1, frames + 1),
                boxes,
                visible=[t not in (2, 3) for t in range(frames)],
                occluded=[t == 4 for t in range(frames)],
            )
        )
    return expected


def lasot(root: Path, frames=8):
    """LaSOT: three training sequences of two classes and one of the test split, airplane-1.

    The target is fully occluded in frame 2 and out of view in frame 5, with a box of zeros.
    """
    root = Path(root)
    expected = []
    for v, name in enumerate(["airplane-1", "airplane-2", "airplane-3", "bear-1"]):
        category = name.partition("-")[0]
        folder = root / category / name
        boxes = [moving_box(v, t) for t in range(frames)]
        lines = [f"{x1 + 1},{y1 + 1},{x2 - x1},{y2 - y1}" for x1, y1, x2, y2 in boxes]
        lines[4] = "0,0,0,0"
        write_text(folder / "groundtruth.txt", "\n".join(lines) + "\n")
        write_text(folder / "full_occlusion.txt", ",".join(str(int(t == 1)) for t in range(frames)))
        write_text(folder / "out_of_view.txt", ",".join(str(int(t == 4)) for t in range(frames)))
        write_text(folder / "nlp.txt", "a target")
        for t in range(frames):
            write_frame(folder / f"img/{t + 1:08d}.jpg", [None if t in (1, 4) else boxes[t]], t)
        if name != "airplane-1":
            visible = [t not in (1, 4) for t in range(frames)]
            numbers = range(1, frames + 1)
            expected.append(track(f"{category}/{name}", "0", category, numbers, boxes, visible))
    return expected


def trackingnet(root: Path, videos=3, frames=12):
    """TrackingNet: frames 0.jpg to 11.jpg, whose numeric order is not that of their names.

    The target leaves the image at the left in the first frame.
    """
    root = Path(root)
    expected = []
    for v in range(videos):
        chunk, name = f"TRAIN_{v % 2}", f"-video_{v}"
        boxes = [np.add(moving_box(v, t), [0.5, 0, 0, 0.25]) for t in range(frames)]
        boxes[0] = np.array([-8.5, 3.0, 14.25, 20.0])
        lines = [f"{x1:g},{y1:g},{x2 - x1:g},{y2 - y1:g}" for x1, y1, x2, y2 in boxes]
        write_text(root / chunk / f"anno/{name}.txt", "\n".join(lines) + "\n")
        for t in range(frames):
            write_frame(root / chunk / f"frames/{name}/{t}.jpg", [boxes[t]], t)
        expected.append(track(f"{chunk}/{name}", "0", "object", range(frames), boxes))
    return sorted(expected, key=lambda t: t.video)


def youtube_bb(root: Path, videos=3, frames=6, split="train"):
    """YouTube-BB: one video of another size, an object that is absent at second 2, two in one video.

    Lines stand in no order of videos or time.
    """
    root = Path(root)
    lines, expected = [], []
    for v in range(videos):
        video, wh = f"{'cbade'[v % 5]}B-_{v:03d}", (WIDTH + 32 * (v % 2), HEIGHT)
        objects = [(v, 0, "person", 0)] + [(v + 5, 23, "dog", 1)] * (v == 0)
        for seed, class_id, name, object_id in objects:
            boxes, shown = [], []
            for t in range(frames):
                x1, y1, x2, y2 = moving_box(seed, t)
                present = not (t == 2 and object_id == 0)
                relative = (x1 / wh[0], x2 / wh[0], y1 / wh[1], y2 / wh[1])
                numbers = relative if present else (-1, -1, -1, -1)
                time_ms = 1000 * (30 + t)
                lines.append(
                    f"{video},{time_ms},{class_id},{name},{object_id},"
                    f"{'present' if present else 'absent'},{','.join(f'{n:.8g}' for n in numbers)}"
                )
                boxes.append((x1, y1, x2, y2))
                shown.append(present)
                folder = root / f"yt_bb_detection_{split}" / str(class_id)
                pictured = [
                    moving_box(s, t) if (o == 1 or t != 2) else None for s, _, _, o in objects
                ]
                write_frame(
                    folder / f"{video}_{time_ms}_{class_id}_{object_id}.jpg", pictured, t, wh
                )
            seconds = range(30, 30 + frames)
            expected.append(
                track(video, f"{class_id}-{object_id}", name, seconds, boxes, shown, wh=wh)
            )
    lines = lines[1::2] + lines[::2]
    write_text(root / f"yt_bb_detection_{split}.csv", "\n".join(lines) + "\n")
    return sorted(expected, key=lambda t: t.video)
