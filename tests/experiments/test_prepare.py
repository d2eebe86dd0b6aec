import json
import subprocess
import sys
import tarfile
from collections import Counter

import pytest

from datamodules.shards import MANIFEST, ShardSource
from datamodules.sources.vid import VIDSource
from experiments import prepare as prepare_module
from experiments.config import CONF, ConfigError, check_choices
from tests.datamodules import miniature as mini

SMALL = ("packing.shard_frames=10", "packing.clip_frames=4")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vid")
    mini.vid(folder, videos=4)
    return folder


def run(monkeypatch, capsys, *arguments):
    """Run the command in this process; return its exit status and what it printed as errors."""
    monkeypatch.setattr(sys, "argv", ["prepare", "--config-path", str(CONF), *map(str, arguments)])
    try:
        prepare_module.run_checked(prepare_module.main)
    except SystemExit as error:
        return error.code, capsys.readouterr().err
    return 0, capsys.readouterr().err


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    def call(*arguments):
        return run(
            monkeypatch, capsys, *arguments, f"paths.outputs={tmp_path}/outputs", "workers=0"
        )

    return call


def clips(out):
    """Names of the clips of all shards with the number of shards they are in."""
    found = Counter()
    for file in out.glob("*.tar"):
        with tarfile.open(file) as tar:
            found.update({name.split("_")[0] for name in tar.getnames()})
    return found


def test_without_out_the_index_is_made(command, root, tmp_path):
    index = tmp_path / "vid.arrow"
    assert command("source=vid", f"root={root}", f"index={index}") == (0, "")
    assert VIDSource(root, index_path=index).index.path == index
    assert not list(tmp_path.rglob("*.tar"))


def test_out_packs_and_report_reports(command, root, tmp_path):
    out = tmp_path / "shards"
    code, _ = command(
        "source=vid", f"root={root}", f"out={out}", *SMALL, "report=true", "report_pairs=2"
    )
    assert code == 0
    assert ShardSource(out).index.boxes == VIDSource(root).index.boxes
    folder = tmp_path / "outputs" / "prepare" / "vid"
    assert {f.name for f in folder.iterdir()} >= {"data_report.html", "histograms.png", "pairs.png"}


def test_parts_of_a_multirun_are_together_the_clips_of_one_part(command, root, tmp_path):
    assert command("source=vid", f"root={root}", f"out={tmp_path}/one", *SMALL)[0] == 0
    several = ("-m", "part=0,1,2", "parts=3")
    assert command(*several, "source=vid", f"root={root}", f"out={tmp_path}/three", *SMALL)[0] == 0
    one, three = clips(tmp_path / "one"), clips(tmp_path / "three")
    assert len(one) > 10
    assert one == three
    assert set(three.values()) == {1}
    manifests = [json.loads((tmp_path / n / MANIFEST).read_text()) for n in ("one", "three")]
    assert manifests[0] == manifests[1]


@pytest.mark.slow
def test_parts_run_as_jobs_of_submitit(root, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    out = tmp_path / "shards"
    command = [
        *(sys.executable, "-m", "experiments.prepare", "-m", "hydra/launcher=submitit_local"),
        *("source=vid", f"root={root}", f"out={out}", *SMALL, "part=range(0,3)", "parts=3"),
        *("workers=0", f"paths.outputs={tmp_path}/outputs"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert ShardSource(out).index.boxes == VIDSource(root).index.boxes
    assert set(clips(out).values()) == {1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("source=vid",), "root: expected the folder of vid; give root=/..., or set TRACKERS_VID_ROOT"),
        (("source=vid", "root=/nothing"), "/nothing: no such folder (wanted"),
        (("source=vid", "root=.", "part=3", "parts=3"), "part=3: expected 0 to 2, as parts=3"),
        (("source=vid", "root=.", "packing.quality=300"), "quality in 1 to 100, got 300"),
        (("source=vid", "root=.", "+packing.size=3"), "unknown key 'size' in packing; nearest:"),
        (("source=vid", "root=.", "source.splits=[training]"), "expected splits of train, val, got 'training'"),
    ],
)  # fmt: skip
def test_what_the_user_can_mend_is_said_in_one_line(command, arguments, message, monkeypatch):
    monkeypatch.delenv("TRACKERS_VID_ROOT", raising=False)
    code, _ = command(*arguments)
    assert str(code).startswith("error: ")
    assert message in code
    assert "Traceback" not in code


def test_a_source_that_is_missing_or_unknown_is_refused(command):
    assert "You must specify 'source'" in command("root=.")[0]
    with pytest.raises(ConfigError, match="nearest: 'vid'"):
        check_choices(["source=vidd"])


def test_the_root_comes_from_the_environment(command, root, monkeypatch):
    monkeypatch.setenv("TRACKERS_VID_ROOT", str(root))
    assert command("source=vid")[0] == 0


def test_a_pack_of_other_settings_is_refused_in_one_line(command, root, tmp_path):
    arguments = ("source=vid", f"root={root}", f"out={tmp_path}/shards", *SMALL)
    assert command(*arguments)[0] == 0
    code, _ = command(*arguments, "packing.quality=50")
    assert code.startswith("error: ")
    assert "other settings" in code


def test_ctrl_c_says_how_to_go_on(command, root, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare_module, "pack", interrupted)
    code, _ = command("source=vid", f"root={root}", f"out={tmp_path}/shards")
    assert code == "interrupted; the same command goes on"


@pytest.mark.parametrize("name", ["vid", "det", "coco", "youtube_bb", "got10k", "lasot"])
def test_every_source_is_prepared(command, name, tmp_path):
    getattr(mini, name)(tmp_path / name)
    out = tmp_path / "shards"
    assert command(f"source={name}", f"root={tmp_path / name}", f"out={out}")[0] == 0
    assert ShardSource(out).name == name
