"""The exceptions that end a command without a traceback."""

import signal


class UserError(Exception):
    """A mistake that the user can correct. Commands print it as one line and exit with status 2.

    The message says what is wrong with which value, and what to do.
    """


class Stopped(KeyboardInterrupt):
    """A signal has stopped a run, which resumes from its newest checkpoint when it is started again.

    As a KeyboardInterrupt, it is not caught by code that handles errors, and ends the cell of a notebook.

    Attributes:
      signum: the signal.
      status: the exit status that shells give a process ended by that signal: 129 for SIGHUP, 130 for SIGINT, 143 for
        SIGTERM.
    """

    def __init__(self, signum: int, step: int | None = None) -> None:
        after = "" if step is None else f" after step {step}"
        super().__init__(f"stopped by {signal.Signals(signum).name}{after}; start again to resume")
        self.signum, self.status = signum, 128 + signum
