"""Overlap of image regions counted in pixels, as the VOT toolkits rasterise them (compiled).

A region is a row of eight numbers: a polygon ``x1, y1 ... x4, y4``; a rectangle ``x, y, w, h``
followed by NaN; or a special code followed by NaN, which is no region at all. Importing this module
imports numba, and the first call on a machine compiles for some seconds (kept on disk afterwards),
so :mod:`lightning_trackers.metrics.functional.region_overlap` imports it only when it is needed.

The rules differ in rounding, in where a rectangle ends, and in how the rows are filled; each branch
says which toolkit it follows. Only runs of pixels per row are kept, never a raster.

Source: VOT toolkits: ``region.c`` of TraX (MATLAB toolkit until 2019) and ``vot.region.raster``
(vot-toolkit 0.9).
Deviation: coordinates are cut at ±1e6 px, where the toolkits run out of memory; two regions
without a common pixel have overlap 0, also where the MATLAB toolkit divides 0 by 0.
"""

import numpy as np
from numba import njit

LEGACY, CORNERS, PIXELS, PYTHON = range(4)
"""Rules: MATLAB until 2015, MATLAB until 2018 and pysot, MATLAB 2019, vot-toolkit."""

_FARTHEST_PX = 1e6
_CORNERS = 4

_compiled = njit(cache=True, error_model="numpy", nogil=True)
_inlined = njit(cache=True, error_model="numpy", nogil=True, inline="always")


@_compiled
def region_overlaps(
    first: np.ndarray, second: np.ndarray, width: float, height: float, rule: int
) -> np.ndarray:
    """Return the overlap of each pair of regions, float64 ``(T,)``; NaN where one is a code.

    Args:
        first: Regions, float64 ``(T, 8)``, px.
        second: Regions, float64 ``(T, 8)``, px.
        width: Width of the area that counts, px; infinite where the rule has no bounds.
        height: Its height, px.
        rule: One of the rules above.
    """
    overlaps = np.full(len(first), np.nan)
    xs, ys = np.empty((2, _CORNERS), np.float32), np.empty((2, _CORNERS), np.float32)
    boxes = np.empty((2, 4), np.float32)  # left, top, right, bottom
    rows = np.empty((2, 4, 512), np.int32)  # first and last pixel of two runs
    ramp = np.arange(512.0)  # row numbers, ready to compute with
    nodes = np.empty(_CORNERS, np.int32)
    for t in range(len(first)):
        first_is_code, second_is_code = np.isnan(first[t, 1]), np.isnan(second[t, 1])
        if (first_is_code or second_is_code) and rule != PYTHON:
            continue
        first_is_rect = _corners(first[t], rule, xs[0], ys[0], boxes[0])
        second_is_rect = _corners(second[t], rule, xs[1], ys[1], boxes[1])
        left, top = min(boxes[0, 0], boxes[1, 0]), min(boxes[0, 1], boxes[1, 1])
        right, bottom = max(boxes[0, 2], boxes[1, 2]), max(boxes[0, 3], boxes[1, 3])
        if rule == PYTHON:
            if left >= right or top >= bottom:
                overlaps[t] = 1.0  # sic: any two regions inside one row or column of pixels
                continue
            if not np.isinf(width):
                left, top = max(left, np.float32(0)), max(top, np.float32(0))
                right = min(right, np.float32(width - 1))
                bottom = min(bottom, np.float32(height - 1))
            overlaps[t] = 0.0
            if left >= right or top >= bottom or first_is_code or second_is_code:
                continue
        else:
            overlaps[t] = 0.0
            if not np.isinf(width):
                _cut(boxes, np.float32(width), np.float32(height))
                left, top = min(boxes[0, 0], boxes[1, 0]), min(boxes[0, 1], boxes[1, 1])
                right, bottom = max(boxes[0, 2], boxes[1, 2]), max(boxes[0, 3], boxes[1, 3])
            if not _may_overlap(boxes):
                continue
        columns, lines = int(right - left) + 1, int(bottom - top) + 1
        if lines > rows.shape[2]:
            rows = np.empty((2, 4, 2 * lines), np.int32)
            ramp = np.arange(2.0 * lines)
        for i in range(_CORNERS):
            for k in range(2):
                xs[k, i] = _rounded(xs[k, i] - left, rule)
                ys[k, i] = _rounded(ys[k, i] - top, rule)
        a = _fill(xs[0], ys[0], first_is_rect, columns, lines, rule, ramp, nodes, rows[0])
        b = _fill(xs[1], ys[1], second_is_rect, columns, lines, rule, ramp, nodes, rows[1])
        common = _common_pixels(rows, max(a[0], b[0]), min(a[1], b[1]), a[3], b[3])
        union = a[2] + b[2] - common
        if union > 0:
            overlap = common / union
            # The C code keeps it in single precision.
            overlaps[t] = overlap if rule == PYTHON else np.float64(np.float32(overlap))
    return overlaps


