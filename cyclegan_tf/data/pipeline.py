"""From random-access images to training batches, as a pure function of (seed, step).

Position p = step * batch_size + j counts the images that a run has drawn from a domain of n images. Its image is
number `index_shuffle(p mod n)` of the permutation that belongs to pass p // n over the domain, its crop and flip are
drawn from (seed, p). Nothing else is remembered, so a run resumed at step k sees what an uninterrupted one would have
seen, and each domain is passed through in full, independently of the other. For pix2pix B takes A's draws.
"""

import threading

import tensorflow as tf

from cyclegan_tf import images
from cyclegan_tf.errors import UserError

_CACHE_BYTES = 2 * 2**30
# Streams of random numbers; each has its own seed, derived from the run's.
_ORDER_A, _ORDER_B, _AUGMENT_A, _AUGMENT_B, _N_STREAMS = range(5)


class Loader:
    """Decodes image i of a domain and gives it the size it has before the random crop; called by tf.data's threads.

    An image that cannot be decoded is recorded in `bad` (name -> reason) and the next good one takes its place.

    Args:
      image_list: the domain.
      target_size: function of (height, width) to the (height, width) the image is resized to.
      cache: auto, memory or off, as in the Config.
      replace_bad: False where images belong to others, so that a bad one is an error.
    """

    def __init__(self, image_list, target_size, cache="auto", replace_bad=True):
        self.bad = {}
        self.error = None
        self._list = image_list
        self._target_size = target_size
        self._tries = len(image_list) if replace_bad else 1
        self._room = {"auto": _CACHE_BYTES, "memory": float("inf"), "off": 0}[cache]
        self._cached = {}
        self._lock = threading.Lock()

    def __call__(self, index):
        """uint8 (H, W, 3) of image `index`, or of the next one that can be decoded."""
        for offset in range(self._tries):
            image = self._load((int(index) + offset) % len(self._list))
            if image is not None:
                return image
        name, reason = next(iter(self.bad.items()))
        # tf.data passes on only the text of an exception, so the trainer looks here.
        which = "not every image of a pair" if self._tries == 1 else f"none of the {self._tries} images"
        self.error = UserError(f"{which} in {self._list.where} can be read: {name}: {reason}")
        raise self.error

    def _load(self, index):
        if index in self._cached:
            return self._cached[index]
        name = self._list.names[index]
        if name in self.bad:
            return None
        try:
            image = self._list.load(index)
        except (ValueError, OSError) as error:
            self.bad[name] = str(error)
            return None
        image = images.resize(image, *self._target_size(*image.shape[:2]))
        with self._lock:
            if image.nbytes <= self._room and index not in self._cached:
                self._room -= image.nbytes
                self._cached[index] = image
        return image


def train_size(config):
    """The function of (height, width) that gives the size of a training image before its random crop."""
    if config.preprocess == "resize_and_crop":
        return lambda height, width: (config.load_size, config.load_size)
    if config.preprocess == "crop":
        return lambda height, width: _at_least(config.crop_size, height, width)
    return lambda height, width: (height, width)


def test_size(config):
    """The same for held-out images: whole images at the scale at which the networks see crops."""
    if config.preprocess == "resize_and_crop":
        return lambda height, width: (config.crop_size, config.crop_size)
    return train_size(config)


def _at_least(side, height, width):
    """Enlarges an image whose shorter side is below `side`, keeping its aspect."""
    scale = max(1.0, side / min(height, width))
    return max(side, round(height * scale)), max(side, round(width * scale))


def batches(dataset, config, first_step, last_step):
    """Training batches of steps first_step .. last_step - 1, and the loaders that read them.

    Returns:
      tf.data.Dataset of pairs (a, b) of float32 (batch_size, crop_size, crop_size, 3) in [-1, 1], and the list of the
      two `Loader`s.
    """
    paired = config.model == "pix2pix"
    domains = (dataset.train_a, dataset.train_b)
    loaders = [Loader(domain, train_size(config), config.cache, replace_bad=not paired) for domain in domains]
    streams = ((_ORDER_A, _AUGMENT_A), (_ORDER_A, _AUGMENT_A) if paired else (_ORDER_B, _AUGMENT_B))

    def sample(position):
        return tuple(
            _sample(loader, len(domain), position, config, *stream)
            for loader, domain, stream in zip(loaders, domains, streams, strict=True)
        )

    stream = tf.data.Dataset.range(first_step * config.batch_size, last_step * config.batch_size)
    stream = stream.map(sample, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return stream.batch(config.batch_size, drop_remainder=True).prefetch(2), loaders


def steps_of_epochs(epochs, images_per_epoch, batch_size):
    """Steps that see at least `epochs` times the larger domain; the last batch may reach past the end of the epoch."""
    return -(-epochs * images_per_epoch // batch_size)


def _key(seed, stream, counter):
    return tf.stack([tf.constant(seed * _N_STREAMS + stream, tf.int64), counter])


def _sample(loader, count, position, config, order_stream, augment_stream):
    index = tf.random.experimental.index_shuffle(
        position % count, _key(config.seed, order_stream, position // count), tf.constant(count - 1, tf.int64)
    )
    image = tf.numpy_function(loader, [index], tf.uint8, stateful=False)
    image.set_shape((None, None, 3))
    draws = tf.random.stateless_uniform((3,), _key(config.seed, augment_stream, position))
    if config.preprocess != "none":
        image = _crop(image, config.crop_size, draws[0], draws[1])
    if config.flip:
        image = tf.cond(draws[2] < 0.5, lambda: tf.reverse(image, axis=[1]), lambda: image)
    return images.to_float(image)


def _crop(image, size, top, left):
    """The size x size crop at the given shares, in [0, 1), of the possible offsets."""
    room = tf.shape(image)[:2] - size + 1
    offset = tf.cast(tf.stack([top, left]) * tf.cast(room, tf.float32), tf.int32)
    # A product just below the integer may round up to it.
    offset = tf.minimum(offset, room - 1)
    crop = tf.slice(image, [offset[0], offset[1], 0], [size, size, -1])
    crop.set_shape((size, size, image.shape[-1]))
    return crop


def test_images(image_list, config, limit=None):
    """Generator of uint8 (H, W, 3), or None for an image that cannot be decoded, in the order of the names."""
    size = test_size(config)
    for index in range(len(image_list))[:limit]:
        try:
            image = image_list.load(index)
        except (ValueError, OSError):
            yield None
        else:
            yield images.resize(image, *size(*image.shape[:2]))
