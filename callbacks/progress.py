"""Progress over frames: a bar with the remaining time on a terminal, log lines elsewhere."""

import logging
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

log = logging.getLogger(__name__)


class FrameProgress:
    """Counts frames while tracking.

    A log file or a continuous-integration page cannot redraw a line, so without a terminal a plain
    line is logged every ``interval_s`` seconds.

    Args:
        description: What is being done, e.g. ``otb100``.
        total: Number of frames, where known.
        enabled: False shows nothing (all ranks but the first).
        console: Where to draw; standard error by default.
        interval_s: Time between two log lines, s.
        unit: What is counted.
    """

    def __init__(
        self,
        description: str,
        total: int | None = None,
        *,
        enabled: bool = True,
        console: Console | None = None,
        interval_s: float = 30.0,
        unit: str = "frames",
    ) -> None:
        self.description, self.total, self.enabled = description, total, enabled
        self.done = 0
        self.unit = unit
        self.interval_s = interval_s
        self._console = console or Console(stderr=True)
        self._bar: Progress | None = None
        self._clock_start = self._last_line_start = time.monotonic()

    def __enter__(self) -> "FrameProgress":
        """Show the bar, or start the clock of the log lines."""
        self._clock_start = self._last_line_start = time.monotonic()
        if self.enabled and self._console.is_terminal:
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                _PerSecond(self.unit),
                TimeElapsedColumn(),
                TextColumn("remaining"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._bar.start()
            self._bar.add_task(self.description, total=self.total)
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the terminal as it was, whatever happened."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        elif self.enabled and self.done:
            log.info("%s", self._line())

    def advance(self, _sequence: str = "") -> None:
        """Count one frame; fits the ``on_frame`` hook of the evaluation."""
        self.show(self.done + 1)

    def show(self, done: int) -> None:
        """Show how many frames are done by now, where several processes work on them."""
        self.done = done
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done)
        elif self.enabled and time.monotonic() - self._last_line_start >= self.interval_s:
            self._last_line_start = time.monotonic()
            log.info("%s", self._line())

    def _line(self) -> str:
        elapsed_s = max(time.monotonic() - self._clock_start, 1e-9)
        rate = self.done / elapsed_s
        line = f"{self.description}: {self.done}"
        if self.total is not None:
            line += f" of {self.total}"
        line += f" {self.unit}, {rate:.1f} {self.unit}/s"
        if self.total is not None and self.done < self.total:
            line += f", about {(self.total - self.done) / rate:.0f} s left"
        return line


class _PerSecond(ProgressColumn):
    """Shows the rate of the last seconds."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """Return the text of the column."""
        speed = task.finished_speed or task.speed
        text = "" if speed is None else f"{speed:.1f} {self._unit}/s"
        return Text(text, style="progress.data.speed")