@_compiled
def _corners(
    region: np.ndarray, rule: int, xs: np.ndarray, ys: np.ndarray, box: np.ndarray
) -> bool:
    """Write a region's corners and bounding box; return whether it is a rectangle."""
    if np.isnan(region[1]):
        xs[:], ys[:], box[:] = 0, 0, 0
        return True
    is_rect = bool(np.isnan(region[4]))
    if is_rect:
        x, y = np.float32(region[0]), np.float32(region[1])
        w, h = np.float32(region[2]), np.float32(region[3])
        if rule == PYTHON:
            x, y, w, h = np.rint(x), np.rint(y), np.rint(w), np.rint(h)
        if rule in (PIXELS, PYTHON):
            w, h = w - np.float32(1), h - np.float32(1)
        xs[0], xs[1], xs[2], xs[3] = x, x + w, x + w, x
        ys[0], ys[1], ys[2], ys[3] = y, y, y + h, y + h
    else:
        for i in range(_CORNERS):
            xs[i], ys[i] = np.float32(region[2 * i]), np.float32(region[2 * i + 1])
            if rule == PYTHON:
                xs[i], ys[i] = np.rint(xs[i]), np.rint(ys[i])
    for i in range(_CORNERS):
        xs[i] = min(max(xs[i], np.float32(-_FARTHEST_PX)), np.float32(_FARTHEST_PX))
        ys[i] = min(max(ys[i], np.float32(-_FARTHEST_PX)), np.float32(_FARTHEST_PX))
    box[0], box[1], box[2], box[3] = xs.min(), ys.min(), xs.max(), ys.max()
    if is_rect and rule == PYTHON:  # not sorted: an empty rectangle ends before it begins
        box[0], box[1], box[2], box[3] = xs[0], ys[0], xs[1], ys[2]
    if rule in (CORNERS, PIXELS):
        box[0], box[1] = np.floor(box[0]), np.floor(box[1])
        box[2], box[3] = np.ceil(box[2]), np.ceil(box[3])
    return is_rect


@_compiled
def _cut(boxes: np.ndarray, width: np.float32, height: np.float32) -> None:
    for k in range(2):
        boxes[k, 0], boxes[k, 2] = max(boxes[k, 0], np.float32(0)), min(boxes[k, 2], width)
        boxes[k, 1], boxes[k, 3] = max(boxes[k, 1], np.float32(0)), min(boxes[k, 3], height)


@_compiled
def _may_overlap(boxes: np.ndarray) -> bool:
    """Return False where the C code answers 0 without looking at pixels."""
    a = (boxes[0, 2] - boxes[0, 0]) * (boxes[0, 3] - boxes[0, 1])
    b = (boxes[1, 2] - boxes[1, 0]) * (boxes[1, 3] - boxes[1, 1])
    if a / b < 1e-10 or b / a < 1e-10 or (a == 0 and b == 0):
        return False
    width = min(boxes[0, 2], boxes[1, 2]) - max(boxes[0, 0], boxes[1, 0])
    height = min(boxes[0, 3], boxes[1, 3]) - max(boxes[0, 1], boxes[1, 1])
    return bool(width > 0 and height > 0)


@_inlined
def _rounded(value: np.float32, rule: int) -> np.float32:
    """Round half away from zero where the rule rounds corners after shifting them."""
    if rule in (LEGACY, PYTHON):
        return value
    return np.float32(np.copysign(np.floor(abs(np.float64(value)) + 0.5), value))


