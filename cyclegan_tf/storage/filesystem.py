"""File operations on local paths and on remote ones such as gs://... and hdfs://...

A path with :// in it is remote and goes through tf.io.gfile, whose errors become OSErrors. Every other path goes
through the operating system. TensorFlow is imported for the first remote path, not before.

etils.epath cannot replace this module: it accepts only gs://, s3://, az:// and hf:// paths, lets most TensorFlow errors
pass (so that an outage raises no OSError), has no growing files where the file system cannot append, and takes longer
to import.
"""

import contextlib
import errno
import io
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any, BinaryIO, TextIO

from cyclegan_tf.errors import FULL_DISK, UserError
from cyclegan_tf.ops import startup

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PathLike = str | os.PathLike[str]

FLUSH_SECONDS = 30  # Shortest time between two rewrites of a growing remote file.
_CHUNK = 2**20  # Bytes per read of an upload.


def is_remote(path: PathLike) -> bool:
    """True if `path` names a file system, as gs://bucket/run does."""
    return "://" in os.fspath(path)


def _gfile(path: PathLike) -> Any:
    """tf.io.gfile, after importing tensorflow-io if it is installed and TensorFlow does not know the path's scheme."""
    startup.import_tensorflow()
    import tensorflow as tf

    if os.fspath(path).split("://")[0] not in tf.io.gfile.get_registered_schemes():
        with contextlib.suppress(ImportError):
            import tensorflow_io  # noqa: F401 -- registers its file systems.
    return tf.io.gfile


@contextlib.contextmanager
def translate_errors(path: PathLike) -> Iterator[None]:
    """Context that turns TensorFlow's errors into OSErrors about `path`."""
    startup.import_tensorflow()
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        number = {
            tf.errors.NOT_FOUND: errno.ENOENT, tf.errors.PERMISSION_DENIED: errno.EACCES,
            tf.errors.UNAUTHENTICATED: errno.EACCES,
        }.get(error.error_code, errno.EIO)
        # TensorFlow has no code of its own for a full disk, but its message contains the system's.
        number = next((full for full in FULL_DISK if os.strerror(full) in (error.message or "")), number)
        raise OSError(number, (error.message or os.strerror(number)).splitlines()[0], os.fspath(path)) from error


def exists(path: PathLike) -> bool:
    """True if `path` is a file or a folder; UserError if a remote file system cannot tell."""
    return _stat(path) is not None if is_remote(path) else os.path.exists(path)


def isdir(path: PathLike) -> bool:
    """True if `path` is a folder; UserError if a remote file system cannot tell."""
    return getattr(_stat(path), "is_directory", False) if is_remote(path) else os.path.isdir(path)


def isfile(path: PathLike) -> bool:
    """True if `path` is a file; UserError if a remote file system cannot tell."""
    return not getattr(_stat(path), "is_directory", True) if is_remote(path) else os.path.isfile(path)


def is_special(path: PathLike) -> bool:
    """True if `path` is a device, a named pipe, a socket, or a link to one, or is /dev/stdout, also as a file."""
    if is_remote(path) or not os.path.exists(path) or os.path.isdir(path):
        return False
    # Links in these folders, such as /dev/stdout and /dev/fd/1, may lead to files, but must not be replaced.
    folder = os.path.realpath(os.path.dirname(path))
    return folder == "/dev" or folder.startswith("/proc/") or not os.path.isfile(path)


def getsize(path: PathLike) -> int:
    """Number of bytes of a file; raises OSError."""
    if not is_remote(path):
        return os.path.getsize(path)
    with translate_errors(path):
        return _gfile(path).stat(path).length


def _stat(path: PathLike) -> Any:
    """The gfile.stat of a remote path, or None if nothing exists there."""
    try:
        with translate_errors(path):
            return _gfile(path).stat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        # Treating an outage as "missing" would silently drop the test set, or start a run from scratch.
        raise UserError(f"cannot access {path}: {error.strerror}") from error


def listdir(path: PathLike) -> list[str]:
    """The names in a folder, in no particular order; some remote file systems end the names of folders with a slash.

    A missing remote folder has no names: object stores do not keep empty folders.
    """
    if not is_remote(path):
        return os.listdir(path)
    with contextlib.suppress(FileNotFoundError), translate_errors(path):
        # A folder that was created in a storage console may list itself under an empty name.
        return [name for name in _gfile(path).listdir(path) if name]
    return []


def list_files(path: PathLike) -> list[str]:
    """Lists the paths of all files in a folder and its subfolders, sorted by folder, then by name."""
    if not is_remote(path):
        folders = sorted(os.walk(path))
    else:
        with translate_errors(path):
            folders = sorted(_gfile(path).walk(path))
    return [os.path.join(folder, name) for folder, _, names in folders for name in sorted(names)]


def makedirs(path: PathLike) -> None:
    """Creates a folder and its parents unless they exist."""
    if not is_remote(path):
        os.makedirs(path, exist_ok=True)
        return
    with translate_errors(path):
        _gfile(path).makedirs(path)


def remove(path: PathLike) -> None:
    """Removes a file."""
    if not is_remote(path):
        os.remove(path)
        return
    with translate_errors(path):
        _gfile(path).remove(path)


def remove_tree(path: PathLike) -> None:
    """Removes a folder with everything in it, ignoring errors and a missing folder."""
    if not is_remote(path):
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError), translate_errors(path):
        _gfile(path).rmtree(path)


