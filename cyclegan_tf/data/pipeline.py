"""Training batches from random-access images, as a pure function of (seed, step).

Position p = step * batch_size + j numbers the images that a run draws from a domain of n images. The image at position
p is number `index_shuffle(p mod n)` in the permutation of pass p // n over the domain, and its crop and flip are drawn
from (seed, p). There is no other state, so a run that resumes at step k sees the same images as an uninterrupted run,
and each domain is passed through in full, independently of the other. Paired images share the draws of domain A.

With N replicas, replica r has the positions (step * N + r) * batch_size + j. Together the replicas see one batch of
N * batch_size images, and each replica can compute its share alone.
"""

import contextlib
import functools
import os
import threading
from collections.abc import Generator, Iterator, Sequence

import numpy as np
import tensorflow as tf

from cyclegan_tf.config import Config, architectures
from cyclegan_tf.config.value_ranges import ValueRange
from cyclegan_tf.data import iteration, spread
from cyclegan_tf.data.dataset import ImageDataset, ImageList
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import codec, ranges, units
from cyclegan_tf.images.stacks import Slice
from cyclegan_tf.ops import exhaustion

# Largest domain that --cache=auto keeps in memory.
AUTO_CACHE_BYTES = 2 * 2**30
# Streams of random numbers. Each has its own seed, derived from the run's seed.
_ORDER_A, _ORDER_B, _AUGMENT_A, _AUGMENT_B, _N_STREAMS = range(5)


class Loader:
    """Loads the images of one position for tf.data's threads.

    Attributes:
      error: the UserError that ended loading, or None.
    """

    error: UserError | None = None


class ImageLoader(Loader):
    """Decodes image i of a domain and resizes it to its size before the random crop. tf.data's threads call it.

    A loader of pairs has two domains and returns image i of both. If an image cannot be decoded, the next image, or the
    next pair, takes its place.

    Args:
      image_lists: the images of one domain, or of two domains whose images are pairs.
      target_size: computes the size to resize an image to.
      cache: auto, memory or off; see `Config`.
      auto_cache_bytes: largest size of all decoded images that cache="auto" keeps in memory.
    """

    def __init__(
        self,
        image_lists: Sequence[ImageList],
        target_size: codec.TargetSize,
        cache: str = "auto",
        auto_cache_bytes: int = AUTO_CACHE_BYTES,
    ) -> None:
        self._lists = image_lists
        self._target_size = target_size
        self._auto_cache_bytes = auto_cache_bytes
        # Bytes left in the cache; None until the first image shows whether the domain fits.
        self._room: float | None = {"auto": None, "memory": float("inf"), "off": 0}[cache]
        self._cached: dict[int, list[np.ndarray]] = {}
        self._lock = threading.Lock()

    def __call__(self, index: int) -> list[np.ndarray]:
        """Returns image `index` of each list, or the next images that can be decoded; dtypes as in `images.ranges`.

        Raises:
          UserError: no image can be decoded, or an image is bad and bad images stop the run.
        """
        count = len(self._lists[0])
        try:
            for offset in range(count):
                images = self._load((index + offset) % count)
                if images is not None:
                    return images
            path, reason = next(iter(self._lists[0].bad.reasons.items()))
            what = "images" if len(self._lists) == 1 else "pairs"
            raise UserError(f"none of the {count} {what} in {self._lists[0].where} can be read: {path}: {reason}")
        except UserError as error:
            # tf.data passes on only the text of an exception; `read_batches` raises the exception itself.
            self.error = error
            raise

    def _load(self, index: int) -> list[np.ndarray] | None:
        if index in self._cached:
            return self._cached[index]
        images: list[np.ndarray] = []
        for image_list in self._lists:
            image = image_list.load(index, self._target_size)
            if image is None:
                return None
            images.append(image)
            if image.shape[:2] != images[0].shape[:2]:
                image_list.bad.add(image_list.path(index), describe_size_mismatch(image, images[0]))
                return None
        self._cache(index, images)
        return images

    def _cache(self, index: int, images: list[np.ndarray]) -> None:
        size = sum(image.nbytes for image in images)
        with self._lock:
            if self._room is None:
                # Cache all images or none, so that a large domain takes no memory.
                fits = size * len(self._lists[0]) <= self._auto_cache_bytes
                self._room = self._auto_cache_bytes if fits else 0
            if size <= self._room and index not in self._cached:
                self._room -= size
                self._cached[index] = images


