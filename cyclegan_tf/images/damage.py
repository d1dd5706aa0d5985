"""Turns the many exceptions that libraries raise for damaged files into ValueErrors of one line."""

import contextlib
from collections.abc import Callable, Iterator

from cyclegan_tf.errors import UserError, describe_error, is_outage


def find_outage(error: BaseException | None) -> BaseException | None:
    """Returns the failure of memory, disk or network that caused `error`; None if the file is damaged.

    The outage is `error` or an exception in its chain of causes, because libraries wrap some exceptions. After an
    outage, the file may be intact.
    """
    while error is not None:
        if is_outage(error) or isinstance(error, MemoryError):
            return error
        error = error.__cause__
    return None


@contextlib.contextmanager
def explain_damage(
    explain: Callable[[Exception], str] = describe_error, passes: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Turns each exception of the body into a ValueError with a message of one line, from the original exception.

    UserErrors pass unchanged. If `find_outage` finds an outage, the outage is raised instead.

    Args:
      explain: returns the message for an exception; by default, the exception's own message on one line.
      passes: further types of exceptions that pass unchanged.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError):
            raise
        if outage := find_outage(error):
            raise outage from None
        if isinstance(error, passes):
            raise
        raise ValueError(explain(error)) from error
