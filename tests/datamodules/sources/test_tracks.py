import pickle
from pathlib import Path

import numpy as np
import pytest

from datamodules.sources.tracks import TrackSource
from datamodules.tracks import Track, TrackIndex


def frame_path(video, frame):
    return Path(video) / f"{frame:06d}.jpg"


def write_index(path, videos=4, count=30):
    def tracks():
        for v in range(videos):
            for name in ("0", "1"):
                frames = np.arange(count) * 2  # every second frame is annotated
                left = frames + 100.0 * (name == "1")
                yield Track(
                    video=f"v{v}",
                    track=name,
                    category="dog",
                    frames=frames,
                    # The box says track and frame.
                    boxes_xyxy=np.stack([left, left * 0, left + 50 + v, left * 0 + 40], axis=1),
                    visible=np.arange(count) % 3 != 1,
                    occluded=np.zeros(count, bool),
                    image_wh=np.full((count, 2), (640, 360)),
                )

    return TrackIndex.write(path, tracks())


@pytest.fixture
def source(tmp_path):
    return TrackSource("vid", write_index(tmp_path / "i.arrow"), frame_path)


def where(view):
    """Video, track and frame of a view, from its path, checked against its box."""
    video, frame = view.path.parts[-2], int(view.path.stem)
    x1, _, x2, _ = view.box_xyxy
    name = "1" if x1 - frame == 100 else "0"
    assert x1 - frame in (0, 100)
    assert x2 - x1 == 50 + int(video[1:])
    return video, name, frame


def draws(source, count=400, seed=0, **how):
    rng = np.random.default_rng(seed)
    return [source.draw(rng, **how) for _ in range(count)]


def test_positive_pairs_show_one_track_within_the_gap(source):
    gaps = set()
    for exemplar, search, pair_id in draws(source, max_gap=7, positive=True):
        (video, name, a), (other_video, other_name, b) = where(exemplar), where(search)
        assert (video, name) == (other_video, other_name)
        assert pair_id == f"vid/{video}/{name}/f{a}-f{b}"
        gaps.add(b - a)
    # Frames are 2 apart, every third is invisible: 2 and 4 occur, 6 too, 8 would be too far.
    assert gaps == {-6, -4, -2, 0, 2, 4, 6}


def test_only_visible_frames_are_drawn(source):
    drawn = set()
    for positive in (True, False):
        for exemplar, search, _ in draws(source, max_gap=100, positive=positive):
            drawn |= {where(exemplar)[2], where(search)[2]}
    assert drawn == {2 * t for t in range(30) if t % 3 != 1}


def test_negative_pairs_come_from_two_videos(source):
    for exemplar, search, pair_id in draws(source, max_gap=7, positive=False):
        (video, name, a), (other_video, other_name, b) = where(exemplar), where(search)
        assert video != other_video
        assert pair_id == f"vid/{video}/{name}/f{a}-{other_video}/{other_name}/f{b}"


def categories_source(tmp_path, categories, **options):
    """One track per video; video i is of category categories[i]."""

    def tracks():
        for i, category in enumerate(categories):
            yield Track(
                video=f"v{i}",
                track="0",
                category=category,
                frames=np.arange(2),
                boxes_xyxy=np.tile([0.0, 0.0, 50 + i, 40.0], (2, 1)),
                visible=np.ones(2, bool),
                occluded=np.zeros(2, bool),
                image_wh=np.full((2, 2), (640, 360)),
            )

    index = TrackIndex.write(tmp_path / "c.arrow", tracks())
    return TrackSource("vid", index, frame_path, **options)


def negative_videos(source, count=2000):
    """Numbers of the two videos of drawn negative pairs."""
    pairs = draws(source, count, max_gap=1, positive=False)
    return [tuple(int(v.box_xyxy[2]) - 50 for v in pair[:2]) for pair in pairs]


def test_same_category_negatives_have_their_share(tmp_path):
    categories = ["dog", "cat"] * 10
    source = categories_source(tmp_path, categories, same_category=0.5)
    pairs = negative_videos(source)
    assert all(a != b for a, b in pairs)
    same = sum(categories[a] == categories[b] for a, b in pairs) / len(pairs)
    # Half by wish, and of the other half 9 of 19 by chance: 0.737, 4 standard deviations 0.04.
    assert abs(same - 0.737) < 0.04
    always = negative_videos(categories_source(tmp_path, categories, same_category=1))
    assert all(categories[a] == categories[b] for a, b in always)
    # Each of the others is as likely: 2000 / 20 / 9 = 11 expected.
    assert len(set(always)) == 180


