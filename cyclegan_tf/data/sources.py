"""Where images come from: the embedded demo set, folders and zip archives, as random-access lists of encoded files."""

import dataclasses
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from cyclegan_tf import config as config_lib
from cyclegan_tf import images
from cyclegan_tf.errors import UserError

DEMO_DIR = Path(__file__).resolve().parent.parent / "demo_images"


@dataclasses.dataclass(frozen=True)
class ImageList:
    """The encoded images of one domain: `names[i]` for people, `read(i)` for its bytes, `where` for messages."""

    where: str
    names: Sequence[str]
    read: Callable[[int], bytes]

    def __len__(self):
        return len(self.names)


@dataclasses.dataclass(frozen=True)
class UnpairedImages:
    """A data set: two training domains and the held-out images of each (empty lists where it has none)."""

    train_a: ImageList
    train_b: ImageList
    test_a: ImageList
    test_b: ImageList

    @property
    def has_pairs(self):
        """Whether the held-out images are pairs: both domains have the same names."""
        return len(self.test_a) > 0 and list(self.test_a.names) == list(self.test_b.names)


def open_dataset(config):
    """The data set that `config.dataset` names: demo, a TFDS name, a folder or a .zip.

    Raises:
      UserError: there is no such set, or a training domain is missing or empty; says where it looked.
    """
    name = config.dataset
    if name == "demo":
        return open_folder(DEMO_DIR)
    if os.path.isdir(name):
        return open_folder(Path(name))
    if os.path.isfile(name):
        return open_zip(Path(name))
    if name in config_lib.TFDS_NAMES:
        from cyclegan_tf.data import tfds_source

        return tfds_source.open_tfds(name, config.data_dir)
    raise UserError(
        f"--dataset={name}: no such folder or .zip, and not one of demo, {', '.join(config_lib.TFDS_NAMES)}"
    )


def open_folder(root):
    """The data set in folder `root`, with trainA and trainB below it, testA and testB if it has held-out images."""
    return _assemble(str(root), {split: _list_folder(root / split) for split in _SPLITS})


def open_zip(path):
    """The data set in a .zip archive, read in place; one folder around trainA and trainB is allowed."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"--dataset={path} is neither a folder nor a readable .zip archive ({error})") from error
    members = sorted(info.filename for info in archive.infolist() if not info.is_dir())
    return _assemble(str(path), {split: _list_zip(path, archive, members, split) for split in _SPLITS})


_SPLITS = ("trainA", "trainB", "testA", "testB")


def _assemble(where, lists):
    for split in ("trainA", "trainB"):
        if not lists[split]:
            raise UserError(
                f"no images in {where}/{split}: a data set has folders trainA and trainB (and testA, testB for "
                f"held-out images) with files ending in {', '.join(images.SUFFIXES)}"
            )
    return UnpairedImages(*(lists[split] for split in _SPLITS))


def is_image_name(path):
    """Whether a relative path names an image: a known suffix, in any case, and no hidden part."""
    path = PurePosixPath(path)
    return path.suffix.lower() in images.SUFFIXES and not any(part.startswith((".", "__MACOSX")) for part in path.parts)


def _list_folder(folder):
    names = []
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders.sort()
        inside = Path(parent).relative_to(folder)
        names.extend(str(inside / file) for file in files if is_image_name((inside / file).as_posix()))
    names.sort()
    return ImageList(str(folder), names, lambda index: (folder / names[index]).read_bytes())


def _list_zip(path, archive, members, split):
    found = []
    for member in members:
        parts = PurePosixPath(member).parts
        if split in parts[:2] and is_image_name(member):
            found.append((str(PurePosixPath(*parts[parts.index(split) + 1 :])), member))
    return ImageList(f"{path}/{split}", [name for name, _ in found], lambda index: archive.read(found[index][1]))
