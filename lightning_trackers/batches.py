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
    """

    exemplars: Tensor
    searches: Tensor
    search_boxes_xyxy: Tensor
    is_positive: Tensor
    source_id: list[str]
