"""What a worker does when another one is gone: one line on stderr, and an end without waiting for anybody.

TensorFlow's coordination service notices a worker that is dead or does not answer, by heartbeats, and ends the
collective operations of the others with an error. A worker that answers but does not go on is found by a watchdog.
"""

import contextlib
import logging
import os
import sys
import threading

import tensorflow as tf

STATUS = 75  # EX_TEMPFAIL of sysexits.h: start again.


def leave(reason):
    """Ends this process now: at its end TensorFlow would wait for the workers that are gone.

    Checkpoints are written beside and renamed, so an unfinished one is no danger.
    """
    sys.stdout.flush()
    os.write(2, f"error: {reason}; start all workers again: they go on from the newest checkpoint\n".encode())
    logging.shutdown()
    os._exit(STATUS)


@contextlib.contextmanager
def reported():
    """Ends the process with a line that says so when a collective operation in the body fails."""
    try:
        yield
    except (
        tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError,
        tf.errors.InternalError,
    ) as error:
        leave(f"a worker is gone ({' '.join(error.message.split())[:200]})")


class Watchdog:
    """Ends the process when what it watches takes longer than `seconds`; 0: never."""

    def __init__(self, seconds):
        self._seconds = seconds
        self._changed, self._number, self._watched = threading.Condition(), 0, None
        if seconds:
            threading.Thread(target=self._run, daemon=True, name="watchdog").start()

    @contextlib.contextmanager
    def watching(self):
        """The body is what may take so long."""
        self._set(self._number + 1)
        try:
            yield
        finally:
            self._set(None)

    def _set(self, watched):
        with self._changed:
            self._number, self._watched = watched or self._number, watched
            self._changed.notify()

    def _run(self):
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._watched)
                number = self._watched
                if not self._changed.wait_for(lambda number=number: self._watched != number, self._seconds):
                    leave(f"no step has ended in {self._seconds} s: a worker hangs, or the network")
