"""Miniature trees of benchmarks in their official layouts, with drawn frames."""

import os
from functools import cache

import cv2
import numpy as np
import pytest


@cache
def picture(number):
    """A small image whose red channel is its number (modulo 256), encoded without loss."""
    image = np.full((24, 32, 3), (40, 200, number % 256), np.uint8)
    return cv2.imencode(".png", image)[1].tobytes()


@pytest.fixture
def paint():
    """Writes numbered images into a folder; OpenCV goes by content, so ``.jpg`` may hold a PNG."""

    def write(folder, numbers, pattern):
        folder.mkdir(parents=True, exist_ok=True)
        for number in numbers:
            (folder / pattern.format(number)).write_bytes(picture(number))

    return write


@pytest.fixture
def clone(tmp_path):
    """Writes one image many times over, quickly."""
    original = tmp_path / "original.png"
    original.write_bytes(picture(0))

    def write(folder, names):
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            os.link(original, folder / name)

    return write


@pytest.fixture
def shown():
    """Returns the numbers of the images that a sequence reads."""
    return lambda sequence: [int(frame[0, 0, 0]) for frame in sequence]
