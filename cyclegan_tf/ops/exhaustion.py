"""Exhausted memory as an error of one line that says what to lower."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from cyclegan_tf.errors import UserError


def is_exhausted(error: BaseException) -> bool:
    """True if an exception of TensorFlow or NumPy says that memory of the host or of the device is exhausted."""
    if isinstance(error, tf.errors.InternalError):  # CUDA's own allocations, for example for cuDNN or CUDA graphs.
        return "out of memory" in error.message.lower() or "OUT_OF_MEMORY" in error.message
    if isinstance(error, tf.errors.ResourceExhaustedError):  # Full disks have the same type.
        return not any(words in error.message for words in ("No space left", "quota exceeded"))
    return isinstance(error, MemoryError)


@contextlib.contextmanager
def explain(what: str, remedy: str) -> Iterator[None]:
    """Raises a UserError "WHAT ran out of memory: REMEDY" if memory is exhausted in the body."""
    try:
        yield
    except (tf.errors.OpError, MemoryError) as error:
        if not is_exhausted(error):
            raise
        raise UserError(f"{what} ran out of memory: {remedy}") from error
