"""Data sets: the embedded demo, folders, zip archives and TFDS sets as random-access lists of images."""

import dataclasses
import itertools
import os
from pathlib import Path

from cyclegan_tf.config import config as config_lib
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.data import shards
from cyclegan_tf.data.dataset import BadImages, ImageDataset, ImageList
from cyclegan_tf.data.folders import list_archive, list_folder, open_archive
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import codec
from cyclegan_tf.storage import filesystem

_MARKS = ("trainA", "trainB", "train", shards.INDEX)  # What is in the folder of a data set.
DEMO_DIR = Path(__file__).resolve().parent / "demo_images"


def open_dataset(config):
    """The data set that `config.dataset` names, with the config's direction, channels, size and treatment of bad files.

    Raises:
      UserError: there is no such set, or a training domain is missing or empty; says where it looked.
    """
    found = find_dataset(config.dataset, config.data_dir)
    parts = [found.train_a, found.train_b, found.test_a, found.test_b]
    if config.direction == Direction.B2A:
        parts = [found.train_b, found.train_a, found.test_b, found.test_a]
    bad = BadImages(stop=config.on_bad_image == "error")
    channels = itertools.cycle((config.input_channels, config.output_channels))
    return ImageDataset(*(
        dataclasses.replace(part, names=part.names[: config.max_dataset_size or None], channels=number, bad=bad)
        for part, number in zip(parts, channels, strict=False)
    ))


def find_dataset(name, data_dir=""):
    """The data set `name` as it is: demo, demo_pairs, a folder of images or shards, a .zip, or a TFDS name.

    Raises as `open_dataset`.
    """
    if name == "demo":
        return open_folder(DEMO_DIR)
    if name == "demo_pairs":
        return _demo_pairs()
    if filesystem.isdir(name):
        return _open_shards(name) if shards.has_shards(name) else open_folder(name)
    if filesystem.isfile(name):
        archive = open_archive(name)
        return _assemble(name, lambda split: list_archive(archive, split))
    if name in config_lib.TFDS_NAMES:
        from cyclegan_tf.data import tfds

        return tfds.open_tfds(name, data_dir)
    raise UserError(
        f"--dataset={name}: no such folder or .zip, and not one of demo, demo_pairs, "
        f"{', '.join(config_lib.TFDS_NAMES)}"
    )


def _demo_pairs():
    """The demo's held-out pairs as a set of their own: three of four places to train on, the fourth held out.

    A place is a block of 256 x 256 pixels, from which up to four tiles are cut: bBLOCK_Y_X.jpg.
    """
    whole = open_folder(DEMO_DIR)
    blocks = [name.split("_")[0] for name in whole.test_a.names]
    place = {block: number for number, block in enumerate(dict.fromkeys(blocks))}
    held_out = [place[block] % 4 == 3 for block in blocks]
    splits = [[i for i, out in enumerate(held_out) if out == wanted] for wanted in (False, True)]
    return ImageDataset(*(part.subset(chosen) for chosen in splits for part in (whole.test_a, whole.test_b)))


def open_parts(name, data_dir=""):
    """The images of a data set by part (trainA ...), or of any folder or archive as one part, and their `BadImages`.

    Raises:
      UserError: as `open_dataset`; or there are no images at all.
    """
    bad = BadImages()
    if filesystem.isdir(name) and not any(_exists(os.path.join(name, part)) for part in _MARKS):
        parts = {os.path.basename(os.path.abspath(name)): list_folder(name)}
        if not any(parts.values()):
            raise UserError(f"no images in {name}: no file ends in {', '.join(codec.SUFFIXES)} or begins as an image")
    else:
        dataset = find_dataset(name, data_dir)
        parts = dict(zip(("trainA", "trainB", "testA", "testB"), vars(dataset).values(), strict=True))
    return {part: dataclasses.replace(found, bad=bad) for part, found in parts.items() if found}, bad


def _exists(path):
    return os.path.lexists(path) or filesystem.exists(path)


def open_folder(root):
    """The data set in folder `root`: trainA and trainB below it, testA and testB if it has held-out images.

    Or, as the pix2pix sets have it, train (and test or val) with images that show A on the left and B on the right.
    """
    return _assemble(str(root), lambda split: list_folder(os.path.join(root, split)))


def _open_shards(folder):
    parts = shards.open_parts(folder)
    return _assemble(folder, lambda split: parts.get(split) or ImageList(os.path.join(folder, split), [], None))


def _assemble(where, list_split):
    """The data set of the splits that `list_split`, a function of a folder's name to an `ImageList`, finds."""
    train_a, train_b = list_split("trainA"), list_split("trainB")
    if not train_a and not train_b and (side_by_side := list_split("train")):
        held_out = list_split("test") or list_split("val")
        halves = itertools.product((side_by_side, held_out), ("left", "right"))
        return ImageDataset(*(dataclasses.replace(whole, half=half) for whole, half in halves))
    for split, found in (("trainA", train_a), ("trainB", train_b)):
        if not found:
            raise UserError(
                f"no images in {where}/{split}: a data set has folders trainA and trainB (and testA, testB for "
                f"held-out images) with files ending in {', '.join(codec.SUFFIXES)}"
            )
    return ImageDataset(train_a, train_b, list_split("testA"), list_split("testB"))
