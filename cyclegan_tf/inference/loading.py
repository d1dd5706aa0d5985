"""Loads a trained generator from a run, a SavedModel, a .pth file of the authors' code, or a .tflite file."""

import dataclasses
import numbers
import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.config.options import validate
from cyclegan_tf.config.run_options import FIELDS, SliceAxis
from cyclegan_tf.config.value_ranges import Units
from cyclegan_tf.errors import UserError, describe_error, get_first_line
from cyclegan_tf.images import files as image_files
from cyclegan_tf.images import ranges, stack_files, stacks
from cyclegan_tf.images import units as units_lib
from cyclegan_tf.images.stacks import Slice, StackOptions
from cyclegan_tf.inference import file_translation, tflite_model
from cyclegan_tf.inference import translator as translator_lib
from cyclegan_tf.networks import saved_model
from cyclegan_tf.ops import exhaustion
from cyclegan_tf.pytorch import files as torch_files
from cyclegan_tf.runs import directory as run_directory
from cyclegan_tf.storage import array_files, filesystem


@dataclasses.dataclass(frozen=True)
class LoadedTranslator:
    """Translates image files and arrays in one direction with a trained generator.

    Attributes:
      network: the generator as a function of pixels.
      stack_options: how to divide files into slices, as in training.
    """

    network: translator_lib.PixelTranslator
    stack_options: StackOptions

    @property
    def input_channels(self) -> int:
        """Channels of the images to translate."""
        return self.network.input_channels

    @property
    def output_channels(self) -> int:
        """Channels of translated images."""
        return self.network.output_channels

    @property
    def units(self) -> Units:
        """The ranges that -1 and 1 stand for in images and in their translations."""
        return self.network.units

    @property
    def supports_tiles(self) -> bool:
        """Whether `translate` accepts a tile: the generator has Keras layers whose receptive fields are known."""
        return self.network.supports_tiles

    def require_tiles(self) -> None:
        """Raises a UserError that gives the reason if `translate` does not accept a tile."""
        self.network.require_tiles()

    def translate(
        self,
        image: str | os.PathLike[str] | np.ndarray,
        tile: int = 0,
        folder: str | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> np.ndarray:
        """Translates an image, or a batch of images of one size.

        Args:
          image: path of an image file, or array (H, W, C) or (N, H, W, C): uint8, uint16, or float32 or float64 in
            [-1, 1]. If the run has a range for these images (`units.source`), values of any integer or float dtype in
            their unit; values outside of the range are clipped. If C is 1, an image may also be (H, W); a batch needs
            a channel axis, because an array (N, H, 3) could be an RGB image.
          tile: side in pixels of the tiles in which to translate a larger image. Tiles bound the memory and give the
            same result up to rounding. 0 translates the image whole.
          folder: folder for the temporary files of tiles; default: the system's temporary folder.
          progress: called after each tile with the fraction of the image that is done, in (0, 1].

        Returns:
          Array of the same height, width and dtype, with C' channels; if C' is 1, (H, W) stays (H, W). float64 images
          become float32. If the run has a range for one of the domains, `images.units.choose_dtype` chooses the dtype,
          and values are in the unit of the target domain. A file of several slices becomes an array (N, H, W, C') with
          the values of `cyclegan translate`: the network reads pixels without data as the lowest value, and empty
          slices of CT and MR stay empty. A gray file has the C' channels of the network here, whereas `cyclegan
          translate` writes gray.

        Raises:
          ValueError: the array has another shape or dtype, or holds NaN, or floats outside [-1, 1] without a range; or
            the network fails, or returns NaN or images of another size.
          OSError: the disk has no room for the temporary files of tiles.
          UserError: the file cannot be read or decoded, or the generator does not support tiles.
        """
        if isinstance(image, str | os.PathLike):
            found = _read_image(os.fspath(image), self)
            if isinstance(found, stack_files.Images):
                return self._translate_slices(found, tile, folder, progress)
            image = found
        images = array_files.to_native(np.asarray(image))
        if images.ndim == 2 and self.input_channels == 1:
            result = self.translate(images[..., np.newaxis], tile, folder, progress)
            return result[..., 0] if self.output_channels == 1 else result
        dtype = images.dtype
        if self.units.source is not None:
            if dtype.kind not in "iuf":
                raise ValueError(f"the image has dtype {dtype}; expected integers or floats")
            images, _ = units_lib.normalize(Slice(images), self.units.source)
        result = self.translate_pixels(images, tile, folder, progress)
        if not self.units:
            return result
        target = self.units.target
        return units_lib.to_unit(ranges.to_float(result), target, units_lib.choose_dtype(target, dtype))

    def _translate_slices(
        self, images: stack_files.Images, tile: int, folder: str | None, progress: Callable[[float], None] | None
    ) -> np.ndarray:
        """Translates the slices of a file to values in the unit of the target domain."""
        floats = ranges.to_float(self.translate_pixels(images.pixels, tile, folder, progress))
        floats = np.where(images.is_empty[..., np.newaxis, np.newaxis, np.newaxis], np.float32(-1), floats)
        return units_lib.to_unit(floats, self.units.target, images.result_dtype)

    def translate_files(
        self, input: str | os.PathLike[str], output: str | os.PathLike[str], *, overwrite: bool = False,
        batch_size: int = 4, tile: int = 0, max_side: int = 0, slice_axis: SliceAxis | None = None,
        volume: int | None = None, keep_patient_data: bool = False,
    ) -> dict[str, str]:
        """Translates files to files, as `cyclegan translate` does: images, DICOM series, volumes, stacks and videos.

        A file that cannot be read or translated, or whose result cannot be written, is skipped with a warning; the
        other files are translated.

        Args:
          input: file; folder, for all images in the folder and its subfolders; or pattern with *, ? or **.
          output: folder for the results, or the result file of a single input.
          overwrite: whether to replace results that exist already.
          batch_size: images of one size (at most a megapixel in all), or frames of a video, to translate at once.
          tile: as in `translate`.
          max_side: if not 0, the longer side in pixels to which larger images are shrunk before their translation; not
            for videos, files of slices, files with a geometry, and images in a unit.
          slice_axis: direction of the slices of NIfTI volumes: "axial", "coronal" or "sagittal"; default: as in the
            run, or axial.
          volume: number of the volume in a 4-D NIfTI file, from 1; default: as in the run, or 0, with which a 4-D file
            is skipped.
          keep_patient_data: whether DICOM results keep the patient's data and all other attributes that do not describe
            their pixels, and NIfTI results keep texts in the header; by default, only geometry and acquisition.

        Returns:
          {path: reason} of the skipped files; empty if all files were translated. A DICOM series is skipped as a whole.

        Raises:
          UserError: an argument is wrong, there are no files, or a result exists already; nothing is written. The
            message names arguments as the command does, such as --overwrite.
        """
        source, target = (os.path.expanduser(os.fspath(path)) for path in (input, output))
        if not target:
            raise UserError("--output is empty; give a folder, or the file of a single result")
        for name, value, minimum in (("batch_size", batch_size, 1), ("tile", tile, 0), ("max_side", max_side, 0)):
            if not isinstance(value, numbers.Integral):
                raise UserError(f"--{name}={value!r} must be an integer")
            if value < minimum:
                raise UserError(f"--{name}={value} must be at least {minimum}")
        given = {"slice_axis": slice_axis, "volume": volume}
        chosen = {name: validate(FIELDS[name], value) for name, value in given.items() if value is not None}
        options = dataclasses.replace(self.stack_options, keep_patient_data=keep_patient_data, **chosen)
        return file_translation.translate_files(
            dataclasses.replace(self, stack_options=options), source, target, overwrite=overwrite,
            batch_size=batch_size, tile=tile, max_side=max_side,
        )

    def translate_pixels(
        self, images: np.ndarray, tile: int = 0, folder: str | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> np.ndarray:
        """Translates images of a data set, without units: uint8, uint16, or floats in [-1, 1].

        Takes the arguments of `translate`. If the target domain has a range, the result is float32 in [-1, 1].

        Raises:
          ValueError, OSError, UserError: as `translate` for arrays without a range.
        """
        if images.dtype == np.float64:
            images = images.astype(np.float32)
        if images.ndim not in (3, 4) or images.shape[-1] != self.input_channels:
            shape = f"height, width, {self.input_channels}"
            raise ValueError(f"the image has shape {images.shape}; expected ({shape}), or (N, {shape}) for N images")
        if images.dtype not in (np.uint8, np.uint16, np.float32):
            raise ValueError(f"the image has dtype {images.dtype}; expected uint8, uint16, or floats in [-1, 1]")
        if not images.size:
            raise ValueError(f"the image has shape {images.shape} and no pixels")
        ranges.require_range(images)
        return self.network.translate_pixels(images, tile, folder, progress, check=_refuse_nan)


def _refuse_nan(floats: np.ndarray) -> None:
    """Raises a ValueError if a network's output contains NaN, which would become black in a file of integers."""
    if count := int(np.count_nonzero(np.isnan(floats))):
        raise ValueError(f"the network returns NaN in {count} of {floats.size} values; use another checkpoint, or "
                         "export the network again")


def _read_image(path: str, translator: LoadedTranslator) -> np.ndarray | stack_files.Images:
    """Reads an image file for `translator`: (H, W, C), in units if the translator has them; or the slices of a file."""
    try:
        found = stack_files.read(path, translator.stack_options, translator.units)
        if found is not None:
            return found
        return image_files.read(path, translator.input_channels, in_units=translator.units.source is not None)[0]
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as an image: {describe_error(error)}") from error


def load(path: str | os.PathLike[str], direction: str | None = None) -> LoadedTranslator:
    """Loads one direction from a run directory, a SavedModel folder, a .pth file of a generator, or a .tflite file.

    Args:
      path: where the trained generator is. For a run, `path` may also be one of its checkpoint files
        (RUN/checkpoints/best.npz). "demo" and "demo_maps" are trained runs in the package. The architecture of a .pth
        file is inferred from its weights, which do not show whether padding is reflect or replicate: convert such a
        file to a run with --padding=replicate.
      direction: a2b or b2a, for a run; default: a2b, or the run's only direction. Each of the other kinds holds only
        one direction.

    Raises:
      UserError: `path` does not exist, is damaged, or is of another kind.
    """
    path = os.fspath(path)
    wanted = Direction.parse(direction) if direction else None
    if run_directory.is_run(path):
        (translator,) = _load_run(path, wanted, limit=1).values()
        return translator
    require_model(path)
    if wanted:
        raise UserError(f"{path} holds only one direction; leave out the direction, or give the run directory")
    return _load_file(path)


def require_model(path: str) -> None:
    """Raises a UserError with the reason if `path`, which is not a run, is not a model either."""
    exists = filesystem.exists(path)
    is_file = exists and path.endswith((".pth", ".tflite"))
    if is_file or filesystem.exists(os.path.join(path, "saved_model.pb")):
        return
    if filesystem.isdir(path) and any(name.endswith(".pth") for name in filesystem.listdir(path)):
        raise UserError(f"{path} is a folder of .pth files: give one generator, such as latest_net_G_A.pth, or convert "
                        f"the folder to a run with `cyclegan convert --from_pytorch={path} --output=RUN`")
    problem = "is not a trained model" if exists else "does not exist"
    raise UserError(f"{path} {problem}: expected a run directory, a checkpoint in one, a SavedModel folder, a .pth "
                    "file, a .tflite file, demo or demo_maps")


def load_directions(
    path: str | os.PathLike[str], direction: str | None = None
) -> dict[Direction, LoadedTranslator]:
    """Loads all directions at `path`, or only `direction`.

    A CycleGAN run holds two directions; every other kind holds one. A SavedModel, .pth or .tflite file does not record
    which direction it holds: `direction` says so, otherwise the beginning of the file's name.

    Raises:
      UserError: as `load`; or the direction is unknown; or a pix2pix run is asked for b2a.
    """
    path = os.fspath(path)
    wanted = Direction.parse(direction) if direction else None
    if run_directory.is_run(path):
        return _load_run(path, wanted)
    require_model(path)
    wanted = wanted or Direction.find_in_name(os.path.basename(path.rstrip("/")))
    if wanted is None:
        raise UserError(f"the name of {path} does not show its direction: give --direction=a2b or --direction=b2a")
    return {wanted: _load_file(path)}


def _load_run(path: str, direction: Direction | None, limit: int | None = None) -> dict[Direction, LoadedTranslator]:
    run = translator_lib.load_run(path, direction, limit)
    return {
        direction: LoadedTranslator(translator, stacks.make_options(run.config, direction.source))
        for direction, translator in run.translators.items()
    }


def _load_file(path: str) -> LoadedTranslator:
    """Loads a .pth file, a .tflite file or a SavedModel folder."""
    network = _load_network(path)
    return LoadedTranslator(network, StackOptions(network.input_channels, in_units=network.units.source is not None))


def _load_network(path: str) -> translator_lib.PixelTranslator:
    if path.endswith(".pth"):
        return _load_pytorch(path)
    if path.endswith(".tflite"):
        found = tflite_model.Interpreter(path)
        return translator_lib.PixelTranslator(found, found.input_channels, found.output_channels, found.units)
    return _load_saved_model(path)


def _load_saved_model(path: str) -> translator_lib.PixelTranslator:
    network = saved_model.open_saved_model(path)
    given, returned = network.input_spec, network.output_spec
    if given.dtype != tf.float32 or not _has_channels(given):
        raise UserError(f"{path} takes {given.dtype.name} of shape {given.shape}; expected float32 images (N, H, W, C)")
    if not returned.dtype.is_floating or not _has_channels(returned):
        raise UserError(f"{path} returns {returned.dtype.name} {returned.shape}; expected float32 images (N, H, W, C)")

    def forward(images: np.ndarray) -> tf.Tensor:
        try:
            return network(images)
        except tf.errors.OpError as error:
            if exhaustion.is_exhausted(error):
                raise
            height, width = images.shape[1:3]
            reason = get_first_line(error)
            raise ValueError(f"the SavedModel fails on images of {width} x {height} pixels ({reason})") from error

    return translator_lib.PixelTranslator(forward, given.shape[-1], returned.shape[-1], network.units)


def _has_channels(spec: tf.TensorSpec) -> bool:
    """Whether the shape is (N, H, W, C) with a known number C of channels."""
    return spec.shape.rank == 4 and spec.shape[-1] is not None


def _load_pytorch(path: str) -> translator_lib.Translator:
    options, weights = torch_files.read_network(path)
    if options["kind"] != "generator":
        raise UserError(f"{path} holds a discriminator; the authors' code names files of generators G_A, G_B or G")
    # The identity loss, which a translation does not need, would require images of equal channels.
    config = Config(**{name: value for name, value in options.items() if name in FIELDS}, lambda_identity=0.0)
    return translator_lib.build(config, Direction.A2B, weights, path)
