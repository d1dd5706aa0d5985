"""Files on the local disk and, by paths such as gs://... and hdfs://..., on the file systems that TensorFlow knows.

A path with :// in it is remote: it goes through tf.io.gfile, and TensorFlow's errors become those of the local disk.
Any other path is the operating system's. TensorFlow is imported for the first remote path, not before.
"""

import contextlib
import errno
import io
import os
import shutil
import time

from cyclegan_tf.errors import UserError

_CHUNK = 2**20
_SECONDS = 30  # So often at most is a growing file written anew where it cannot be appended to.


def is_remote(path):
    """Whether `path` names a file system, as gs://bucket/run does."""
    return "://" in os.fspath(path)


def require_local(name, path):
    """Raises a UserError if option `name` has a remote path."""
    if is_remote(path):
        raise UserError(f"--{name}={path}: this must be on the local disk; copy it there, or back, yourself")


def _gfile(path):
    """tf.io.gfile, with tensorflow-io's file systems where that is installed and the path's is none of TensorFlow's."""
    import tensorflow as tf

    if os.fspath(path).split("://")[0] not in tf.io.gfile.get_registered_schemes():
        with contextlib.suppress(ImportError):
            import tensorflow_io  # noqa: F401 -- what it has it registers.
    return tf.io.gfile


@contextlib.contextmanager
def translate_errors(path):
    """Makes an error of TensorFlow's in the body an OSError about `path`."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        number = {
            tf.errors.NOT_FOUND: errno.ENOENT, tf.errors.PERMISSION_DENIED: errno.EACCES,
            tf.errors.UNAUTHENTICATED: errno.EACCES,
        }.get(error.error_code, errno.EIO)
        raise OSError(number, (error.message or os.strerror(number)).splitlines()[0], os.fspath(path)) from error


def exists(path):
    """Whether there is a file or a folder; UserError where a remote system does not tell."""
    return _status(path) is not None if is_remote(path) else os.path.exists(path)


def isdir(path):
    """Whether it is a folder; raises as `exists`."""
    return getattr(_status(path), "is_directory", False) if is_remote(path) else os.path.isdir(path)


def isfile(path):
    """Whether it is a file; raises as `exists`."""
    return not getattr(_status(path), "is_directory", True) if is_remote(path) else os.path.isfile(path)


def size(path):
    """Bytes of a file; raises OSError."""
    if not is_remote(path):
        return os.path.getsize(path)
    with translate_errors(path):
        return _gfile(path).stat(path).length


def _status(path):
    """The gfile.stat of a remote path, None where nothing is."""
    try:
        with translate_errors(path):
            return _gfile(path).stat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        # Taken for "nothing there", an outage would lose held-out images or begin a run anew.
        raise UserError(f"cannot look for {path}: {error.strerror}") from error


def listdir(path):
    """The names in a folder, in no order. Some remote systems end those of folders with a slash.

    Of a remote folder that is not there, none: where there are objects only, an empty folder is nothing.
    """
    if not is_remote(path):
        return os.listdir(path)
    with contextlib.suppress(FileNotFoundError), translate_errors(path):
        # A folder that was made by hand may contain itself, as an empty name.
        return [name for name in _gfile(path).listdir(path) if name]
    return []


def makedirs(path):
    """Makes a folder and those above it, unless it is there."""
    if not is_remote(path):
        os.makedirs(path, exist_ok=True)
        return
    with translate_errors(path):
        _gfile(path).makedirs(path)


def remove(path):
    """Removes a file."""
    if not is_remote(path):
        os.remove(path)
        return
    with translate_errors(path):
        _gfile(path).remove(path)


def remove_tree(path):
    """Removes a folder and all in it, as far as that goes; nothing where there is none."""
    if not is_remote(path):
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError), translate_errors(path):
        _gfile(path).rmtree(path)


def move_tree(path, target):
    """Moves the files of remote folder `path` to `target`, the innermost first; not all systems can rename a folder."""
    with translate_errors(target):
        gfile = _gfile(path)
        for folder, _, names in gfile.walk(path, topdown=False):
            inside = folder[len(path) :].strip("/")
            gfile.makedirs(os.path.join(target, inside))
            for name in sorted(names):
                gfile.rename(os.path.join(folder, name), os.path.join(target, inside, name), overwrite=True)
    remove_tree(path)


def open_for_reading(path, mode="r"):
    """Opens a file for reading, "r" for text in UTF-8, "rb" for bytes."""
    if not is_remote(path):
        return open(path, mode, encoding=None if "b" in mode else "utf-8")
    file = io.BufferedReader(_Reader(path), 2**16)
    return file if "b" in mode else io.TextIOWrapper(file, encoding="utf-8")


def read_bytes(path, offset=0, length=-1):
    """The content of a file, or `length` bytes of it from `offset` on, fewer where it ends."""
    if not is_remote(path):
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(length)
    with translate_errors(path), _gfile(path).GFile(path, "rb") as file:
        if offset:
            file.seek(offset)
        return file.read(length)


class _Reader(io.RawIOBase):
    """A remote file for Python's readers of archives and arrays, which want seek and OSErrors."""

    def __init__(self, path):
        self.name = path
        self._size = size(path)
        self._file = _gfile(path).GFile(path, "rb")

    def readable(self):
        return True

    def seekable(self):
        return True

    def readinto(self, buffer):
        with translate_errors(self.name):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset, whence=io.SEEK_SET):
        position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self._size}[whence]
        with translate_errors(self.name):
            self._file.seek(position)
        return position

    def tell(self):
        return self._file.tell()


