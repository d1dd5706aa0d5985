"""Replaces each file of several slices in a list of images with its slices, named FILE[INDEX]."""

import collections
import concurrent.futures
import dataclasses
import errno
import os
import tempfile
import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import IO

from cyclegan_tf.data.dataset import ImageList
from cyclegan_tf.errors import FULL_DISK, UserError, describe_error, is_outage
from cyclegan_tf.images import stack_files
from cyclegan_tf.images.stacks import Slice, Stack, StackOptions
from cyclegan_tf.storage import array_files

_AHEAD = 64  # Files that are opened at the same time to list their slices.
# Largest number of files that all lists together keep open; a process can often open 1024 files. Opening a file takes
# longer than reading a slice, because compressed volumes must be unpacked.
MOST_OPEN_FILES = 800
_MASKS = (
    "its mask is not used, nor are masks of other files, so masked pixels count as image; to mark pixels without data, "
    "give them one value (GDAL_NODATA)"
)
_LACKS_PAGES = (
    "its OME metadata describes pages that are missing or in other files; only the pages in the file are used, here "
    "and in other such files"
)
# Error numbers of a file that is missing or lacks read permission. Such a file counts as a bad image.
_UNREADABLE = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP)
# Error numbers if a volume does not fit into the temporary folder. EFBIG: the file system limits the size of a file.
_NO_ROOM = (*FULL_DISK, errno.EFBIG)
# Error numbers of a machine that has run out of something. The file may be intact.
_EXHAUSTED = (*_NO_ROOM, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_WHOLE = -1  # In place of the index of a slice: the file is one plain image.


def expand(image_list: ImageList, options: StackOptions, limit: int = 0) -> ImageList:
    """Replaces files of slices with their slices; returns the same list if all files are plain images.

    A file that is damaged, missing or not readable for lack of permission becomes one image. Decoding this image fails
    with the reason.

    Args:
      limit: keep only this many images, the first ones of the list; 0 keeps all.

    Raises:
      UserError: a file cannot be read for a reason outside of the file, such as a full disk or a failing network.
        Reading a slice, too, raises a UserError if the disk is full or the process has too many open files.
    """
    candidates = [index for index, name in enumerate(image_list.names) if stack_files.may_be_stack(name)]
    whole = dataclasses.replace(image_list, names=image_list.names[: limit or None])
    if not candidates:
        return whole
    files = _Files(image_list, options)
    found, may_be_stack = _scan(files, candidates), set(candidates)
    places: list[tuple[int, int]] = []
    for index in range(len(image_list)):
        if limit and len(places) >= limit:
            break
        places += [(index, number) for number in (next(found) if index in may_be_stack else [_WHOLE])]
    places = places[: limit or None]
    if places == [(index, _WHOLE) for index in range(len(whole))]:
        return whole
    names = [
        f"{image_list.names[index]}[{number}]" if index in files.volumes else image_list.names[index]
        for index, number in places
    ]

    def read_slice(index: int) -> Slice | None:
        file, number = places[index]
        return None if number == _WHOLE else files.read(file, number)

    def read(index: int) -> bytes:
        piece = read_slice(index)
        return image_list.read(places[index][0]) if piece is None else array_files.encode(piece.pixels)

    def open_file(index: int) -> IO[bytes]:
        return image_list.open(places[index][0])

    return dataclasses.replace(image_list, names=names, read=read, open_file=open_file, read_slice=read_slice)


def _scan(files: "_Files", candidates: Sequence[int]) -> Iterator[Sequence[int]]:
    """Yields `list_slices` of each candidate in order; opens up to `_AHEAD` files at the same time."""
    with concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(candidates), _AHEAD):
            yield from pool.map(files.list_slices, candidates[start : start + _AHEAD])


class _OpenFile:
    """A file of a list: its lock, and its stack while it is open."""

    def __init__(self, stack: Stack | None = None) -> None:
        self.lock = threading.Lock()
        self.stack = stack


