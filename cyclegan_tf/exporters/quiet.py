"""Hides the messages of converters."""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator

from cyclegan_tf import console


@contextlib.contextmanager
def silence_output() -> Iterator[None]:
    """Discards everything that Python and C++ code writes to stdout and stderr inside; exceptions propagate."""
    # The converters' C++ code writes to the file descriptors, not to sys.stdout.
    console.open_missing_descriptors()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    saved = os.dup(1), os.dup(2)
    null_descriptor = os.open(os.devnull, os.O_WRONLY)
    disabled = logging.root.manager.disable
    try:
        os.dup2(null_descriptor, 1)
        os.dup2(null_descriptor, 2)
        logging.disable(logging.WARNING)
        with warnings.catch_warnings(), open(os.devnull, "w", encoding="utf-8") as null:
            warnings.simplefilter("ignore")
            with contextlib.redirect_stdout(null), contextlib.redirect_stderr(null):
                yield
    finally:
        logging.disable(disabled)
        for descriptor, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, descriptor)
            os.close(copy)
        os.close(null_descriptor)
