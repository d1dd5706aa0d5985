"""Ends a worker when another worker is lost: logs one error and does not wait for the remaining workers.

The heartbeats of TensorFlow's coordination service detect a worker that is dead or does not answer; the collective
operations of the other workers then fail with an error. A watchdog detects a worker that answers but makes no progress.
"""

import contextlib
import functools
import logging
import os
import threading
from collections.abc import Iterator
from typing import NoReturn

import tensorflow as tf

from cyclegan_tf.errors import describe_error
from cyclegan_tf.ops import exhaustion

log = logging.getLogger("cyclegan_tf")

EXIT_STATUS = 75  # EX_TEMPFAIL of sysexits.h: try again.


def exit_now(reason: str) -> NoReturn:
    """Ends this process at once, because TensorFlow's own shutdown would wait for the lost workers.

    An unfinished checkpoint does no harm: checkpoints are written to a temporary file and renamed.
    """
    log.error("%s; start all workers again to resume from the newest checkpoint", reason)
    logging.shutdown()
    os._exit(EXIT_STATUS)


@contextlib.contextmanager
def exit_on_lost_worker() -> Iterator[None]:
    """Logs an error and ends the process if a collective operation in the body fails.

    Errors of exhausted memory pass through, because they are not the fault of another worker.
    """
    try:
        yield
    except (
        tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError,
        tf.errors.InternalError,
    ) as error:
        if exhaustion.is_exhausted(error):
            raise
        exit_now(f"a worker is gone ({describe_error(error.message)[:200]})")


class Watchdog:
    """Ends the process if a watched body takes longer than `seconds`; 0 disables the watchdog."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        # The number of the body that is being watched, or None; bodies are numbered from 1.
        self._changed, self._number = threading.Condition(), 0
        self._watched: int | None = None
        if seconds:
            threading.Thread(target=self._run, daemon=True, name="watchdog").start()

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Limits the time of the body."""
        self._set_watched(self._number + 1)
        try:
            yield
        finally:
            self._set_watched(None)

    def _set_watched(self, number: int | None) -> None:
        with self._changed:
            self._number, self._watched = number or self._number, number
            self._changed.notify()

    def _has_ended(self, number: int | None) -> bool:
        return self._watched != number

    def _run(self) -> None:
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._watched)
                if not self._changed.wait_for(functools.partial(self._has_ended, self._watched), self._seconds):
                    exit_now(f"no step has ended in {self._seconds} s: a worker or the network hangs")
