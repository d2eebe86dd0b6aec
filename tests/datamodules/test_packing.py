import json
import os
import pickle
import signal
import subprocess
import sys
import tarfile
import textwrap
import time

import numpy as np
import pytest
from webdataset import tariterators

from datamodules.errors import DatasetError
from datamodules.frames import decode_image, read_frame
from datamodules.packing import PackSettings, pack
from datamodules.shards import MANIFEST, Manifest, PackedIndex, ShardSource
from datamodules.sources.vid import VIDSource
from lightning_trackers.crops import crop, search_window
from tests.datamodules import miniature as mini

SMALL = PackSettings(shard_frames=12, clip_frames=4)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("vid")
    mini.vid(root, videos=6)
    return VIDSource(root)


def samples(out):
    """The samples of all shards as webdataset groups them, by video, track and frame."""
    found = {}
    for file in sorted(out.glob("*.tar")):
        with file.open("rb") as stream:
            # webdataset's own opening of files leaves them open.
            members = tariterators.tar_file_iterator(stream)
            for sample in tariterators.group_by_keys(m | {"__url__": file.name} for m in members):
                said = json.loads(sample["json"])
                key = said["video"], said["track"], said["frame"]
                assert key not in found
                found[key] = (sample["jpg"], said)
    return found


def frames_of(index):
    tracks = map(index.track, range(len(index)))
    return {(t.video, t.track, int(f)) for t in tracks for f in t.frames[t.visible]}


def test_every_visible_frame_is_packed_once_as_pysot_s_crop(source, tmp_path):
    manifest = pack(source, tmp_path, SMALL)
    found = samples(tmp_path)
    assert found.keys() == frames_of(source.index)
    said = Manifest.read(manifest)
    assert (said.videos, said.tracks, said.frames) == (6, 12, 84)
    assert len(said.shards) > 4
    assert sum(s.frames for s in said.shards) == 84
    jpeg, description = found[source.index.track(0).video, "0", 3]
    crop_image = decode_image(jpeg, "crop")
    assert crop_image.shape == (511, 511, 3)
    box = np.array(mini.moving_box(0, 3), float)
    # pysot: p = (w + h) / 2, s_z = sqrt((w + p)(h + p)), the window is s_z * 511 / 127 wide.
    w, h = box[2:] - box[:2]
    side = np.sqrt((w + (w + h) / 2) * (h + (w + h) / 2)) * 511 / 127
    half = np.array([w, h]) / side * 511 / 2
    np.testing.assert_allclose(
        description["box_xyxy"], [*(255.5 - half), *(255.5 + half)], atol=1e-3
    )
    frame = read_frame(source.frame_path(source.index.track(0).video, 3))
    expected = crop(frame, search_window(box, 511, 127))
    assert np.abs(crop_image.astype(int) - expected).mean() < 2  # JPEG


def test_a_shard_holds_two_videos_and_none_is_left_nearly_empty(source, tmp_path):
    for frames in (1, 5, 9, 20, 1000):
        out = tmp_path / str(frames)
        manifest = Manifest.read(
            pack(source, out, PackSettings(shard_frames=frames, clip_frames=2))
        )
        for shard in manifest.shards:
            index = PackedIndex((out / shard.name).with_suffix(".arrow"))
            assert len(set(index.video_ids.tolist())) > 1
            assert shard.frames >= min(frames, 84) / 2


def test_clips_are_short_and_lie_in_one_shard(source, tmp_path):
    pack(source, tmp_path, SMALL)
    shards_of, frames = {}, {}
    for file in tmp_path.glob("*.tar"):
        with tarfile.open(file) as tar:
            for name in tar.getnames():
                clip = name.split("_")[0]
                shards_of.setdefault(clip, set()).add(file.name)
                frames.setdefault(clip, []).append(int(name.split("_")[1].split(".")[0]))
    assert all(len(s) == 1 for s in shards_of.values())
    assert all(max(f) - min(f) < SMALL.clip_frames for f in frames.values())
    assert all(f == sorted(f) for f in frames.values())  # so a stream meets them in order


def test_packed_and_loose_sources_draw_the_same_pairs(source, tmp_path):
    pack(source, tmp_path, SMALL)
    packed = pickle.loads(pickle.dumps(ShardSource(tmp_path)))
    for number in range(30):
        options = {"max_gap": 5, "positive": number % 3 > 0}
        loose_pair = source.draw(np.random.default_rng(number), **options)
        pair = packed.draw(np.random.default_rng(number), **options)
        assert pair[2] == loose_pair[2]
        for view, loose in zip(pair[:2], loose_pair[:2], strict=True):
            # The search region of training, as large as augmentation makes it.
            ours = view.crop(search_window(view.box_xyxy, 255, 127).moved(3.0, -5.0, 1.1))
            scale = search_window(loose.box_xyxy, 511, 127).scale
            window = search_window(loose.box_xyxy, 255, 127).moved(3.0 / scale, -5.0 / scale, 1.1)
            theirs = loose.crop(window)
            assert np.abs(ours.astype(int) - theirs).mean() < 3


