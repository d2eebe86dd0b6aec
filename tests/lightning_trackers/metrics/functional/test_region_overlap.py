import json
from pathlib import Path

import numpy as np
import pytest

from lightning_trackers.metrics.functional.region_overlap import (
    RASTERISATIONS,
    is_code,
    is_rectangle,
    region_array,
    region_overlaps,
)

VECTORS = Path(__file__).parents[4] / "../shared/spec/metric_vectors.json"


def overlap(a, b, rasterisation="vot2016", bounds_wh=None):
    (value,) = region_overlaps(
        region_array([a]), region_array([b]), rasterisation=rasterisation, bounds_wh=bounds_wh
    )
    return value


@pytest.mark.parametrize(
    ("rasterisation", "expected"),
    [
        # Rectangles 0,0,4,4 and 2,0,4,4. Pixels by hand:
        ("vot2013", 8 / 24),  # columns 0-3 and 2-5, 4 rows
        ("vot2016", 15 / 35),  # columns 0-4 and 2-6 (both ends count), 5 rows
        ("vot2019", 8 / 24),  # columns 0-3 and 2-5, 4 rows
        ("vot2020", 8 / 24),
    ],
)
def test_two_rectangles_counted_by_hand(rasterisation, expected):
    got = overlap([0, 0, 4, 4], [2, 0, 4, 4], rasterisation)
    assert got == pytest.approx(expected, abs=1e-7)  # single precision in the MATLAB toolkit


def test_bounds_take_the_pixels_beyond_them_out_of_the_union():
    # vot2016: columns 0-4 and 2-6 of which bounds of 3 px leave 0-3 and 2-3 (both ends count).
    assert overlap([0, 0, 4, 4], [2, 0, 4, 4], bounds_wh=(3, 9)) == pytest.approx(10 / 20, abs=1e-7)


def test_a_diamond_is_filled_row_by_row():
    # Corners (3,0) (6,3) (3,6) (0,3). The tips meet one node twice and stay empty; the rows between
    # hold 3, 5, 7, 5, 3 pixels = 23. The square around it, corners 0-6, holds 49.
    diamond, square = [3, 0, 6, 3, 3, 6, 0, 3], [0, 0, 6, 0, 6, 6, 0, 6]
    assert overlap(diamond, square) == pytest.approx(23 / 49, abs=1e-7)
    # vot-toolkit fills a tip: 2 pixels more.
    assert overlap(diamond, square, "vot2020") == pytest.approx(25 / 49, abs=1e-7)


def naive_mask(corners, width, height, rasterisation):
    """Fill a pixel grid row by row, straight from the rule's words."""
    mask = np.zeros((height, width), dtype=bool)
    corners = [(int(x), int(y)) for x, y in corners]
    for y in range(height):
        nodes = []
        for (xi, yi), (xj, yj) in zip(corners, corners[-1:] + corners[:-1], strict=True):
            if min(yi, yj) <= y <= max(yi, yj):
                if yi != yj:
                    nodes.append(int(xi + (y - yi) / (yj - yi) * (xj - xi)))
                elif rasterisation == "vot2020":
                    nodes.append(xi)
        nodes.sort()
        while len(nodes) > 1:
            last_pair = rasterisation == "vot2020" and len(nodes) == 2
            if nodes[0] == nodes[1] and not last_pair:
                nodes.pop(0)
                continue
            low, high = max(nodes.pop(0), 0), min(nodes.pop(0), width - 1)
            mask[y, low : max(high + 1, low)] = True
    return mask


@pytest.mark.parametrize("rasterisation", ["vot2016", "vot2020"])
def test_any_quadrilaterals_are_counted_as_on_a_pixel_grid(rasterisation):
    """Crossed, dented and flat ones too, partly outside the bounds."""
    rng = np.random.default_rng(0)
    size = 24
    first, second = rng.integers(-6, size + 6, (2, 400, 4, 2))
    got = region_overlaps(
        first.reshape(-1, 8).astype(float),
        second.reshape(-1, 8).astype(float),
        rasterisation=rasterisation,
        # The MATLAB toolkit counts the pixel on the bound, vot-toolkit does not.
        bounds_wh=(size - 1, size - 1) if rasterisation == "vot2016" else (size, size),
    )
    compared = 0
    for a, b, value in zip(first, second, got, strict=True):
        low = np.clip([a.min(axis=0), b.min(axis=0)], 0, size - 1)
        high = np.clip([a.max(axis=0), b.max(axis=0)], 0, size - 1)
        if (low >= high).any() or (low.max(axis=0) >= high.min(axis=0)).any():
            continue  # flat or apart: the toolkits have shortcuts, covered by their own vectors
        # Coordinates below 0 are cut off by shifting to the joint corner first, as in the rule.
        shift = low.min(axis=0)
        width, height = high.max(axis=0) - shift + 1
        masks = [naive_mask(c - shift, width, height, rasterisation) for c in (a, b)]
        union = (masks[0] | masks[1]).sum()
        expected = (masks[0] & masks[1]).sum() / union if union else 0
        assert value == pytest.approx(expected, abs=1e-7)  # single precision
        compared += 1
    assert compared > 150


