"""What data modules hand to methods."""

from typing import NamedTuple

from torch import Tensor


class PairBatch(NamedTuple):
    """Exemplars and the search regions in which to find them.

    Args:
        exemplars: First crops, uint8 RGB, shape ``(B, 3, Hz, Hz)``.
        searches: Second crops, uint8 RGB, shape ``(B, 3, Hx, Hx)``.
        search_boxes_xyxy: The search crop's own target in crop px, float32, shape ``(B, 4)``.
        is_positive: Whether that target is the exemplar's, bool, shape ``(B,)``.
        source_id: Where each pair comes from, enough to look at it again.
        exemplar_boxes_xyxy: The target in the exemplar crop, crop px, float32, shape ``(B, 4)``.
    """

    exemplars: Tensor
    searches: Tensor
    search_boxes_xyxy: Tensor
    is_positive: Tensor
    source_id: list[str]
    exemplar_boxes_xyxy: Tensor


class DomainBatch(NamedTuple):
    """Samples of one target in a few frames of one video, for multi-domain learning.

    Args:
        positives: Crops of the target, uint8 RGB, shape ``(P, 3, S, S)``.
        negatives: Crops beside it, uint8 RGB, shape ``(N, 3, S, S)``.
        domain: Number of the video, which chooses the branch, int64, shape ``()``.
        source_id: Where the samples come from.
    """

    positives: Tensor
    negatives: Tensor
    domain: Tensor
    source_id: str


class SceneBatch(NamedTuple):
    """As :class:`DomainBatch`, with parts of the frames and the samples' boxes instead of crops.

    Args:
        scenes: Parts of T frames in which the target is a square, see ``scenes.py``; uint8 RGB, shape
            ``(3, H, W)`` each, of different sizes.
        positives_xyxy: Boxes of the target, float32, shape ``(T, P / T, 4)``, scene px.
        negatives_xyxy: Boxes beside it, float32, shape ``(T, N / T, 4)``, scene px.
        domain: Number of the video, int64, shape ``()``.
        source_id: Where the samples come from.
    """

    scenes: tuple[Tensor, ...]
    positives_xyxy: Tensor
    negatives_xyxy: Tensor
    domain: Tensor
    source_id: str


class TargetBatch(NamedTuple):
    """Pictures of targets and of what is beside them, each filling its picture.

    Args:
        targets: The targets, uint8 RGB, shape ``(N, 3, S, S)``.
        exemplars: The same targets in another frame, uint8 RGB, shape ``(N, 3, S, S)``.
        backgrounds: A place of the target's frame that shows nothing of it, uint8 RGB, shape
            ``(N, 3, S, S)``.
        source_id: Where each comes from.
    """

    targets: Tensor
    exemplars: Tensor
    backgrounds: Tensor
    source_id: list[str]

    def first(self, count: int) -> "TargetBatch":
        """Return the first targets of the batch."""
        return TargetBatch(
            self.targets[:count],
            self.exemplars[:count],
            self.backgrounds[:count],
            self.source_id[:count],
        )
