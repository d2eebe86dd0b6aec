"""The report in a real browser: everything is drawn, nothing fails."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from experiments.report import benchmark_details, styles, write_report
from lightning_trackers.evaluation.benchmarking import BenchmarkScores
from lightning_trackers.evaluation.one_pass import TrackResult
from lightning_trackers.evaluation.ope_protocol import OnePass
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence

BROWSER = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
        if (path := shutil.which(name))
    ),
    None,
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")

# Put before everything else, so that no error is missed; sorts the first table once.
COLLECTOR = """<script>
const failures = [];
addEventListener("error", event => failures.push(event.message));
addEventListener("unhandledrejection", event => failures.push(String(event.reason)));
addEventListener("load", () => {
  const heading = document.querySelector("table.sortable th:nth-child(4) button");
  if (heading) heading.click();
  document.documentElement.dataset.failures = JSON.stringify(failures);
});
</script>"""


def benchmark():
    """Four grey videos of a target that goes right, with three attributes."""
    rng = np.random.default_rng(0)
    sequences = []
    for i in range(4):
        frames = [rng.integers(0, 255, (60, 80, 3), dtype=np.uint8) for _ in range(12)]
        boxes = np.tile([10.0, 10, 30, 30], (12, 1)) + np.arange(12)[:, None] * [1, 0, 1, 0]
        attributes = frozenset({"IV", "OCC", "SV"})
        sequences.append(TrackingSequence(f"s{i}", frames, boxes, np.ones(12, bool), attributes))
    return Benchmark("grey", sequences, OnePass())


def scored(drawn, tracker, shift):
    """A tracker that is further off in each sequence, and its scores."""
    protocol = OnePass()
    results = {
        s.name: TrackResult(
            s.name,
            s.boxes_xyxy + shift * i * np.array([1.0, 0, 1, 0]) * (np.arange(12) > 0)[:, None],
            np.ones(12),
            np.ones(12),
        )
        for i, s in enumerate(drawn)
    }
    scores = BenchmarkScores(
        benchmark=drawn.name,
        tracker=tracker,
        protocol=protocol.name,
        headline=protocol.headline,
        scores=protocol.score(drawn, results),
        frames={s.name: len(s) for s in drawn},
        fps=1.0 + shift,
        sequence_fps={s.name: 1.0 for s in drawn},
    )
    return scores, results


def loaded(page):
    """The page's elements after its scripts have run."""
    done = subprocess.run(
        [
            str(BROWSER),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--virtual-time-budget=4000",
            "--window-size=1280,2000",
            f"--user-data-dir={page.parent / 'profile'}",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize(
    "trackers",
    [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(12, marks=pytest.mark.slow)],
)
def test_tables_and_plots_are_drawn_without_script_errors(tmp_path, trackers):
    drawn = benchmark()
    rows, results = [], {}
    for i in range(trackers):
        row, result = scored(drawn, f"tracker {i}", shift=1.0 + i)
        rows.append(row)
        results[row.tracker] = result
    colours = {name: style.colour for name, style in styles(list(results)).items()}
    details = benchmark_details(drawn, rows, results, colours=colours)
    report = write_report(tmp_path, rows, "a: 1\n", {"exp": "grey"}, details={"grey": details})
    page = tmp_path / "collected.html"
    page.write_text(report.read_text().replace("<head>", f"<head>{COLLECTOR}", 1))

    text = loaded(page)
    assert 'data-failures="[]"' in text
    drawings = text.split('<div class="plot js-plotly-plot"')[1:]  # plotly adds the second class
    assert len(drawings) == (7 if trackers > 1 else 6)  # no speed plot of one tracker
    assert '<div class="plot">' not in text  # none was left undrawn
    assert all('class="main-svg"' in drawing for drawing in drawings)
    data = 'class="(trace|point|points|hm|lines|js-line)'
    assert all(re.search(data, drawing) for drawing in drawings)
    assert len(re.findall(r"<img ", text)) == 3 * 4 * trackers
    scores = text[text.index('<table class="scores"') :]
    assert scores.count("<tr>", 0, scores.index("</table>")) == 2 + trackers
    assert text.count('aria-sort="descending"') == 1  # the heading that was clicked


@pytest.mark.slow
def test_the_collector_notices_an_error(tmp_path):
    page = tmp_path / "broken.html"
    page.write_text(f"<html><head>{COLLECTOR}</head><body><script>nothing()</script></body></html>")
    assert "nothing is not defined" in loaded(page)
