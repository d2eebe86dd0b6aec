import base64
import csv
import json
import re

import cv2
import numpy as np
import plotly.graph_objects as go
import pytest

from callbacks.visualisation import ClipWriter
from experiments.report import Details, printed, write_report
from experiments.report.charts import charts, ranked, styles
from experiments.report.details import mean_intervals, pooled_intervals, run_details
from experiments.report.interactive import script_json
from experiments.report.labels import file_size, label, rate, written
from experiments.report.page import sequence_table, significance_matrix, training_curves
from experiments.report.pictures import frame_overlaps, spread_minima, worst_frames
from experiments.report.tables import differences, latex, markdown, score_table
from lightning_trackers.evaluation.benchmarking import BenchmarkScores
from lightning_trackers.evaluation.one_pass import TrackResult
from lightning_trackers.evaluation.protocol import Curve, Scores
from lightning_trackers.evaluation.results import ResultStore
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence


@pytest.fixture(autouse=True)
def draw_files(monkeypatch):
    """Draw no files where the test is not about them, as they take most of the time."""
    real = printed.save
    monkeypatch.setattr(printed, "save", lambda file, size, draw: None)
    return lambda: monkeypatch.setattr(printed, "save", real)


def row(
    tracker,
    benchmark="otb",
    auc=0.5,
    names=("Couple", "Deer"),
    attributes=(),
    clip=None,
    fps=30.0,
    sequences=None,
):
    """Scores of a one-pass benchmark; the sequences' scores have the right mean."""
    half = (len(names) - 1) / 2
    values = {name: auc + (i - half) / 100 for i, name in enumerate(names)}
    values = values if sequences is None else sequences
    axes = {"success": 21, "precision": 51, "normalized_precision": 51}
    return BenchmarkScores(
        benchmark=benchmark,
        tracker=tracker,
        protocol="one-pass evaluation, OTB rule",
        headline="success_auc",
        scores=Scores(
            {
                "success_auc": auc,
                "precision_20px": auc + 0.1,
                "normalized_precision": auc + 0.05,
            },
            {
                key: Curve(np.linspace(0, 1, n), np.linspace(1, 0, n), "threshold", "frames")
                for key, n in axes.items()
            },
            {
                name: {"success_auc": v, "precision_20px": v, "normalized_precision": v}
                for name, v in values.items()
            },
            {code: {"success_auc": auc - i / 10} for i, code in enumerate(attributes)},
        ),
        frames={name: 100 + i for i, name in enumerate(values)},
        fps=fps,
        sequence_fps=dict.fromkeys(values, fps),
        clip=clip,
    )


def vot_row(tracker, eao, failures=(1.0, 2.0)):
    """Scores of VOT's supervised experiment."""
    return BenchmarkScores(
        benchmark="vot2018",
        tracker=tracker,
        protocol="VOT2018 supervised",
        headline="eao",
        scores=Scores(
            {"eao": eao, "accuracy": eao + 0.2, "robustness": 0.3},
            {"expected_overlap": Curve(np.arange(1, 9), np.linspace(1, 0, 8), "frames", "overlap")},
            {f"s{i}": {"accuracy": 0.5, "failures": f} for i, f in enumerate(failures)},
            {"occlusion": {"accuracy": 0.4}, "empty": {"accuracy": 0.6}},
        ),
        frames={f"s{i}": 8 for i in range(len(failures))},
        fps=float("nan"),
        sequence_fps={},
    )


def unscored(tracker):
    """A benchmark whose ground truth is not public."""
    return BenchmarkScores(
        "got10k_test", tracker, "GOT-10k", "average_overlap", Scores({}), {"a": 3}, 9.0, {"a": 9.0}
    )


def page(tmp_path, rows, config="a: 1\n", meta=None, **options):
    file = write_report(tmp_path, rows, config, meta or {"exp": "siamrpn_sl", "seed": 0}, **options)
    assert file == tmp_path / "report.html"
    return file.read_text(encoding="utf-8")


def without_library(text):
    """The page without plotly.js, which is 4 MB of other people's words."""
    head, _, rest = text.partition("</style>")
    return head + rest[rest.index("</script>") :]


