"""The exceptions that end a command without a traceback."""

import signal


class UserError(Exception):
    """A mistake that the user can correct. Commands print it as one line and exit with status 2.

    The message says what is wrong with which value, and what to do.
    """


class Stopped(Exception):
    """A signal asked a run to stop, and the run has saved its state.

    Attributes:
      signum: the signal.
      status: the exit status that shells give a process ended by that signal: 129 for SIGHUP, 130 for SIGINT, 143 for
        SIGTERM.
    """

    def __init__(self, signum: int, step: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name} after step {step}; start again to resume")
        self.signum, self.status = signum, 128 + signum
