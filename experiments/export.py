"""Write a Siamese tracker as two ONNX graphs, checked against torch.

    python -m experiments.export checkpoint=outputs/.../last.ckpt out=exported
    python -m experiments.track runtime=onnx checkpoint=exported video=clip.mp4 box=10,20,64,48

See docs/export.md.
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from experiments.options import command_errors, read_options
from lightning_trackers.methods.exporting import export_tracker
from lightning_trackers.methods.loading import SHIPPED
from lightning_trackers.runtime.onnx import EXEMPLAR, TRACK

log = logging.getLogger(__name__)

USAGE = "python -m experiments.export out=folder [checkpoint=run/checkpoints/last.ckpt]"


@dataclass
class ExportOptions:
    """What to export.

    Args:
        checkpoint: A training's checkpoint or a file of weights; None: the shipped weights.
        out: Folder to write.
    """

    checkpoint: Path | None = None
    out: Path = MISSING


def run(arguments: Sequence[str]) -> Path:
    """Export what the arguments say; return the folder."""
    options = read_options(ExportOptions, arguments, USAGE)
    export_tracker(options.checkpoint or SHIPPED, options.out)
    log.info("%s: %s and %s; track with runtime=onnx", options.out, EXEMPLAR, TRACK)
    return options.out


def main() -> None:
    """Run from the command line."""
    with command_errors(USAGE):
        run(sys.argv[1:])


if __name__ == "__main__":
    main()