@_compiled
def _fill(
    xs: np.ndarray,
    ys: np.ndarray,
    is_rect: bool,
    columns: int,
    lines: int,
    rule: int,
    ramp: np.ndarray,
    nodes: np.ndarray,
    rows: np.ndarray,
) -> tuple[int, int, int, bool]:
    """Write the runs of a region's pixels, row by row.

    Returns:
        First and last row, number of pixels, and whether every row holds at most one run.
    """
    lowest, highest = ys.min(), ys.max()
    # Legacy: rows strictly below the upper corner; else corners are whole and both ends count.
    begin = int(np.floor(lowest)) + 1 if rule == LEGACY else int(lowest)
    end = int(np.floor(highest))
    begin, end = max(begin, 0), min(end, lines - 1)
    if begin > end:
        return begin, end, 0, True
    if is_rect:
        return _fill_rectangle(xs, ys, columns, begin, end, rule, nodes, rows)
    if rule == LEGACY or not _is_monotone(ys):
        single = True
        for y in range(begin, end + 1):
            single &= _fill_row(xs, ys, y, columns, rule, nodes, rows[:, y])
        return begin, end, _pixels(rows, begin, end, single), single
    # Between corners a row is met by one edge that goes up and one that goes down.
    for i in range(_CORNERS):
        j = (i - 1) % _CORNERS
        upper = max(int(min(ys[i], ys[j])) + 1, begin)
        lower = min(int(max(ys[i], ys[j])) - 1, end)
        if upper <= lower:
            side = rows[0 if ys[i] < ys[j] else 1, upper : lower + 1]
            _cross(xs[i], ys[i], xs[j], ys[j], ramp[upper : lower + 1], side)
    _order(rows[0, begin : end + 1], rows[1, begin : end + 1], columns, rule)
    # A level edge and a corner beyond it may leave two runs in a corner's row; else one is enough.
    for clean in (False, True):
        if clean:
            rows[2, begin : end + 1], rows[3, begin : end + 1] = 0, -1
        single = True
        for i in range(_CORNERS):
            if begin <= ys[i] <= end:
                y = int(ys[i])
                single &= _fill_row(xs, ys, y, columns, rule, nodes, rows[:, y])
        if single:
            break
    return begin, end, _pixels(rows, begin, end, single), single


@_compiled
def _is_monotone(ys: np.ndarray) -> bool:
    """Return whether the outline goes down once and up once."""
    turns, direction = 0, 0.0
    for i in range(2 * _CORNERS):  # twice around: the first direction is known after one
        step = np.sign(ys[(i + 1) % _CORNERS] - ys[i % _CORNERS])
        if step != 0:
            turns += i >= _CORNERS and step != direction
            direction = step
    return turns <= 2


@_compiled
def _cross(xi: float, yi: float, xj: float, yj: float, ramp: np.ndarray, nodes: np.ndarray) -> None:
    """Write where an edge crosses each row of ``ramp``."""
    x, y = np.float64(xi), np.float64(yi)
    rise, run = np.float64(yj) - y, np.float64(xj) - x
    for t in range(len(ramp)):
        nodes[t] = np.int32(x + (ramp[t] - y) / rise * run)


@_compiled
def _order(lows: np.ndarray, highs: np.ndarray, columns: int, rule: int) -> None:
    """Turn the two nodes of each row into a run of pixels inside the columns."""
    last, shortest = np.int32(columns - 1), np.int32(0 if rule == PYTHON else 1)
    for t in range(len(lows)):
        low, high = min(lows[t], highs[t]), max(lows[t], highs[t])
        keep = high - low >= shortest
        low, high = max(low, np.int32(0)), min(high, last)
        lows[t] = low
        highs[t] = max(high, low - 1) if keep else low - 1


@_compiled
def _pixels(rows: np.ndarray, begin: int, end: int, single: bool) -> int:
    pixels = 0
    for k in (0, 2):
        if k > 0 and single:
            continue
        lows, highs = rows[k, begin : end + 1], rows[k + 1, begin : end + 1]
        for t in range(len(lows)):
            pixels += highs[t] - lows[t] + 1
    return pixels


