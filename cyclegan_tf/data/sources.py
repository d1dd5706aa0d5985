"""Opens the data set that --dataset names: a demo set, a folder, a .zip archive, shards or a TFDS set."""

import dataclasses
import itertools
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import DOMAINS, Domain
from cyclegan_tf.config.run_options import CONVERTED_DATASET, GIVEN_DATASET, TFDS_NAMES
from cyclegan_tf.data import pairing, shards, slices
from cyclegan_tf.data.bad_images import BadImages
from cyclegan_tf.data.dataset import MASKS, ImageDataset, ImageList, PairMasks
from cyclegan_tf.data.folders import list_archive, list_folder, open_archive
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import stacks, suffixes
from cyclegan_tf.storage import filesystem

log = logging.getLogger("cyclegan_tf")

# A folder is a data set if it has one of these entries.
_DATASET_ENTRIES = ("trainA", "trainB", "train", shards.INDEX)
DEMO_DIR = Path(__file__).resolve().parent / "demo_images"
DEMO_MAPS_DIR = DEMO_DIR.with_name("demo_maps_images")
# The demo sets and the folders with their images.
_DEMOS = {"demo": DEMO_DIR, "demo_maps": DEMO_MAPS_DIR, "demo_pairs": DEMO_MAPS_DIR}


def open_dataset(config: Config, needs_training: bool = True) -> ImageDataset:
    """Opens `config.dataset` with the config's direction, channels, max_dataset_size, on_bad_image and paired.

    Args:
      needs_training: whether each domain needs training images; if not, held-out images are enough.

    Raises:
      UserError: there is no such data set, a domain has no images (the message names the folders), or --paired=yes is
        set and there are no pairs.
    """
    return select(find_dataset(config.dataset, config.data_dir, needs_training), config)


def select(dataset: ImageDataset, config: Config) -> ImageDataset:
    """Applies the config's direction, channels, ranges, max_dataset_size, on_bad_image and paired to a data set.

    Files of several slices become their slices.

    Raises:
      UserError: --paired=yes is set and there are no pairs, or no slice of a list has content.
    """
    lists = [dataset.train_a, dataset.train_b, dataset.test_a, dataset.test_b]
    if config.direction == "b2a":
        lists = [dataset.train_b, dataset.train_a, dataset.test_b, dataset.test_a]
    bad = BadImages(stop=config.on_bad_image == "error")
    train_a, train_b, test_a, test_b = (
        dataclasses.replace(found, bad=bad, **_describe_domain(config, domain))
        for found, domain in zip(lists, DOMAINS * 2, strict=True)
    )
    train = _expand(config, train_a, train_b, may_be_pairs=config.trains_on_pairs)
    tests = _expand(config, test_a, test_b, may_be_pairs=config.paired != "no")
    for found, slices_found in zip((train_a, train_b, test_a, test_b), (*train, *tests), strict=True):
        if found and not slices_found:
            raise UserError(f"no slice of the volumes in {found.where} has the content that --min_content="
                            f"{config.min_content:g} asks for; give a lower --min_content, or 0 for all slices")
    masks = dataset.masks
    if masks:
        images = dataclasses.replace(masks.images, channels=1, bad=bad)
        options = dataclasses.replace(stacks.make_options(config, "a"), channels=1, in_units=True)
        masks = PairMasks(slices.expand(images, options))
    return pairing.arrange(ImageDataset(*train, *tests, masks=masks), config)


def _expand(
    config: Config, list_a: ImageList, list_b: ImageList, may_be_pairs: bool
) -> tuple[ImageList, ImageList]:
    """Replaces files of slices of both domains with their slices that have content.

    For pairs, the content of the slices of A decides which slices of both domains stay.
    """
    limit = config.max_dataset_size
    list_a = slices.expand(list_a, stacks.make_options(config, "a", config.min_content), limit)
    if may_be_pairs:
        all_of_b = slices.expand(list_b, stacks.make_options(config, "b"))
        are_pairs = bool(pairing.match_names(list_a.names, all_of_b.names))
        kept = pairing.drop_skipped_slices(list_a, all_of_b) if are_pairs else all_of_b
        # In formats other than NIfTI, all slices have content.
        may_lack_content = config.min_content and any(suffixes.match(name, suffixes.NIFTI) for name in list_b.names)
        if are_pairs or not may_lack_content:
            return list_a, dataclasses.replace(kept, names=kept.names[: limit or None])
    return list_a, slices.expand(list_b, stacks.make_options(config, "b", config.min_content), limit)


def _describe_domain(config: Config, domain: Domain) -> dict[str, Any]:
    """Returns the config's channels and value range of a domain, as fields of an `ImageList`."""
    return {"channels": config.get_channels(domain), "value_range": config.get_range(domain)}


