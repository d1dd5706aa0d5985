"""One trained direction: translates images of any size, as floats, as 8-bit pixels or as encoded files."""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from cyclegan_tf.config import Config, architectures
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.config.value_ranges import NO_UNITS, Units
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import graph_codec, ranges
from cyclegan_tf.inference import tiling
from cyclegan_tf.networks import registry
from cyclegan_tf.networks import weights as weights_lib
from cyclegan_tf.runs import checkpoints, model_state
from cyclegan_tf.runs import directory as run_directory

_NEEDS_LAYERS = ("tiles need the generator's layers, which only a run directory and a .pth file hold: give one of "
                 "these, or translate whole images")


class PixelTranslator:
    """A network as a function of the pixels of images.

    Args:
      forward: maps float32 images (N, H, W, C) in [-1, 1] to (N, H, W, C') in [-1, 1].
      input_channels: C.
      output_channels: C'.
      units: the ranges that -1 and 1 stand for in images and in their translations.

    Attributes:
      input_channels, output_channels, units: as given.
    """

    def __init__(
        self, forward: Callable[[np.ndarray], np.ndarray | tf.Tensor], input_channels: int, output_channels: int,
        units: Units = NO_UNITS,
    ) -> None:
        self._forward = forward
        self.input_channels = input_channels
        self.output_channels = output_channels
        self.units = units

    @property
    def supports_tiles(self) -> bool:
        """Whether `translate_pixels` accepts a tile: the receptive fields of all layers are known."""
        return False

    def require_tiles(self) -> None:
        """Raises a UserError with the reason if the network does not support tiles."""
        raise UserError(_NEEDS_LAYERS)

    def translate_pixels(
        self, images: np.ndarray, tile: int = 0, folder: str | None = None,
        progress: Callable[[float], None] | None = None, check: Callable[[np.ndarray], None] | None = None,
    ) -> np.ndarray:
        """Translates an image (H, W, C), or a batch (N, H, W, C): uint8, uint16, or float32 in [-1, 1].

        Args:
          tile: side in pixels of the tiles in which to translate larger images; 0 translates images whole.
          folder: folder for the temporary files of tiles; default: the system's temporary folder.
          progress: called after each tile with the fraction of an image that is done, in (0, 1].
          check: called with the network's floats, once per tile, before the conversion to the dtype of the images.
            Without `check`, NaN becomes an arbitrary level of integer images.

        Returns:
          Array of the same height, width and dtype, with C' channels. If the target domain has a range, the dtype is
          float32: the levels of 8 bits would round the values.

        Raises:
          ValueError: the network fails, or does not keep the size of its images.
          OSError: the disk has no room for the temporary files of tiles.
          UserError: an image is larger than `tile`, but the network does not support tiles.
        """
        if self.units.target is not None:
            images = ranges.to_float(images)
        if images.ndim == 3:
            return self.translate_pixels(images[np.newaxis], tile, folder, progress, check)[0]
        if tile and max(images.shape[1:3]) > tile:
            return np.stack([self._translate_in_tiles(image, tile, folder, progress, check) for image in images])
        floats = np.asarray(self._forward(ranges.to_float(images)))
        _require_shape(floats, (*images.shape[:3], self.output_channels))
        if check:
            check(floats)
        return _convert(floats, images.dtype)

    def _translate_in_tiles(
        self, image: np.ndarray, tile: int, folder: str | None, progress: Callable[[float], None] | None,
        check: Callable[[np.ndarray], None] | None,
    ) -> np.ndarray:
        """Translates an image (H, W, C) by tiles; arguments and result as in `translate_pixels`."""
        raise UserError(_NEEDS_LAYERS)