@_compiled
def _fill_row(
    xs: np.ndarray,
    ys: np.ndarray,
    y: int,
    columns: int,
    rule: int,
    nodes: np.ndarray,
    run: np.ndarray,
) -> bool:
    """Write the runs of one row, whatever crosses it; return whether there is at most one."""
    count = 0
    for i in range(_CORNERS):
        j = (i - 1) % _CORNERS
        low, high = min(ys[i], ys[j]), max(ys[i], ys[j])
        if rule == LEGACY:
            if low < y <= high:  # single precision throughout
                share = (np.float32(y) - ys[i]) / (ys[j] - ys[i])
                nodes[count] = np.int32(xs[i] + share * (xs[j] - xs[i]))
                count += 1
        elif low <= y <= high and (low != high or rule == PYTHON):
            rise, run_x = np.float64(ys[j] - ys[i]), np.float64(xs[j] - xs[i])
            share = (y - np.float64(ys[i])) / rise if rise != 0 else 0.0
            nodes[count] = np.int32(np.float64(xs[i]) + share * run_x)
            count += 1
    return not _runs(nodes, count, columns, rule, run)


@_compiled
def _fill_rectangle(
    xs: np.ndarray,
    ys: np.ndarray,
    columns: int,
    begin: int,
    end: int,
    rule: int,
    nodes: np.ndarray,
    rows: np.ndarray,
) -> tuple[int, int, int, bool]:
    """Write one run into every row: an upright rectangle crosses all rows at the same two nodes."""
    nodes[0], nodes[1] = int(xs[0]), int(xs[1])
    first = rows[:, begin]
    if rule == PYTHON:
        if ys[2] < ys[0]:
            return begin, begin - 1, 0, True
        first[0], first[1] = max(nodes[0], 0), min(nodes[1], columns - 1)
        first[1] = max(first[1], first[0] - 1)
    else:
        _runs(nodes, 2 if ys[0] != ys[2] else 0, columns, rule, first)
    low, high = first[0], first[1]
    rows[0, begin : end + 1], rows[1, begin : end + 1] = low, high
    return begin, end, (end - begin + 1) * (high - low + 1), True


@_compiled
def _runs(nodes: np.ndarray, count: int, columns: int, rule: int, run: np.ndarray) -> bool:
    """Write the runs of pixels between one row's nodes; return whether there are two."""
    for i in range(1, count):
        for j in range(i, 0, -1):
            if nodes[j - 1] > nodes[j]:
                nodes[j - 1], nodes[j] = nodes[j], nodes[j - 1]
    run[0], run[1], run[2], run[3] = 0, -1, 0, -1
    i = written = 0
    while i < count - 1 and nodes[i] < columns:
        low, high = nodes[i], nodes[i + 1]
        if rule == LEGACY:
            if high > columns:
                high = columns - 1  # sic: one pixel less than where it ends at the border
            high -= 1
        # A corner is met twice, once by each of its edges.
        elif low == high and (rule != PYTHON or i < count - 2):
            i += 1
            continue
        low, high = max(low, 0), min(high, columns - 1)
        if written:
            low = max(low, run[1] + 1)
        if low <= high:
            run[2 * written], run[2 * written + 1] = low, high
            written += 1
        i += 2
    return written == 2


@_compiled
def _common_pixels(
    rows: np.ndarray, begin: int, end: int, first_is_single: bool, second_is_single: bool
) -> int:
    common = 0
    for i in (0, 2):
        for j in (0, 2):
            if (i > 0 and first_is_single) or (j > 0 and second_is_single):
                continue  # these rows were not written
            a_low, a_high = rows[0, i, begin : end + 1], rows[0, i + 1, begin : end + 1]
            b_low, b_high = rows[1, j, begin : end + 1], rows[1, j + 1, begin : end + 1]
            for t in range(len(a_low)):
                last = min(a_high[t], b_high[t])
                common += max(last - max(a_low[t], b_low[t]) + np.int32(1), np.int32(0))
    return common
