import json
import pickle
import shutil
import threading
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, pairwise

import numpy as np
import pytest
import torch

from datamodules.augment import CropAugmentation
from datamodules.errors import DatasetError
from datamodules.loading import EpochSampler
from datamodules.packing import PackSettings, pack
from datamodules.pairs import PairDataModule, PairGeometry, WeightedSource
from datamodules.shards import MANIFEST, ShardSource, ShardStream
from datamodules.sources.vid import VIDSource
from tests.datamodules import miniature as mini

SETTINGS = PackSettings(shard_frames=12, clip_frames=4)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    root = tmp_path_factory.mktemp("vid")
    mini.vid(root, videos=6)
    pack(VIDSource(root), root / "shards", SETTINGS)
    return root / "shards"


@pytest.fixture
def copy(packed, tmp_path):
    return shutil.copytree(packed, tmp_path / "copy")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.fetched[self.path.rpartition("/")[2]] += 1
        super().do_GET()


@pytest.fixture
def server(copy):
    """Serves ``copy`` on the loopback; counts what is fetched."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=copy)) as http:
        http.fetched = Counter()
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield http
        http.shutdown()
        thread.join()


def url(server):
    return f"http://127.0.0.1:{server.server_port}/"


def batches(source, num_workers, pairs=24, **options):
    sources = {"packed": WeightedSource(source, max_gap=5)}
    data = PairDataModule(
        sources, sources, PairGeometry(), CropAugmentation(shift=4), CropAugmentation(shift=64),
        negative_share=0.2, pairs_per_epoch=pairs, batch_size=4, num_workers=num_workers, **options,
    )  # fmt: skip
    return list(data.train_dataloader())


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize("kind", [ShardSource, partial(ShardStream, lanes=3, pairs_per_clip=2)])
def test_the_pairs_are_the_same_for_0_1_2_and_4_workers(packed, kind):
    served = [batches(kind(packed), workers) for workers in (0, 1, 2, 4)]
    assert len(served[0]) == 6
    assert len(set(chain.from_iterable(b.source_id for b in served[0]))) > 15
    for other in served[1:]:
        for a, b in zip(served[0], other, strict=True):
            assert a.source_id == b.source_id
            assert torch.equal(a.searches, b.searches)


@pytest.mark.slow
def test_started_instead_of_forked_workers_serve_the_same(packed):
    forked, spawned = (
        batches(ShardSource(packed), 1, pairs=4, multiprocessing_context=how)
        for how in ("fork", "spawn")
    )
    assert torch.equal(forked[0].exemplars, spawned[0].exemplars)


def test_a_source_pickles_small(packed):
    for source in (ShardSource(packed), ShardStream(packed)):
        assert len(pickle.dumps(source)) < 20_000


# --- streams --------------------------------------------------------------------------------------


def test_a_pass_stays_at_each_shard_for_its_clips_and_leaves_none_out(packed):
    stream = ShardStream(packed, lanes=3, pairs_per_clip=4)
    shards = {k: s for k, s in enumerate(stream.files.manifest.shards) if s}
    assert len(shards) > 5
    for lane in range(3):
        own = set(list(shards)[lane::3])
        length = sum(shards[k].clips for k in own) * 4
        for turn in range(3):
            steps = range(turn * length, (turn + 1) * length)
            seen = [stream.shard_of(3 * step + lane) for step in steps]
            assert Counter(seen) == {k: shards[k].clips * 4 for k in own}
            changes = sum(a != b for a, b in pairwise(seen))
            assert changes == len(own) - 1  # each is visited once, without interruption


def test_passes_and_seeds_have_their_own_orders(packed):
    def visited(turn, **options):
        stream = ShardStream(packed, lanes=1, pairs_per_clip=1, **options)
        length = sum(s.clips for s in stream.files.manifest.shards if s)
        return [stream.shard_of(turn * length + i) for i in range(length)]

    assert visited(0) == visited(0)
    assert visited(0) != visited(1)
    assert visited(0) != visited(0, seed=1)


def test_ranks_touch_their_own_shards_and_share_the_pairs(packed):
    stream = ShardStream(packed, lanes=4, pairs_per_clip=1)
    numbers: list[list[int]] = [[], []]
    for rank, own in enumerate(numbers):
        sampler = EpochSampler(40, rank, 2)
        for epoch in range(2):
            sampler.set_epoch(epoch)
            own.extend(sampler)
    assert sorted(numbers[0] + numbers[1]) == list(range(80))
    first, second = ({stream.shard_of(n) for n in own} for own in numbers)
    assert first
    assert second
    assert not first & second


def test_a_streams_pairs_come_from_the_shard_of_their_number(packed):
    stream = ShardStream(packed, lanes=2)
    for number in range(12):
        source = stream.at(number)
        shards = {
            p["shard"] for i in range(len(source.index)) for p in source.index.track(i).positions
        }
        assert shards == {stream.shard_of(number)}
    assert stream.at(0) is stream.at(2)


def test_shards_behind_a_url_give_the_pairs_of_local_ones(packed, server, tmp_path):
    options = {"lanes": 3, "pairs_per_clip": 2}
    local = batches(ShardStream(packed, **options), 0)
    remote = ShardStream(url(server), cache=tmp_path / "cache", **options)
    for a, b in zip(local, batches(remote, 2), strict=True):
        assert a.source_id == b.source_id
        assert torch.equal(a.searches, b.searches)
    # Two workers and what they share: each file was fetched once.
    assert max(server.fetched.values()) == 1
    again = ShardStream(url(server), cache=tmp_path / "cache", **options)
    again.at(0)
    assert server.fetched.pop(MANIFEST) == 2
    assert max(server.fetched.values()) == 1


def test_the_cache_stays_below_its_limit_and_pairs_stay_the_same(packed, server, tmp_path, caplog):
    shards = [s.bytes for s in ShardSource(packed).files.manifest.shards]
    limit = 2.5 * max(shards)
    cache = tmp_path / "cache"
    stream = ShardStream(url(server), cache=cache, cache_gb=limit / 1e9, lanes=3, pairs_per_clip=2)
    assert "Raise cache_gb or lower lanes" in caplog.text
    local = ShardStream(packed, lanes=3, pairs_per_clip=2)
    for number in range(30):
        drawn = [
            s.at(number).draw(np.random.default_rng(number), max_gap=9, positive=True)[0].data
            for s in (stream, local)
        ]
        assert drawn[0] == drawn[1]
        assert sum(f.stat().st_size for f in cache.rglob("*.tar")) <= limit
    assert sum(server.fetched.values()) > len(shards)


def test_a_remote_shard_that_was_changed_is_refused(copy, server, tmp_path):
    stream = ShardStream(url(server), cache=tmp_path / "cache", lanes=1)
    name = stream.files.manifest.shards[stream.shard_of(0)].name
    content = bytearray((copy / name).read_bytes())
    content[1000] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(DatasetError, match=rf"http://127.*/{name}: expected the shard of"):
        stream.at(0)
    assert not list((tmp_path / "cache").rglob("*.tar"))


def test_what_a_url_does_not_have_is_named(server, tmp_path):
    with pytest.raises(DatasetError, match=r"/nothing/manifest\.json: cannot be fetched"):
        ShardStream(f"{url(server)}nothing", cache=tmp_path)


# --- bad shards -----------------------------------------------------------------------------------


def test_a_shard_cut_short_is_named_at_opening(copy):
    file = copy / "shard-000001.tar"
    file.write_bytes(file.read_bytes()[:-700])
    for kind in (ShardSource, ShardStream):
        with pytest.raises(DatasetError, match=r"shard-000001\.tar: expected a shard of \d+ bytes"):
            kind(copy)


def test_a_missing_shard_is_named_at_opening(copy):
    (copy / "shard-000002.tar").unlink()
    with pytest.raises(DatasetError, match=r"shard-000002\.tar: this shard .* is missing"):
        ShardSource(copy)


def test_a_shard_cut_short_while_in_use_is_named(copy):
    source = ShardSource(copy)
    for file in copy.glob("*.tar"):
        file.write_bytes(file.read_bytes()[:600])
    with pytest.raises(DatasetError, match=r"shard-00000\d\.tar: expected a JPEG of \d+ bytes at"):
        source.draw(np.random.default_rng(0), max_gap=3, positive=True)
    shutil.rmtree(copy)
    with pytest.raises(DatasetError, match=r"shard-00000\d\.tar: .*No such file"):
        source.draw(np.random.default_rng(0), max_gap=3, positive=True)


def test_a_manifest_of_another_pack_is_refused(copy):
    file = copy / MANIFEST
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"fingerprint": "f" * 64}))
    with pytest.raises(DatasetError, match=r"tracks\.arrow: was not packed together"):
        ShardSource(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 9}', '{"format": 1, "shards": [3]}'])
def test_a_damaged_manifest_is_refused(copy, text):
    (copy / MANIFEST).write_text(text)
    with pytest.raises(DatasetError, match=r"manifest\.json: not a manifest"):
        ShardSource(copy)


@pytest.mark.parametrize("name", ["tracks.arrow", "tracks.npy"])
@pytest.mark.parametrize("share", [None, 0, 0.5, 0.99])
def test_a_damaged_index_is_refused(copy, name, share):
    file = copy / name
    content = file.read_bytes()
    file.unlink()
    if share is not None:
        file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DatasetError, match="pack again"):
        ShardSource(copy)


def test_bad_options_are_refused(packed):
    with pytest.raises(ValueError, match="lanes and pairs_per_clip >= 1"):
        ShardStream(packed, lanes=0)
    with pytest.raises(ValueError, match="need a local folder, cache="):
        ShardStream("https://example.org/shards")
