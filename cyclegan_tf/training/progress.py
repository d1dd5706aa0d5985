"""Progress on a terminal: a progress bar over images, and the speed in images per second."""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator

from tqdm.auto import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from cyclegan_tf import console

log = logging.getLogger("cyclegan_tf")


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
    """A bar over images below the log lines, shown only on a terminal or in a notebook; its `disable` tells which.

    Args:
      total: images of the whole run.
      initial: images already done.
    """
    is_visible = console.is_terminal(sys.stderr) or _in_notebook()
    bar = tqdm(total=total, initial=initial, unit="images", disable=not is_visible)
    loggers = [logger for logger in (log.root, log) if any(map(_is_shown, logger.handlers))]
    with bar, contextlib.nullcontext() if bar.disable else logging_redirect_tqdm(loggers, type(bar)):
        yield bar


def _is_shown(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and handler.stream in (sys.stdout, sys.stderr)


def _in_notebook() -> bool:
    """True in a kernel of Jupyter, whose stderr is no terminal but shows tqdm's bars."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and "IPKernelApp" in shell.config