def test_codes_have_no_overlap():
    first = region_array([[1], [2], [0], [0, 0, 4, 4]])
    second = region_array([[0, 0, 4, 4]] * 3 + [[1]])
    assert np.isnan(region_overlaps(first, second, rasterisation="vot2016")).all()
    # vot-toolkit compares with an empty region instead.
    assert region_overlaps(first, second, rasterisation="vot2020").tolist() == [0, 0, 0, 0]
    assert is_code(first).tolist() == [True, True, True, False]
    assert is_rectangle(first).tolist() == [False, False, False, True]


@pytest.mark.parametrize("rasterisation", RASTERISATIONS)
def test_a_prediction_far_away_or_huge_is_no_overlap_and_no_crash(rasterisation):
    target = [10, 10, 20, 20]
    for prediction in ([1e12, 1e12, 5, 5], [-1e30, 0, 1e30, 4], [0, 0, 0, 0], [40, 10, 20, 20]):
        assert overlap(prediction, target, rasterisation) < 1e-3
        assert overlap(prediction, target, rasterisation, (50, 50)) < 1e-3
    assert overlap([-1e30, -1e30, 3e30, 3e30], target, rasterisation) < 1e-3


@pytest.mark.parametrize("rasterisation", RASTERISATIONS)
def test_overlap_is_symmetric_and_full_with_itself(rasterisation):
    rng = np.random.default_rng(1)
    polygons = rng.uniform(0, 60, (50, 8))
    boxes = region_array(np.c_[rng.uniform(0, 30, (50, 2)), rng.uniform(8, 30, (50, 2))].tolist())
    ab = region_overlaps(polygons, boxes, rasterisation=rasterisation, bounds_wh=(64, 64))
    ba = region_overlaps(boxes, polygons, rasterisation=rasterisation, bounds_wh=(64, 64))
    assert ab.tolist() == ba.tolist()
    assert set(region_overlaps(boxes, boxes, rasterisation=rasterisation)) == {1.0}


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"expected two arrays of shape \(T, 8\), got \(2, 4\)"):
        region_overlaps(np.zeros((2, 4)), np.zeros((2, 8)), rasterisation="vot2016")
    with pytest.raises(ValueError, match=r"rasterisation: expected one of .* got 'vot'"):
        region_overlaps(np.zeros((2, 8)), np.zeros((2, 8)), rasterisation="vot")
    with pytest.raises(ValueError, match=r"region 1: expected 1 number \(code\), 4 .* got 6"):
        region_array([[1], [1, 2, 3, 4, 5, 6]])


def official_cases():
    if not VECTORS.exists():
        return [pytest.param(None, None, None, marks=pytest.mark.skip(f"no {VECTORS.name} here"))]
    found = []
    for case in json.loads(VECTORS.read_text(encoding="utf-8"))["cases"]:
        name, inputs = case["id"], case["inputs"]
        if "vot_overlap" in name:
            found.append((case, inputs["polygons1"], inputs["polygons2"], "vot2016"))
        elif name.startswith("votlegacy-region_overlap"):
            modes = {"pre-default": "vot2016", "post-default": "vot2019", "pre-legacy": "vot2013"}
            (mode,) = [rule for key, rule in modes.items() if f"{key}-0" in name]
            found.append((case, inputs["T1"], inputs["T2"], mode))
        elif name.startswith("vot-overlap") and "first" in inputs:
            found.append((case, inputs["first"], inputs["second"], "vot2020"))
    return [
        pytest.param((c["inputs"]["bounds"], c["outputs"]), (a, b), r, id=f"{c['id']}")
        for c, a, b, r in found
    ]


@pytest.mark.parametrize(("case", "pair", "rasterisation"), official_cases())
def test_official_overlaps_to_the_last_bit(case, pair, rasterisation):
    bounds, outputs = case
    expected = np.array([np.nan if value is None else value for value in outputs])
    got = region_overlaps(
        region_array(pair[0]), region_array(pair[1]), rasterisation=rasterisation, bounds_wh=bounds
    )
    np.testing.assert_array_equal(got, expected)


@pytest.mark.skipif(not VECTORS.exists(), reason="needs metric_vectors.json")
def test_special_overlaps_of_the_python_toolkit():
    cases = json.loads(VECTORS.read_text(encoding="utf-8"))["cases"]
    (case,) = [c for c in cases if c["id"] == "vot-overlap-special-0"]
    got = [overlap(p["a"], p["b"], "vot2020", p["bounds"]) for p in case["inputs"]["pairs"]]
    assert got == case["outputs"]
