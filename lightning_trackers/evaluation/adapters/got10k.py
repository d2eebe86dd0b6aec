"""A tracker of this project as the got10k toolkit's ``Tracker``.

Source: got-10k/toolkit 0.1.3, ``got10k/trackers/__init__.py``: boxes are x, y, width, height as the
annotation files have them, images PIL in RGB.
"""

from importlib import import_module
from typing import Any

import numpy as np

from lightning_trackers.boxes import xywh_to_xyxy, xyxy_to_xywh
from lightning_trackers.evaluation.tracker import LiveTracker, Tracker


class Got10kConvention:
    """The ``init`` and ``update`` that the toolkit calls.

    Args:
        tracker: Any tracker of this project.
        one_based: Whether the first pixel of the benchmark's files is 1, as in all benchmarks of
            the toolkit but TrackingNet and NfS.
    """

    def __init__(self, tracker: Tracker[Any], *, one_based: bool = True) -> None:
        self._live = LiveTracker(tracker)
        self._origin = np.array([1.0, 1.0, 0.0, 0.0]) * one_based

    def init(self, image: Any, box: np.ndarray) -> None:
        """Begin to follow the target in ``box``, xywh ``(4,)``, px."""
        box_xywh = np.asarray(box, dtype=np.float64) - self._origin
        self._live.init(np.asarray(image), xywh_to_xyxy(box_xywh))

    def update(self, image: Any) -> np.ndarray:
        """Return the target's box in the next image, xywh, float64 ``(4,)``, px."""
        box_xyxy = self._live.update(np.asarray(image)).box_xyxy.astype(np.float64)
        return np.asarray(xyxy_to_xywh(box_xyxy) + self._origin)


def got10k_tracker(
    tracker: Tracker[Any], name: str, *, one_based: bool = True, is_deterministic: bool = True
) -> Any:
    """Return a tracker for the toolkit's experiments, e.g. ``ExperimentOTB(root).run(...)``.

    Args:
        tracker: Any tracker of this project.
        name: Name of the folder that the toolkit writes results to.
        one_based: See :class:`Got10kConvention`.
        is_deterministic: Whether GOT-10k's three repetitions would all be the same.

    Raises:
        ImportError: If the toolkit is not installed.
    """
    try:
        base = import_module("got10k.trackers").Tracker
    except ImportError as error:
        raise ImportError(
            "the got10k toolkit is not installed; pip install got10k (see docs/adapters.md)"
        ) from error

    # The convention comes first, so that its init and update win over the toolkit's empty ones.
    adapted: Any = type("Adapted", (Got10kConvention, base), {})(tracker, one_based=one_based)
    base.__init__(adapted, name=name, is_deterministic=is_deterministic)
    return adapted