def _require_shape(floats: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raises a ValueError unless a network's output has the shape (N, H, W, C'), with the size of the images."""
    if floats.shape != shape:
        raise ValueError(f"the network returns an array of shape {floats.shape} instead of {shape}; use a network that "
                         "keeps the size of its images")


def _convert(floats: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # NumPy warns of NaN in integers, which `check` has refused or accepted.
        return ranges.from_float(floats, dtype)


class Translator(PixelTranslator):
    """A generator as three functions of a batch of images, which become the signatures of a SavedModel.

    Translations have the height and width of their image. A generator that halves its images needs sizes that are
    multiples of a power of two. Images of other sizes are extended by reflection at the bottom and the right, and their
    translations are cropped.

    Args:
      generator: Keras network, (N, H, W, C) -> (N, H, W, C').
      multiple: the generator needs heights and widths that are multiples of this number.
      minimum: smallest height and width that the generator accepts.
      units: the ranges that -1 and 1 stand for in images and in their translations.

    Attributes:
      generator, multiple, minimum: as given.
      translate_floats: tf.function of `images`, float32 (N, H, W, C) in [-1, 1], to {"images": the same with C'
        channels}.
      translate_uint8: tf.function of `images`, uint8 (N, H, W, C), to {"images": the same with C' channels}.
      translate_encoded: tf.function of `image_bytes`, (N,) encoded JPEG, PNG, BMP or GIF (first frame) strings of
        images whose sizes may differ, to {"image_bytes": (N,) PNG strings}. None unless C and C' are 1 or 3.
    """

    def __init__(self, generator: tf.keras.Model, multiple: int, minimum: int, units: Units = NO_UNITS) -> None:
        channels = generator.input_shape[-1], generator.output_shape[-1]
        super().__init__(self._run_traced, *channels, units)
        self.generator = generator
        self.multiple = multiple
        self.minimum = minimum
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

    @functools.cached_property
    def _traced(self) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
        # TensorFlow counts the traces of one method over all objects: calls of `translate_floats` itself would print
        # warnings about retracing in a process that loads five models.
        return self.translate_floats.get_concrete_function()

    def _run_traced(self, images: np.ndarray) -> tf.Tensor:
        return self._traced(tf.constant(images))["images"]

    @functools.cached_property
    def supports_tiles(self) -> bool:
        """Whether `translate_pixels` accepts a tile: the receptive fields of all layers are known."""
        return tiling.supports(self.generator, self.multiple)

    def require_tiles(self) -> None:
        """Raises a UserError with the reason if the generator does not support tiles."""
        tiling.require_support(self.generator, self.multiple)

    def _translate_in_tiles(
        self, image: np.ndarray, tile: int, folder: str | None, progress: Callable[[float], None] | None,
        check: Callable[[np.ndarray], None] | None,
    ) -> np.ndarray:
        # Besides the image and the result, the memory needed depends on the tile's side in pixels, not on the image.
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
            result[top:bottom, left:right] = _convert(inside, image.dtype)

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
        return {"images": ranges.from_float(self.translate_floats(ranges.to_float(images))["images"], tf.uint8)}

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
    return Translator(generator, multiple, smallest, config.get_units(direction))


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


def load_run(path: str, direction: Direction | None = None, limit: int | None = None) -> LoadedRun:
    """Loads generators from a run's newest checkpoint, with averaged weights if the run has them.

    Args:
      path: run directory, one of its checkpoint files (.npz), or the name of a run in the package.
      direction: the direction to load; None: all that the run holds.
      limit: largest number of directions to load; 1: a2b, or the run's only direction; None: no limit.

    Raises:
      UserError: `path` is not a run, or has no readable checkpoint, no generator, or no generator of `direction`.
    """
    config = Config.load(run_directory.locate(path))
    checkpoint, arrays = checkpoints.require_run(path)
    weights = model_state.get_network_weights(arrays)
    # A run that was converted from .pth files may hold only one generator of two, or none.
    held = [direction for direction in config.directions if direction.generator in weights]
    if not held:
        raise UserError(f"{checkpoint} holds no generator; give another run")
    if direction and direction not in held:
        raise UserError(f"{path} translates {direction.reverse} only and holds no generator of {direction}; set the "
                        f"direction to {direction.reverse}")
    translators = {
        each: build(config, each, weights[each.generator], checkpoint)
        for each in ([direction] if direction else held[:limit])
    }
    return LoadedRun(config, int(arrays["step"]), translators)
