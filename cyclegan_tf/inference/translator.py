"""One trained direction: translates images of any size, as floats, as 8-bit pixels or as encoded files."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from cyclegan_tf.config import Config, architectures
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.config.value_ranges import NO_UNITS, Units
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import graph_codec, ranges, stacks
from cyclegan_tf.images.stacks import StackOptions
from cyclegan_tf.inference import tiling
from cyclegan_tf.networks import registry
from cyclegan_tf.networks import weights as weights_lib
from cyclegan_tf.runs import checkpoints, model_state
from cyclegan_tf.runs import directory as run_directory


class Translator:
    """A generator as three functions of a batch of images, which become the signatures of a SavedModel.

    Translations have the height and width of their image. A generator that halves its images needs sizes that are
    multiples of a power of two. Images of other sizes are extended by reflection at the bottom and the right, and their
    translations are cropped.

    Args:
      generator: Keras network, (N, H, W, C) -> (N, H, W, C').
      multiple: the generator needs heights and widths that are multiples of this number.
      minimum: smallest height and width that the generator accepts.
      units: the ranges that -1 and 1 stand for in images and in their translations.
      stack_options: how to divide files into slices; None for the defaults of `images.stacks.StackOptions`.

    Attributes:
      generator, multiple, minimum, units, stack_options: as given.
      translate_floats: tf.function of `images`, float32 (N, H, W, C) in [-1, 1], to {"images": the same with C'
        channels}.
      translate_uint8: tf.function of `images`, uint8 (N, H, W, C), to {"images": the same with C' channels}.
      translate_encoded: tf.function of `image_bytes`, (N,) encoded JPEG, PNG, BMP or GIF (first frame) strings of
        images whose sizes may differ, to {"image_bytes": (N,) PNG strings}. None unless C and C' are 1 or 3.
    """

    def __init__(
        self, generator: tf.keras.Model, multiple: int, minimum: int, units: Units = NO_UNITS,
        stack_options: StackOptions | None = None,
    ) -> None:
        self.generator = generator
        self.multiple = multiple
        self.minimum = minimum
        self.units = units
        self.stack_options = stack_options
        # Each function calls the previous one, so that the network is traced only once.
        self.translate_floats = tf.function(
            self._translate_floats, autograph=False,
            input_signature=[tf.TensorSpec((None, None, None, self.input_channels), tf.float32, name="images")],
        )
        self.translate_uint8 = tf.function(
            self._translate_uint8, autograph=False,
            input_signature=[tf.TensorSpec((None, None, None, self.input_channels), tf.uint8, name="images")],
        )
        self.translate_encoded = None
        if {self.input_channels, self.output_channels} <= {1, 3}:
            self.translate_encoded = tf.function(
                self._translate_encoded, autograph=False,
                input_signature=[tf.TensorSpec((None,), tf.string, name="image_bytes")],
            )

    @property
    def input_channels(self) -> int:
        """Channels of the images."""
        return self.generator.input_shape[-1]

    @property
    def output_channels(self) -> int:
        """Channels of the translations."""
        return self.generator.output_shape[-1]

    @functools.cached_property
    def supports_tiles(self) -> bool:
        """Whether `translate` accepts a tile: all layers of the generator must have known receptive fields."""
        return tiling.supports(self.generator, self.multiple)

    def translate(self, image: np.ndarray, tile: int = 0, folder: str | None = None) -> np.ndarray:
        """Translates an image (H, W, C), uint8, uint16, or float32 in [-1, 1], to (H, W, C') of the same dtype.

        If the target domain has a range, the translation is float32: the levels of 8 bits would round the values.

        Args:
          tile: as in `translate_in_tiles`; 0 translates the image whole.
          folder: as in `translate_in_tiles`.
        """
        if self.units.target is not None:
            image = ranges.to_float(image)
        if tile:
            return self.translate_in_tiles(image, tile, folder)
        if image.dtype == np.uint8:
            return self.translate_uint8(image[np.newaxis])["images"][0].numpy()
        floats = self.translate_floats(ranges.to_float(image)[np.newaxis])["images"][0].numpy()
        return ranges.from_float(floats, image.dtype)

    def translate_in_tiles(
        self, image: np.ndarray, tile: int, folder: str | None = None,
        progress: Callable[[float], None] | None = None, check: Callable[[np.ndarray], None] | None = None,
    ) -> np.ndarray:
        """Computes the result of `translate` tile by tile; see `tiling.translate` for the arguments and errors.

        `check` is called with the floats of each translated tile, before they are rounded to the dtype of the image.
        Besides the image and the result, the memory needed depends on the tile's side in pixels, not on the image.
        """
        height, width = image.shape[:2]
        rows, columns = (self._extend(length).numpy() for length in (height, width))
        result = np.empty((height, width, self.output_channels), image.dtype)

        def read(window: tiling.Window) -> np.ndarray:
            (top, bottom), (left, right) = window
            return ranges.to_float(image[rows[top:bottom, np.newaxis], columns[left:right]])

        def write(window: tiling.Window, pixels: np.ndarray) -> None:
            (top, bottom), (left, right) = window
            if check:
                check(pixels)
            inside = pixels[: max(height - top, 0), : max(width - left, 0)]  # Crop the extension.
            result[top:bottom, left:right] = ranges.from_float(inside, image.dtype)

        size = len(rows), len(columns)
        tiling.translate(self.generator, size, read, write, tile, folder, progress)
        return result

    def _extend(self, size: int | tf.Tensor) -> tf.Tensor:
        """Pixel indices 0 .. size - 1, continued by reflection up to the next size that the generator accepts."""
        extended = -(-tf.maximum(size, self.minimum) // self.multiple) * self.multiple
        index = tf.range(extended)
        return tf.where(index < size, index, tf.maximum(2 * (size - 1) - index, 0))

    def _translate_floats(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        height, width = tf.shape(images)[1], tf.shape(images)[2]
        images = tf.gather(images, self._extend(height), axis=1)
        images = tf.gather(images, self._extend(width), axis=2)
        return {"images": self.generator(images, training=False)[:, :height, :width]}

    def _translate_uint8(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"images": ranges.to_uint8(self.translate_floats(ranges.to_float(images))["images"])}

    def _translate_encoded(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        def translate(data: tf.Tensor) -> tf.Tensor:
            image = graph_codec.decode(data, self.input_channels)
            return tf.io.encode_png(self.translate_uint8(image[tf.newaxis])["images"][0])

        return {"image_bytes": tf.map_fn(translate, image_bytes, fn_output_signature=tf.string)}


def make_translators(config: Config, generators: Mapping[str, tf.keras.Model]) -> dict[Direction, Translator]:
    """Makes a `Translator` for each direction whose generator is in `generators` (by name: gen_ab, gen_ba)."""
    return {
        direction: make_translator(config, generators[direction.generator], direction)
        for direction in Direction
        if direction.generator in generators
    }


def make_translator(
    config: Config, generator: tf.keras.Model, direction: Direction = Direction.A2B
) -> Translator:
    """Makes the `Translator` of a generator that was built from `config` for a direction."""
    multiple = architectures.get_size_multiple(config)
    smallest = max(multiple, architectures.SMALLEST_SIZE)
    options = stacks.make_options(config, direction.source)
    return Translator(generator, multiple, smallest, config.get_units(direction), options)


def build(config: Config, direction: Direction, arrays: Mapping[str, np.ndarray], where: str) -> Translator:
    """Builds the generator of a direction with the weights `arrays`, by "LAYER/WEIGHT", and makes its `Translator`.

    Args:
      where: origin of the weights, for the error message.

    Raises:
      UserError: the names or the shapes of the weights differ from the generator's.
    """
    generator = registry.build_generator(config, direction.generator)
    weights_lib.load(generator, arrays, where)
    return make_translator(config, generator, direction)


class LoadedRun(NamedTuple):
    """Generators of a run: its `Config`, the step of the checkpoint, and a `Translator` for each direction."""

    config: Config
    step: int
    translators: dict[Direction, Translator]


def load_run(path: str, directions: Iterable[Direction] | None = None) -> LoadedRun:
    """Loads generators from a run's newest checkpoint, with averaged weights if the run has them.

    Args:
      path: run directory, one of its checkpoint files (.npz), or the name of a run in the package.
      directions: the directions to load; None loads all that the run holds.

    Raises:
      UserError: `path` is not a run, has no readable checkpoint, or holds no generator, or none of a given direction.
    """
    config = Config.load(run_directory.locate(path))
    checkpoint, arrays = checkpoints.require_run(path)
    weights = model_state.get_network_weights(arrays)
    # A run that was converted from .pth files may hold only one generator of two, or none.
    held = [direction for direction in config.directions if direction.generator in weights]
    if not held:
        raise UserError(f"{checkpoint} holds no generator; give another run")
    translators = {}
    for direction in held if directions is None else directions:
        if direction not in held:
            raise UserError(f"{path} translates {direction.reverse} only and holds no generator of {direction}; set "
                            f"the direction to {direction.reverse}")
        translators[direction] = build(config, direction, weights[direction.generator], checkpoint)
    return LoadedRun(config, int(arrays["step"]), translators)
