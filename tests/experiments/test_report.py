import csv
import json
import re

import cv2
import numpy as np
import plotly.graph_objects as go
import pytest

from callbacks.benchmark_evaluation import BenchmarkScores, SequenceScores
from callbacks.visualisation import ClipWriter
from experiments import report
from experiments.report import (
    best_trackers,
    file_size,
    percent,
    rate,
    script_json,
    training_curves,
    write_report,
)


@pytest.fixture(autouse=True)
def save_png(monkeypatch):
    """Draw no PNG where the test is not about them, as they take most of the time."""
    real = report._save_png
    monkeypatch.setattr(report, "_save_png", lambda file, size, draw: None)
    return lambda: monkeypatch.setattr(report, "_save_png", real)


def scores(tracker, benchmark="otb", auc=0.5, names=("Couple", "Deer"), clip=None, fps=30.0):
    return BenchmarkScores(
        benchmark=benchmark,
        tracker=tracker,
        success_auc=auc,
        precision_20px=auc + 0.1,
        normalized_precision=auc + 0.05,
        fps=fps,
        curves={
            "success_curve": np.linspace(1, 0, 21),
            "precision_curve": np.linspace(0, 1, 51),
            "normalized_precision_curve": np.linspace(0, 1, 51),
        },
        sequences=tuple(
            SequenceScores(name, 100 + i, auc + i / 100, auc, auc, fps)
            for i, name in enumerate(names)
        ),
        clip=clip,
    )


def page(tmp_path, rows, config="a: 1\n", meta=None):
    file = write_report(tmp_path, rows, config, meta or {"exp": "siamrpn_sl", "seed": 0})
    assert file == tmp_path / "report.html"
    return file.read_text(encoding="utf-8")


def without_library(text):
    """The page without plotly.js, which is 4 MB of other people's words."""
    head, _, rest = text.partition("</style>")
    return head + rest[rest.index("</script>") :]


def figures(text):
    found = re.findall(r'<script type="application/json">(.*?)</script>', text, re.DOTALL)
    return [json.loads(figure) for figure in found]


def test_page_needs_no_network(tmp_path):
    text = page(tmp_path, [scores("ours"), scores("static", auc=0.2)])
    assert text.count("plotly.js v") == 1  # the library, once
    assert not re.search(r'(src|href)="(https?:)?//', without_library(text))
    assert "<link" not in without_library(text)


def test_header_table_and_configuration(tmp_path):
    rows = [scores("ours", auc=0.613), scores("static", auc=0.2, fps=float("nan"))]
    meta = {"exp": "siamrpn_sl", "profile": "laptop", "git commit": "abc1234", "seed": 3}
    text = without_library(page(tmp_path, rows, "lr: 0.01\n", meta))
    for key, value in meta.items():
        assert f"<dt>{key}</dt><dd>{value}</dd>" in text
    assert '<td class="best">61.3</td><td class="best">71.3</td>' in text
    assert "<td>20.0</td>" in text
    assert "<td>–</td>" in text  # no rate was measured
    assert "lr: 0.01" in text
    assert "otb, 2 sequences" in text


def test_curves_are_ranked_by_score_and_in_percent(tmp_path):
    rows = [scores("ours", auc=0.3), scores("better", auc=0.7)]
    success, precision, normalised, bars = figures(page(tmp_path, rows))
    assert [trace["name"] for trace in success["data"]] == ["better [70.0]", "ours [30.0]"]
    assert [trace["name"] for trace in precision["data"]] == ["better [80.0]", "ours [40.0]"]
    assert [trace["name"] for trace in normalised["data"]] == ["better [75.0]", "ours [35.0]"]
    assert success["layout"]["title"]["text"] == "Success [AUC, %]"
    # A tracker has one colour in every plot, whatever its rank.
    assert success["data"][1]["line"]["color"] == bars["data"][0]["marker"]["color"]
    # Best sequence at the top, which is the end of plotly's axis.
    assert bars["data"][0]["type"] == "bar"
    assert bars["data"][0]["y"] == ["Couple", "Deer"]
    assert bars["data"][0]["x"] == [30.0, 31.0]


def test_names_cannot_become_markup(tmp_path):
    evil = "</script><script>alert(1)</script><b>x"
    rows = [scores(evil, benchmark="a&b", names=(evil, "ok"))]
    text = without_library(page(tmp_path, rows, evil, {"exp": evil, evil: evil}))
    assert "<script>alert" not in text
    assert "<b>x" not in text
    assert "&lt;b&gt;x" in text
    assert all(evil not in str(f) for f in figures(text))  # plotly reads some HTML too


