"""Writes files and folders that exist complete or not at all: under a temporary name, which is renamed at the end."""

import contextlib
import errno
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import IO, Any

from cyclegan_tf.errors import FULL_DISK
from cyclegan_tf.storage import filesystem


@contextlib.contextmanager
def open_for_writing(path: filesystem.PathLike, mode: str = "w", durable: bool = False) -> Iterator[IO[Any]]:
    """Yields a file that becomes `path` when the body ends, and is removed if the body fails.

    Several processes may write the same file at the same time: each writes a file of its own, .NUMBER.tmp in the folder
    of `path`, and the last to finish replaces the others. A process that is killed leaves its .tmp file. A symbolic
    link is replaced, and its target stays as it is. A device such as /dev/null or a named pipe is not replaced: the
    content is written to it at the end.

    Args:
      path: a remote file is first written to the local disk, because image and zip writers need a seekable file.
      mode: "w" for text in UTF-8, "wb" for bytes, "w+b" for bytes that the body also reads back.
      durable: if True, flushes a local file to the disk before it replaces the previous one.
    """
    encoding = None if "b" in mode else "utf-8"
    if filesystem.is_remote(path) or filesystem.is_special(path):
        # A named file, because tifffile does not accept a number, which other temporary files have as their name.
        with tempfile.NamedTemporaryFile() as temporary_file:
            content: Any = temporary_file
            file: IO[Any] = content if "b" in mode else io.TextIOWrapper(content, encoding=encoding)
            yield file
            file.seek(0)
            if filesystem.is_remote(path):
                filesystem.upload(path, content)
            else:  # Pipes cannot seek, as writers of images do.
                with open(path, "wb") as target:
                    shutil.copyfileobj(content, target)
        return
    temporary = filesystem.choose_temporary_path(path)
    try:
        with open(temporary, mode.replace("w", "x"), encoding=encoding) as file:
            yield file
            if durable:
                filesystem.sync(file)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        # Errors of an open file have no name. Messages name the file that the caller knows.
        if isinstance(error, OSError):
            is_full = error.filename is None and error.errno in FULL_DISK
            if is_full or error.filename == temporary:
                error.filename = os.fspath(path)
        raise


def replace_folder(path: str, new: str) -> None:
    """Moves folder `new` to `path`, replacing an existing folder, which is restored if the move fails.

    Several processes may replace the same local folder at the same time: the last to finish replaces the others. If
    `path` is a symbolic link, its target is replaced, which may be on another disk. A process that is killed during the
    move leaves the old folder as .NUMBER.tmp beside `path`. A remote folder is not restored: its files are removed,
    then the files of `new` are moved one by one.
    """
    if filesystem.is_remote(path):
        filesystem.remove_tree(path)
        filesystem.move_tree(new, path)
        return
    path = os.path.realpath(path)
    staged, old = filesystem.choose_temporary_path(path), filesystem.choose_temporary_path(path)
    try:
        shutil.move(new, staged)  # Copies the folder if the target of the link is on another disk.
        _swap(path, staged, old)
    except OSError:
        shutil.rmtree(staged, ignore_errors=True)
        if os.path.isdir(path):  # Another process has created it.
            shutil.rmtree(old, ignore_errors=True)
        elif os.path.isdir(old):
            os.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _swap(path: str, new: str, old: str) -> None:
    """Renames folder `path`, if it exists, to `old`, then `new` to `path`.

    Repeats both renames if another process has created `path` in between.
    """
    while True:
        if os.path.isdir(path):
            with contextlib.suppress(FileNotFoundError):
                os.rename(path, old)
        try:
            os.rename(new, path)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or os.path.isfile(path):
                raise
        shutil.rmtree(old, ignore_errors=True)