def figures(text):
    found = re.findall(r'<script type="application/json">(.*?)</script>', text, re.DOTALL)
    return [json.loads(figure) for figure in found]


def records(file):
    with file.open() as lines:
        return list(csv.DictReader(lines))


def test_page_needs_no_network(tmp_path):
    text = page(tmp_path, [row("ours"), row("static", auc=0.2)])
    assert text.count("plotly.js v") == 1  # the library, once
    assert not re.search(r'(src|href)="(https?:)?//', without_library(text))
    assert "<link" not in without_library(text)


def test_header_table_and_configuration(tmp_path):
    rows = [row("static", auc=0.2, fps=float("nan")), row("ours", auc=0.613)]
    meta = {"exp": "siamrpn_sl", "profile": "laptop", "git commit": "abc1234", "seed": 3}
    text = without_library(page(tmp_path, rows, "lr: 0.01\n", meta))
    for key, value in meta.items():
        assert f"<dt>{key}</dt><dd>{value}</dd>" in text
    assert '<td class="best">61.3<small>60.8–61.8</small></td>' in text  # two sequences: their ends
    assert '<td class="best">71.3</td>' in text  # its sequences' mean is another number
    assert "<td>–</td>" in text  # no rate was measured
    assert "lr: 0.01" in text
    assert "otb, 2 sequences" in text
    assert text.index("ours</td>") < text.index("static</td>")  # the best first


def test_curves_are_ranked_by_score_and_in_percent(tmp_path):
    rows = [row("ours", auc=0.3), row("better", auc=0.7)]
    success, precision, normalised, speed, ladder = figures(page(tmp_path, rows))
    assert [trace["name"] for trace in success["data"]] == ["better [70.0]", "ours [30.0]"]
    assert [trace["name"] for trace in precision["data"]] == ["better [80.0]", "ours [40.0]"]
    assert [trace["name"] for trace in normalised["data"]] == ["better [75.0]", "ours [35.0]"]
    assert success["layout"]["title"]["text"] == "Success [AUC, %]"
    assert success["data"][0]["y"][:2] == [100.0, 95.0]
    assert speed["layout"]["xaxis"]["type"] == "log"
    # A tracker has one colour in every plot, whatever its rank.
    assert success["data"][1]["line"]["color"] == ladder["data"][0]["marker"]["color"]
    # Best sequence at the top, which is the end of plotly's axis.
    assert ladder["data"][0]["type"] == "bar"
    assert ladder["data"][0]["y"] == ["Couple", "Deer"]
    assert ladder["data"][0]["x"] == pytest.approx([29.5, 30.5])


def test_vot_is_ranked_by_eao_and_keeps_its_units():
    rows = [vot_row("worse", 0.2), vot_row("better", 0.3)]
    found = {c.name: c for c in charts(rows, styles(["worse", "better"]))["curves"]}
    curve = found["expected_overlap"]
    assert [s.name for s in curve.series] == ["better [0.300]", "worse [0.200]"]
    assert curve.series[0].y[0] == 1.0  # no percent
    rank = found["eao_rank"]
    assert [(s.name, s.x, s.y) for s in rank.series] == [
        ("better", [1], [0.3]),
        ("worse", [2], [0.2]),
    ]
    assert "accuracy_robustness" in found
    # EAO is not defined for one sequence, nor here for an attribute: accuracy compares them.
    others = charts(rows, styles(["worse", "better"]))
    assert [c.y_label for c in others["attributes"]] == ["Accuracy"]


def test_robustness_is_better_where_it_is_lower():
    rows = [vot_row("a", 0.2), vot_row("b", 0.3)]
    rows[0].scores.scalars["robustness"] = 0.1
    table = score_table(rows, {})
    assert [r.tracker for r in ranked(rows, "robustness")] == ["a", "b"]
    assert table.rows["a"]["robustness"].best
    assert not table.rows["b"]["robustness"].best


def test_benchmark_without_public_ground_truth(tmp_path):
    text = page(tmp_path, [unscored("ours"), unscored("static")])
    assert "got10k_test" in text
    assert [r["fps"] for r in records(tmp_path / "scores.csv")] == ["9", "9"]


