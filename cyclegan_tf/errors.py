"""The exceptions that end a command without a traceback, and the messages of other exceptions."""

import errno
import importlib
import re
import signal
from types import ModuleType

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)  # Numbers of OSErrors that freeing space cures.


class UserError(Exception):
    """An error that the user can correct. Commands print its message as one line and exit with status 2.

    The message says which value is wrong, why, and what to do.
    """


class Stopped(KeyboardInterrupt):
    """A signal has stopped a run. Start the run again to resume it from its newest checkpoint.

    This exception is a KeyboardInterrupt, so `except Exception` does not catch it, and a notebook stops at the cell.

    Attributes:
      signum: number of the signal.
      status: exit status of the command, as in shells: 129 for SIGHUP, 130 for SIGINT, 143 for SIGTERM.
    """

    def __init__(self, signum: int, step: int | None = None) -> None:
        after = "" if step is None else f" after step {step}"
        super().__init__(f"stopped by {signal.Signals(signum).name}{after}; start again to resume")
        self.signum, self.status = signum, 128 + signum


def is_outage(error: BaseException | None) -> bool:
    """True if `error` is a failure of the disk or the network, so that the file that was read may be intact.

    Libraries raise OSErrors without a number for damaged files. A damaged file may contain an impossible offset;
    seeking to this offset raises EINVAL.
    """
    return isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)


def import_extra(module: str, need: str, extra: str) -> ModuleType:
    """Imports a module that an optional extra of this package installs.

    Args:
      need: the beginning of the error message, such as "videos need imageio-ffmpeg".
      extra: name of the extra.

    Raises:
      UserError: the module cannot be imported; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{need}: pip install 'cyclegan_tf[{extra}]'") from error


def get_first_line(error: Exception) -> str:
    """The first line of an exception's message; the name of its type if the message is empty."""
    return (_remove_styles(str(error)).strip() or type(error).__name__).splitlines()[0]


def describe_error(error: Exception | Warning | str) -> str:
    """The message of a library's error or warning on one line; the name of its type if the message is empty."""
    # Pillow appends the address of a BytesIO, which does not help the user.
    text = str(getattr(error, "strerror", None) or error).split(" <_io.BytesIO")[0]
    return " ".join(_remove_styles(text).split()) or type(error).__name__


def _remove_styles(text: str) -> str:
    # Keras prints parts of its messages in bold type.
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
