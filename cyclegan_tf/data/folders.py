"""Lists of the image files in folders and zip archives."""

import functools
import itertools
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import IO

from cyclegan_tf.data.dataset import MASKS, ImageList
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import signatures, suffixes
from cyclegan_tf.storage import filesystem, zip_files
from cyclegan_tf.storage.zip_files import DamagedFileError

# Suffixes of files that are often stored beside images; such files are not opened to look for an image signature.
_OTHER_SUFFIXES = (
    ".txt", ".json", ".xml", ".csv", ".tsv", ".md", ".html", ".htm", ".ini", ".db", ".yaml", ".yml", ".py",
)
# The folders of a data set: of two domains, or of images that show both domains.
_SPLITS = (("trainA", "trainB", "testA", "testB", MASKS), ("train", "test", "val"))
# No image is larger than _MEMBER_BYTES. A member above _SUSPECT_BYTES whose compression ratio exceeds _SUSPECT_RATIO
# is probably a zip bomb.
_MEMBER_BYTES, _SUSPECT_BYTES, _SUSPECT_RATIO = 2**30, 2**26, 100


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))


def _has_suffix(name: str, others: tuple[str, ...] = ()) -> bool:
    return bool(suffixes.match(name)) or name.lower().endswith(others)


def _may_have_signature(name: str) -> bool:
    return not name.lower().endswith(_OTHER_SUFFIXES)


def _is_image(name: str, read_head: Callable[[], bytes]) -> bool:
    """True if the file has an image suffix or, for an unknown suffix, an image signature in `read_head()`.

    Returns False for DICOMDIR, the table of contents of a disk of DICOM files. Linux shows the names on some disks in
    lower case.
    """
    if name.upper() == "DICOMDIR":
        return False
    return _has_suffix(name) or (_may_have_signature(name) and signatures.find_format(read_head()) is not None)


def is_image(path: str) -> bool:
    """True if a local file is an image by the rule of `list_folder`."""
    name = os.path.basename(path)
    return not _is_hidden(name) and _is_image(name, functools.partial(_read_head, path))


def list_folder(folder: str | os.PathLike, others: tuple[str, ...] = ()) -> ImageList:
    """Lists the images in `folder` and all its subfolders, sorted by relative name. Follows links.

    A file is an image if it has a known suffix in any case, or an image signature and no known suffix. Hidden files
    and folders are skipped. A missing folder yields an empty list.

    Args:
      others: further suffixes, in lower case, of files to list.

    Raises:
      UserError: `folder` is a file, a folder cannot be read, or a link leads back to one of its parent folders.
    """
    folder = str(folder)
    if filesystem.is_remote(folder):
        return _list_remote(folder, others)
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise UserError(f"{folder} is not a folder; give the folder that holds the images")
    names: list[str] = []
    if os.path.isdir(folder):
        status = os.stat(folder)
        _collect(folder, "", ((status.st_dev, status.st_ino),), names, others)
    names.sort()

    def read(index: int) -> bytes:
        return filesystem.read_regular_file(os.path.join(folder, names[index]))

    def open_file(index: int) -> IO[bytes]:
        return filesystem.open_regular_file(os.path.join(folder, names[index]))

    return ImageList(folder, names, read, open_file=open_file)


def _collect(
    root: str, subfolder: str, ancestors: tuple[tuple[int, int], ...], names: list[str], others: tuple[str, ...]
) -> None:
    """Appends the relative names of the images in ROOT/SUBFOLDER, and of files with a suffix in `others`, to `names`.

    Args:
      subfolder: relative path that ends in "/", or empty.
      ancestors: (device, inode) of the folder and all folders above it.
    """
    try:
        # Only relative names are kept, so that a million of them fit into memory.
        with os.scandir(os.path.join(root, subfolder)) as entries:
            for entry in entries:
                if _is_hidden(entry.name):
                    continue
                # Do not resolve links: with a million links to images, this would take most of the time.
                if _has_suffix(entry.name, others) and not entry.is_dir(follow_symlinks=False):
                    names.append(subfolder + entry.name)
                elif entry.is_dir():
                    status = entry.stat()
                    identity = (status.st_dev, status.st_ino)
                    if identity in ancestors:
                        raise UserError(f"{entry.path} is a link that leads back to a folder above it; remove the link")
                    _collect(root, f"{subfolder}{entry.name}/", (*ancestors, identity), names, others)
                elif _is_image(entry.name, functools.partial(_read_head, entry)):
                    names.append(subfolder + entry.name)
    except OSError as error:
        raise UserError(f"cannot list {error.filename or root}: {error.strerror}") from error


def _read_head(path: str | os.DirEntry[str]) -> bytes:
    if not os.path.isfile(path):
        return b""
    try:
        with open(path, "rb") as file:
            return file.read(signatures.HEAD_BYTES)
    except OSError:
        return b""


