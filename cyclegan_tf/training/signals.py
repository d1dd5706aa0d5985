"""SIGTERM and Ctrl-C as requests: the loop finishes its step and saves before it ends."""

import contextlib
import os
import signal


class Stopped(Exception):
    """The run was asked to stop by a signal, and has saved its state.

    Attributes:
      status: the exit status that shells give a process ended by that signal: 143 for SIGTERM, 130 for SIGINT.
    """

    def __init__(self, signum, step):
        super().__init__(f"stopped by {signal.Signals(signum).name} after step {step}; start again to go on")
        self.status = 128 + signum


@contextlib.contextmanager
def requests():
    """Yields a function that returns the signal that has come, SIGTERM or SIGINT, or None.

    The first signal only leaves that note. The next one finds the system's own handling, which ends the process at
    once, even in the middle of a computation. Outside the main thread signals are somebody else's, and none is noted.
    """
    noted = []

    def note(signum, frame):
        noted.append(signum)
        for known in old:
            signal.signal(known, signal.SIG_DFL)
        # Not through logging or print, which may be in the middle of a line.
        os.write(2, b"\nfinishing this step, then saving; a second signal stops at once\n")

    old = {}
    with contextlib.suppress(ValueError):  # Not in the main thread.
        for signum in (signal.SIGTERM, signal.SIGINT):
            old[signum] = signal.signal(signum, note)
    try:
        yield lambda: noted[0] if noted else None
    finally:
        for signum, handler in old.items():
            signal.signal(signum, handler)
