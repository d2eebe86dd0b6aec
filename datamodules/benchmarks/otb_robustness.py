"""Temporal and spatial robustness (TRE, SRE) on OTB.

Source: Wu, Lim, Yang, Online Object Tracking: A Benchmark, CVPR 2013, Section 4; folder ``initOmit``
of the MATLAB toolkit v1.0 with the images in which no segment of TRE begins.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datamodules.benchmarks.otb import image_number, otb_benchmark
from datamodules.errors import DatasetError
from datamodules.frames import FrameFiles
from lightning_trackers.evaluation.robustness import (
    read_no_start,
    spatial_robustness,
    temporal_robustness,
)
from lightning_trackers.evaluation.sequence import Benchmark, TrackingSequence


def otb_temporal_robustness(
    root: str | Path,
    version: str | int = "2015",
    name: str | None = None,
    sequences: Sequence[str] | None = None,
    init_omit: str | Path | None = None,
) -> Benchmark:
    """Read OTB for TRE: 20 segments of each sequence.

    Args:
        root: Folder of the sequence folders.
        version: ``2013``, ``50`` or ``2015``.
        name: Name of the benchmark before ``_tre``; ``otb<version>`` by default.
        sequences: Names of the sequences to take; all by default, and then all must be there.
        init_omit: The toolkit's folder ``initOmit``; without it segments may begin in any frame
            whose ground truth counts, also where the target is hidden.

    Raises:
        ValueError: As :func:`~datamodules.benchmarks.otb.otb_benchmark`; if ``init_omit`` is not
            such a folder, or a sequence has no frame to start from.
    """
    benchmark = otb_benchmark(root, version, name, sequences)
    no_start = {}
    if init_omit is not None:
        files = {f.stem.lower(): f for f in Path(init_omit).glob("*.txt")}
        if not files:
            raise DatasetError(
                f"{init_omit}: no <sequence>.txt in it; expected the toolkit's folder initOmit"
            )
        no_start = {
            s.name: _no_start(s, files[s.name.lower()])
            for s in benchmark
            if s.name.lower() in files
        }
    return temporal_robustness(benchmark, no_start)


def otb_spatial_robustness(
    root: str | Path,
    version: str | int = "2015",
    name: str | None = None,
    sequences: Sequence[str] | None = None,
) -> Benchmark:
    """Read OTB for SRE: 12 first boxes of each sequence; the first frames are decoded.

    Args:
        root: Folder of the sequence folders.
        version: ``2013``, ``50`` or ``2015``.
        name: Name of the benchmark before ``_sre``; ``otb<version>`` by default.
        sequences: Names of the sequences to take; all by default, and then all must be there.

    Raises:
        ValueError: As :func:`~datamodules.benchmarks.otb.otb_benchmark`.
    """
    return spatial_robustness(otb_benchmark(root, version, name, sequences))


def _no_start(sequence: TrackingSequence, file: Path) -> np.ndarray:
    assert isinstance(sequence.frames, FrameFiles)
    return read_no_start(file, len(sequence), image_number(sequence.frames.paths[0]))