class StreamLoader(Loader):
    """Checks and resizes the images of a pair (A, B) that a tf.data.Dataset yields.

    Args:
      config: the preprocessing options, the channels, and whether both images of a pair must have one size.
    """

    def __init__(self, config: Config) -> None:
        self._config = config

    def __call__(self, *pair: np.ndarray) -> list[np.ndarray]:
        """Returns both images before their crop; dtypes as in `images.ranges`.

        Raises:
          UserError: an image has a wrong shape, dtype or range.
        """
        config, images = self._config, []
        numbers = (config.input_channels, config.output_channels)
        try:
            for image, domain, channels in zip(pair, "AB", numbers, strict=True):
                limits = config.get_range(domain.lower())
                checked = ranges.check_given_image(image, domain, channels, in_units=limits is not None)
                if limits is not None:
                    checked = _normalize_given(checked, limits, domain)
                images.append(codec.resize(checked, *compute_training_size(config, *checked.shape[:2])))
            if config.trains_on_pairs and images[0].shape[:2] != images[1].shape[:2]:
                raise UserError(f"dataset: {describe_size_mismatch(*images[::-1])}")
            return images
        except UserError as error:
            self.error = error
            raise


def _normalize_given(image: np.ndarray, limits: ValueRange, domain: str) -> np.ndarray:
    try:
        return units.normalize(Slice(image), limits)[0]
    except ValueError as error:
        raise UserError(f"dataset: an image of {domain} cannot be used: {error}") from error


def describe_size_mismatch(image: np.ndarray, other: np.ndarray) -> str:
    """The reason why two images (H, W, C) of different sizes are not a pair; `other` is from the other domain."""
    (height, width), (other_height, other_width) = image.shape[:2], other.shape[:2]
    return f"not a pair: {width} x {height} pixels, {other_width} x {other_height} in the other domain"


def compute_training_size(config: Config, height: int, width: int) -> tuple[int, int]:
    """Computes the (height, width) of a training image before its random crop.

    As the authors' get_transform, except that an image too small for the crop is enlarged until the crop fits. Without
    a crop, sizes are rounded to multiples of what the generator accepts (4 pixels for a ResNet), and images too small
    for the discriminator are enlarged.
    """
    height, width = _scale_size(config, height, width)
    if config.crops:
        return height, width
    return _round_size(config, height, width, architectures.smallest_size(config))


