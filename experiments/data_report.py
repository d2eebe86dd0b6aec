"""The report of a training source: counts, histograms, what was left out, and a sheet of pairs."""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from callbacks.visualisation import DrawnBox, draw_boxes
from datamodules.errors import DatasetError
from datamodules.frames import FrameError
from datamodules.sources.tracks import TrackSource
from datamodules.tracks import TrackIndex
from experiments.report.page import environment
from lightning_trackers.crops import View, search_window
from lightning_trackers.files import atomic_file, write_text

COLOUR = "#009e73"  # that of the boxes on the sheet
CROP = 255  # px; the search region of the Siamese trackers
_TRIES = 4  # draws per wanted pair before unreadable frames are too many
_MOST_CATEGORIES = 15


@dataclass(frozen=True)
class Counts:
    """What is in an index; sizes, lengths and gaps are those of visible boxes.

    Args:
        videos: Number of videos.
        tracks: Number of tracks.
        boxes: Visible boxes.
        occluded: Those of them that are marked occluded.
        invisible: Annotated frames that do not show their target.
        side: Square root of each box's area, px.
        relative_side: The same relative to that of its image.
        aspect: Width of each box divided by its height.
        length: Visible frames of each track.
        gap: Distance of successive visible frames of a track, frames.
        by_category: Tracks of each category, largest first.
        image_sizes: Boxes by image width and height, most first.
    """

    videos: int
    tracks: int
    boxes: int
    occluded: int
    invisible: int
    side: np.ndarray
    relative_side: np.ndarray
    aspect: np.ndarray
    length: np.ndarray
    gap: np.ndarray
    by_category: dict[str, int]
    image_sizes: dict[tuple[int, int], int]


@dataclass(frozen=True)
class Pair:
    """A pair on the sheet: both search-sized crops with their boxes drawn, RGB, and its id."""

    exemplar: np.ndarray
    search: np.ndarray
    source_id: str


def write_data_report(
    source: TrackSource, out: str | Path, *, pairs: int = 24, max_gap: int = 100, seed: int = 0
) -> Path:
    """Write ``data_report.html``, which needs no other file, ``histograms.png`` and ``pairs.png``.

    Args:
        source: The source.
        out: Folder of the report.
        pairs: Number of pairs on the sheet.
        max_gap: Largest distance of a pair's frames.
        seed: Seed of the pairs.

    Returns:
        The HTML file.

    Raises:
        DatasetError: If most frames of the source cannot be read.
    """
    out = Path(out)
    counts = count(source.index)
    sheet = draw_pairs(source, pairs, max_gap, seed)
    histograms = _histograms(counts)
    _write(out / "histograms.png", histograms)
    _write(out / "pairs.png", _encoded(contact_sheet(sheet), ".png"))
    pages = environment()
    pages.filters["count"] = lambda value: f"{value:,}"
    page = pages.get_template("data_report.html").render(
        name=source.name,
        index=str(source.index.path),
        counts=counts,
        quartiles={
            "Box side (root of its area), px": _quartiles(counts.side),
            "Box side / image side, %": _quartiles(100 * counts.relative_side),
            "Box width / height": _quartiles(counts.aspect),
            "Visible frames of a track": _quartiles(counts.length),
            "Distance of successive frames": _quartiles(counts.gap),
        },
        skipped=source.index.skipped,
        histograms=_data_url(histograms, "png"),
        pairs=[
            (_jpeg_url(pair.exemplar), _jpeg_url(pair.search), pair.source_id) for pair in sheet
        ],
        max_gap=max_gap,
        seed=seed,
    )
    report = out / "data_report.html"
    write_text(report, page)
    return report


def count(index: TrackIndex) -> Counts:
    """Count what is in an index."""
    tracks = [index.track(i) for i in range(len(index))]
    visible = np.concatenate([t.visible for t in tracks])
    occluded = np.concatenate([t.occluded for t in tracks])
    boxes = np.concatenate([t.boxes_xyxy[t.visible] for t in tracks])
    image_wh = np.concatenate([t.image_wh[t.visible] for t in tracks])
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    side = np.sqrt(width * height)
    frames = [t.frames[t.visible] for t in tracks]
    names, sizes = np.array(index.categories, dtype=object), np.bincount(index.category_ids)
    shapes, shares = np.unique(image_wh, axis=0, return_counts=True)
    return Counts(
        videos=len(np.unique(index.video_ids)),
        tracks=len(index),
        boxes=len(boxes),
        occluded=int((occluded & visible).sum()),
        invisible=int((~visible).sum()),
        side=side,
        relative_side=side / np.sqrt(image_wh.astype(float).prod(axis=1)),
        aspect=width / height,
        length=np.array([len(f) for f in frames]),
        gap=np.concatenate([np.diff(f) for f in frames]),
        by_category={
            str(names[i]): int(sizes[i]) for i in np.argsort(-sizes, kind="stable") if sizes[i]
        },
        image_sizes={
            (int(shapes[i][0]), int(shapes[i][1])): int(shares[i])
            for i in np.argsort(-shares, kind="stable")
        },
    )


