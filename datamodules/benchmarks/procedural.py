"""The procedural benchmark: sequences drawn by code that training never saw."""

from dataclasses import replace

from datamodules.procedural import Bank, ProceduralSequence, Style
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence

SUBSETS = ("all", "easy", "hard", "distractor", "occlusion")
_CANDIDATES = 50  # sequences drawn, at most, to find one that belongs to a subset


def procedural_benchmark(
    name: str = "procedural_test",
    split: str = "test",
    count: int = 20,
    length: int = 110,
    subset: str = "all",
    frame_wh: tuple[int, int] = (320, 240),
    seed: int = 0,
) -> Benchmark:
    """Return a benchmark of drawn sequences; frames are drawn while they are read.

    Backgrounds, sprites and scenes of a split never occur in another. The attributes follow the
    rules in ``datamodules.procedural.ATTRIBUTES``.

    Args:
        name: Name of the benchmark in log keys and result folders.
        split: One of ``train``, ``val``, ``test``.
        count: Number of sequences.
        length: Frames of each.
        subset: ``all`` grades from easy to hard; ``easy`` and ``hard`` keep to one end;
            ``distractor``: every sequence has look-alikes; ``occlusion``: in every sequence
            something hides more than half of the target for a while, in most cases all of it.
        frame_wh: Frame size, px.
        seed: Another seed draws other sequences.

    Raises:
        ValueError: If an option is unknown or a number is not positive.
    """
    if subset not in SUBSETS:
        raise ValueError(f"subset: expected one of {', '.join(SUBSETS)}, got {subset!r}")
    for key, value in (("count", count), ("length", length), *zip("wh", frame_wh, strict=True)):
        if value < 1:
            raise ValueError(f"{key}: expected a positive number, got {value}")
    # One bank serves all: sequences that share a picture recolour and turn it.
    bank = Bank(seed, split)
    sequences: list[TrackingSequence] = []
    for i in range(count):
        hardness = _hardness(subset, i / max(1, count - 1))
        style = _style(subset, hardness, frame_wh)
        first = (SUBSETS.index(subset) * 10_000 + i) * _CANDIDATES
        candidates = (
            ProceduralSequence(bank, first + k, length, style, name=f"{subset}_{i:03d}")
            for k in range(_CANDIDATES)
        )
        chosen = next((c for c in candidates if _belongs(c, subset, hardness)), None)
        if chosen is None:
            raise ValueError(
                f"length: {length} frames are too few to draw a sequence for subset {subset!r}"
            )
        sequences.append(chosen.tracking_sequence())
    return Benchmark(name, sequences)


def _hardness(subset: str, grade: float) -> float:
    """Return how hard a sequence may be; ``grade`` goes from 0, the first, to 1, the last."""
    return {"easy": 0.2 * grade, "hard": 0.8 + 0.2 * grade}.get(subset, grade)


def _belongs(sequence: ProceduralSequence, subset: str, hardness: float) -> bool:
    """Return whether a sequence shows its target at all, and what its subset is about."""
    seen = sequence.visibility
    if seen[0] < 0.8 or seen.mean() < 0.5:
        return False
    if sequence.scene.play.contrast < 30 - 20 * hardness:
        return False
    if subset == "occlusion":
        return bool(seen.min() < 0.5)
    return subset != "distractor" or "LOOKALIKE" in sequence.attributes


def _style(subset: str, hardness: float, frame_wh: tuple[int, int]) -> Style:
    """Return what may happen in a sequence; ``hardness`` goes from 0 to 1.

    The constants make the mean of all grades about as hard as real video: OpenCV's CSRT has a
    success AUC of 0.55 on 20 validation sequences, and on the first 110 frames of 19 real ones.
    """
    height = frame_wh[1]
    style = Style(
        occluder=0.1 + 0.6 * hardness,
        full_occlusion=0.3 * hardness,
        lookalikes=0.1 + 0.6 * hardness,
        low_contrast=0.1 + 0.5 * hardness,
        light_change=0.1 + 0.5 * hardness,
        fast=0.05 + 0.35 * hardness,
        spin=0.05 + 0.2 * hardness,
        turn=0.2 + 0.4 * hardness,
        zoom=0.1 + 0.5 * hardness,
        leaves_view=0.1 * hardness,
        strength=0.4 + 0.6 * hardness,
        target_px=(max(4.0, 0.08 * height), 0.4 * height),
        frame_wh=frame_wh,
    )
    if subset == "distractor":
        return replace(style, lookalikes=1.0, occluder=0.15 * hardness)
    if subset == "occlusion":
        return replace(style, occluder=1.0, full_occlusion=0.4 + 0.4 * hardness, leaves_view=0.0)
    return style
