"""Turns the many exceptions that libraries raise for damaged files into ValueErrors of one line."""

import contextlib
from collections.abc import Callable, Iterator

from cyclegan_tf.errors import UserError, describe_error


@contextlib.contextmanager
def explain_damage(
    explain: Callable[[Exception], str] = describe_error, passes: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Turns each exception of the body into a ValueError with a message of one line, from the original exception.

    MemoryErrors, which say nothing about the file, and UserErrors pass unchanged.

    Args:
      explain: returns the message for an exception; by default, the exception's own message on one line.
      passes: further types of exceptions that pass unchanged.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, (MemoryError, UserError, *passes)):
            raise
        raise ValueError(explain(error)) from error
