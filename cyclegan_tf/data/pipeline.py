"""From random-access images to training batches, as a pure function of (seed, step).

Position p = step * batch_size + j counts the images that a run has drawn from a domain of n images. Its image is
number `index_shuffle(p mod n)` of the permutation that belongs to pass p // n over the domain, its crop and flip are
drawn from (seed, p). Nothing else is remembered, so a run resumed at step k sees what an uninterrupted one would have
seen, and each domain is passed through in full, independently of the other. Of pairs B takes A's draws.

Of N replicas number r has the positions (step * N + r) * batch_size + j: all together those of one batch of
N * batch_size images, and each can be computed where it is needed.
"""

import os
import threading

import numpy as np
import tensorflow as tf

from cyclegan_tf.config import architectures
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import ranges

_CACHE_BYTES = 2 * 2**30
# Streams of random numbers; each has its own seed, derived from the run's.
_ORDER_A, _ORDER_B, _AUGMENT_A, _AUGMENT_B, _N_STREAMS = range(5)


class ImageLoader:
    """Decodes image i of a domain and gives it the size it has before the random crop; called by tf.data's threads.

    For pairs it has both domains, and images i of both belong together. Where an image cannot be decoded the next one,
    or the next pair, takes its place.

    Args:
      image_lists: the domain, or the two whose images are pairs.
      target_size: function of (height, width) to the (height, width) that images are resized to.
      cache: auto, memory or off, as in the Config.
    """

    def __init__(self, image_lists, target_size, cache="auto"):
        self.error = None
        self._lists = image_lists
        self._target_size = target_size
        self._room = {"auto": None, "memory": float("inf"), "off": 0}[cache]
        self._cached = {}
        self._lock = threading.Lock()

    def __call__(self, index):
        """The images of number `index`, one of each list, in the kinds of `images`; or the next that can be decoded."""
        index, count = int(index), len(self._lists[0])
        try:
            for offset in range(count):
                found = self._load((index + offset) % count)
                if found is not None:
                    return found
            path, reason = next(iter(self._lists[0].bad.reasons.items()))
            what = "images" if len(self._lists) == 1 else "pairs"
            raise UserError(f"none of the {count} {what} in {self._lists[0].where} can be read: {path}: {reason}")
        except UserError as error:
            # tf.data passes on only the text of an exception, so the trainer looks here.
            self.error = error
            raise

    def _load(self, index):
        if index in self._cached:
            return self._cached[index]
        found = []
        for image_list in self._lists:
            image = image_list.load(index, self._target_size)
            if image is None:
                return None
            found.append(image)
            if found[-1].shape[:2] != found[0].shape[:2]:
                (height, width), (first_height, first_width) = found[-1].shape[:2], found[0].shape[:2]
                size = f"{width} x {height} pixels, {first_width} x {first_height} in the other domain"
                image_list.bad.add(image_list.path(index), f"no pair: {size}")
                return None
        self._keep(index, found, sum(image.nbytes for image in found))
        return found

    def _keep(self, index, found, size):
        with self._lock:
            if self._room is None:
                # All of them or none: a part would only make memory depend on the number of images.
                self._room = _CACHE_BYTES if size * len(self._lists[0]) <= _CACHE_BYTES else 0
            if size <= self._room and index not in self._cached:
                self._room -= size
                self._cached[index] = found


