"""Image files in folders and zip archives."""

import os
import stat
import zipfile
from pathlib import PurePosixPath

from cyclegan_tf.data.dataset import ImageList
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import codec
from cyclegan_tf.storage import filesystem

# What lies beside images and is none: not worth opening a file for.
_FOREIGN = (".txt", ".json", ".xml", ".csv", ".tsv", ".md", ".html", ".htm", ".ini", ".db", ".yaml", ".yml", ".py")
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"\x93NUMPY")
# A member of an archive that is larger than the largest image, or that is large and almost nothing when compressed.
_MEMBER_BYTES, _SUSPECT_BYTES, _SUSPECT_RATIO = 2**30, 2**26, 100


def _starts_as_image(head):
    """Whether the first 12 bytes are those of an image, maybe of a format that cannot be read (HEIF, AVIF)."""
    return head.startswith(_MAGIC) or (head[:4] == b"RIFF" and head[8:] == b"WEBP") or head[4:8] == b"ftyp"


def _is_hidden(name):
    return name.startswith((".", "__MACOSX"))


def _has_suffix(name):
    return name.lower().endswith(codec.SUFFIXES)


def _is_image(name, read_head):
    """Whether a file is an image: by a known suffix, else by its first bytes, which `read_head()` gives."""
    return _has_suffix(name) or (not name.lower().endswith(_FOREIGN) and _starts_as_image(read_head()))


def list_folder(folder):
    """The images in `folder` and all folders below it, links followed, sorted by their relative names.

    A file is an image by its suffix, in any case, or, if it has no known one, by its first bytes. Hidden files and
    folders are left alone. A folder that does not exist has no images.

    Raises:
      UserError: it is a file, it or a folder in it cannot be read, or a link leads back to a folder above it.
    """
    folder = str(folder)
    if filesystem.is_remote(folder):
        return _list_remote(folder)
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise UserError(f"{folder} is not a folder; give the folder that holds the images")
    names = []
    if os.path.isdir(folder):
        status = os.stat(folder)
        _collect(folder, "", ((status.st_dev, status.st_ino),), names)
    names.sort()

    def read(index):
        path = os.path.join(folder, names[index])
        # Reading a pipe would wait for ever.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError("not a regular file")
        with open(path, "rb") as file:
            return file.read()

    return ImageList(folder, names, read)


def _collect(root, inside, above, names):
    """Appends to `names` the images of folder root/inside; `above` holds (device, inode) of it and those above it."""
    try:
        # The names are kept relative and nothing else of an entry, for a million of them must fit.
        with os.scandir(os.path.join(root, inside)) as entries:
            for entry in entries:
                if _is_hidden(entry.name):
                    continue
                # Without a look at what a link leads to: that takes most of the time, and a million may be links.
                if _has_suffix(entry.name) and not entry.is_dir(follow_symlinks=False):
                    names.append(inside + entry.name)
                elif entry.is_dir():
                    status = entry.stat()
                    here = (status.st_dev, status.st_ino)
                    if here in above:
                        raise UserError(f"{entry.path} is a link that leads back to a folder above it; remove it")
                    _collect(root, f"{inside}{entry.name}/", (*above, here), names)
                elif _is_image(entry.name, lambda entry=entry: _head(entry)):
                    names.append(inside + entry.name)
    except OSError as error:
        raise UserError(f"cannot list {error.filename or root}: {error.strerror}") from error


def _list_remote(folder):
    if not filesystem.isdir(folder):
        if filesystem.exists(folder):
            raise UserError(f"{folder} is not a folder; give the folder that holds the images")
        return ImageList(folder, [], None)
    folder, names = folder.rstrip("/"), []
    try:
        _collect_remote(folder, "", names)
    except OSError as error:
        raise UserError(f"cannot list {error.filename or folder}: {error.strerror}") from error
    names.sort()
    return ImageList(folder, names, lambda index: filesystem.read_bytes(f"{folder}/{names[index]}"))


def _collect_remote(root, inside, names):
    """As `_collect`; each question is a request, so that none is asked about names that end as images' do."""
    for name in filesystem.listdir(f"{root}/{inside}"):
        path, is_folder = f"{root}/{inside}{name}", name.endswith("/")
        if _is_hidden(name):
            continue
        if _has_suffix(name):
            names.append(inside + name)
        elif is_folder or (not name.lower().endswith(_FOREIGN) and filesystem.isdir(path)):
            _collect_remote(root, f"{inside}{name.rstrip('/')}/", names)
        elif _is_image(name, lambda path=path: _remote_head(path)):
            names.append(inside + name)


def _remote_head(path):
    try:
        with filesystem.open_for_reading(path, "rb") as file:
            return file.read(12)
    except OSError:
        return b""


def _head(entry):
    if not entry.is_file():
        return b""
    try:
        with open(entry.path, "rb") as file:
            return file.read(12)
    except OSError:
        return b""


def open_archive(path):
    """The zip archive at `path`, after a look at what it declares.

    Raises:
      UserError: it is none, is encrypted, names files outside itself, or has members too large to be images.
    """
    try:
        archive = zipfile.ZipFile(filesystem.open_for_reading(path, "rb") if filesystem.is_remote(path) else path)
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{path} is neither a folder nor a readable .zip archive ({error})") from error
    for info in archive.infolist():
        name = info.filename
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
            raise UserError(f"{path} holds {name!r}, a path that leads out of it; do not trust this archive")
        if info.flag_bits & 1:
            raise UserError(f"{path} is encrypted ({name}); unpack it and give the folder")
        suspect = info.file_size > max(_SUSPECT_BYTES, _SUSPECT_RATIO * info.compress_size)
        if suspect or info.file_size > _MEMBER_BYTES:
            raise UserError(
                f"{path} holds {name!r}, {info.file_size} bytes packed into {info.compress_size}, too large for an "
                "image; if you trust it, unpack it and give the folder"
            )
    return archive


def list_archive(archive, split=""):
    """The images of an `open_archive`, of all of it or of folder `split` in it or in its one top folder.

    They are read in place; names are relative to the split.
    """
    found = []
    for info in archive.infolist():
        parts = PurePosixPath(info.filename.replace("\\", "/")).parts
        if info.is_dir() or (split and split not in parts[:-1][:2]) or any(map(_is_hidden, parts)):
            continue
        if _is_image(parts[-1], lambda info=info: _read_member(archive, info, 12)):
            found.append(("/".join(parts[parts.index(split) + 1 :] if split else parts), info))
    found.sort(key=lambda item: item[0])
    where = os.path.join(archive.filename, split) if split else archive.filename
    return ImageList(where, [name for name, _ in found], lambda index: _read_member(archive, found[index][1]))


def _read_member(archive, info, length=-1):
    # ZipFile reads no more than the declared size, which open_archive has looked at, and checks the sum.
    try:
        with archive.open(info) as file:
            return file.read(length)
    except Exception as error:  # BadZipFile, zlib.error, NotImplementedError, EOFError ...
        raise OSError(f"damaged in the archive: {error}") from error