def move_tree(path: str, target: str) -> None:
    """Moves all files of the remote folder `path` to `target`, innermost folders first.

    Moves the files one by one, because not every remote file system can rename a folder.
    """
    with translate_errors(target):
        gfile = _gfile(path)
        for folder, _, names in gfile.walk(path, topdown=False):
            inside = folder[len(path) :].strip("/")
            gfile.makedirs(os.path.join(target, inside))
            for name in sorted(names):
                gfile.rename(os.path.join(folder, name), os.path.join(target, inside, name), overwrite=True)
    remove_tree(path)


def open_for_reading(path: PathLike) -> IO[bytes]:
    """Opens a seekable file of bytes."""
    return io.BufferedReader(_RemoteReader(path), 2**16) if is_remote(path) else open(path, "rb")


def read_bytes(path: PathLike, offset: int = 0, length: int = -1) -> bytes:
    """The bytes of a file from `offset` on: at most `length` of them, or all if `length` is negative."""
    if not is_remote(path):
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(length)
    with translate_errors(path), _gfile(path).GFile(path, "rb") as file:
        if offset:
            file.seek(offset)
        return file.read(length)


def read_regular_file(path: PathLike) -> bytes:
    """The bytes of a file; an OSError for a named pipe or a device, which could block forever."""
    _require_regular_file(path)
    return read_bytes(path)


def open_regular_file(path: PathLike) -> IO[bytes]:
    """Opens a seekable file of bytes; raises an OSError for a named pipe or a device, which could block forever."""
    _require_regular_file(path)
    return open_for_reading(path)


def _require_regular_file(path: PathLike) -> None:
    if not is_remote(path) and not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError("not a regular file")


class _RemoteReader(io.RawIOBase):
    """A remote file for readers of archives and arrays, which need a seekable file and OSErrors."""

    def __init__(self, path: PathLike) -> None:
        self.name = path
        self._size = getsize(path)
        self._file = _gfile(path).GFile(path, "rb")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer)
        with translate_errors(self.name):
            data = self._file.read(len(view))
        view[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self._size}[whence]
        with translate_errors(self.name):
            self._file.seek(position)
        return position

    def tell(self) -> int:
        return self._file.tell()


def choose_temporary_path(path: PathLike) -> str:
    """Chooses a path for the unfinished content of `path`: .NUMBER.tmp in the same folder, new for each call.

    The name does not contain the name of `path`, which may have the greatest length that a file system allows.
    """
    # A file of the module tempfile would be private: nobody else could read the result.
    return os.path.join(os.path.dirname(os.fspath(path)), f".{secrets.token_hex(8)}.tmp")


def upload(path: PathLike, content: BinaryIO) -> None:
    """Writes the rest of the binary file `content` to a remote file, under a temporary name that is renamed at the end.

    Some remote file systems rename by copying, or remove the old file first; a crash in between leaves the .tmp file.
    """
    temporary, data = choose_temporary_path(path), content.read(_CHUNK)
    try:
        with translate_errors(path):
            if not data:  # An empty file cannot be written in part, and S3 cannot rename one.
                temporary = os.fspath(path)
            with _gfile(path).GFile(temporary, "wb") as file:
                file.write(data)  # GFile creates no file before the first write, even one of no bytes.
                while data := content.read(_CHUNK):
                    file.write(data)
            if temporary != os.fspath(path):
                _gfile(path).rename(temporary, path, overwrite=True)
    except BaseException:
        with contextlib.suppress(OSError):
            remove(temporary)
        raise


def append(path: PathLike, data: bytes) -> None:
    """Appends bytes to a file, creating it if necessary; rewrites a remote file."""
    if not is_remote(path):
        with open(path, "ab") as file:
            file.write(data)
        return
    upload(path, io.BytesIO((read_bytes(path) if exists(path) else b"") + data))


def open_for_appending(path: PathLike) -> TextIO:
    """Opens a text file in UTF-8 for appending, creating it if necessary; `sync` makes its lines durable.

    Not every remote file system can append, so a remote file is rewritten as a whole: by every `sync` and `close`, and
    by `flush` if the last rewrite is at least FLUSH_SECONDS ago. A killed process loses what it wrote since the last
    rewrite.
    """
    return _GrowingFile(path) if is_remote(path) else open(path, "a", encoding="utf-8", errors="backslashreplace")


class _GrowingFile(io.StringIO):
    """The new text of a remote file in memory, uploaded from time to time behind the old content of the file."""

    def __init__(self, path: PathLike) -> None:
        super().__init__(newline="\n")
        self._old = read_bytes(path) if exists(path) else b""  # Not decoded: damage in it stays as it is.
        self._path, self._length, self._written = path, len(self._old), time.monotonic()

    def flush(self) -> None:
        if time.monotonic() - self._written >= FLUSH_SECONDS:
            self.sync()

    def sync(self) -> None:
        data = self._old + self.getvalue().encode(errors="backslashreplace")
        if len(data) != self._length:
            upload(self._path, io.BytesIO(data))
            self._length = len(data)
        self._written = time.monotonic()

    def close(self) -> None:
        if not self.closed:
            try:
                self.sync()
            finally:
                super().close()


def reserve(file: IO[bytes], n_bytes: int) -> None:
    """Enlarges an empty local file to `n_bytes` and allocates its disk space, before the file is mapped to memory.

    The process dies without a message if a write to mapped memory finds no space.

    Raises:
      OSError: the disk has no room.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, n_bytes)
    else:  # Windows and macOS do not have it.
        file.truncate(n_bytes)


def sync(file: IO[Any]) -> None:
    """Makes everything written to a local file, or to a file from `open_for_appending`, durable."""
    if isinstance(file, _GrowingFile):
        file.sync()
    else:
        file.flush()
        os.fsync(file.fileno())
