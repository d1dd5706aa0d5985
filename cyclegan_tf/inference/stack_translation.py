"""Translates files of slices, such as TIFF stacks, slice by slice, with a few slices in memory."""

import contextlib
import itertools
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cyclegan_tf import console
from cyclegan_tf.config.value_ranges import ValueRange
from cyclegan_tf.errors import describe_error
from cyclegan_tf.images import codec, ranges, stack_files, units
from cyclegan_tf.images.dicom_series import Series
from cyclegan_tf.images.stacks import Slice, Stack
from cyclegan_tf.storage import filesystem

if TYPE_CHECKING:
    from cyclegan_tf.inference.loading import LoadedTranslator

log = logging.getLogger("cyclegan_tf")

# Most pixels in a batch, unless a single image is larger. The paper's generator needs about 0.7 GB for such a batch.
BATCH_PIXELS = 2**20


def limit_batch(batch_size: int, height: int, width: int) -> int:
    """Returns how many images of a size to translate at once: at most `batch_size`, at least 1."""
    return max(1, min(batch_size, BATCH_PIXELS // (height * width)))


def open_source(translator: "LoadedTranslator", paths: Sequence[str]) -> Stack | None:
    """Opens a file of slices, or a series of files; None for a plain image that `images.files` can read and write.

    Logs what the translation of the file leaves out.

    Args:
      paths: a file, or the DICOM files of a series.

    Raises:
      ValueError, OSError: a file is damaged or cannot be read.
    """
    path, options = paths[0], translator.stack_options
    if len(paths) > 1:
        return Series(paths, options)
    stack = stack_files.open_file(path, options)
    if stack is None:
        return None
    if left_out := _describe_left_out(stack):
        log.warning("%s: the result leaves out %s", console.escape(path), left_out)
    gives_picture = translator.output_channels in (1, 3) and translator.units.target is None
    if stack.is_plain and gives_picture and not stack.has_more_metadata:
        stack.close()
        return None
    return stack


def _describe_left_out(stack: Stack) -> str:
    """Names the parts of a file that its translation leaves out; empty if the translation keeps all."""
    parts = {"smaller copies of pages": stack.has_copies, "masks": stack.has_masks}
    return " and ".join(part for part, is_there in parts.items() if is_there)


def translate(
    translator: "LoadedTranslator", stack: Stack, source: str, target: str, batch_size: int = 1, tile: int = 0,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Translates all slices of a file to a file of the same kind with the same metadata.

    Slices of CT and MR that are empty stay empty. Logs how many values were clipped because they are outside of the
    range of the run.

    Args:
      stack: from `open_source`.
      source: path of the file, for messages.
      target: path of the result; the folder of the results of a series.
      batch_size: slices to translate at once; fewer if they have more than a megapixel together.
      tile: as in `loading.LoadedTranslator.translate`.
      progress: called after each batch with the number of slices that are done.

    Raises:
      ValueError: a slice is damaged, or is not an image that the translator takes, or the result cannot be written.
      OSError: the file cannot be read.
    """
    value_range = translator.units.target
    first = stack.read(0)
    dtype = stack_files.choose_result_dtype(stack, first, value_range)
    # A gray file stays gray if the network takes and gives colors.
    is_gray = first.pixels.shape[-1] == 1 and translator.input_channels == translator.output_channels == 3
    channels = 1 if is_gray else translator.output_channels
    size = limit_batch(batch_size, *first.pixels.shape[:2])
    n_clipped = n_values = done = 0
    with _explain_write_errors(target), stack.create(target, channels, dtype, value_range) as writer:
        # The disk of the results has room for the feature maps of tiles. The target of a series is a folder.
        local = target if os.path.isdir(target) else os.path.dirname(target) or "."
        folder = None if filesystem.is_remote(target) else local
        for batch in _batch(itertools.chain([first], _read_others(stack)), size):
            images = []
            for piece in batch:
                pixels, count = units.prepare(piece, translator.units.source, translator.input_channels)
                n_clipped, n_values = n_clipped + count, n_values + piece.values.size
                images.append(pixels)
            results = translator.translate_pixels(np.stack(images), tile, folder)
            for piece, image, result in zip(batch, images, results, strict=True):
                floats = ranges.to_float(codec.convert_channels(result, 1) if is_gray else result)
                if stack.has_background and units.is_empty(image):
                    # Training leaves empty slices out, so the network would fill an empty slice with arbitrary content.
                    floats = np.full_like(floats, -1)
                writer.write(units.to_unit(floats, value_range, dtype), piece)
            done += len(batch)
            if progress:
                progress(done)
    if n_clipped and translator.units.source is not None:
        warn_of_clipping(source, n_clipped, n_values, translator.units.source)


@contextlib.contextmanager
def _explain_write_errors(target: str) -> Iterator[None]:
    """Turns OSErrors inside the context into ValueErrors that name the result, because callers name the source."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"cannot write {target}: {describe_error(error)}") from error


def _read_others(stack: Stack) -> Iterator[Slice]:
    """Yields all slices after the first; a ValueError says why a slice cannot be read."""
    for index in range(1, len(stack)):
        try:
            piece = stack.read(index)
        except OSError as error:
            raise ValueError(describe_error(error)) from error
        yield piece


def warn_of_clipping(path: str, n_clipped: int, n_values: int, limits: ValueRange) -> None:
    """Logs how many of the values of a file are outside of the range of the run."""
    log.warning("%s: %d of %d values (%.3g %%) are outside of the range %s and are clipped", console.escape(path),
                n_clipped, n_values, 100 * n_clipped / n_values, limits)


def _batch(pieces: Iterator[Slice], size: int) -> Iterator[list[Slice]]:
    """Yields up to `size` consecutive slices of one shape; pages of a TIFF file may have different orientations."""
    for _, alike in itertools.groupby(pieces, key=lambda piece: piece.pixels.shape):
        while batch := list(itertools.islice(alike, size)):
            yield batch
