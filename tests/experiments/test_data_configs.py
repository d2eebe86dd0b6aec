import subprocess
import sys

import pytest
from hydra.errors import InstantiationException

from datamodules.packing import PackSettings, pack
from datamodules.shards import ShardSource, ShardStream
from datamodules.sources.vid import VIDSource
from experiments.config import CONF, made
from tests.datamodules import miniature as mini
from tests.experiments.composing import checked

# `videos` is SINT's, whose recipes name its sources.
MIXES = sorted(p.stem for p in (CONF / "data").glob("*.yaml") if p.stem != "videos")
SETS = ("vid", "det", "coco", "youtube_bb", "got10k", "lasot", "trackingnet")


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """A miniature tree of every training set, and one's own videos; the overrides that name them."""
    root = tmp_path_factory.mktemp("sets")
    for name in SETS:
        getattr(mini, name)(root / name)
    mini.got10k(root / "got10k", split="val")
    own = root / "own" / "video"
    mini.write_text(own / "groundtruth_rect.txt", "9,9,20,16\n9,9,20,16\n")
    for number in range(2):
        mini.write_frame(own / "img" / f"{number + 1:04d}.jpg", [mini.moving_box(0, number)])
    return {f"paths.{name}_root": root / name for name in SETS} | {"paths.train_root": root / "own"}


def run_config(data, trees, *more):
    paths = [f"{key}={path}" for key, path in trees.items()]
    return checked(
        "+exp=siamrpn_sl", "profile=paper", f"data={data}", "initial_weights=random",
        "datamodule.batch_size=2", "datamodule.num_workers=0", *paths, *more,
    )  # fmt: skip


@pytest.mark.parametrize("data", MIXES)
def test_every_mix_composes_and_serves_pairs_of_all_its_sources(data, trees):
    fewer = ["datamodule.pairs_per_epoch=60", "datamodule.negative_share=0"]
    if "trackingnet" in data:  # the miniature has two of the twelve chunks
        fewer.append("datamodule.train_sources.trackingnet.source.files.chunks=[0,1]")
    cfg = run_config(data, trees, *fewer)
    assert cfg.data_name == data
    module = made(cfg.datamodule)
    ids = [id_.split("/")[0] for batch in module.train_dataloader() for id_ in batch.source_id]
    assert set(ids) == set(cfg.datamodule.train_sources)
    assert next(iter(module.val_dataloader())).searches.shape[0] == 2


def test_shares_and_gaps_of_the_paper_mixes(trees):
    def weights_and_gaps(data):
        sources = run_config(data, trees).datamodule.train_sources
        return {name: (s.weight, s.max_gap) for name, s in sources.items()}

    # pysot: FRAME_RANGE 100, 1, 1, 3, where a still image has but one frame to give.
    siamrpn = {"vid": (100, 100), "det": (333, 0), "coco": (117, 0), "youtube_bb": (240, 3)}
    assert weights_and_gaps("vid_det_coco_ytbb") == siamrpn
    # Zhang and Zhang 2020: less than 100 frames, less than 3 for YouTube-BB.
    hnse = weights_and_gaps("vid_det_coco_ytbb_got10k_lasot")
    assert {n: g for n, (_, g) in hnse.items()} == {
        "vid": 99, "det": 0, "coco": 0, "youtube_bb": 2, "got10k": 99, "lasot": 99
    }  # fmt: skip
    assert weights_and_gaps("vid") == {"vid": (1.0, 100)}
    mmtracking = {n: w for n, (w, _) in weights_and_gaps("vid_det_coco").items()}
    assert mmtracking == {"vid": 0.25, "det": 0.55, "coco": 0.2}


def test_training_and_validation_share_no_video(trees):
    for data, name in (("vid", "vid"), ("got10k", "got10k")):
        module = made(run_config(data, trees).datamodule)
        one, other = (d.sources[0].source.index for d in (module.train_pairs, module.val_dataset))
        videos = [{i.track(n).video for n in range(len(i))} for i in (one, other)]
        assert not videos[0] & videos[1], name
        assert all(videos)


def test_packed_crops_replace_files_where_they_are_named(trees, tmp_path):
    source = VIDSource(trees["paths.vid_root"])
    pack(source, tmp_path, PackSettings(shard_frames=20))
    module = made(run_config("vid", trees, f"paths.vid_shards={tmp_path}").datamodule)
    assert isinstance(module.train_pairs.sources[0].source, ShardSource)
    assert isinstance(module.val_dataset.sources[0].source, VIDSource)
    # The set's root is not needed then, but that of validation is.
    shards = f"paths.vid_shards={tmp_path}"
    made(
        run_config(
            "vid", trees, shards, "paths.vid_root=null", f"paths.vid_val_shards={tmp_path}"
        ).datamodule
    )


def test_shards_behind_a_url_are_streamed(trees, tmp_path):
    pack(VIDSource(trees["paths.vid_root"]), tmp_path / "shards", PackSettings(shard_frames=20))
    url = f"paths.vid_shards=file://{tmp_path}/shards"
    cfg = run_config("vid", trees, url, f"paths.shard_cache={tmp_path}/cache")
    module = made(cfg.datamodule)
    assert isinstance(module.train_pairs.sources[0].source, ShardStream)
    assert next(iter(module.train_dataloader())).source_id[0].startswith("vid/")
    with pytest.raises(InstantiationException, match="TRACKERS_SHARD_CACHE"):
        made(run_config("vid", trees, url).datamodule)


def test_a_set_without_a_folder_is_named(trees):
    cfg = run_config("vid_det_coco_ytbb", trees, "paths.coco_root=null")
    with pytest.raises(
        InstantiationException, match=r"coco: needs paths\.coco_root, .*TRACKERS_COCO_ROOT"
    ):
        made(cfg.datamodule)


@pytest.mark.slow
def test_the_paper_s_recipe_trains_on_the_paper_s_mix(trees, tmp_path):
    paths = [f"{key}={path}" for key, path in trees.items()]
    command = [
        *(sys.executable, "-m", "experiments.run", "+exp=siamrpn_sl", "profile=paper"),
        *("data=vid_det_coco_ytbb", "initial_weights=random", "logger=csv", *paths),
        *("datamodule.pairs_per_epoch=4", "datamodule.batch_size=2", "datamodule.val_pairs=2"),
        *("datamodule.num_workers=0", "trainer.max_epochs=1", "evaluation.references=false"),
        *("benchmarks.procedural_test.count=1", "benchmarks.procedural_test.length=3"),
        *("evaluation.clip_frames=2", f"run_dir={tmp_path}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    said = done.stdout + done.stderr
    assert "profile: paper" in said
    assert "data: vid_det_coco_ytbb" in said
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()
