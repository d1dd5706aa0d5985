"""Training batches from random-access images, as a pure function of (seed, step).

Position p = step * batch_size + j numbers the images that a run draws from a domain of n images. The image at position
p is number `index_shuffle(p mod n)` in the permutation of pass p // n over the domain, and its crop and flip are drawn
from (seed, p). There is no other state, so a run that resumes at step k sees the same images as an uninterrupted run.
Each domain makes full passes, independently of the other domain. Paired images share the draws of domain A.

With N replicas, replica r has the positions (step * N + r) * batch_size + j. Together the replicas see one batch of
N * batch_size images, and each replica can compute its share alone.
"""

import contextlib
import functools
import os
from collections.abc import Generator, Sequence

import numpy as np
import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import DOMAINS
from cyclegan_tf.data import iteration, sizes
from cyclegan_tf.data.dataset import ImageDataset, ImageList
from cyclegan_tf.data.loaders import ImageLoader, Loader, StreamLoader
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import ranges
from cyclegan_tf.ops import exhaustion

# Streams of random numbers. Each has its own seed, derived from the run's seed.
_ORDER_A, _ORDER_B, _AUGMENT_A, _AUGMENT_B, _N_STREAMS = range(5)


def make_batches(
    dataset: ImageDataset,
    config: Config,
    first_step: int,
    end_step: int,
    local: range = range(1),
    n_replicas: int = 1,
) -> tuple[tf.data.Dataset, Sequence[Loader]]:
    """Makes the training batches of steps first_step to end_step - 1.

    Args:
      local: the numbers of the replicas whose batches to make. A step has one batch for each of them, in this order.
      n_replicas: total number of replicas.

    Returns:
      A tf.data.Dataset of pairs (a, b) of float32 (batch_size, crop_size, crop_size, C) in [-1, 1] (height and width
      vary if the preprocessing does not crop), and its loaders, for `read_batches`.
    """
    loaders: Sequence[Loader]
    if dataset.stream is None:
        stream, loaders = _read_lists(dataset, config, first_step, end_step, local, n_replicas)
    else:
        stream, loaders = _read_stream(dataset, config, first_step, end_step, local, n_replicas)
    if config.batch_size > 1:
        stream = stream.batch(config.batch_size, drop_remainder=True)
    # The autotuning thread sleeps for up to a minute, and an iterator cannot end before the thread wakes up.
    options = tf.data.Options()
    options.autotune.enabled = False
    return stream.prefetch(2).with_options(options), loaders


def _read_lists(
    dataset: ImageDataset, config: Config, first_step: int, end_step: int, local: range, n_replicas: int
) -> tuple[tf.data.Dataset, Sequence[Loader]]:
    """Makes a data set of the training images of the local replicas, one by one, from the lists of a data set."""
    lists = (dataset.train_a, dataset.train_b)
    domains: list[tuple[Sequence[ImageList], int, int]] = [(lists, _ORDER_A, _AUGMENT_A)]
    if not config.trains_on_pairs:
        domains = [(lists[:1], _ORDER_A, _AUGMENT_A), (lists[1:], _ORDER_B, _AUGMENT_B)]
    target_size = functools.partial(sizes.compute_training_size, config)
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
    positions = tf.data.Dataset.range(first_step * n_local, end_step * n_local)
    if n_local != n_total:
        first = local.start * config.batch_size
        positions = positions.map(lambda count: count // n_local * n_total + first + count % n_local)
    return positions.map(sample, num_parallel_calls=os.cpu_count(), deterministic=True), loaders


def _read_stream(
    dataset: ImageDataset, config: Config, first_step: int, end_step: int, local: range, n_replicas: int
) -> tuple[tf.data.Dataset, Sequence[Loader]]:
    """Makes a data set of the training images of the local replicas, one by one, from the stream of a data set.

    Skips the images of the steps before `first_step`. Crops and flips depend on (seed, position) only.
    """
    loader = StreamLoader(config, dataset.bad)

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
    first, last = first_step * n_total, end_step * n_total
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
    for image, domain in zip(images, DOMAINS, strict=True):
        image.set_shape((side, side, config.get_channels(domain)))
    # Adding a dimension makes a batch of one without a copy.
    return tuple(image[tf.newaxis] for image in images) if config.batch_size == 1 else tuple(images)


def read_batches(
    stream: tf.data.Dataset, loaders: Sequence[Loader]
) -> Generator[tuple[tf.Tensor, tf.Tensor], None, None]:
    """Yields the batches of the dataset that `make_batches` returns with `loaders`.

    Always close the generator; `iteration.iterate` says why.

    Raises:
      UserError: a loader failed, or memory is exhausted.
      OSError: a bad image cannot be recorded, for example because the disk is full.
    """
    with contextlib.closing(iteration.iterate(stream)) as batches:
        try:
            yield from batches
        except tf.errors.OpError as error:
            if exhaustion.is_exhausted(error):
                raise UserError("loading training images ran out of memory: lower --load_size or --batch_size, or use "
                                "--cache=off") from error
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
        # Three times as fast as a copy of image[:, ::-1], which has an innermost loop over only a few channels.
        for channel in range(image.shape[-1]):
            mirrored[..., channel] = image[:, ::-1, channel]
        return mirrored
    return image
