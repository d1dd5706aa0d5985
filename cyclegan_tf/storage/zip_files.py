"""Opens zip archives after verifying their directories, and the exception for damaged files."""

import contextlib
import os
import struct
import zipfile
from collections.abc import Iterator
from typing import IO

from cyclegan_tf.errors import describe_error, is_outage

# The last record of an archive: a signature, 6 bytes, the number of members, 10 bytes, and a comment.
_END, _SIGNATURE, _LONGEST_COMMENT = struct.Struct("<10xH10x"), b"PK\5\6", 2**16
_UNKNOWN = 2**16 - 1  # Placeholder: the ZIP64 record holds the real number.


class DamagedFileError(ValueError):
    """The contents of a file are damaged. The message gives the reason, without the file's path."""


@contextlib.contextmanager
def translate_errors() -> Iterator[None]:
    """Context that turns the exceptions that reading damaged data can raise into a DamagedFileError.

    A failure of the disk or the network passes as an OSError, because the file may be intact.
    """
    try:
        yield
    except (DamagedFileError, MemoryError):  # A MemoryError says nothing about the file: sizes are verified before.
        raise
    # zipfile raises BadZipFile, NotImplementedError, RuntimeError, zlib.error, UnicodeDecodeError, OSError and others.
    except Exception as error:
        # zipfile turns an OSError at the end of the file into a BadZipFile.
        cause = error.__context__ if isinstance(error, zipfile.BadZipFile) else error
        if cause is not None and is_outage(cause):
            raise cause from None
        raise DamagedFileError(describe_error(error)) from error


def open_zip(file: IO[bytes]) -> zipfile.ZipFile:
    """Opens an archive for reading; closing it does not close `file`, which must be seekable.

    zipfile ignores the number of members that the archive states. A damaged length in the directory could therefore
    hide a member.

    Raises:
      DamagedFileError: the file is not a zip archive, or its directory is damaged.
    """
    with translate_errors():
        archive = zipfile.ZipFile(file)
        file.seek(max(0, file.seek(0, os.SEEK_END) - _END.size - _LONGEST_COMMENT))
        tail = file.read()
        (count,) = _END.unpack_from(tail, tail.rindex(_SIGNATURE))
        # Some programs write the number modulo 2**16.
        if count not in (len(archive.infolist()) % 2**16, _UNKNOWN):
            raise DamagedFileError("the directory of the archive does not list all members")
    return archive
