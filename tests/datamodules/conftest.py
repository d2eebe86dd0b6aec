from pathlib import Path

import cv2
import numpy as np
import pytest

WIDTH, HEIGHT = 64, 48


def frame_colour(number):
    """The colour of image ``number``, RGB, so that a test can tell which image was read."""
    return (number * 2 % 256, 200, 40)


def write_images(folder: Path, numbers, pattern="{:04d}.png"):
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        image = np.full((HEIGHT, WIDTH, 3), frame_colour(number)[::-1], np.uint8)
        assert cv2.imwrite(str(folder / pattern.format(number)), image)


def box_lines(count, separator=","):
    """Boxes that move right by one px every frame: the first is 2,3,10,20 in the file."""
    return "\n".join(separator.join(map(str, (2 + t % 40, 3, 10, 20))) for t in range(count)) + "\n"


@pytest.fixture
def make_sequence(tmp_path):
    """Writes ``<tmp_path>/otb/<name>`` and returns the root."""

    def make(name, numbers, annotations=None, pattern="{:04d}.png"):
        folder = tmp_path / "otb" / name
        write_images(folder / "img", numbers, pattern)
        if annotations is None:
            annotations = {"groundtruth_rect.txt": box_lines(len(numbers))}
        for file, text in annotations.items():
            (folder / file).write_bytes(text.encode())
        return tmp_path / "otb"

    return make
