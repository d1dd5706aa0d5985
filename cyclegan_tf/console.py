"""The output of a command: standard streams whose failure never ends the work, and log lines on stderr.

A terminal can be closed and the reader of a pipe can end before the command. Training must still save its state, and
the other commands must still write their files.
"""

import contextlib
import errno
import io
import logging
import os
import sys
import unicodedata
from typing import TYPE_CHECKING, TextIO, cast

from cyclegan_tf.errors import UserError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

log = logging.getLogger("cyclegan_tf")

# Zero-width characters that words of some scripts need.
_JOINERS = "\u200c\u200d"


def guard_streams() -> None:
    """Replaces sys.stdout and sys.stderr by streams that drop what cannot be written, instead of raising errors."""
    open_missing_descriptors()
    sys.stdout, sys.stderr = _guard(sys.stdout, 1), _guard(sys.stderr, 2)


def open_missing_descriptors() -> None:
    """Opens the null device for each standard stream that was closed when the process started.

    Otherwise a file that is opened later would get the stream's descriptor, and C++ code would write messages into it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def log_to_stderr() -> None:
    """Shows the log lines of this package on stderr; a line of level ERROR begins with "error: "."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_StderrFormatter("%(message)s"))
    logging.basicConfig(handlers=[handler], force=True)
    log.setLevel(logging.INFO)


def require_complete_stdout() -> None:
    """Raises a UserError if guarded stdout has lost output. A pipe whose reader has ended is not an error."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, _DroppingFile) and raw.error and raw.error.errno != errno.EPIPE:
        raise UserError(f"the output on stdout is incomplete: {raw.error.strerror}; redirect stdout to another file")


def is_terminal(stream: TextIO | None) -> bool:
    """True if `stream` is shown on a terminal; False if the process was started without this stream."""
    return stream is not None and stream.isatty()


def escape(text: str) -> str:
    """Makes text fit one line, and harmless to a terminal: names of files may hold any character.

    Control characters, line and paragraph separators, and characters that change the direction of writing become
    escapes as in Python, such as \\n and \\x1b. Bytes of a file name that are not UTF-8 become \\xff and the like.
    """
    return "".join(_escape_character(character) for character in text)


def _escape_character(character: str) -> str:
    if unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp") or character in _JOINERS:
        return character
    if "\udc80" <= character <= "\udcff":  # How Python decodes the bytes 0x80 to 0xff of a name that is not UTF-8.
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def print_line(text: str) -> None:
    """Prints text on stdout as one line, escaped by `escape`."""
    print(escape(text))


class Formatter(logging.Formatter):
    """Formats log records; messages of this package become one line, escaped by `escape`."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = super().formatMessage(record)
        return escape(line) if record.name == log.name else line


class _StderrFormatter(Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        return f"error: {line}" if record.name == log.name and record.levelno >= logging.ERROR else line


class _DroppingFile(io.RawIOBase):
    """The file below a text stream, except that `write` claims success for bytes that cannot be written.

    Attributes:
      error: the first failure, or None.
    """

    def __init__(self, raw: io.RawIOBase, stream: TextIO) -> None:
        self._raw = raw
        self._stream = stream  # Kept, because a stream closes its file when the stream is deleted.
        self.error: OSError | None = None

    def write(self, data: "ReadableBuffer") -> int:
        try:
            written = self._raw.write(data)
            if written is None:  # A terminal or pipe in non-blocking mode is full.
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        except OSError as error:
            self.error = self.error or error
            return len(memoryview(data).cast("B"))
        return written

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def isatty(self) -> bool:
        return self._raw.isatty()


def _guard(stream: TextIO | None, descriptor: int) -> TextIO:
    if stream is None:  # The process was started without this stream.
        return os.fdopen(descriptor, "w", encoding="utf-8", closefd=False)
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)  # With `python -u`, the buffer is the raw file itself.
    if raw is None or isinstance(raw, _DroppingFile):  # Not a file, or guarded already.
        return stream
    with contextlib.suppress(OSError):
        stream.flush()
    guarded = io.BufferedWriter(_DroppingFile(cast(io.RawIOBase, raw), stream))
    # backslashreplace: a file name that the terminal cannot show is no reason to stop either.
    return io.TextIOWrapper(
        guarded, stream.encoding, "backslashreplace", line_buffering=getattr(stream, "line_buffering", True),
        write_through=getattr(stream, "write_through", False),
    )
