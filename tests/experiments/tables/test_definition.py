from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from experiments.config import CONF, ConfigError
from experiments.tables.definition import read_table

TABLES = sorted(
    p.relative_to(CONF / "table").with_suffix("").as_posix()
    for p in (CONF / "table").rglob("*.yaml")
)
SPEC = Path(__file__).resolve().parents[4] / "shared" / "spec" / "paper_tables.yaml"


def content(name):
    return OmegaConf.to_container(OmegaConf.load(CONF / "table" / f"{name}.yaml"))


def table(name, **changes):
    return read_table(name, {**content(name), **changes})


@pytest.mark.parametrize("name", TABLES)
def test_every_table_reads_and_says_where_it_is_printed(name):
    found = table(name)
    assert found.rows
    assert found.source
    assert found.title
    for row in found.rows.values():
        assert row.exp or row.paper, f"{row.name}: neither an exp nor a number"


@pytest.mark.skipif(not SPEC.is_file(), reason="needs ../shared/spec/paper_tables.yaml")
def test_every_number_of_the_transcription_is_there_unchanged():
    spec = yaml.safe_load(SPEC.read_text())
    counted = 0
    for paper, tables in spec.items():
        for key, printed in tables.items():
            if "rows" not in printed:
                continue
            found = table(f"{paper}/{key}")
            assert set(printed["rows"]) <= set(found.rows)
            for row, numbers in printed["rows"].items():
                for place, value in numbers.items():
                    if place in found.benchmarks:  # by benchmark, then by metric
                        values = dict(zip(found.metrics, value, strict=True)) if isinstance(value, list) else {found.metrics[0]: value}  # fmt: skip
                        assert found.rows[row].paper[place] == values
                        counted += len(values)
                    elif value is not None:
                        (benchmark,) = found.benchmarks
                        assert found.rows[row].paper[benchmark][place] == value
                        counted += 1
                    else:
                        assert found.rows[row].paper == {}
    assert counted > 180


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": ["precisions"]}, "unknown name 'precisions'; nearest: 'precision'"),
        ({"baseline": "siamf"}, "unknown name 'siamf'; nearest: 'siamfc'"),
        ({"benchmarks": {"otb2015": ["otb215"]}}, "unknown name 'otb215'; nearest: 'otb2015'"),
        ({"row": {}}, "unknown key 'row'; nearest: 'rows'"),
        ({"laptop": {"benchmark": "procedural", "rules": "otb"}}, "nearest: 'rule'"),
        ({"rows": {"siamfc": {"expt": "siamfc"}}}, "unknown key 'expt'; nearest: 'exp'"),
        ({"rows": {"siamfc": {"paper": {"otb2015": {"successes": 1}}}}}, "nearest: 'success'"),
        ({"rows": {"siamfc": {"overrides": ["seed=1"]}}}, "without exp"),
    ],
)
def test_what_does_not_exist_is_named_with_what_does(changes, message):
    with pytest.raises(ConfigError, match="table gradnet/table3") as raised:
        table("gradnet/table3", **changes)
    assert message in str(raised.value)


def test_a_row_of_an_unknown_exp_says_so_and_lights_up_when_it_appears():
    rows = {**content("gradnet/table3")["rows"], "new": {"exp": "siamfc_s"}}
    found = table("gradnet/table3", rows=rows)
    assert found.rows["new"].unknown_exp == (
        "exp not there: conf/exp/siamfc_s.yaml; the nearest is 'siamfc_sl'"
    )
    assert found.rows["siamfc"].unknown_exp == ""


def test_rows_of_other_people_s_trackers_have_the_paper_s_number_alone():
    row = table("hnse/table1").rows["atom"]
    assert row.exp is None
    assert row.paper == {"got10k": {"ao": 0.556, "sr50": 0.634, "sr75": 0.402}}


def test_a_row_may_be_compared_with_several():
    found = table("hnse/table4")
    names = [b.name for b in found.baselines_of(found.rows["hnse"])]
    assert names == ["siamrpnpp", "hnse_no_emphasis"]
    assert found.baselines_of(found.rows["siamrpnpp"]) == []
