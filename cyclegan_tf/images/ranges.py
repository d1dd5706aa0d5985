"""Conversions between the value ranges of images.

An image is an array (H, W, C) of one of three dtypes; networks work on floats in [-1, 1].

  uint8    0 .. 255, black to white: most files
  uint16   0 .. 65535: 16-bit PNG and TIFF files, .npy files
  float32  -1 .. 1: .npy and TIFF files of floats
"""

from typing import Any

import numpy as np
import tensorflow as tf

from cyclegan_tf.config.direction import Domain
from cyclegan_tf.errors import UserError
from cyclegan_tf.storage import array_files

_WHITE = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}


def require_range(image: np.ndarray) -> None:
    """Raises a ValueError that states the expected range if an array of floats has values outside [-1, 1], or NaN."""
    if image.dtype.kind != "f":
        return
    if (count := int(np.isnan(image).sum())):
        raise ValueError(f"{count} of {image.size} values are NaN; floats must be in [-1, 1]")
    if (np.abs(image) > 1).any():
        raise ValueError(f"the values are {image.min():.9g} to {image.max():.9g}; floats must be in [-1, 1], for "
                         "example x / 127.5 - 1 for 8-bit values; for other values train with --range_a or --range_b")


def check_given_image(image: Any, domain: Domain, channels: int, in_units: bool = False) -> np.ndarray:
    """Checks an image of the caller of `cyclegan_tf.fit`; returns an array (H, W, channels) of one of the three dtypes.

    Args:
      image: (H, W, channels); (H, W) if there is one channel.
      domain: for the error message.
      in_units: whether the values have a range of their own, and may be integers or floats of any size.

    Raises:
      UserError: the image has another shape or dtype, or floats outside [-1, 1].
    """
    pixels = array_files.to_native(np.asarray(image))
    # Reject (W, 1): a caller who passes one image (H, W, 1) instead of a sequence of images passes H such rows.
    if channels == 1 and pixels.ndim == 2 and pixels.shape[1] != 1:
        pixels = pixels[..., np.newaxis]
    what = f"dataset: an image of {domain.upper()}"
    if pixels.ndim != 3 or not pixels.size or pixels.shape[-1] != channels:
        raise UserError(f"{what} has shape {pixels.shape}; expected (height, width, {channels}), or other values of "
                        "--input_channels and --output_channels")
    if pixels.dtype in (np.uint8, np.uint16) or (in_units and pixels.dtype.kind in "iuf"):
        return pixels
    if pixels.dtype.kind != "f":
        raise UserError(f"{what} has dtype {pixels.dtype}; expected uint8, uint16, or floats in [-1, 1]; for other "
                        "values set range_a or range_b")
    try:
        require_range(pixels)
    except ValueError as error:
        raise UserError(f"{what} cannot be used: {error}") from error
    return pixels.astype(np.float32)


def to_float(image: np.ndarray | tf.Tensor) -> np.ndarray | tf.Tensor:
    """Converts an array or tensor of any supported dtype to float32 in [-1, 1].

    Computes k / 127.5 - 1 for uint8 and k / 32767.5 - 1 for uint16; returns float32 unchanged.
    """
    if image.dtype in (np.float32, tf.float32):
        return image
    if not isinstance(image, np.ndarray):
        # A table, because graphs turn the division into a product with the reciprocal, which rounds differently.
        dtype = np.dtype(image.dtype.as_numpy_dtype)
        return tf.gather(to_float(np.arange(_WHITE[dtype] + 1, dtype=dtype)), tf.cast(image, tf.int32))
    # Compute in place and in C order, because the data pipeline spends most of its time here.
    floats = image.astype(np.float32, order="C")
    floats /= np.float32(_WHITE[image.dtype] / 2)
    floats -= np.float32(1)
    return floats


def from_float(image: np.ndarray | tf.Tensor, dtype: Any) -> np.ndarray | tf.Tensor:
    """Converts floats in [-1, 1], array or tensor, to `dtype`: uint8, uint16 or float32.

    Rounds to the nearest level (halves to even) and clips values outside [-1, 1].
    """
    dtype = tf.as_dtype(dtype).as_numpy_dtype
    if isinstance(image, np.ndarray):
        if dtype == np.float32:
            return np.clip(image, -1, 1).astype(np.float32)
        white = np.float32(_WHITE[np.dtype(dtype)])
        return np.rint(np.clip((image.astype(np.float32) + 1) * (white / 2), 0, white)).astype(dtype)
    image = tf.cast(image, tf.float32)
    if dtype == np.float32:
        return tf.clip_by_value(image, -1.0, 1.0)
    white = float(_WHITE[np.dtype(dtype)])
    return tf.cast(tf.round(tf.clip_by_value((image + 1.0) * (white / 2), 0.0, white)), dtype)


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Converts an image (H, W, C) of any supported dtype to uint8 (H, W, 3) for viewing.

    One channel becomes gray; the mean of two channels becomes gray; of more than three channels, the first three count.
    """
    if image.shape[-1] == 2:
        image = from_float(to_float(image).mean(-1, keepdims=True), image.dtype)
    if image.dtype != np.uint8:
        image = from_float(np.nan_to_num(to_float(image)), np.uint8)
    return np.broadcast_to(image, (*image.shape[:2], 3)) if image.shape[-1] == 1 else image[..., :3]
