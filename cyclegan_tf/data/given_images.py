"""Opens a data set from the caller of `cyclegan_tf.fit`: arrays, or a tf.data.Dataset of pairs (A, B)."""

import contextlib
import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import DOMAINS, Direction, Domain
from cyclegan_tf.config.run_options import GIVEN_DATASET
from cyclegan_tf.data import iteration, sources
from cyclegan_tf.data.dataset import ImageDataset, ImageList
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import ranges
from cyclegan_tf.storage import array_files

# Smallest number of pairs of a tf.data.Dataset to keep for sample grids, the page and the measures; a larger
# --n_samples keeps more pairs.
_N_KEPT = 8


def open_given(given: Any, config: Config) -> ImageDataset:
    """Opens the argument `dataset` of `cyclegan_tf.fit`; applies the config's direction, max_dataset_size and paired.

    Raises:
      UserError: `given` is neither a pair nor a tf.data.Dataset, or its images have a wrong shape, dtype or range.
    """
    if isinstance(given, tf.data.Dataset):
        return _open_stream(given, config)
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise UserError(f"dataset is a {type(given).__name__}; give a pair (images of A, images of B) of arrays, or a "
                        "tf.data.Dataset of pairs (A, B). A folder is an option: Config(dataset=...)")
    return _open_arrays(given, config)


def _open_arrays(given: Sequence[Any], config: Config, hash_contents: bool = True) -> ImageDataset:
    # --direction=b2a swaps the domains: the caller's images of A belong to domain B of the config.
    domains: tuple[Domain, Domain] = Direction(config.direction).order(*DOMAINS)
    lists = [
        _list_images(images, own, config.get_channels(domain), config.has_units(domain))
        for images, own, domain in zip(given, DOMAINS, domains, strict=True)
    ]
    lists = [dataclasses.replace(each, hash_contents=hash_contents) for each in lists]
    dataset = ImageDataset(*lists, *(ImageList.empty(GIVEN_DATASET) for _ in lists))
    return sources.select(dataset, config)


def _list_images(images: Any, domain: Domain, channels: int, in_units: bool) -> ImageList:
    """Lists the images of one domain, an array (N, H, W, C) or a sequence of arrays (H, W, C), named by number.

    Images of one channel may be (H, W).

    Args:
      domain: the domain as the caller calls it, for messages.
    """
    if isinstance(images, str) or not (hasattr(images, "__iter__") or hasattr(images, "__getitem__")):
        raise UserError(f"dataset: the type {type(images).__name__} holds no images of {domain.upper()}; give an array "
                        "(N, H, W, C), or a sequence of arrays (H, W, C)")
    checked = [ranges.check_given_image(image, domain, channels, in_units) for image in images]
    if not checked:
        raise UserError(f"dataset: there are no images of {domain.upper()}")
    names = [f"{index:06d}" for index in range(len(checked))]

    def read(index: int) -> bytes:
        return array_files.encode(checked[index])

    return ImageList(f"{GIVEN_DATASET} {domain.upper()}", names, read)


def _open_stream(given: tf.data.Dataset, config: Config) -> ImageDataset:
    spec = given.element_spec
    # The sets of tensorflow-datasets yield labels beside the images, unless the caller removes the labels.
    if not isinstance(spec, tuple) or len(spec) != 2 or not all(isinstance(one, tf.TensorSpec) for one in spec):
        raise UserError(f"dataset yields {spec}; expected pairs (A, B) of images without labels")
    if any(one.shape.rank not in (2, 3, None) for one in spec):
        raise UserError(f"dataset yields {spec}; expected pairs of single images (H, W, C), not of batches: call its "
                        "method unbatch()")
    if config.max_dataset_size:
        raise UserError(f"--max_dataset_size={config.max_dataset_size} has no effect on a tf.data.Dataset; call its "
                        "method take()")
    count = int(given.cardinality())
    if count < 0 and not config.max_steps:
        raise UserError("dataset has an unknown number of elements, so an epoch has no end; set max_steps, or apply "
                        "tf.data.experimental.assert_cardinality to the data set")
    with contextlib.closing(iteration.iterate(given)) as pairs:
        first = [(a.numpy(), b.numpy()) for a, b in itertools.islice(pairs, max(_N_KEPT, config.n_samples))]
    domains: Sequence[Any] = list(zip(*first, strict=True)) or ([], [])
    # A data set that shuffles starts with different images each time.
    opened = _open_arrays(domains, config, hash_contents=False)
    if config.direction == "b2a":
        given = given.map(lambda a, b: (b, a))
    return dataclasses.replace(opened, stream=given, stream_size=max(count, 0))