def test_a_category_of_a_single_video_falls_back_to_another(tmp_path):
    source = categories_source(tmp_path, ["dog", "cat", "cat"], same_category=1)
    pairs = set(negative_videos(source, 200))
    assert pairs == {(0, 1), (0, 2), (1, 2), (2, 1)}


def test_a_category_with_many_tracks_in_one_video_reaches_the_other(tmp_path):
    def tracks():
        for i in range(200):
            yield Track(
                video="v0" if i else "v1",
                track=str(i),
                category="dog",
                frames=np.zeros(1, int),
                boxes_xyxy=np.array([[0.0, 0.0, 50 + i, 40.0]]),
                visible=np.ones(1, bool),
                occluded=np.zeros(1, bool),
                image_wh=np.array([[640, 360]]),
            )

    index = TrackIndex.write(tmp_path / "c.arrow", tracks())
    source = TrackSource("vid", index, frame_path, same_category=1)
    for exemplar, search, _ in draws(source, 100, max_gap=1, positive=False):
        assert exemplar.path.parent != search.path.parent


def test_without_the_wish_the_draws_stay_as_they_were(tmp_path):
    source = categories_source(tmp_path, ["dog", "cat"] * 5)
    rng = np.random.default_rng(5)
    *_, pair_id = source.draw(rng, max_gap=1, positive=False)
    # The same draws by hand: track, its frame, tracks until another video comes, its frame.
    rng = np.random.default_rng(5)
    i, t = int(rng.integers(10)), int(rng.choice(np.arange(2)))
    while (j := int(rng.integers(10))) == i:
        pass
    assert pair_id == f"vid/v{i}/0/f{t}-v{j}/0/f{int(rng.choice(np.arange(2)))}"


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_that_is_none_is_refused(tmp_path, share):
    with pytest.raises(ValueError, match="source vid: expected same_category in"):
        categories_source(tmp_path, ["dog", "cat"], same_category=share)


def test_gap_zero_pairs_a_frame_with_itself(source):
    for exemplar, search, _ in draws(source, 30, max_gap=0, positive=True):
        assert where(exemplar) == where(search)


def test_a_huge_gap_reaches_the_whole_track(source):
    pairs = draws(source, 2000, max_gap=10**12, positive=True)
    assert max(where(s)[2] - where(e)[2] for e, s, _ in pairs) == 58


def test_every_track_is_drawn_about_equally_often(source):
    drawn = [where(e)[:2] for e, _, _ in draws(source, 1600, max_gap=5, positive=True)]
    counts = [drawn.count(t) for t in sorted(set(drawn))]
    assert len(counts) == 8
    # 200 expected; 4 standard deviations of a binomial are 53.
    assert all(abs(c - 200) < 53 for c in counts)


def test_draws_depend_on_the_generator_only(source):
    ids = [pair_id for *_, pair_id in draws(source, 50, seed=3, max_gap=9, positive=True)]
    draws(source, 7, seed=4, max_gap=9, positive=False)
    copy = pickle.loads(pickle.dumps(source))
    assert [p for *_, p in draws(copy, 50, seed=3, max_gap=9, positive=True)] == ids
    assert [p for *_, p in draws(source, 50, seed=5, max_gap=9, positive=True)] != ids


def test_a_source_pickles_small(source):
    assert len(pickle.dumps(source)) < 1000


def test_negative_pairs_of_a_single_video_are_refused(tmp_path):
    single = TrackSource("vid", write_index(tmp_path / "i.arrow", videos=1), frame_path)
    with pytest.raises(ValueError, match="source vid: expected at least two videos"):
        single.draw(np.random.default_rng(0), max_gap=5, positive=False)


def test_a_negative_gap_is_refused(source):
    with pytest.raises(ValueError, match="max_gap: expected 0 or more frames, got -1"):
        source.draw(np.random.default_rng(0), max_gap=-1, positive=True)