class _Files:
    """Reads slices of the files of a list from any thread, and keeps the most recently used files open.

    All lists share one limit of open files. Above the limit, the list with the most open files closes its least
    recently used file.

    Attributes:
      volumes: indices of the files whose slices have a number in their name; `list_slices` adds indices.
    """

    # Shared by all instances: the lists in use, and the lock that guards this set and the open files of every list.
    _lists: "weakref.WeakSet[_Files]" = weakref.WeakSet()
    _lock = threading.Lock()

    def __init__(self, image_list: ImageList, options: StackOptions) -> None:
        self._list, self._options = image_list, options
        self._open: collections.OrderedDict[int, _OpenFile] = collections.OrderedDict()
        self.volumes: set[int] = set()
        with self._lock:
            self._lists.add(self)

    def list_slices(self, index: int) -> Sequence[int]:
        """Lists the indices of a file's slices: only `_WHOLE` for a plain image, only 0 for a bad file.

        Raises:
          UserError: the file may be intact, but cannot be read now.
        """
        try:
            stack = self._open_stack(index)
            if stack is None:
                return [_WHOLE]
            if stack.has_masks:
                self._list.bad.add_notice(self._list.path(index), _MASKS)
            if stack.lacks_pages:
                self._list.bad.add_notice(self._list.path(index), _LACKS_PAGES)
            if stack.is_plain:
                stack.close()
                return [_WHOLE]
            if stack.is_volume:
                self.volumes.add(index)
            try:
                return stack.list_indices()
            finally:
                self._keep_open(index, stack)
        except ValueError:
            return [0]  # Reading fails with the same reason.
        except OSError as error:
            if is_outage(error) and error.errno not in _UNREADABLE:
                raise self._explain(index, error) from error
            return [0]

    def _keep_open(self, index: int, stack: Stack) -> None:
        """Keeps a volume open if there is room, and closes other files."""
        with self._lock:
            if stack.is_volume and self._count_open() < MOST_OPEN_FILES:
                self._open[index] = _OpenFile(stack)
                return
        stack.close()

    def _count_open(self) -> int:
        return sum(len(files._open) for files in self._lists)

    def read(self, index: int, number: int) -> Slice:
        """Reads a slice of a file.

        Raises:
          ValueError, OSError: the slice cannot be decoded or read.
          UserError: the disk is full, or the process has too many open files.
        """
        with self._lock:
            entry = self._open.setdefault(index, _OpenFile())
            self._open.move_to_end(index)
            oldest = None
            if self._count_open() > MOST_OPEN_FILES:
                oldest = max(self._lists, key=lambda files: len(files._open))._open.popitem(last=False)[1]
        if oldest:
            with oldest.lock:
                if oldest.stack:
                    oldest.stack.close()
                    oldest.stack = None
        with entry.lock:
            try:
                if entry.stack is None:
                    entry.stack = self._open_stack(index)
                    if entry.stack is None:
                        raise ValueError("the file has changed since it was listed")
                return entry.stack.read(number)
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    raise self._explain(index, error) from error
                raise

    def _explain(self, index: int, error: OSError) -> UserError:
        path, problem = self._list.path(index), describe_error(error)
        if error.errno in _NO_ROOM:  # Reading needs space only for the content of a compressed volume.
            return UserError(f"{path} cannot be unpacked to {tempfile.gettempdir()}: {problem}; make room there, or "
                             "set TMPDIR to a folder on another disk")
        remedy = {
            errno.EMFILE: "allow more with `ulimit -n`", errno.ENFILE: "close other programs",
            errno.ENOMEM: "free memory",
        }.get(error.errno or 0, "check the disk and the network")
        return UserError(f"{path} cannot be read: {problem}; {remedy}, and start again")

    def _open_stack(self, index: int) -> Stack | None:
        return stack_files.open_stack(lambda: self._list.open(index), self._list.names[index], self._options)
