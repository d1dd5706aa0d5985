"""Progress on a terminal: a progress bar over images, and the speed in images per second."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from cyclegan_tf import console


class Speedometer:
    """Measures images per second between two readings.

    Args:
      images: images done so far.
      clock: returns the time in seconds.
    """

    def __init__(self, images: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._images, self._time = images, clock()

    def read(self, images: int) -> float:
        """Images per second since the last reading, when `images` are done."""
        now = self._clock()
        speed = (images - self._images) / (now - self._time)
        self._images, self._time = images, now
        return speed


@contextlib.contextmanager
def open_progress_bar(total: int, initial: int) -> Iterator[tqdm]:
    """A bar over images below the log lines, shown only if stderr is a terminal; its `disable` tells which.

    Args:
      total: images of the whole run.
      initial: images already done.
    """
    bar = tqdm(total=total, initial=initial, unit="images", disable=not console.is_terminal(sys.stderr))
    with bar, contextlib.nullcontext() if bar.disable else logging_redirect_tqdm():
        yield bar
