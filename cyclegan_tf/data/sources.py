"""Opens the data set that --dataset names: a demo set, a folder, a .zip archive, shards or a TFDS set."""

import dataclasses
import itertools
import os
from collections.abc import Callable
from pathlib import Path

from cyclegan_tf.config import Config
from cyclegan_tf.config.config import GIVEN_DATASET, TFDS_NAMES
from cyclegan_tf.data import pairing, shards
from cyclegan_tf.data.dataset import BadImages, ImageDataset, ImageList
from cyclegan_tf.data.folders import list_archive, list_folder, open_archive
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import codec
from cyclegan_tf.storage import filesystem

# A folder is a data set if it has one of these entries.
_DATASET_ENTRIES = ("trainA", "trainB", "train", shards.INDEX)
DEMO_DIR = Path(__file__).resolve().parent / "demo_images"
DEMO_MAPS_DIR = DEMO_DIR.with_name("demo_maps_images")


def open_dataset(config: Config) -> ImageDataset:
    """Opens `config.dataset` with the config's direction, channels, max_dataset_size, on_bad_image and paired.

    Raises:
      UserError: there is no such data set, or a training domain has no images; the message says where it looked. Or
        --paired=yes, and there are no pairs.
    """
    return select(find_dataset(config.dataset, config.data_dir), config)


def select(dataset: ImageDataset, config: Config) -> ImageDataset:
    """Applies the config's direction, channels, max_dataset_size, on_bad_image and paired to a data set.

    Raises:
      UserError: --paired=yes, and there are no pairs.
    """
    lists = [dataset.train_a, dataset.train_b, dataset.test_a, dataset.test_b]
    if config.direction == "b2a":
        lists = [dataset.train_b, dataset.train_a, dataset.test_b, dataset.test_a]
    bad = BadImages(stop=config.on_bad_image == "error")
    channels = itertools.cycle((config.input_channels, config.output_channels))
    opened = ImageDataset(*(
        dataclasses.replace(found, names=found.names[: config.max_dataset_size or None], channels=number, bad=bad)
        for found, number in zip(lists, channels, strict=False)
    ))
    return pairing.arrange(opened, config)


def find_dataset(name: str, data_dir: str = "") -> ImageDataset:
    """Opens the data set `name`: a demo set, a folder of images or shards, a .zip archive, or a TFDS name.

    Args:
      data_dir: folder of TFDS sets; see `tfds.open_tfds`.

    Raises:
      UserError: as `open_dataset`.
    """
    if name == "demo":
        return open_folder(DEMO_DIR)
    if name == "demo_maps":
        return open_folder(DEMO_MAPS_DIR)
    if name == "demo_pairs":
        return _open_demo_pairs()
    if name == GIVEN_DATASET:
        raise UserError("the images of this run were given to cyclegan_tf.fit and are not stored; name a data set with "
                        "--dataset")
    if filesystem.isdir(name):
        return _open_shards(name) if shards.has_shards(name) else open_folder(name)
    if filesystem.isfile(name):
        archive = open_archive(name)
        return _assemble(name, lambda split: list_archive(archive, split))
    if name in TFDS_NAMES:
        from cyclegan_tf.data import tfds

        return tfds.open_tfds(name, data_dir)
    raise UserError(
        f"--dataset={name}: no such folder or .zip file; expected a path or one of demo, demo_maps, demo_pairs, "
        f"{', '.join(TFDS_NAMES)}"
    )


def _open_demo_pairs() -> ImageDataset:
    """Makes a data set of the test pairs of demo_maps: every fourth place is for testing, the others for training.

    Tile bBLOCK_Y_X.jpg is one of up to four tiles of a block of 256 x 256 pixels. All tiles of a block stay together.
    """
    demo = open_folder(DEMO_MAPS_DIR)
    blocks = [name.split("_")[0] for name in demo.test_a.names]
    places = {block: number for number, block in enumerate(dict.fromkeys(blocks))}
    is_test = [places[block] % 4 == 3 for block in blocks]
    train, test = ([i for i, flag in enumerate(is_test) if flag == wanted] for wanted in (False, True))
    return ImageDataset(
        demo.test_a.subset(train), demo.test_b.subset(train), demo.test_a.subset(test), demo.test_b.subset(test)
    )


def open_parts(name: str, data_dir: str = "", on_bad_image: str = "skip") -> tuple[dict[str, ImageList], BadImages]:
    """Opens a data set, or any folder of images.

    Args:
      data_dir: as for `find_dataset`.
      on_bad_image: skip or error; see `Config`.

    Returns:
      The non-empty lists by name (trainA and so on; the folder's name if the folder is not a data set), and the
      `BadImages` that they share.

    Raises:
      UserError: as `open_dataset`, or the folder has no images.
    """
    bad = BadImages(stop=on_bad_image == "error")
    if filesystem.isdir(name) and not any(_exists(os.path.join(name, entry)) for entry in _DATASET_ENTRIES):
        parts = {os.path.basename(os.path.abspath(name)): list_folder(name)}
        if not any(parts.values()):
            raise UserError(
                f"no images in {name}: no file has an image signature or a suffix of {', '.join(codec.SUFFIXES)}"
            )
    else:
        parts = find_dataset(name, data_dir).parts
    return {part: dataclasses.replace(found, bad=bad) for part, found in parts.items() if found}, bad


def _exists(path: str) -> bool:
    return os.path.lexists(path) or filesystem.exists(path)


def open_folder(root: str | os.PathLike) -> ImageDataset:
    """Opens the data set in folder `root`.

    Its subfolders are trainA and trainB, and optionally testA and testB for held-out images; or train, and optionally
    test or val, with images that show A on the left and B on the right, as the pix2pix sets do.

    Raises:
      UserError: trainA or trainB has no images.
    """
    return _assemble(str(root), lambda split: list_folder(os.path.join(root, split)))


def _open_shards(folder: str) -> ImageDataset:
    parts = shards.open_parts(folder)
    return _assemble(folder, lambda split: parts.get(split) or ImageList.empty(os.path.join(folder, split)))


def _assemble(where: str, list_split: Callable[[str], ImageList]) -> ImageDataset:
    """Makes the data set at `where`; `list_split` lists the images in the subfolder of a given name."""
    train_a, train_b = list_split("trainA"), list_split("trainB")
    if not train_a and not train_b and (train := list_split("train")):
        test = list_split("test") or list_split("val")
        halves = itertools.product((train, test), ("left", "right"))
        return ImageDataset(*(dataclasses.replace(whole, half=half) for whole, half in halves))
    for split, found in (("trainA", train_a), ("trainB", train_b)):
        if not found:
            raise UserError(
                f"no images in {where}/{split}: a data set needs folders trainA and trainB (and testA, testB for "
                f"held-out images) of files with the suffixes {', '.join(codec.SUFFIXES)}"
            )
    return ImageDataset(train_a, train_b, list_split("testA"), list_split("testB"))