def _round_size(config: Config, height: int, width: int, smallest: int) -> tuple[int, int]:
    """Rounds a size to multiples of what the generator accepts, and to at least `smallest`."""
    multiple = architectures.size_multiple(config)
    fewest = -(-smallest // multiple)
    return multiple * max(fewest, round(height / multiple)), multiple * max(fewest, round(width / multiple))


def _scale_size(config: Config, height: int, width: int) -> tuple[int, int]:
    load, crop = config.load_size, config.crop_size
    if config.preprocess == "resize_and_crop":
        return load, load
    if config.preprocess.startswith("scale_width"):
        # As the authors: truncate, and enlarge images that are too flat to crop_size.
        return max(int(load * height / width), crop), load
    if config.preprocess.startswith("scale_shortside"):
        return round(load * height / min(height, width)), round(load * width / min(height, width))
    if config.crops:
        scale = max(1.0, crop / min(height, width))
        return max(crop, round(height * scale)), max(crop, round(width * scale))
    return height, width


def compute_test_size(config: Config, height: int, width: int) -> tuple[int, int]:
    """Computes the (height, width) of a test image: the whole image, at the scale of the training crops."""
    if config.preprocess == "resize_and_crop":
        return config.crop_size, config.crop_size
    height, width = _scale_size(config, height, width)
    return (height, width) if config.crops else _round_size(config, height, width, architectures.SMALLEST_SIZE)


def make_batches(
    dataset: ImageDataset,
    config: Config,
    first_step: int,
    last_step: int,
    local: range = range(1),
    n_replicas: int = 1,
) -> tuple[tf.data.Dataset, Sequence[Loader]]:
    """Makes the training batches of steps first_step to last_step - 1.

    Args:
      local: the numbers of the replicas whose batches to make. A step has one batch for each of them, in this order.
      n_replicas: total number of replicas.

    Returns:
      A tf.data.Dataset of pairs (a, b) of float32 (batch_size, crop_size, crop_size, C) in [-1, 1] (height and width
      vary if the preprocessing does not crop), and its loaders, for `read_batches`.
    """
    loaders: Sequence[Loader]
    if dataset.stream is None:
        stream, loaders = _read_lists(dataset, config, first_step, last_step, local, n_replicas)
    else:
        stream, loaders = _read_stream(dataset, config, first_step, last_step, local, n_replicas)
    if config.batch_size > 1:
        stream = stream.batch(config.batch_size, drop_remainder=True)
    # The autotuning thread sleeps for up to a minute, and an iterator cannot end before the thread wakes up.
    options = tf.data.Options()
    options.autotune.enabled = False
    return stream.prefetch(2).with_options(options), loaders


def _read_lists(
    dataset: ImageDataset, config: Config, first_step: int, last_step: int, local: range, n_replicas: int
) -> tuple[tf.data.Dataset, Sequence[Loader]]:
    """The training images of the local replicas, one after the other, from the lists of a data set."""
    lists = (dataset.train_a, dataset.train_b)
    domains: list[tuple[Sequence[ImageList], int, int]] = [(lists, _ORDER_A, _AUGMENT_A)]
    if not config.trains_on_pairs:
        domains = [(lists[:1], _ORDER_A, _AUGMENT_A), (lists[1:], _ORDER_B, _AUGMENT_B)]
    target_size = functools.partial(compute_training_size, config)
    loaders = [ImageLoader(domain, target_size, config.cache) for domain, _, _ in domains]

    def load(*draws: np.ndarray) -> list[np.ndarray]:
        # One call for all domains, because each call from tf.data costs 0.1 ms.
        return [
            ranges.to_float(_augment(image, config, *shares))
            for loader, index, shares in zip(loaders, draws[::2], draws[1::2], strict=True)
            for image in loader(int(index))
        ]

    @tf.autograph.experimental.do_not_convert
    def sample(position: tf.Tensor) -> tuple[tf.Tensor, ...]:
        draws = [
            value
            for domain, *streams in domains
            for value in _draw(position, len(domain[0]), config.seed, *streams)
        ]
        return _finish(config, tf.numpy_function(load, draws, [tf.float32] * 2, stateful=False))

    n_local, n_total = len(local) * config.batch_size, n_replicas * config.batch_size
    positions = tf.data.Dataset.range(first_step * n_local, last_step * n_local)
    if n_local != n_total:
        first = local.start * config.batch_size
        positions = positions.map(lambda count: count // n_local * n_total + first + count % n_local)
    return positions.map(sample, num_parallel_calls=os.cpu_count(), deterministic=True), loaders


def _read_stream(
    dataset: ImageDataset, config: Config, first_step: int, last_step: int, local: range, n_replicas: int
) -> tuple[tf.data.Dataset, Sequence[Loader]]:
    """The training images of the local replicas, one after the other, from the stream of a data set.

    Skips the images of the steps before `first_step`. Crops and flips depend on (seed, position) only.
    """
    loader = StreamLoader(config)

    def load(a: np.ndarray, b: np.ndarray, *shares: np.ndarray) -> list[np.ndarray]:
        return [
            ranges.to_float(_augment(image, config, *own)) for image, own in zip(loader(a, b), shares, strict=True)
        ]

    @tf.autograph.experimental.do_not_convert
    def sample(position: tf.Tensor, pair: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        streams = (_AUGMENT_A, _AUGMENT_A if config.trains_on_pairs else _AUGMENT_B)
        shares = [_draw_shares(position, config.seed, stream) for stream in streams]
        return _finish(config, tf.numpy_function(load, [*pair, *shares], [tf.float32] * 2, stateful=False))

    assert dataset.stream is not None
    n_total = n_replicas * config.batch_size
    first, last = first_step * n_total, last_step * n_total
    # Whole passes are skipped one by one, because each pass may have another order.
    numbered = tf.data.Dataset.zip((tf.data.Dataset.range(first, last), dataset.stream.repeat().skip(first)))
    if len(local) != n_replicas:
        numbered = numbered.filter(lambda position, pair: tf.reduce_any(
            position % n_total // config.batch_size == tf.range(local.start, local.stop, dtype=tf.int64)
        ))
    return numbered.map(sample, num_parallel_calls=os.cpu_count(), deterministic=True), [loader]


def _finish(config: Config, images: Sequence[tf.Tensor]) -> tuple[tf.Tensor, ...]:
    """Sets the shapes of an image of each domain, (H, W, C)."""
    side = config.crop_size if config.crops else None
    for image, channels in zip(images, (config.input_channels, config.output_channels), strict=True):
        image.set_shape((side, side, channels))
    # Adding a dimension makes a batch of one without a copy.
    return tuple(image[tf.newaxis] for image in images) if config.batch_size == 1 else tuple(images)


def read_batches(
    stream: tf.data.Dataset, loaders: Sequence[Loader]
) -> Generator[tuple[tf.Tensor, tf.Tensor], None, None]:
    """Yields the batches of the dataset that `make_batches` returns with `loaders`.

    Always close the generator; `iteration.iterate` says why.

    Raises:
      UserError: a loader failed, or memory is exhausted.
    """
    with contextlib.closing(iteration.iterate(stream)) as batches:
        try:
            yield from batches
        except tf.errors.OpError as error:
            if exhaustion.is_exhausted(error):
                raise UserError("loading training images needs more memory than there is: lower --load_size or "
                                "--batch_size, or use --cache=off") from error
            for loader in loaders:
                if loader.error:
                    raise loader.error from error
            raise


def count_steps(epochs: int, images_per_epoch: int, batch_size: int) -> int:
    """Counts the steps of `epochs` passes over the larger domain, rounded up to whole batches."""
    return -(-epochs * images_per_epoch // batch_size)


def _make_seed(seed: int, stream: int, counter: tf.Tensor) -> tf.Tensor:
    return tf.stack([tf.constant(seed * _N_STREAMS + stream, tf.int64), counter])


def _draw(
    position: tf.Tensor, count: int, seed: int, order_stream: int, augment_stream: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws the index of the image at `position` in a domain of `count` images, and three shares for `_augment`."""
    index = tf.random.experimental.index_shuffle(
        position % count, _make_seed(seed, order_stream, position // count), tf.constant(count - 1, tf.int64)
    )
    return index, _draw_shares(position, seed, augment_stream)


def _draw_shares(position: tf.Tensor, seed: int, stream: int) -> tf.Tensor:
    return tf.random.stateless_uniform((3,), _make_seed(seed, stream, position))


def _augment(image: np.ndarray, config: Config, top: float, left: float, mirror: float) -> np.ndarray:
    """Crops and mirrors an image as the config says.

    A center crop rounds as PyTorch's CenterCrop does: half of the margin, with halves rounded to even.

    Args:
      top, left: position of a random crop, as shares in [0, 1) of the possible offsets.
      mirror: below 0.5 to mirror the image left to right, in [0, 1).
    """
    if config.crops:
        size = config.crop_size
        n_offsets = np.array(image.shape[:2], np.int32) - size + 1
        if config.crop == "center":
            y, x = np.rint((n_offsets - 1) / 2).astype(np.int32)
        else:
            # The float32 product may round up to n_offsets.
            offsets = (np.stack([top, left]) * n_offsets.astype(np.float32)).astype(np.int32)
            y, x = np.minimum(offsets, n_offsets - 1)
        image = image[y : y + size, x : x + size]
    if config.flip and mirror < 0.5:
        mirrored = np.empty_like(image)
        # Three times as fast as copying image[:, ::-1], whose innermost loop runs over the few channels.
        for channel in range(image.shape[-1]):
            mirrored[..., channel] = image[:, ::-1, channel]
        return mirrored
    return image


def load_test_image(image_list: ImageList, config: Config, index: int) -> np.ndarray | None:
    """Loads test image `index`, whole and resized, of a dtype of `images.ranges`; None if the image cannot be used."""
    return image_list.load(index, functools.partial(compute_test_size, config))


def load_test_images(image_list: ImageList, config: Config) -> Iterator[np.ndarray | None]:
    """Yields all test images of a list as `load_test_image` returns them."""
    return (load_test_image(image_list, config, index) for index in range(len(image_list)))


def load_test_rows(
    image_lists: Sequence[ImageList], config: Config, limit: int
) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Yields (index, image `index` of each list) for up to `limit` indices that `spread.load` chooses."""

    def load(index: int) -> list[np.ndarray] | None:
        row = [load_test_image(image_list, config, index) for image_list in image_lists]
        good = [image for image in row if image is not None]
        return good if len(good) == len(row) else None

    return spread.load(min(map(len, image_lists)), limit, load)
