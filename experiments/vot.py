"""A trained tracker for the VOT toolkit; ``docs/adapters.md`` shows the ``trackers.ini``.

protocol = trax      command = python -m experiments.vot checkpoint=.../last.ckpt device=cuda
protocol = python    command = experiments.vot:in_process    arg_checkpoint = .../last.ckpt
"""

import sys
from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

from datamodules.frames import read_frame
from experiments.config import chosen_device
from lightning_trackers.evaluation.adapters.vot import InProcess, serve_trax
from lightning_trackers.methods.loading import load_tracker

OPTIONS = ("checkpoint", "device", "settings")


def in_process(checkpoint: str | None = None, device: str = "auto") -> InProcess:
    """Return the object that the toolkit's in-process protocol drives.

    Args:
        checkpoint: A training's checkpoint or a file of weights; the shipped weights by default.
        device: ``auto``, ``cpu``, ``cuda``, ...

    Raises:
        RuntimeError: If there is no such checkpoint; the toolkit reports this kind of error.
        ValueError: If the file is no checkpoint, or the device is not there.
    """
    try:
        return InProcess(load_tracker(checkpoint, device=chosen_device(device)), read_frame)
    except OSError as error:
        raise RuntimeError(str(error)) from error


def serve(options: Mapping[str, Any]) -> None:
    """Serve a TraX client with the tracker that ``key=value`` options describe.

    Raises:
        ValueError: If an option is unknown.
    """
    if unknown := sorted(options.keys() - set(OPTIONS)):
        raise ValueError(f"{unknown[0]}: no such option; there are {', '.join(OPTIONS)}")
    device = chosen_device(options.get("device", "auto"))
    tracker = load_tracker(options.get("checkpoint"), options.get("settings"), device)
    serve_trax(tracker, read_frame, type(tracker).__name__)


def main() -> None:
    """Run from the command line."""
    options: Any = OmegaConf.to_container(OmegaConf.from_cli(sys.argv[1:]))
    try:
        serve(options)
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