def test_one_tracker_has_no_contest(tmp_path):
    text = without_library(page(tmp_path, [row("ours")]))
    assert 'class="best"' not in text
    assert "Significance" not in text
    assert not (tmp_path / "differences.csv").exists()


def test_thirty_trackers_differ_in_colour_or_dash(tmp_path):
    rows = [row(f"t{i}", auc=0.2 + i / 100, attributes=("IV", "OCC", "SV")) for i in range(30)]
    found = styles([r.tracker for r in rows])
    assert len(set(found.values())) == 30
    text = page(tmp_path, rows)
    *_, heat = figures(text)
    assert heat["data"][0]["type"] == "heatmap"
    assert heat["data"][0]["y"][-1] == "t0"  # plotly's axis goes up: the first row is at the top
    table = sequence_table(rows)
    assert table.headings == ["Sequence", *(f"t{i}" for i in reversed(range(30)))]
    assert len(table.rows) == 2
    # Only the best are compared in pairs.
    matrix = significance_matrix(rows, differences(rows))
    assert matrix.trackers == [f"t{i}" for i in range(29, 13, -1)]


def test_names_cannot_become_markup(tmp_path):
    evil = "</script><script>alert(1)</script><b>x"
    rows = [
        row(evil, benchmark="a&b", names=(evil, "ok")),
        row("other", benchmark="a&b", names=(evil, "ok")),
    ]
    details = {"a&b": Details(notes=[evil])}
    text = without_library(page(tmp_path, rows, evil, {"exp": evil, evil: evil}, details=details))
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
    rows = [row("ours", auc=1 / 3, attributes=("IV",)), row("static")]
    page(tmp_path, rows)
    best, second = records(tmp_path / "scores.csv")
    assert (best["tracker"], second["tracker"]) == ("static", "ours")
    assert second["success_auc"] == "0.3333333333"
    assert second["sequences"] == "2"
    assert float(second["success_auc_low"]) == pytest.approx(1 / 3 - 0.005)
    sequences = records(tmp_path / "sequence_scores.csv")
    assert len(sequences) == 4
    assert (sequences[1]["sequence"], sequences[1]["frames"]) == ("Deer", "101")
    assert float(sequences[1]["success_auc"]) == pytest.approx(1 / 3 + 0.005)
    assert records(tmp_path / "attribute_scores.csv") == [
        {"benchmark": "otb", "tracker": "ours", "attribute": "IV", "success_auc": "0.3333333333"}
    ]
    (difference,) = records(tmp_path / "differences.csv")
    assert float(difference["mean"]) == pytest.approx(1 / 6)


def test_interval_only_where_the_score_is_a_mean_over_sequences():
    scores = row("ours", auc=0.5, sequences={f"s{i}": 0.4 + i / 50 for i in range(11)})
    found = mean_intervals([scores])["ours"]
    low, high = found["success_auc"]
    assert 0.4 < low < 0.5 < high < 0.6
    assert found.keys() == {"success_auc"}  # precision is 0.6, the mean of the sequences' 0.5


def test_interval_of_a_score_over_all_frames():
    # GOT-10k: 1 counted frame with overlap 0.9 and 3 with 0.5 make (0.9 + 3 × 0.5) / 4 = 0.6.
    def still(name, length):
        frames = [np.zeros((9, 9, 3), np.uint8)] * length
        boxes = np.tile([1.0, 1, 5, 5], (length, 1))
        return TrackingSequence(name, frames, boxes, np.ones(length, bool))

    benchmark = Benchmark("got", [still("a", 2), still("b", 4)])
    scores = row("ours", auc=0.6, sequences={"a": 0.9, "b": 0.5})
    found = pooled_intervals(benchmark, scores, except_for={})
    assert found["success_auc"] == pytest.approx((0.5, 0.9))  # drawn twice: one of them alone
    assert "precision_20px" not in found
    assert pooled_intervals(benchmark, scores, except_for={"success_auc": 0}) == {}


