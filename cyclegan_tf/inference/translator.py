"""Translating images with a trained generator: any size, three forms of image, one module that SavedModels hold too."""

import os

import numpy as np
import tensorflow as tf

from cyclegan_tf.config import Config, architectures
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import ranges
from cyclegan_tf.inference import tiling
from cyclegan_tf.networks import registry
from cyclegan_tf.networks.weights import named_weights
from cyclegan_tf.runs import checkpoints
from cyclegan_tf.runs import directory as run_directory


class Translator(tf.Module):
    """One direction of a CycleGAN as three functions of a batch; translations have their image's height and width.

    A network that halves its images needs sizes that are multiples of a power of two: others are continued by
    reflection at the bottom and the right, and the translation is cropped.

    Args:
      generator: Keras model.
      multiple: sizes that are multiples of this need no continuation.
      minimum: smallest height and width that the generator takes.
    """

    def __init__(self, generator, multiple, minimum):
        super().__init__()
        # Each form calls the one before it, so that the network is traced once.
        self._generator = generator
        self._multiple = multiple
        self._minimum = minimum
        channels = generator.input_shape[-1]
        self.translate_floats = tf.function(
            self._translate_floats, autograph=False,
            input_signature=[tf.TensorSpec((None, None, None, channels), tf.float32, name="images")],
        )
        self.translate_uint8 = tf.function(
            self._translate_uint8, autograph=False,
            input_signature=[tf.TensorSpec((None, None, None, channels), tf.uint8, name="images")],
        )
        # Files hold gray or color images only.
        self.translate_encoded = None
        if {channels, generator.output_shape[-1]} <= {1, 3}:
            self.translate_encoded = tf.function(
                self._translate_encoded, autograph=False,
                input_signature=[tf.TensorSpec((None,), tf.string, name="image_bytes")],
            )

    @property
    def generator(self):
        """The Keras model."""
        return self._generator

    @property
    def multiple(self):
        """Heights and widths that are multiples of this are translated without continuation."""
        return self._multiple

    @property
    def minimum(self):
        """The smallest height and width that the generator takes."""
        return self._minimum

    def _translate_floats(self, images):
        """float32 (N, H, W, C) in [-1, 1] -> the same."""
        height, width = tf.shape(images)[1], tf.shape(images)[2]
        images = tf.gather(images, self._continued(height), axis=1)
        images = tf.gather(images, self._continued(width), axis=2)
        return {"images": self._generator(images, training=False)[:, :height, :width]}

    @property
    def input_channels(self):
        """Channels of the images that it takes."""
        return self._generator.input_shape[-1]

    @property
    def output_channels(self):
        """Channels of the translations."""
        return self._generator.output_shape[-1]

    def translate(self, image):
        """(H, W, C) array of any kind of image -> the same kind, (H, W, C')."""
        if image.dtype == np.uint8:
            return self.translate_uint8(image[np.newaxis])["images"][0].numpy()
        floats = self.translate_floats(ranges.to_float(image)[np.newaxis])["images"][0].numpy()
        return ranges.from_float(floats, image.dtype)

    def translate_in_tiles(self, image, tile, folder=None, progress=None):
        """(H, W, C) array of any kind of image -> the same kind, translated by tiles; see `tiling.translate`.

        Besides the arrays themselves the memory it takes depends on the side of a `tile` in pixels, not on the image.
        """
        height, width = image.shape[:2]
        rows, columns = (self._continued(length).numpy() for length in (height, width))
        result = np.empty((height, width, self.output_channels), image.dtype)

        def read(window):
            (top, bottom), (left, right) = window
            return ranges.to_float(image[rows[top:bottom, np.newaxis], columns[left:right]])

        def write(window, pixels):
            (top, bottom), (left, right) = window
            # What is beyond the image is cropped.
            result[top:bottom, left:right] = ranges.from_float(
                pixels[: max(height - top, 0), : max(width - left, 0)], image.dtype
            )

        size = len(rows), len(columns)
        tiling.translate(self._generator, size, read, write, tile, folder, progress)
        return result

    def _continued(self, size):
        """Indices 0 .. size - 1, mirrored at the end up to the next size that the generator takes."""
        whole = -(-tf.maximum(size, self._minimum) // self._multiple) * self._multiple
        index = tf.range(whole)
        return tf.where(index < size, index, tf.maximum(2 * (size - 1) - index, 0))

    def _translate_uint8(self, images_):
        """uint8 (N, H, W, C) -> uint8 (N, H, W, C)."""
        return {"images": ranges.to_uint8(self.translate_floats(ranges.to_float(images_))["images"])}

    def _translate_encoded(self, image_bytes):
        """Encoded JPEG, PNG, BMP or GIF (first frame) strings (N,) -> PNG strings (N,); sizes may differ."""

        def translate(data):
            channels = self._generator.input_shape[-1]
            image = tf.io.decode_image(data, channels=channels, expand_animations=False)
            image.set_shape((None, None, channels))
            return tf.io.encode_png(self.translate_uint8(image[tf.newaxis])["images"][0])

        return {"image_bytes": tf.map_fn(translate, image_bytes, fn_output_signature=tf.string)}


def make_translators(config, generators):
    """A `Translator` for each direction, a2b or b2a, that `generators` has a network for (gen_ab, gen_ba)."""
    return {
        direction: make_translator(config, generators[direction.generator])
        for direction in Direction
        if direction.generator in generators
    }


def make_translator(config, generator):
    """The `Translator` of a generator that was built from `config`."""
    multiple = architectures.size_multiple(config)
    # Reflection by 3 pixels in the stem needs 4, by 1 pixel in the blocks at a quarter of the size needs 8.
    return Translator(generator, multiple, minimum=max(multiple, 8))


def load_run(workdir, direction=Direction.A2B):
    """The `Translator` of a run directory's newest checkpoint, averaged weights where it has them.

    Raises:
      UserError: it is no run directory, has no checkpoint that can be read, or no such direction.
    """
    translators_ = load_translators(workdir, [direction])[1]
    if direction not in translators_:
        raise UserError(f"{workdir} holds a model of one direction: it translates a2b only")
    return translators_[direction]


def load_translators(workdir, directions=tuple(Direction)):
    """(step, {direction: Translator}) of a run's newest checkpoint; of pix2pix a2b only; raises as `load_run`.

    `workdir` may also be one of its checkpoint files, which is then taken, or "demo", the run in the package.
    """
    folder = run_directory.locate(workdir)
    config = Config.load(folder)
    if workdir.endswith(".npz"):
        path, arrays = workdir, checkpoints.read_user_file(workdir)
    else:
        found = checkpoints.read_newest(os.path.join(folder, "checkpoints"))
        if found is None:
            raise UserError(f"{workdir} has no checkpoint yet")
        path, arrays = found
    weights, loaded = checkpoints.network_weights(arrays), {}
    for direction in directions:
        if direction not in config.directions:
            continue
        name = direction.generator
        generator = registry.build_generator(config, name)
        checkpoints.assign(named_weights(generator), weights.get(name, {}), path)
        loaded[direction] = make_translator(config, generator)
    return int(arrays["step"]), loaded