def draw_pairs(source: TrackSource, number: int, max_gap: int, seed: int) -> list[Pair]:
    """Draw positive pairs, leaving out those whose frames cannot be read.

    Raises:
        DatasetError: If that happens to most of them.
    """
    pairs: list[Pair] = []
    failure: FrameError | None = None
    for n in range(_TRIES * number):
        if len(pairs) == number:
            break
        rng = np.random.default_rng([seed, n])
        exemplar, search, source_id = source.draw(rng, max_gap=max_gap, positive=True)
        try:
            pairs.append(Pair(_looked_at(exemplar), _looked_at(search), source_id))
        except FrameError as error:
            failure = error
    if len(pairs) < number:
        raise DatasetError(
            f"{source.name}: of {_TRIES * number} pairs only {len(pairs)} could be read; {failure}"
        ) from failure
    return pairs


def contact_sheet(pairs: list[Pair], columns: int = 3) -> np.ndarray:
    """Return one picture of all pairs, RGB, with a white margin and the ids below the pairs."""
    margin, text = 12, 22
    tile_w, tile_h = 2 * CROP + 2 * margin, CROP + margin + text
    rows = -(-len(pairs) // columns)
    sheet = np.full((rows * tile_h + margin, columns * tile_w, 3), 255, np.uint8)
    for n, pair in enumerate(pairs):
        y, x = n // columns * tile_h + margin, n % columns * tile_w + margin
        sheet[y : y + CROP, x : x + CROP] = pair.exemplar
        sheet[y : y + CROP, x + CROP + 2 : x + 2 * CROP + 2] = pair.search
        # OpenCV's letters are ASCII, and the end of an id says more than its beginning.
        label = pair.source_id.encode("ascii", "replace").decode()
        label = label if len(label) <= 66 else f"...{label[-63:]}"
        at = (x, y + CROP + text - 7)
        cv2.putText(sheet, label, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (60, 60, 60), 1, cv2.LINE_AA)
    return sheet


def _looked_at(view: View) -> np.ndarray:
    """Return the view's search region with its box."""
    window = search_window(view.box_xyxy, CROP, 127)
    box = window.to_crop(np.asarray(view.box_xyxy, dtype=np.float64))
    return draw_boxes(view.crop(window), [DrawnBox(box)])


def _quartiles(values: np.ndarray) -> list[str]:
    """Return the least value, the quartiles and the greatest, as text; dashes if there are none."""
    if not len(values):
        return ["–"] * 5
    return [_short(v) for v in np.percentile(values, [0, 25, 50, 75, 100])]


def _short(value: float) -> str:
    if value >= 100 or float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


# --- pictures -------------------------------------------------------------------------------------


def _histograms(counts: Counts) -> bytes:
    """Return the histograms, PNG."""
    figure = Figure(figsize=(11.0, 6.4), layout="constrained")
    axes = figure.subplots(2, 3).ravel()
    _histogram(axes[0], counts.side, "box side, px", "boxes", np.geomspace)
    _histogram(
        axes[1], 100 * counts.relative_side, "box side / image side, %", "boxes", np.linspace
    )
    _histogram(axes[2], counts.aspect, "box width / height", "boxes", np.geomspace)
    _histogram(axes[3], counts.length, "visible frames of a track", "tracks", np.geomspace)
    _histogram(axes[4], counts.gap, "distance of successive frames", "steps", np.geomspace)
    shown = dict(list(counts.by_category.items())[:_MOST_CATEGORIES])
    axes[5].barh(range(len(shown)), list(shown.values()), color=COLOUR)
    axes[5].set_yticks(range(len(shown)), [_shortened(name) for name in shown], fontsize=8)
    axes[5].set_ylim(max(len(shown), 5) - 0.5, -0.5)  # the largest on top
    axes[5].xaxis.set_major_locator(MaxNLocator(6, integer=True))
    more = len(counts.by_category) - len(shown)
    axes[5].set_xlabel(f"tracks by category{f' ({more} more)' if more else ''}")
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
    picture = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(picture, format="png")
    return picture.getvalue()


def _histogram(
    axes: Axes, values: np.ndarray, label: str, what: str, spaced: Callable[..., np.ndarray]
) -> None:
    axes.set_xlabel(label)
    axes.set_ylabel(what)
    axes.grid(axis="y", color="0.92")
    axes.set_axisbelow(True)
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    if not len(values):
        axes.text(0.5, 0.5, "none", ha="center", transform=axes.transAxes, color="0.4")
        return
    low, high = float(values.min()), float(values.max())
    whole = np.issubdtype(values.dtype, np.integer)
    if whole and high - low < 40:  # a bar for each number
        axes.hist(values, np.arange(low - 0.5, high + 1).tolist(), color=COLOUR, rwidth=0.9)
        axes.set_xlim(max(low - 3, -0.5), high + 3)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        return
    if low == high:
        low, high = 0.9 * low, 1.1 * high
    if high < 5 * low:  # too few ticks on a logarithmic axis
        spaced = np.linspace
    if spaced is np.geomspace:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.hist(values, spaced(low, high, 41).tolist(), color=COLOUR)


def _shortened(name: str) -> str:
    return name if len(name) <= 16 else f"{name[:15]}…"


def _encoded(picture: np.ndarray, suffix: str) -> bytes:
    bgr = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2BGR)
    return cv2.imencode(suffix, bgr)[1].tobytes()


def _jpeg_url(picture: np.ndarray) -> str:
    return _data_url(_encoded(picture, ".jpg"), "jpeg")


def _data_url(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _write(file: Path, data: bytes) -> None:
    with atomic_file(file) as temporary:
        temporary.write_bytes(data)
