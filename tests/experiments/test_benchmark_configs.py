import pytest
from hydra.utils import get_class, get_method

from experiments.config import CONF, ConfigError
from tests.experiments.composing import checked

NAMES = sorted(p.stem for p in (CONF / "benchmark").glob("*.yaml"))


def root_key(name):
    """The key of ``paths`` that a benchmark takes its root from, None if it needs none."""
    text = (CONF / "benchmark" / f"{name}.yaml").read_text()
    return text.partition("${paths.")[2].partition("}")[0] or None


def test_all_benchmarks_compose_together_and_name_what_exists():
    keys = {name: root_key(name) for name in NAMES}
    roots = [f"paths.{key}=somewhere" for key in {*keys.values()} - {None}]
    # Unknown arguments of a reader are refused here.
    cfg = checked(f"benchmark=[{','.join(NAMES)}]", *roots, name="evaluate")
    # The procedural benchmark bears the name of its split.
    assert {n for n in NAMES if n != "procedural"} <= set(cfg.benchmarks)
    for name, node in cfg.benchmarks.items():
        target = node._target_
        found = (get_class if target.rpartition(".")[2][0].isupper() else get_method)(target)
        assert callable(found)
        assert keys.get(name) is None or node.root == "somewhere"


def test_a_missing_root_is_named_with_its_environment_variable():
    roots = ["paths.otb_root=there", "paths.tc128_root=null"]
    with pytest.raises(ConfigError, match=r"paths\.tc128_root=/.*TRACKERS_TC128_ROOT"):
        checked("benchmark=[otb2015,tc128]", *roots, name="evaluate")


@pytest.mark.parametrize("name", [n for n in NAMES if root_key(n)])
def test_every_file_begins_with_what_gives_its_root(name):
    key = root_key(name)
    head = (CONF / "benchmark" / f"{name}.yaml").read_text().partition("benchmarks:")[0]
    assert f"TRACKERS_{key.upper()}" in head or f"paths.{key}=" in head
    paths = (CONF / "paths" / "default.yaml").read_text()
    assert f"{key}: ${{oc.env:TRACKERS_{key.upper()},null}}" in paths
