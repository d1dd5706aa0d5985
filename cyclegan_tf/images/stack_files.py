"""Opens files of slices, and detects the format of a file."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import IO

import numpy as np

from cyclegan_tf.config.value_ranges import Units, ValueRange
from cyclegan_tf.images import dicom, nifti, suffixes, tiff, tiff_stack, units
from cyclegan_tf.images.stacks import Slice, Stack, StackOptions
from cyclegan_tf.storage import filesystem

Open = Callable[[], IO[bytes]]


def open_stack(open_file: Open, name: str, options: StackOptions) -> Stack | None:
    """Opens a file of slices; None for a file that `codec.decode` must read, or whose damage `codec.decode` explains.

    Args:
      open_file: function that opens the file for reading; the file must be seekable.
      name: name of the file, whose suffix may decide the format.

    Raises:
      ValueError: the file is damaged; the message gives the reason.
      OSError: the file cannot be read.
    """
    if not may_be_stack(name):
        return None
    with contextlib.ExitStack() as resources:
        file = resources.enter_context(open_file())
        head = file.read(dicom.HEAD_BYTES)
        file.seek(0)
        stack = _open(file, head, name, options)
        if stack:
            resources.pop_all()  # The stack closes the file.
        return stack


def open_file(path: str, options: StackOptions) -> Stack | None:
    """Opens a file of slices as `open_stack` does."""
    return open_stack(lambda: filesystem.open_regular_file(path), path, options)


def _open(file: IO[bytes], head: bytes, name: str, options: StackOptions) -> Stack | None:
    if dicom.is_dicom(head, name):
        return dicom.DicomFile(file, options)
    if suffixes.match(name, suffixes.NIFTI):
        return nifti.Volume(file, options)
    return tiff_stack.open_tiff(file, options) if head.startswith(tiff.SIGNATURES) else None


@dataclasses.dataclass(frozen=True)
class Images:
    """The slices of a file as the networks take them; see `units.prepare`.

    Attributes:
      pixels: (H, W, channels), or (N, H, W, channels) for several slices.
      result_dtype: dtype of their translations.
      is_empty: bool () or (N,), True for empty slices of CT and MR; translations of empty slices stay empty.
    """

    pixels: np.ndarray
    result_dtype: np.dtype
    is_empty: np.ndarray


def read(path: str, options: StackOptions, ranges: Units) -> Images | None:
    """Reads the slices of a file into memory; None for a plain image.

    Args:
      ranges: the ranges of the slices and of their translations.

    Raises:
      ValueError: a slice cannot be decoded, or has another number of channels; the message gives the reason.
      OSError: the file cannot be read.
    """
    stack = open_file(path, options)
    if stack is None:
        return None
    with contextlib.closing(stack):
        if stack.is_plain:
            return None
        slices = [stack.read(index) for index in range(len(stack))]
    images = [units.prepare(piece, ranges.source, options.channels)[0] for piece in slices]
    if len({image.shape for image in images}) > 1:
        raise ValueError("the pages have different orientations, so they do not fit one array; write the pages to "
                         "separate files")
    is_empty = [stack.has_background and units.is_empty(image) for image in images]
    pixels, flags = np.stack(images), np.array(is_empty)
    if not stack.is_volume:
        pixels, flags = pixels[0], flags[0]
    return Images(pixels, choose_result_dtype(stack, slices[0], ranges.target), flags)


def choose_result_dtype(stack: Stack, first: Slice, target: ValueRange | None) -> np.dtype:
    """Chooses the dtype of the translated slices of a file; see `units.choose_dtype`.

    Args:
      first: the first slice of the file.
      target: range of the translations, if their values have a unit.
    """
    return units.choose_dtype(target, first.pixels.dtype if target is None else stack.dtype, stack.no_data)


def may_be_stack(name: str) -> bool:
    """False if the suffix of a file name shows that the file holds one image, so there is no need to open the file."""
    return not suffixes.match(name, suffixes.SINGLE)