def _list_remote(folder: str, others: tuple[str, ...]) -> ImageList:
    if not filesystem.isdir(folder):
        if filesystem.exists(folder):
            raise UserError(f"{folder} is not a folder; give the folder that holds the images")
        return ImageList.empty(folder)
    folder = folder.rstrip("/")
    names: list[str] = []
    try:
        _collect_remote(folder, "", names, others)
    except OSError as error:
        raise UserError(f"cannot list {error.filename or folder}: {error.strerror}") from error
    names.sort()
    return ImageList(
        folder, names, lambda index: filesystem.read_bytes(f"{folder}/{names[index]}"),
        open_file=lambda index: filesystem.open_for_reading(f"{folder}/{names[index]}"),
    )


def _collect_remote(root: str, subfolder: str, names: list[str], others: tuple[str, ...]) -> None:
    """Appends names like `_collect`; sends no network request for names with a listed suffix."""
    for name in filesystem.listdir(f"{root}/{subfolder}"):
        path = f"{root}/{subfolder}{name}"
        if _is_hidden(name):
            continue
        if _has_suffix(name, others):
            names.append(subfolder + name)
        elif name.endswith("/") or (_may_have_signature(name) and filesystem.isdir(path)):
            _collect_remote(root, f"{subfolder}{name.rstrip('/')}/", names, others)
        elif _is_image(name, functools.partial(_read_remote_head, path)):
            names.append(subfolder + name)


def _read_remote_head(path: str) -> bytes:
    try:
        with filesystem.open_for_reading(path) as file:
            return file.read(signatures.HEAD_BYTES)
    except OSError:
        return b""


def open_archive(path: str) -> zipfile.ZipFile:
    """Opens the zip archive at `path` after checking the names and sizes that its index declares.

    Raises:
      UserError: the file is not a readable zip archive, is encrypted, contains a path that leads out of the archive,
        or contains a member that is too large to be an image.
    """
    try:
        archive = zip_files.open_zip(filesystem.open_for_reading(path))
    except (OSError, DamagedFileError) as error:
        raise UserError(f"{path} is neither a folder nor a readable .zip archive ({error}); give the path of "
                        "one of the two") from error
    for info in archive.infolist():
        name = info.filename
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
            raise UserError(f"{path} contains {name!r}, a path that leads out of the archive; do not use this archive")
        if info.flag_bits & 1:
            raise UserError(f"{path} is encrypted ({name}); unpack the archive and give the folder")
        is_suspect = info.file_size > max(_SUSPECT_BYTES, _SUSPECT_RATIO * info.compress_size)
        if is_suspect or info.file_size > _MEMBER_BYTES:
            raise UserError(
                f"{path} contains {name!r}, {info.file_size} bytes packed into {info.compress_size}, which is too "
                "large for an image; if you trust the archive, unpack it and give the folder"
            )
    return archive


def list_archive(archive: zipfile.ZipFile, split: str) -> ImageList:
    """Lists the images of a split in an archive from `open_archive`, sorted by name; the archive is never unpacked.

    Args:
      split: the folder of the images, at the top of the archive or in a top-level folder; names are relative to it.

    Raises:
      UserError: several top-level folders have a folder `split`, so the archive holds several data sets.
    """
    path, found = str(archive.filename), []
    roots: dict[str, None] = {}  # In the order of the archive.
    for info in archive.infolist():
        parts = PurePosixPath(info.filename.replace("\\", "/")).parts
        if info.is_dir() or any(map(_is_hidden, parts)):
            continue
        start = _find_split(parts[:-1], split)
        if start is not None and _is_member_image(archive, info, parts[-1]):
            found.append(("/".join(parts[start:]), info))
            roots["/".join(parts[:start])] = None
    if len(roots) > 1:
        raise UserError(f"{path} has images in {' and in '.join(list(roots)[:2])}; give an archive of one data set, or "
                        "unpack it and give the folder of one")
    found.sort(key=lambda item: item[0])
    where = os.path.join(path, split)
    for (name, _), (following, _) in itertools.pairwise(found):
        if name == following:
            raise UserError(f"{where} contains two images called {name!a}; pack the archive again")
    return ImageList(where, [name for name, _ in found], lambda index: _read_member(archive, found[index][1]))


def _find_split(folders: Sequence[str], split: str) -> int | None:
    """Returns the number of leading folders up to and including `split`; None if the member is not in `split`."""
    if folders[:1] == (split,):
        return 1
    others = next((names for names in _SPLITS if split in names), ())
    return 2 if folders[1:2] == (split,) and folders[0] not in others else None


def _is_member_image(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> bool:
    try:
        return _is_image(name, functools.partial(_read_member, archive, info, signatures.HEAD_BYTES))
    except OSError:
        return True  # Loading the damaged member reports it as a bad image.


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, length: int = -1) -> bytes:
    # ZipFile reads at most the declared size, which open_archive has checked, and verifies the CRC-32.
    try:
        with archive.open(info) as file:
            return file.read(length)
    except Exception as error:  # BadZipFile, zlib.error, NotImplementedError, EOFError and others.
        raise OSError(f"damaged in the archive: {error}") from error
