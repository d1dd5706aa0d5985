"""SIGTERM and Ctrl-C as requests: the loop finishes its step and saves its state before it stops."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


class Stopped(Exception):
    """A signal asked the run to stop, and the run has saved its state.

    Attributes:
      status: the exit status that shells give a process ended by that signal: 143 for SIGTERM, 130 for SIGINT.
    """

    def __init__(self, signum: int, step: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name} after step {step}; start again to resume")
        self.status = 128 + signum


@contextlib.contextmanager
def catch_signals() -> Iterator[Callable[[], int | None]]:
    """Yields a function that returns the first signal received, SIGTERM or SIGINT, or None.

    Only the first signal is caught. The next one meets the system's default handling, which ends the process at once,
    even in the middle of a computation. Outside the main thread Python cannot handle signals; then the function always
    returns None.
    """
    received = []

    def handle(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        for caught in previous:
            signal.signal(caught, signal.SIG_DFL)
        # Not through logging or print, which the signal may have interrupted in the middle of a line.
        os.write(2, b"\nfinishing this step, then saving; a second signal stops at once\n")

    previous: dict[signal.Signals, Any] = {}
    with contextlib.suppress(ValueError):  # Raised outside the main thread.
        for signum in (signal.SIGTERM, signal.SIGINT):
            previous[signum] = signal.signal(signum, handle)
    try:
        yield lambda: received[0] if received else None
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
