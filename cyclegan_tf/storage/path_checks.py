"""Checks paths that are values of options, and raises errors that name the option."""

import os
import sys
import tempfile

from cyclegan_tf.errors import UserError
from cyclegan_tf.storage import filesystem


def require_local(name: str, path: filesystem.PathLike) -> None:
    """Raises a UserError if `path`, the value of option `name`, is remote."""
    if filesystem.is_remote(path):
        raise UserError(f"--{name}={path}: expected a path on the local disk; copy the files to or from there yourself")


def require_utf8(name: str, path: str) -> None:
    """Raises a UserError if TensorFlow and Python would encode the path differently.

    TensorFlow encodes paths in UTF-8. Python represents bytes that are not UTF-8 as lone surrogates and uses another
    encoding in some locales.

    Args:
      name: option whose value is the path.
    """
    try:
        if path.encode() == os.fsencode(path):
            return
    except UnicodeEncodeError:
        pass
    encoding = sys.getfilesystemencoding()
    remedy = ("rename the file or folder" if encoding == "utf-8" else
              f"set PYTHONUTF8=1, because Python takes names in {encoding} in this locale")
    raise UserError(f"--{name}={path}: the name is not valid UTF-8; {remedy}")


def require_writable(name: str, path: str) -> None:
    """Raises a UserError if no file can be written at `path`, the value of option `name`.

    Remote folders and devices such as /dev/stdout are accepted without a test file.
    """
    if filesystem.isdir(path):
        raise UserError(f"--{name}={path} is a folder; give the path of a file")
    folder = os.path.dirname(path) or "."
    if filesystem.is_remote(folder) or filesystem.is_special(path):
        return
    if not os.path.isdir(folder):
        raise UserError(f"--{name}={path}: folder {folder} does not exist; make it first")
    _write_test_file(name, path, folder)


def require_creatable(name: str, path: str) -> None:
    """Raises a UserError if no file can be written at `path` or into a folder `path`; creates no folder.

    Missing parent folders count as creatable. Remote paths are accepted without a test file.

    Args:
      name: option whose value is the path.
    """
    if filesystem.is_remote(path):
        return
    folder = os.path.abspath(path)
    if os.path.exists(folder) and not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    _write_test_file(name, path, folder)


def _write_test_file(name: str, path: str, folder: str) -> None:
    """Raises a UserError about `path`, the value of option `name`, if no file can be written into `folder`."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"--{name}={path}: cannot write into folder {folder} ({error.strerror}); give a path in "
                        "another folder") from error
