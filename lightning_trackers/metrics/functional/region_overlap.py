"""Overlap of VOT regions: rectangles and polygons, counted in pixels as the toolkit of the year did.

Regions are rows of eight numbers, float64 ``(T, 8)``, in the coordinates of the benchmark's files:
a polygon ``x1, y1 ... x4, y4``; a rectangle ``x, y, w, h`` followed by NaN; or a special code
followed by NaN (1 the tracker was initialised, 2 it failed, 0 no result).

Source: Kristan et al., A Novel Performance Evaluation Methodology for Single-Target Trackers, TPAMI
2016, and the VOT toolkits of the years.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

Rasterisation = Literal["vot2013", "vot2016", "vot2019", "vot2020"]
"""Which toolkit counts, by the first year in which it did: the legacy mode of the MATLAB toolkit; its
default mode until April 2019, which pysot shares (a rectangle ends at ``x + w``); the same, corrected
(it ends at ``x + w - 1``); and the Python toolkit."""

RASTERISATIONS: tuple[Rasterisation, ...] = ("vot2013", "vot2016", "vot2019", "vot2020")

INITIALISED, FAILED, NO_RESULT = 1, 2, 0
"""Special codes."""


def region_overlaps(
    first: np.ndarray,
    second: np.ndarray,
    *,
    rasterisation: Rasterisation,
    bounds_wh: tuple[int, int] | None = None,
) -> np.ndarray:
    """Return the overlap of each pair of regions, intersection over union of their pixels.

    The first call loads numba, and compiles if this machine never did.

    Args:
        first: Regions, float64 ``(T, 8)``.
        second: Regions, float64 ``(T, 8)``.
        rasterisation: The toolkit to follow.
        bounds_wh: Width and height of the part of the plane that counts, px; all of it if None.

    Returns:
        Overlaps in [0, 1], float64 ``(T,)``; where one of the two is a code NaN, or under
        ``vot2020`` the overlap with an empty region.

    Raises:
        ValueError: If the shapes differ or the rasterisation is unknown.
    """
    if first.ndim != 2 or first.shape[1:] != (8,) or first.shape != second.shape:
        raise ValueError(
            f"region_overlaps: expected two arrays of shape (T, 8), got {first.shape} and "
            f"{second.shape}"
        )
    if rasterisation not in RASTERISATIONS:
        raise ValueError(f"rasterisation: expected one of {RASTERISATIONS}, got {rasterisation!r}")
    from lightning_trackers.ops import rasteriser  # numba takes a second to load

    width, height = (math.inf, math.inf) if bounds_wh is None else bounds_wh
    overlaps: np.ndarray = rasteriser.region_overlaps(
        np.ascontiguousarray(first, dtype=np.float64),
        np.ascontiguousarray(second, dtype=np.float64),
        float(width),
        float(height),
        RASTERISATIONS.index(rasterisation),
    )
    return overlaps


def region_array(rows: Sequence[Sequence[float]]) -> np.ndarray:
    """Return rows of 1, 4 or 8 numbers as regions, float64 ``(T, 8)``.

    Raises:
        ValueError: If a row has another number of values.
    """
    regions = np.full((len(rows), 8), np.nan)
    # Rows of one kind at a time: a benchmark holds tens of thousands.
    lengths = np.fromiter((len(row) for row in rows), dtype=np.intp, count=len(rows))
    for length in np.unique(lengths):
        chosen = np.flatnonzero(lengths == length)
        if length not in (1, 4, 8):
            raise ValueError(
                f"region {chosen[0]}: expected 1 number (code), 4 (x, y, w, h) or 8 (corners), "
                f"got {length}"
            )
        regions[chosen, :length] = [rows[i] for i in chosen.tolist()]
    return regions


def is_code(regions: np.ndarray) -> np.ndarray:
    """Return which regions are special codes, bool ``(T,)``."""
    return np.asarray(np.isnan(regions[:, 1]))


def is_rectangle(regions: np.ndarray) -> np.ndarray:
    """Return which regions are rectangles, bool ``(T,)``."""
    return np.asarray(~np.isnan(regions[:, 1]) & np.isnan(regions[:, 4]))