def put(path, content):
    """Writes what binary file `content` holds from its position on to a remote file: beside, then renamed.

    A remote system may rename by copying, or by removing the old file first: then a crash in between leaves the .tmp.
    """
    temporary, data = f"{path}.tmp", content.read(_CHUNK)
    try:
        with translate_errors(path):
            if not data:  # It cannot be there in part, and S3 renames no empty file.
                temporary = path
            with _gfile(path).GFile(temporary, "wb") as file:
                file.write(data)  # Even of nothing, without which there would be no file.
                while data := content.read(_CHUNK):
                    file.write(data)
            if temporary != path:
                _gfile(path).rename(temporary, path, overwrite=True)
    except BaseException:
        with contextlib.suppress(OSError):
            remove(temporary)
        raise


def append(path, data):
    """Adds bytes to a file, which is made if it is missing; a remote one is written anew."""
    if not is_remote(path):
        with open(path, "ab") as file:
            file.write(data)
        return
    put(path, io.BytesIO((read_bytes(path) if exists(path) else b"") + data))


def open_for_appending(path):
    """Opens a text file in UTF-8, made if it is missing, to add lines to it; `sync` makes them durable.

    Not every remote system can append. There the whole text is written anew, by `sync` and `close` always, and by
    `flush` if that was half a minute ago: a killed process loses no more.
    """
    return _Growing(path) if is_remote(path) else open(path, "a", encoding="utf-8", errors="backslashreplace")


class _Growing(io.StringIO):
    def __init__(self, path):
        data = read_bytes(path) if exists(path) else b""
        super().__init__(data.decode(), newline="\n")
        self.seek(0, io.SEEK_END)
        self._path, self._length, self._written = path, len(data), time.monotonic()

    def flush(self):
        if time.monotonic() - self._written >= _SECONDS:
            self.sync()

    def sync(self):
        data = self.getvalue().encode(errors="backslashreplace")
        if len(data) != self._length:
            put(self._path, io.BytesIO(data))
            self._length = len(data)
        self._written = time.monotonic()

    def close(self):
        if not self.closed:
            try:
                self.sync()
            finally:
                super().close()


def sync(file):
    """Makes what was written to a file of `open_for_appending`, or to a local one, durable."""
    if isinstance(file, _Growing):
        file.sync()
    else:
        file.flush()
        os.fsync(file.fileno())