def make_training_size(config):
    """The function of (height, width) that gives the size of a training image before its random crop.

    As the authors' get_transform, but that an image too small for the crop is enlarged until it holds one. Without a
    crop sizes are rounded to multiples of what the generator takes, of 4 pixels for the ResNet.
    """
    load, crop = config.load_size, config.crop_size

    def scaled(height, width):
        if config.preprocess == "resize_and_crop":
            return load, load
        if config.preprocess.startswith("scale_width"):
            # The authors' truncation, and their crop_size for the height of what would be too flat.
            return max(int(load * height / width), crop), load
        if config.preprocess.startswith("scale_shortside"):
            return round(load * height / min(height, width)), round(load * width / min(height, width))
        return _at_least(crop, height, width) if config.crops else (height, width)

    if config.crops:
        return scaled
    multiple = architectures.size_multiple(config)
    # A ResNet's innermost reflection by one pixel needs two.
    fewest = max(1, -(-8 // multiple))
    return lambda height, width: tuple(
        multiple * max(fewest, round(side / multiple)) for side in scaled(height, width)
    )


def make_test_size(config):
    """The same for held-out images: whole images at the scale at which the networks see crops."""
    if config.preprocess == "resize_and_crop":
        return lambda height, width: (config.crop_size, config.crop_size)
    return make_training_size(config)


def _at_least(side, height, width):
    """Enlarges an image whose shorter side is below `side`, keeping its aspect."""
    scale = max(1.0, side / min(height, width))
    return max(side, round(height * scale)), max(side, round(width * scale))


def make_batches(dataset, config, first_step, last_step, local=range(1), n_replicas=1):
    """Training batches of steps first_step .. last_step - 1, and the loaders that read them.

    Args:
      local: the numbers of the replicas whose batches are wanted; in every step they follow each other.
      n_replicas: how many replicas there are in all.

    Returns:
      tf.data.Dataset of pairs (a, b) of float32 (batch_size, crop_size, crop_size, C) in [-1, 1], of any height and
      width where the preprocessing does not crop, and the list of the `ImageLoader`s.

    Raises:
      UserError: crop_size does not suit the generator.
    """
    multiple = architectures.size_multiple(config)
    if config.crops and config.crop_size % multiple:
        raise UserError(
            f"--crop_size={config.crop_size} must be a multiple of {multiple} for this generator; "
            f"{max(1, round(config.crop_size / multiple)) * multiple} is the nearest"
        )
    lists = (dataset.train_a, dataset.train_b)
    domains = [(lists, _ORDER_A, _AUGMENT_A)]
    if not config.paired:
        domains = [(lists[:1], _ORDER_A, _AUGMENT_A), (lists[1:], _ORDER_B, _AUGMENT_B)]
    loaders = [ImageLoader(of, make_training_size(config), config.cache) for of, _, _ in domains]

    def load(*drawn):
        # Of all domains in one call, for a call costs a tenth of a millisecond.
        return [
            ranges.to_float(_augment(image, config, *shares))
            for loader, index, shares in zip(loaders, drawn[::2], drawn[1::2], strict=True)
            for image in loader(index)
        ]

    @tf.autograph.experimental.do_not_convert
    def sample(position):
        drawn = [part for of, *streams in domains for part in _draw(position, len(of[0]), config.seed, *streams)]
        found = tf.numpy_function(load, drawn, [tf.float32] * 2, stateful=False)
        side = config.crop_size if config.crops else None
        for image, image_list in zip(found, lists, strict=True):
            image.set_shape((side, side, image_list.channels))
        # A batch of one needs no copy.
        return tuple(image[tf.newaxis] for image in found) if config.batch_size == 1 else tuple(found)

    own, size = len(local) * config.batch_size, n_replicas * config.batch_size
    positions = tf.data.Dataset.range(first_step * own, last_step * own)
    if own != size:
        positions = positions.map(lambda count: count // own * size + local.start * config.batch_size + count % own)
    stream = positions.map(sample, num_parallel_calls=os.cpu_count(), deterministic=True)
    if config.batch_size > 1:
        stream = stream.batch(config.batch_size, drop_remainder=True)
    # The thread that tunes sleeps for up to a minute, and an iterator is not gone before it wakes.
    options = tf.data.Options()
    options.autotune.enabled = False
    return stream.prefetch(2).with_options(options), loaders


def take_batch(batches, loaders):
    """The next of an iterator over `batches`; raises the error of a loader as it was raised there."""
    try:
        return next(batches)
    except tf.errors.OpError as error:
        for loader in loaders:
            if loader.error:
                raise loader.error from error
        raise


def count_steps(epochs, images_per_epoch, batch_size):
    """Steps that see at least `epochs` times the larger domain; the last batch may reach past the end of the epoch."""
    return -(-epochs * images_per_epoch // batch_size)


def _key(seed, stream, counter):
    return tf.stack([tf.constant(seed * _N_STREAMS + stream, tf.int64), counter])


def _draw(position, count, seed, order_stream, augment_stream):
    """The index of the image at `position` of a domain of `count`, and three shares in [0, 1) for `_augment`."""
    index = tf.random.experimental.index_shuffle(
        position % count, _key(seed, order_stream, position // count), tf.constant(count - 1, tf.int64)
    )
    return index, tf.random.stateless_uniform((3,), _key(seed, augment_stream, position))


def _augment(image, config, top, left, mirror):
    """The crop at the shares `top` and `left`, in [0, 1), of the possible offsets; mirrored if `mirror` < 1/2.

    A center crop is PyTorch's CenterCrop: half of what is left over at the top and the left, halves to the even number.
    """
    if config.crops:
        size = config.crop_size
        room = np.array(image.shape[:2], np.int32) - size + 1
        if config.crop == "center":
            y, x = np.rint((room - 1) / 2).astype(np.int32)
        else:
            # A product just below the integer may round up to it.
            y, x = np.minimum((np.stack([top, left]) * room.astype(np.float32)).astype(np.int32), room - 1)
        image = image[y : y + size, x : x + size]
    if config.flip and mirror < 0.5:
        mirrored = np.empty_like(image)
        # A third of the time of a copy of image[:, ::-1], whose innermost loop is over the few channels.
        for channel in range(image.shape[-1]):
            mirrored[..., channel] = image[:, ::-1, channel]
        return mirrored
    return image


def load_test_images(image_list, config, limit=None):
    """Generator of the images in the order of their names, in the kinds of `images`; None for one that is bad."""
    return (image_list.load(index, make_test_size(config)) for index in range(len(image_list))[:limit])
