"""Opens files of slices, and detects the format of a file."""

import contextlib
from collections.abc import Callable
from typing import IO

import numpy as np

from cyclegan_tf.images import codec, dicom, nifti, suffixes, tiff, tiff_stack
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


def read(path: str, options: StackOptions) -> np.ndarray | None:
    """Reads a file of slices into memory; None for a plain image.

    Pixels without data get the lowest value of the slice.

    Returns:
      (H, W, channels), or (N, H, W, channels) for several slices, of a dtype that the options allow.

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
        slices = [_fill(stack.read(index)) for index in range(len(stack))]
    pixels = [codec.convert_channels(each, options.channels) for each in slices]
    return np.stack(pixels) if stack.is_volume else pixels[0]


def _fill(piece: Slice) -> np.ndarray:
    if piece.valid is None or not piece.valid.any():
        return piece.pixels
    return np.where(piece.valid[..., np.newaxis], piece.pixels, piece.values.min())


def may_be_stack(name: str) -> bool:
    """False if the suffix of a file name shows that the file holds one image, so there is no need to open the file."""
    return not suffixes.match(name, suffixes.SINGLE)
