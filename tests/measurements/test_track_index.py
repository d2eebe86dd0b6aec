import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from datamodules.sources.youtube_bb import YouTubeBBSource

SCRIPT = Path(__file__).parents[2] / "measurements/track_index.py"
script = runpy.run_path(str(SCRIPT))


def test_the_drawn_annotations_have_the_size_asked_for(tmp_path):
    script["write_annotations"](tmp_path, tracks=80, boxes=1000)
    source = YouTubeBBSource(tmp_path, sizes=tmp_path / "sizes.csv")
    index = source.index
    assert (len(index), index.boxes, index.skipped) == (80, 1000, ())
    assert len(set(index.video_ids.tolist())) == 70
    shown = sum(int(index.track(i).visible.sum()) for i in range(80))
    assert 0.8 < shown / 1000 < 0.95  # seven of eight


@pytest.mark.skipif(sys.platform != "linux", reason="unshared memory is read from /proc")
def test_unshared_memory_counts_what_a_process_writes():
    # In a process of its own: after other tests, freed memory may be there to be used again.
    code = f"""
import runpy
memory = runpy.run_path({str(SCRIPT)!r})["unshared_memory_mb"]
before = memory()
held = bytearray(b"1") * (64 << 20)
print(memory() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 60 < float(done.stdout) < 80


def test_opening_and_drawing_returns_time_and_memory(tmp_path):
    script["write_annotations"](tmp_path, tracks=80, boxes=1000)
    opened_s, added_mb = script["open_and_draw"](tmp_path, 20)
    assert opened_s > 0
    assert added_mb < 100