def find_dataset(name: str, data_dir: str = "", needs_training: bool = True) -> ImageDataset:
    """Opens the data set `name`: a demo set, a folder of images or shards, a .zip archive, or a TFDS name.

    Args:
      data_dir: folder of TFDS sets; see `tfds.open_tfds`.
      needs_training: as in `open_dataset`.

    Raises:
      UserError: as in `open_dataset`.
    """
    if name in _DEMOS:
        if any(os.path.exists(os.path.join(name, entry)) for entry in (*_DATASET_ENTRIES, "testA")):
            log.warning("--dataset=%s is the data set in the package; give ./%s for the folder here", name, name)
        return _open_demo_pairs() if name == "demo_pairs" else open_folder(_DEMOS[name])
    if name == GIVEN_DATASET:
        raise UserError("the images of this run were given to cyclegan_tf.fit and are not stored; give others with "
                        "--dataset=FOLDER")
    if name == CONVERTED_DATASET:
        raise UserError("the data set of this run is unknown, because the run was converted from .pth files; give "
                        "--dataset=FOLDER")
    if filesystem.isdir(name):
        return _open_shards(name, needs_training) if shards.has_shards(name) else open_folder(name, needs_training)
    if filesystem.isfile(name):
        archive = open_archive(name)
        return _assemble(name, lambda split: list_archive(archive, split), needs_training)
    if name in TFDS_NAMES:
        from cyclegan_tf.data import tfds

        return tfds.open_tfds(name, data_dir)
    raise UserError(
        f"--dataset={name}: no such folder or .zip file; expected a path or one of "
        f"{', '.join((*_DEMOS, *TFDS_NAMES))}"
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
      data_dir: as in `find_dataset`.
      on_bad_image: skip or error; see `Config`.

    Returns:
      The non-empty lists by name (trainA and so on; the folder's name if the folder is not a data set), and the
      `BadImages` that they share.

    Raises:
      UserError: as `open_dataset`, or the folder has no images.
    """
    bad = BadImages(stop=on_bad_image == "error")
    is_folder = filesystem.isdir(name) and not shards.has_shards(name)
    if is_folder and not any(_exists(os.path.join(name, entry)) for entry in _DATASET_ENTRIES):
        parts = {os.path.basename(os.path.abspath(name)): list_folder(name)}
        if not any(parts.values()):
            raise UserError(
                f"no images in {name}: no file has an image signature or a suffix of {', '.join(suffixes.ALL)}"
            )
    else:
        parts = find_dataset(name, data_dir).parts
    return {part: dataclasses.replace(found, bad=bad) for part, found in parts.items() if found}, bad


def _exists(path: str) -> bool:
    return os.path.lexists(path) or filesystem.exists(path)


def open_folder(root: str | os.PathLike, needs_training: bool = True) -> ImageDataset:
    """Opens the data set in folder `root`.

    The subfolders are trainA and trainB, and optionally testA and testB for held-out images. In a data set like those
    of pix2pix, the subfolders are train, and optionally test or val, of images that show A on the left and B on the
    right.

    Args:
      needs_training: as in `open_dataset`.

    Raises:
      UserError: a domain has no images.
    """
    return _assemble(str(root), lambda split: list_folder(os.path.join(root, split)), needs_training)


def _open_shards(folder: str, needs_training: bool) -> ImageDataset:
    parts = shards.open_parts(folder)

    def list_split(split: str) -> ImageList:
        return parts.get(split) or ImageList.empty(os.path.join(folder, split))

    return _assemble(folder, list_split, needs_training)


def _require_side_by_side(images: ImageList) -> None:
    """Raises a UserError if the folder of `images`, which should show A and B side by side, has folders A and B."""
    tops = {name.split("/")[0] for name in images.names if "/" in name}
    if len(tops) == 2 and {top.upper() for top in tops} == {"A", "B"}:
        a, b = sorted(tops, key=str.upper)
        raise UserError(f"{images.where} has folders {a} and {b}, but each image in {images.where} must show A and B "
                        "side by side; move them to the folders trainA and trainB, or testA and testB, of the data set")


def _assemble(where: str, list_split: Callable[[str], ImageList], needs_training: bool) -> ImageDataset:
    """Makes the data set at `where`; `list_split` lists the images in the subfolder of a given name."""
    lists = [list_split(split) for split in ("trainA", "trainB", "testA", "testB")]
    given = lists[:2] if needs_training else lists
    found = list_split(MASKS)
    masks = PairMasks(found) if found else None
    if not any(given):
        train, test = list_split("train"), list_split("test") or list_split("val")
        for images in (train, test):
            _require_side_by_side(images)
        if train or (test and not needs_training):
            halves = itertools.product((train, test), ("left", "right"))
            return ImageDataset(*(dataclasses.replace(whole, half=half) for whole, half in halves), masks=masks)
    for domain, train, test in zip("AB", lists[:2], lists[2:], strict=True):
        if train or (test and not needs_training):
            continue
        folders = "trainA and trainB (and testA, testB for held-out images)"
        if not needs_training:
            folders = "testA and testB, or trainA and trainB,"
        missing = f"{where}/train{domain}" if needs_training else f"{where}/test{domain} and {where}/train{domain}"
        parent, name = os.path.split(where.rstrip("/"))
        if name in ("trainA", "trainB", "testA", "testB"):
            raise UserError(f"{where} is one folder of a data set; give the folder that holds {name}: {parent or '.'}")
        raise UserError(
            f"no images in {missing}: a data set needs folders {folders} of files with the suffixes "
            f"{', '.join(suffixes.ALL)}"
        )
    return ImageDataset(*lists, masks=masks)
