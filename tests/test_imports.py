"""The one-way rule: a lower shelf never imports a higher one, and methods leave each other alone."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("lightning_trackers", "datamodules", "callbacks", "experiments")

# From low to high. Each shelf may import itself and what is below.
LAYERS = (
    (
        "lightning_trackers.boxes",
        "lightning_trackers.box_sampling",
        "lightning_trackers.crops",
        "lightning_trackers.scenes",
        "lightning_trackers.ops",
        "lightning_trackers.files",
        "lightning_trackers.state_dicts",
        "lightning_trackers.batches",
    ),
    (
        "lightning_trackers.backbones",
        "lightning_trackers.heads",
        "lightning_trackers.losses",
        "lightning_trackers.metrics",
    ),
    ("lightning_trackers.evaluation",),
    ("lightning_trackers.online",),
    # What several methods share, and what runs their networks elsewhere.
    ("lightning_trackers.siamese", "lightning_trackers.training", "lightning_trackers.runtime"),
    ("lightning_trackers.proposal_tracker",),
    ("lightning_trackers.methods",),
    ("datamodules", "callbacks"),
    ("experiments",),
)

# Declared inheritance of an idea: the newer room may import the older one's public names.
INHERITS = {
    ("gradnet", "siamfc"),
    ("siamrpnpp", "siamrpn"),
    ("rtmdnet", "mdnet"),
    ("spga", "mdnet"),
    ("sintpp", "sint"),
}

NOT_IN_THE_SCIENCE = ("hydra", "omegaconf", "wandb")


def imported(source: str, module: str) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of every import, the ones inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".")[: -node.level]
                base = ".".join([*package, base] if base else package)
            # `from a import b` may name the module a.b
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def violations(source: str, module: str) -> list[str]:
    """Return what a module imports against the rule, one sentence each."""
    found = []
    for line, name in imported(source, module):
        top = name.split(".")[0]
        if module.startswith("lightning_trackers") and top in NOT_IN_THE_SCIENCE:
            found.append(f"{module}, line {line}: the science imports {top}")
        if top not in OURS or name.split(".") == ["lightning_trackers", "__version__"]:
            continue
        if layer(name) > layer(module):
            found.append(f"{module}, line {line}: imports {name}, which is above it")
        room, other = method_room(module), method_room(name)
        if room and other and room != other:
            public = not any(part.startswith("_") for part in name.split("."))
            # lightning_trackers.methods.<room>.<Name>: a name that the room's __init__ offers
            offered = len(name.split(".")) == 4
            if (room, other) not in INHERITS or not (public and offered):
                found.append(f"{module}, line {line}: the room {room} imports {name}")
    return found


def layer(name: str) -> int:
    for index, shelf in enumerate(LAYERS):
        if any(name == prefix or name.startswith(f"{prefix}.") for prefix in shelf):
            return index
    raise AssertionError(f"{name} is on no shelf of LAYERS: say where it belongs")


def method_room(name: str) -> str | None:
    """Return the method a module belongs to; None for shared files such as methods/loading.py."""
    parts = name.split(".")
    if parts[:2] != ["lightning_trackers", "methods"] or len(parts) < 3:
        return None
    return parts[2] if (ROOT / "lightning_trackers" / "methods" / parts[2]).is_dir() else None


def modules() -> list[tuple[str, Path]]:
    """Return name and file of every module of the four packages."""
    found = []
    for package in OURS:
        for file in sorted((ROOT / package).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            found.append((".".join(parts), file))
    return found


@pytest.mark.parametrize(
    ("module", "file"),
    [
        pytest.param(module, file, id=module)
        for module, file in modules()
        if module != "lightning_trackers.__init__"
    ],
)
def test_imports_point_one_way(module, file):
    assert violations(file.read_text(encoding="utf-8"), module) == []


def test_package_root_imports_none_of_its_parts():
    # Otherwise `import lightning_trackers.boxes` would load every method.
    source = (ROOT / "lightning_trackers" / "__init__.py").read_text(encoding="utf-8")
    assert [n for _, n in imported(source, "lightning_trackers") if n.split(".")[0] in OURS] == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("lightning_trackers.boxes", "from lightning_trackers.metrics import ope"),
        ("lightning_trackers.losses.focal", "import lightning_trackers.evaluation.sequence"),
        ("lightning_trackers.evaluation.one_pass", "from lightning_trackers import methods"),
        ("lightning_trackers.evaluation.one_pass", "from .. import methods"),
        ("lightning_trackers.evaluation.one_pass", "from ..methods.siamfc import SiamFC"),
        ("lightning_trackers.methods.siamfc.module", "import datamodules.pairs"),
        ("datamodules.pairs", "def f():\n    from experiments import run"),
        ("callbacks.nan_guard", "import experiments.report as r"),
        ("lightning_trackers.methods.siamfc.tracker", "import wandb"),
        ("lightning_trackers.training", "from omegaconf import DictConfig"),
        (
            "lightning_trackers.methods.siamfc.tracker",
            "from lightning_trackers.methods.siamrpn import SiamRPN",
        ),
        (
            "lightning_trackers.methods.siamfc.tracker",
            "from lightning_trackers.methods import siamrpn",
        ),
    ],
)
def test_checker_catches(module, source):
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("lightning_trackers.crops", "from lightning_trackers.boxes import Array"),
        ("lightning_trackers.evaluation.one_pass", "from . import sequence"),
        ("experiments.run", "import hydra\nimport wandb\nfrom callbacks import nan_guard"),
        (
            "lightning_trackers.methods.siamfc.tracker",
            "from lightning_trackers.methods.siamfc.network import SiamFC",
        ),
    ],
)
def test_checker_allows(module, source):
    assert violations(source, module) == []


def test_inheritance_reaches_public_names_only(monkeypatch):
    monkeypatch.setitem(globals(), "INHERITS", {("siamfc", "siamrpn")})
    module = "lightning_trackers.methods.siamfc.network"
    room = "lightning_trackers.methods.siamrpn"
    assert violations(f"from {room} import SiamRPN", module) == []
    assert len(violations(f"from {room} import _helper", module)) == 1
    assert len(violations(f"from {room}.network import SiamRPN", module)) == 1


def test_unplaced_module_is_noticed():
    with pytest.raises(AssertionError, match=r"lightning_trackers\.extra is on no shelf"):
        violations("import lightning_trackers.extra", "experiments.run")
