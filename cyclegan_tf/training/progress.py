"""What a terminal shows of a run: a progress bar over images, and their number per second."""

import contextlib
import sys
import time

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm


class Speedometer:
    """Images per second between two readings of the number of images so far."""

    def __init__(self, images):
        self._images, self._time = images, time.monotonic()

    def __call__(self, images):
        now = time.monotonic()
        speed = (images - self._images) / (now - self._time)
        self._images, self._time = images, now
        return speed


@contextlib.contextmanager
def progress_bar(total, initial):
    """A bar over images on a terminal, with log lines above it; elsewhere nothing."""
    bar = tqdm(total=total, initial=initial, unit="images", disable=not sys.stderr.isatty())
    with bar, contextlib.nullcontext() if bar.disable else logging_redirect_tqdm():
        yield bar
