"""Turn published weights of other code bases into a checkpoint of this project.

    python -m experiments.convert source=pysot_siamrpn checkpoint=model.pth out=siamrpn.pt
    python -m experiments.evaluate checkpoint=siamrpn.pt benchmark=[otb2015] paths.otb_root=...

Sources: pysot_siamrpn, pysot_siamrpnpp, pysot_siamrpnpp_otb, siamfc_pytorch; see docs/export.md.
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from experiments.options import command_errors, read_options
from lightning_trackers.methods.conversion import SOURCES, convert

log = logging.getLogger(__name__)

USAGE = (
    f"python -m experiments.convert source={'|'.join(SOURCES)} checkpoint=published.pth out=ours.pt"
)


@dataclass
class ConvertOptions:
    """What to convert.

    Args:
        source: Whose weights they are, a key of ``conversion.SOURCES``.
        checkpoint: The published file.
        out: File to write.
    """

    source: str = MISSING
    checkpoint: Path = MISSING
    out: Path = MISSING


def run(arguments: Sequence[str]) -> Path:
    """Convert what the arguments say; return the file."""
    options = read_options(ConvertOptions, arguments, USAGE)
    convert(options.source, options.checkpoint, options.out)
    log.info("%s: a checkpoint for experiments.track and experiments.evaluate", options.out)
    return options.out


def main() -> None:
    """Run from the command line."""
    with command_errors(USAGE):
        run(sys.argv[1:])


if __name__ == "__main__":
    main()