def test_figure_cannot_end_its_script_element():
    figure = go.Figure(layout={"title": {"text": "</script><script>alert(1)"}})
    text = script_json(figure)
    assert "<" not in text
    assert json.loads(text)["layout"]["title"]["text"] == "</script><script>alert(1)"


def test_csv_files_hold_every_number(tmp_path):
    page(tmp_path, [scores("ours", auc=1 / 3), scores("static")])
    with (tmp_path / "scores.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [r["tracker"] for r in rows] == ["ours", "static"]
    assert rows[0]["success_auc"] == "0.333333"
    assert rows[0]["sequences"] == "2"
    with (tmp_path / "sequence_scores.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 4
    assert (rows[1]["sequence"], rows[1]["frames"], rows[1]["success_auc"]) == (
        "Deer",
        "101",
        "0.343333",
    )


def test_png_plots_at_150_dpi(tmp_path, save_png):
    save_png()
    page(tmp_path, [scores("ours"), scores("ours", benchmark="drawn")])
    names = sorted(f.name for f in (tmp_path / "plots").iterdir())
    assert len(names) == 6
    assert names[0] == "drawn_normalized_precision_curve.png"
    picture = cv2.imread(str(tmp_path / "plots" / names[0]))
    assert picture.shape[:2] == (630, 780)  # 4.2 × 5.2 inches
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20  # something is drawn


def write_log(folder, lines):
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text(
        "\n".join(["epoch,step,train/loss,val/loss,val/v/success_auc,val/v/fps,test/o/x", *lines])
    )


def test_training_curves_of_a_resumed_run(tmp_path, save_png):
    save_png()
    write_log(tmp_path / "logs", ["0,9,2.0,,,,", "0,9,,3.0,0.5,40,", "0,19,1.5,,,,"])
    write_log(tmp_path / "version_1", ["1,29,1.0,,,,", "1,30,nan,,,,0.7"])
    panels = training_curves(tmp_path)
    assert panels == {
        "loss": {
            "train/loss": [(9, 2.0), (19, 1.5), (29, 1.0)],  # NaN is left out
            "val/loss": [(9, 3.0)],
        },
        "success_auc": {"val/v/success_auc": [(9, 0.5)]},
    }
    text = page(tmp_path, [])
    assert "No benchmark was evaluated" in text
    loss, _ = figures(text)
    assert [trace["name"] for trace in loss["data"]] == ["train/loss", "val/loss"]
    assert (tmp_path / "plots" / "training.png").is_file()


def test_clip_is_embedded_unless_it_is_large(tmp_path, monkeypatch):
    with ClipWriter(tmp_path / "clips" / "otb.mp4") as clip:
        clip.write(np.zeros((16, 16, 3), dtype=np.uint8))
    rows = [scores("ours", clip=clip.path)]
    assert 'src="data:video/mp4;base64,AAAA' in page(tmp_path, rows)
    monkeypatch.setattr("experiments.report.MAX_EMBEDDED_BYTES", 10)
    text = page(tmp_path, rows)
    assert 'src="clips/otb.mp4"' in text
    assert '<a href="clips/otb.mp4">clips/otb.mp4</a>' in text


def test_numbers_as_readers_want_them():
    assert [percent(v) for v in (0.61349, 1.0, float("nan"))] == ["61.3", "100.0", "–"]
    assert [rate(v) for v in (8.64, 1234.5, float("nan"))] == ["8.6", "1,234", "–"]
    assert [file_size(v) for v in (900, 250_000)] == ["0.9 kB", "0.2 MB"]


def test_nobody_wins_alone_or_by_speed():
    rows = [scores("a", auc=0.3), scores("b", auc=0.3), scores("c", auc=0.1)]
    assert best_trackers(rows, "success_auc") == {"a", "b"}
    assert best_trackers(rows, "fps") == set()
    assert best_trackers(rows[:1], "success_auc") == set()


@pytest.mark.parametrize("config", ["", "a: <b>\n"])
def test_configuration_is_shown_as_it_is(tmp_path, config):
    text = page(tmp_path, [scores("ours")], config)
    assert f"<pre>{config.replace('<', '&lt;').replace('>', '&gt;')}</pre>" in text