def test_paired_differences_find_what_unpaired_ones_would_not():
    # Sequences differ far more than trackers, and one tracker is a little better on each.
    hard = {f"s{i}": 0.1 + 0.08 * i for i in range(10)}
    easy = {name: v + 0.01 + 0.001 * i for i, (name, v) in enumerate(hard.items())}
    rows = [row("a", auc=0.46, sequences=hard), row("b", auc=0.4745, sequences=easy)]
    (found,) = differences(rows)
    assert (found.first, found.second) == ("b", "a")
    assert found.mean == pytest.approx(0.0145)
    assert 0.01 < found.low < found.mean < found.high < 0.02
    assert found.significant
    matrix = significance_matrix(rows, [found])
    assert matrix.cells[0][0] is None
    assert matrix.cells[0][1][0] == "+1.5"  # 1.45 points
    assert matrix.cells[0][1][2] == "better"
    assert matrix.cells[1][0][2] == "worse"
    same = differences([rows[0], row("c", auc=0.46, sequences=hard)])
    assert not same[0].significant


def test_markdown_and_latex_tables():
    table = score_table(
        [row("SiamFC_e48", auc=0.6), row("K&F")], {"K&F": {"success_auc": (0.41, 0.6)}}
    )
    text = markdown(table)
    assert text.splitlines()[0].startswith("| tracker | Success AUC, % |")
    assert r"| SiamFC\_e48 | **60.0** | **70.0** | **65.0** | 30.0 |" in text
    text = latex(table)
    assert r"\begin{tabular}{lrrrr}" in text
    assert r"Tracker & Success AUC, \% &" in text
    assert r"SiamFC\_e48 & \textbf{60.0} & \textbf{70.0} & \textbf{65.0} & 30.0 \\" in text
    assert r"K\&F & 50.0 {\scriptsize (41.0--60.0)} & 60.0" in text


def test_figures_as_png_and_pdf(tmp_path, draw_files):
    draw_files()
    rows = [row("ours$", attributes=("IV", "OCC", "SV")), row("static", auc=0.2)]
    page(tmp_path, rows)
    kinds = ["attributes", "attributes_radar", "normalized_precision", "precision"]
    kinds += ["sequences", "speed", "success"]
    assert sorted(f.name for f in (tmp_path / "plots").iterdir()) == [
        f"otb_{kind}.{suffix}" for kind in kinds for suffix in ("pdf", "png")
    ]
    picture = cv2.imread(str(tmp_path / "plots" / "otb_success.png"))
    assert picture.shape[:2] == (630, 780)  # 4.2 × 5.2 inches at 150 dpi
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20  # something is drawn
    assert (tmp_path / "plots" / "otb_success.pdf").read_bytes().startswith(b"%PDF")


def write_log(folder, lines):
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text(
        "\n".join(["epoch,step,train/loss,val/loss,val/v/success_auc,val/v/fps,test/o/x", *lines])
    )


def test_training_curves_of_a_resumed_run(tmp_path, draw_files):
    draw_files()
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
    rows = [row("ours", clip=clip.path)]
    assert 'src="data:video/mp4;base64,AAAA' in page(tmp_path, rows)
    monkeypatch.setattr("experiments.report.page.MAX_EMBEDDED_BYTES", 10)
    text = page(tmp_path, rows)
    assert 'src="clips/otb.mp4"' in text
    assert '<a href="clips/otb.mp4">clips/otb.mp4</a>' in text


def test_numbers_as_readers_want_them():
    assert [written("success_auc", v) for v in (0.61349, 1.0, float("nan"))] == [
        "61.3",
        "100.0",
        "–",
    ]
    assert [rate(v) for v in (8.64, 1234.5, float("nan"))] == ["8.6", "1,234", "–"]
    assert [file_size(v) for v in (900, 250_000)] == ["0.9 kB", "0.2 MB"]
    assert label("my_score").text == "My score"


def test_the_fastest_gets_no_prize():
    table = score_table([row("a", auc=0.3, fps=1), row("b", auc=0.3), row("c", auc=0.1)], {})
    assert [t for t, cells in table.rows.items() if cells["success_auc"].best] == ["a", "b"]
    assert not any(cells["fps"].best for cells in table.rows.values())


@pytest.mark.parametrize("config", ["", "a: <b>\n"])
def test_configuration_is_shown_as_it_is(tmp_path, config):
    text = page(tmp_path, [row("ours")], config)
    assert f"<pre>{config.replace('<', '&lt;').replace('>', '&gt;')}</pre>" in text