@pytest.mark.parametrize("parts", [2, 3, 50])
def test_parts_together_are_the_whole_and_the_same_bytes(source, tmp_path, parts):
    pack(source, tmp_path / "whole", SMALL)
    done = [pack(source, tmp_path / "parts", SMALL, part=p, parts=parts) for p in range(parts)]
    assert done[-1] is not None
    if parts <= 3:
        assert done[:-1] == [None] * (parts - 1)
    one, other = (
        {f.name: f.read_bytes() for f in (tmp_path / n).iterdir()} for n in ("whole", "parts")
    )
    assert one == other


@pytest.mark.slow
def test_processes_write_what_one_process_writes(source, tmp_path):
    pack(source, tmp_path / "one", SMALL)
    pack(source, tmp_path / "two", SMALL, workers=2)
    one, two = ({f.name: f.read_bytes() for f in (tmp_path / n).iterdir()} for n in ("one", "two"))
    assert one == two


def test_a_pack_that_was_killed_goes_on(source, tmp_path):
    out = tmp_path / "killed"
    script = f"""
        import time
        from datamodules import packing
        from datamodules.sources.vid import VIDSource
        slow = packing.read_frame
        def read_frame(path):
            time.sleep(0.1)
            return slow(path)
        packing.read_frame = read_frame
        source = VIDSource({str(source.frame_path.folder.parents[1])!r})
        packing.pack(source, {str(out)!r}, packing.PackSettings(shard_frames=12, clip_frames=4))
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    deadline = time.monotonic() + 60
    while len(list(out.glob("*.json"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = {f: f.stat().st_mtime_ns for f in out.glob("*.tar")}
    assert not (out / MANIFEST).exists()
    with pytest.raises(DatasetError, match=r"manifest\.json: no such file.*goes on"):
        ShardSource(out)

    assert pack(source, out, SMALL) == out / MANIFEST
    assert len(kept) >= 2
    assert all(f.stat().st_mtime_ns == changed for f, changed in kept.items())
    assert not list(out.glob(".*"))
    assert samples(out).keys() == frames_of(source.index)


def test_a_finished_pack_is_not_written_again(source, tmp_path):
    pack(source, tmp_path, SMALL)
    before = {f: f.stat().st_mtime_ns for f in tmp_path.glob("*.tar")}
    pack(source, tmp_path, SMALL)
    assert before == {f: f.stat().st_mtime_ns for f in tmp_path.glob("*.tar")}


def test_a_folder_of_another_pack_is_refused(source, tmp_path):
    pack(source, tmp_path, SMALL)
    with pytest.raises(DatasetError, match=r"shard-000000\.json: .*other settings; remove"):
        pack(source, tmp_path, PackSettings(shard_frames=12, clip_frames=4, quality=80))


def test_unreadable_frames_are_left_out_and_counted(tmp_path):
    mini.vid(tmp_path)
    source = VIDSource(tmp_path)
    video = source.index.track(0).video
    cut = source.frame_path(video, 5)
    cut.write_bytes(cut.read_bytes()[:300])
    source.frame_path(video, 1).unlink()
    pack(source, tmp_path / "out", SMALL)
    packed = ShardSource(tmp_path / "out")
    # Frame 1 shows one target, frame 5 two.
    assert frames_of(source.index) - frames_of(packed.index) == {
        (video, "0", 1), (video, "0", 5), (video, "1", 5)
    }  # fmt: skip
    (skipped,) = packed.index.skipped
    assert skipped.count == 3
    assert "000001.JPEG" in skipped.example or "000005.JPEG" in skipped.example


def test_a_source_without_frames_is_an_error(tmp_path):
    mini.vid(tmp_path, videos=1)
    source = VIDSource(tmp_path)
    for file in (tmp_path / "Data").rglob("*.JPEG"):
        file.write_bytes(b"")
    with pytest.raises(DatasetError, match="no frame of vid could be read"):
        pack(source, tmp_path / "out", SMALL)


def test_bad_options_are_refused(source, tmp_path):
    with pytest.raises(ValueError, match="expected 0 to 1 as parts=2, got 2"):
        pack(source, tmp_path, part=2, parts=2)
    with pytest.raises(ValueError, match="shard_frames > 0"):
        PackSettings(shard_frames=0)
    with pytest.raises(ValueError, match="quality in 1 to 100"):
        PackSettings(quality=101)
