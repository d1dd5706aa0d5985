"""Trained generators wherever they are: a run, a SavedModel, the authors' .pth, a .tflite file."""

import dataclasses
import os

import numpy as np
import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.errors import UserError
from cyclegan_tf.images import files as image_files
from cyclegan_tf.images import ranges
from cyclegan_tf.inference import tflite_model
from cyclegan_tf.inference import translator as translator_lib
from cyclegan_tf.networks import registry, saved_model
from cyclegan_tf.networks.weights import named_weights
from cyclegan_tf.pytorch import files as torch_files
from cyclegan_tf.runs import checkpoints
from cyclegan_tf.runs import directory as run_directory
from cyclegan_tf.storage import filesystem


class Model:
    """A generator that translates.

    Args:
      forward: function of float32 (N, H, W, C) in [-1, 1] to the same with C' channels, of images of any size.
      input_channels, output_channels: C and C'.
      translator: the `translator.Translator` if there is one, which is what tiles need.

    Attributes:
      input_channels, output_channels
    """

    def __init__(self, forward, input_channels, output_channels, translator=None):
        self.input_channels = input_channels
        self.output_channels = output_channels
        self._forward = forward
        self._translator = translator

    @property
    def takes_tiles(self):
        """Whether `translate` can be given a tile; only a run and a .pth file have the layers that this needs."""
        return self._translator is not None

    def translate(self, image, tile=0, folder=None, progress=None):
        """Translates an image, or a batch of images of one size.

        Args:
          image: path of an image file; or array (H, W, C) or (N, H, W, C), uint8, uint16, or float32 in [-1, 1].
          tile: side in pixels of the tiles that a larger image is translated by, in bounded memory and with the same
            result up to rounding; 0: whole.
          folder: for the temporary files of tiles; default the system's temporary folder.
          progress: function called with the share that is done, in (0, 1], after each tile.

        Returns:
          An array of the same height, width and type, with C' channels.

        Raises:
          ValueError: the array has another shape or type, or the file cannot be decoded.
          UserError: tiles are asked of a model that has no layers.
        """
        if isinstance(image, str | os.PathLike):
            image, _ = image_files.read(image, self.input_channels)
        image = np.asarray(image)
        if image.dtype == np.float64:
            image = image.astype(np.float32)
        if image.ndim not in (3, 4) or image.shape[-1] != self.input_channels:
            raise ValueError(f"image of shape {image.shape} in place of (height, width, {self.input_channels})")
        if image.dtype not in (np.uint8, np.uint16, np.float32):
            raise ValueError(f"image of type {image.dtype} in place of uint8, uint16 or float32 in [-1, 1]")
        if tile and not self.takes_tiles:
            raise UserError("tiles need the generator's layers: give the run directory or the .pth file as the model")
        if image.ndim == 4 and not (tile and max(image.shape[1:3]) > tile):
            return ranges.from_float(np.asarray(self._forward(ranges.to_float(image))), image.dtype)
        if image.ndim == 4:
            return np.stack([self._translator.tiled(one, tile, folder, progress) for one in image])
        return self.translate(image[np.newaxis], tile, folder, progress)[0]


def load(path, direction=None):
    """The `Model` in a run directory, a SavedModel folder, a generator's .pth file of the authors' code, or a .tflite.

    Args:
      path: what to load; of a run also one of its checkpoints, RUN/checkpoints/best.npz; "demo" is the trained model in
        the package. The architecture of a .pth file is read from its weights, which do not tell replicate from reflect
        padding: convert such a file to a run with --padding=replicate.
      direction: a2b (default) or b2a of a run; the others have only one.

    Raises:
      UserError: there is no such thing, or it is damaged or of another kind.
    """
    path = os.fspath(path)
    direction = Direction.parse(direction) if direction else None
    is_run = run_directory.is_run(path)
    if direction and not is_run and filesystem.exists(path):
        raise UserError(f"{path} has one direction only; leave out the direction, or give the run directory")
    if is_run:
        return _of_translator(translator_lib.load_run(path, direction or Direction.A2B))
    if filesystem.exists(os.path.join(path, "saved_model.pb")):
        return _load_saved_model(path)
    if path.endswith(".pth"):
        return _of_translator(_load_pytorch(path))
    if path.endswith(".tflite"):
        interpreter = tflite_model.Interpreter(path)
        return Model(interpreter, interpreter.input_channels, interpreter.output_channels)
    what = "is none of them" if filesystem.exists(path) else "does not exist"
    raise UserError(f"{path} {what}: a model is a run directory or a checkpoint in it, a SavedModel folder, a .pth or "
                    "a .tflite file, or demo")


def load_directions(path, direction=None):
    """The `Model`s at `path` by direction: of a CycleGAN's run both, or `direction` alone; of others one,
    which `direction` names, else the beginning of the file's name.

    Raises as `load`.
    """
    path = os.fspath(path)
    direction = Direction.parse(direction) if direction else None
    if not run_directory.is_run(path):
        # What holds one direction does not say which but by its name, as training and exports give it.
        last = os.path.basename(path.rstrip("/"))
        named = Direction.find_in_name(last)
        if direction is None and named is None:
            raise UserError(f"{path} does not say its direction: give --direction=a2b or --direction=b2a")
        return {direction or named: load(path)}
    wanted = [direction] if direction else list(Direction)
    found = translator_lib.load_translators(path, wanted)[1]
    if not found:
        raise UserError(f"{path} holds a model of one direction: it translates a2b only")
    return {name: _of_translator(translator) for name, translator in found.items()}


def _of_translator(translator):
    return Model(
        lambda batch: translator.float_images(batch)["images"], translator.input_channels, translator.output_channels,
        translator,
    )


def _load_saved_model(path):
    network = saved_model.open_saved_model(path)
    spec = network.input_spec
    if spec.dtype != tf.float32 or spec.shape.rank != 4:
        raise UserError(f"{path} takes {spec.dtype.name} {spec.shape}, not float32 images")
    return Model(network, spec.shape[-1], network.output_spec.shape[-1])


def _load_pytorch(path):
    options, weights = torch_files.read_network(path)
    if options["kind"] != "generator":
        raise UserError(f"{path} holds a discriminator; a generator's file is called G_A, G_B or G")
    known = {field.name for field in dataclasses.fields(Config)}
    config = Config(**{name: value for name, value in options.items() if name in known})
    generator = registry.build_generator(config, Direction.A2B.generator)
    checkpoints.assign(named_weights(generator), weights, path)
    return translator_lib.translator(config, generator)