def drawn_benchmark(length=40):
    """A grey video whose target stands still, annotated except in frame 4."""
    frames = [np.full((60, 80, 3), 90, np.uint8)] * length
    boxes = np.tile([10.0, 10, 30, 30], (length, 1))
    valid = np.arange(length) != 4
    return Benchmark("grey", [TrackingSequence("still", frames, boxes, valid)])


def shifted(benchmark, shifts):
    """A result that is off by so many px to the right in each frame."""
    (sequence,) = benchmark.sequences
    boxes = sequence.boxes_xyxy + np.array([1.0, 0, 1, 0]) * np.array(shifts)[:, None]
    return {"still": TrackResult("still", boxes, np.ones(len(boxes)), np.ones(len(boxes)))}


def test_worst_frames_are_apart_and_drawn_in_the_trackers_colour():
    benchmark = drawn_benchmark()
    shifts = np.zeros(40)
    shifts[[4, 12, 13, 30]] = [50, 10, 9, 5]  # frame 4 has no ground truth, 13 lies beside 12
    overlaps = frame_overlaps(benchmark.sequences[0], shifted(benchmark, shifts)["still"])
    assert overlaps[12] == pytest.approx(1 / 3)  # 10 px of 20: 200 / 600
    assert np.isnan(overlaps[[0, 4]]).all()
    assert spread_minima(overlaps, 2) == [12, 30]
    (entry,) = worst_frames(benchmark, {"ours": shifted(benchmark, shifts)}, {"ours": "#d55e00"}, 2)
    assert [f.frame for f in entry.frames] == [13, 31]  # counted from 1
    head, _, data = entry.frames[0].source.partition(",")
    assert head == "data:image/jpeg;base64"
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[1] == 300
    # Right edge of the prediction, x = 40 of 80: orange has more red than blue (BGR), grey has not.
    edge = picture[75, 143:153].astype(int)  # 3.75 times as large
    assert (edge[:, 2] - edge[:, 0]).max() > 50


def test_worst_frames_need_frames_and_boxes():
    class Lost:
        def __len__(self):
            return 40

        def __getitem__(self, index):
            raise FileNotFoundError("gone")

    benchmark = drawn_benchmark()
    (sequence,) = benchmark.sequences
    lost = TrackingSequence("still", Lost(), sequence.boxes_xyxy, sequence.valid)
    result = shifted(benchmark, np.ones(40))
    assert worst_frames(Benchmark("grey", [lost]), {"ours": result}, {"ours": "#d55e00"}) == []
    assert frame_overlaps(sequence, object()) is None
    assert worst_frames(benchmark, {"ours": {}}, {"ours": "#d55e00"}) == []


def test_pictures_stand_on_the_page(tmp_path):
    benchmark = drawn_benchmark()
    rows = [row("our tracker", benchmark="grey", names=("still",))]
    result = shifted(benchmark, np.arange(40) > 0)["still"]
    ResultStore(tmp_path / "results" / "grey" / "our_tracker", "weights").save(result)
    details = run_details(tmp_path, [benchmark], rows)
    text = page(tmp_path, rows, details=details)
    assert text.count("<img ") == 3
    assert "still: mean overlap 0.90" in text  # 19 / 21


def test_runs_of_tre_are_scored_by_sequence_and_shown_by_run(tmp_path):
    # TRE: two segments of one sequence are two results, and one line of the table.
    benchmark = Benchmark("grey_tre", [drawn_benchmark().sequences[0]])
    scores = row("ours", benchmark="grey_tre", names=("still", "other"))
    text = page(tmp_path, [scores], details={"grey_tre": Details(mean_intervals([scores]))})
    assert "grey_tre, 2 sequences" in text
    assert pooled_intervals(benchmark, scores, except_for={}) == {}


@pytest.mark.slow
def test_files_of_thirty_trackers(tmp_path, draw_files):
    draw_files()
    rows = [row(f"t{i}", auc=0.2 + i / 100, attributes=("IV", "OCC", "SV")) for i in range(30)]
    page(tmp_path, rows)  # a legend that does not fit would be a warning, hence an error
    assert len(list((tmp_path / "plots").glob("*.png"))) == 7
