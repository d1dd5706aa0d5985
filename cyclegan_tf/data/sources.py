"""Where images come from: the embedded demo set, folders and zip archives, as random-access lists of images."""

import dataclasses
import itertools
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
    """The images of one domain.

    Attributes:
      where: the place they are in, for messages.
      names: of the images, for people and for pairing.
      read: function of an index to that image's encoded bytes.
      half: left or right where each file holds A and B side by side, else empty.
    """

    where: str
    names: Sequence[str]
    read: Callable[[int], bytes]
    half: str = ""

    def __len__(self):
        return len(self.names)

    def load(self, index):
        """The image as uint8 (H, W, 3).

        Raises:
          ValueError, OSError: it cannot be decoded or read; with the reason.
        """
        image = images.decode(self.read(index))
        middle = image.shape[1] // 2
        return {"": image, "left": image[:, :middle], "right": image[:, middle : 2 * middle]}[self.half]


@dataclasses.dataclass(frozen=True)
class ImageDataset:
    """A data set: two training domains and the held-out images of each (empty lists where it has none)."""

    train_a: ImageList
    train_b: ImageList
    test_a: ImageList
    test_b: ImageList

    @property
    def has_pairs(self):
        """Whether the held-out images are pairs: both domains have the same names."""
        return len(self.test_a) > 0 and list(self.test_a.names) == list(self.test_b.names)

    def require_training_pairs(self):
        """Raises a UserError unless the training images are pairs, too."""
        for name_a, name_b in itertools.zip_longest(self.train_a.names, self.train_b.names):
            if name_a != name_b:
                raise UserError(
                    f"--model=pix2pix needs pairs: {name_a or name_b} is only in "
                    f"{(self.train_a if name_a else self.train_b).where}, not in the other domain; give both images of "
                    "a pair one name, or put them side by side into files of a folder train"
                )


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
    """The data set in folder `root`: trainA and trainB below it, testA and testB if it has held-out images.

    Or, as the pix2pix sets have it, train (and test or val) with images that show A on the left and B on the right.
    """
    return _assemble(str(root), lambda split: list_folder(root / split))


def open_zip(path):
    """The data set in a .zip archive, laid out as `open_folder` says and read in place; one top folder is allowed."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"--dataset={path} is neither a folder nor a readable .zip archive ({error})") from error
    members = sorted(info.filename for info in archive.infolist() if not info.is_dir())
    return _assemble(str(path), lambda split: _list_zip(path, archive, members, split))


def _assemble(where, list_split):
    """The data set of the splits that `list_split`, a function of a folder's name to an `ImageList`, finds."""
    train_a, train_b = list_split("trainA"), list_split("trainB")
    side_by_side = list_split("train")
    if side_by_side and not train_a and not train_b:
        held_out = list_split("test") or list_split("val")
        halves = itertools.product((side_by_side, held_out), ("left", "right"))
        return ImageDataset(*(dataclasses.replace(whole, half=half) for whole, half in halves))
    for split, found in (("trainA", train_a), ("trainB", train_b)):
        if not found:
            raise UserError(
                f"no images in {where}/{split}: a data set has folders trainA and trainB (and testA, testB for "
                f"held-out images) with files ending in {', '.join(images.SUFFIXES)}"
            )
    return ImageDataset(train_a, train_b, list_split("testA"), list_split("testB"))


def is_image_name(path):
    """Whether a relative path names an image: a known suffix, in any case, and no hidden part."""
    path = PurePosixPath(path)
    return path.suffix.lower() in images.SUFFIXES and not any(part.startswith((".", "__MACOSX")) for part in path.parts)


def list_folder(folder):
    """The images in a folder (a Path) and its sub-folders, by name."""
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
