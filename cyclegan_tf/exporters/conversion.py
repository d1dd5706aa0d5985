"""Runs the converters to other formats: hides their messages, and turns their errors into one line."""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator

import tensorflow as tf

from cyclegan_tf import console
from cyclegan_tf.errors import UserError, get_first_line
from cyclegan_tf.ops import exhaustion, hardware


@contextlib.contextmanager
def run_converter(name: str, target: str, alternatives: str) -> Iterator[None]:
    """Context for the call of a converter: hides its messages, and traces operations that every runtime supports.

    Args:
      name: the converter and its version, for the error.
      target: the format to convert to, for the error.
      alternatives: what the user can try instead, such as "--format=onnx".

    Raises:
      UserError: the converter fails, but not because memory is exhausted.
    """
    try:
        with _silence_output(), hardware.force_portable_ops():
            yield
    except Exception as error:  # Converters raise many types, with messages of several lines.
        if exhaustion.is_exhausted(error):
            raise
        reason = get_first_line(error)[:200]
        raise UserError(f"{name} cannot convert this network to {target} with TensorFlow {tf.__version__} ({reason}); "
                        f"try {alternatives}, or another version of TensorFlow") from error


@contextlib.contextmanager
def _silence_output() -> Iterator[None]:
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
