import io
import logging

import pytest
from rich.console import Console

from callbacks.progress import FrameProgress


def console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=120)


def test_bar_on_a_terminal_shows_count_and_remaining_time():
    screen = console(terminal=True)
    with FrameProgress("otb100", 4, console=screen) as progress:
        for _ in range(3):
            progress.advance("Couple")
    shown = screen.file.getvalue()
    assert "otb100" in shown
    assert "3/4" in shown
    assert "remaining" in shown


def test_lines_without_a_terminal(caplog, monkeypatch):
    clock = iter([0.0, 0.0, 20.0, 40.0, 40.0, 40.0, 41.0])
    monkeypatch.setattr("callbacks.progress.time.monotonic", lambda: next(clock))
    screen = console(terminal=False)
    with (
        caplog.at_level(logging.INFO, logger="callbacks.progress"),
        FrameProgress("otb100", 10, console=screen) as progress,
    ):
        progress.advance()  # 20 s: too early for a line
        assert caplog.messages == []
        progress.advance()  # 40 s: 2 frames in 40 s, so 8 more take 160 s
        assert caplog.messages == ["otb100: 2 of 10 frames, 0.1 frames/s, about 160 s left"]
    assert len(caplog.messages) == 2  # and one at the end
    assert screen.file.getvalue() == ""


@pytest.mark.parametrize("terminal", [True, False])
def test_disabled_is_silent_but_counts(terminal, caplog):
    screen = console(terminal)
    with (
        caplog.at_level(logging.INFO),
        FrameProgress("otb100", 4, enabled=False, console=screen, interval_s=0) as progress,
    ):
        progress.advance()
    assert progress.done == 1
    assert (screen.file.getvalue(), caplog.messages) == ("", [])


def test_unknown_total_says_no_remaining_time(caplog):
    with (
        caplog.at_level(logging.INFO, logger="callbacks.progress"),
        FrameProgress("camera 0", console=console(False), interval_s=0) as progress,
    ):
        progress.advance()
    assert "left" not in caplog.messages[0]
    assert caplog.messages[0].startswith("camera 0: 1 frames")
