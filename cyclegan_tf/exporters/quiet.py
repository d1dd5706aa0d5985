"""Hides what converters print of themselves."""

import contextlib
import logging
import os
import sys
import warnings


@contextlib.contextmanager
def quiet():
    """Nothing that Python or C++ code writes to stdout and stderr inside is seen; exceptions pass."""
    # The converters' C++ side knows only the file descriptors.
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    disabled = logging.root.manager.disable
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        logging.disable(logging.WARNING)
        with warnings.catch_warnings(), open(os.devnull, "w", encoding="utf-8") as null:
            warnings.simplefilter("ignore")
            with contextlib.redirect_stdout(null), contextlib.redirect_stderr(null):
                yield
    finally:
        logging.disable(disabled)
        for descriptor, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, descriptor)
            os.close(copy)
        os.close(nowhere)
