"""Conversions between pixel values in their own unit, such as Hounsfield units, and the floats of the networks.

The networks see floats in [-1, 1]. A `ValueRange` maps values to floats and back; values outside the range are clipped.
"""

import functools
import math

import numpy as np

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import Domain
from cyclegan_tf.config.value_ranges import ValueRange
from cyclegan_tf.images import codec, ranges
from cyclegan_tf.images.stacks import Slice
from cyclegan_tf.storage import array_files

_INTEGERS = tuple(np.dtype(kind) for kind in (np.uint8, np.uint16, np.int16, np.int32))


def from_unit(values: np.ndarray, value_range: ValueRange) -> np.ndarray:
    """Maps an array of any integers or floats to float32 in [-1, 1]; values outside of the range are clipped."""
    if values.dtype.kind not in "iu" or values.dtype.itemsize > 2:
        return _map(values, value_range)
    # A table takes a tenth of the time of the arithmetic. The bits of a value are the index into the table.
    native = array_files.to_native(values)
    return np.take(_make_table(native.dtype, value_range), native.view(f"u{native.dtype.itemsize}"))


@functools.lru_cache(8)
def _make_table(dtype: np.dtype, value_range: ValueRange) -> np.ndarray:
    """Tabulates the result of `from_unit` for each value of an integer type, by the bits of the value."""
    bits = np.arange(2 ** (8 * dtype.itemsize), dtype=f"u{dtype.itemsize}")
    return _map(bits.view(f"{dtype.kind}{dtype.itemsize}"), value_range)


def _map(values: np.ndarray, value_range: ValueRange) -> np.ndarray:
    # Compute in float64, because float32 would merge large 32-bit neighbors before the offset is subtracted.
    wide = np.clip(values.astype(np.float64), value_range.low, value_range.high)
    wide -= (value_range.low + value_range.high) / 2
    wide /= (value_range.high - value_range.low) / 2
    # Rounding can exceed the limits if the range is narrow and far from 0.
    return np.clip(wide, -1, 1).astype(np.float32)


def require_numbers(piece: Slice) -> None:
    """Raises a ValueError if the values are neither integers nor floats, or a pixel with data is NaN."""
    if piece.pixels.dtype.kind not in "iuf":
        raise ValueError(f"the values have the type {piece.pixels.dtype}; expected integers or floats")
    if piece.pixels.dtype.kind != "f":
        return
    bad = np.isnan(piece.pixels).any(axis=-1)
    if piece.valid is not None:
        bad &= piece.valid
    if count := int(np.count_nonzero(bad)):
        raise ValueError(f"{count} of {bad.size} pixels are NaN")


def normalize(piece: Slice, value_range: ValueRange) -> tuple[np.ndarray, int]:
    """Maps a slice to float32 (H, W, C) in [-1, 1]; pixels without data become -1.

    Returns:
      (pixels, number of values that were clipped).

    Raises:
      ValueError: a pixel with data is NaN.
    """
    require_numbers(piece)
    values = piece.values
    n_clipped, floats = count_outside(values, value_range), from_unit(values, value_range)
    if piece.valid is None:
        return floats, n_clipped
    filled = np.full(piece.pixels.shape, -1, np.float32)
    filled[piece.valid] = floats
    return filled, n_clipped


def get_plain_pixels(piece: Slice) -> np.ndarray:
    """Returns the pixels of a slice, of a dtype that `images.ranges` describes, for a domain without a range.

    Pixels without data become -1 in images of floats; in images of integers, they keep their value.

    Raises:
      ValueError: the pixels have another dtype, or are floats outside [-1, 1], so the domain needs a range.
    """
    pixels = piece.pixels
    if pixels.dtype in (np.uint8, np.uint16):
        return pixels
    if pixels.dtype.kind == "f" and piece.valid is not None:
        pixels = np.where(piece.valid[..., np.newaxis], pixels, pixels.dtype.type(-1))
    if pixels.dtype.kind in "iu":
        raise ValueError("the values are integers in a unit of the file; train with --range_a or --range_b")
    return codec.check_floats(pixels)


def prepare(piece: Slice, value_range: ValueRange | None, channels: int) -> tuple[np.ndarray, int]:
    """Converts a slice to the image (H, W, channels) that the networks take.

    Returns:
      (pixels, number of clipped values). `normalize` computes the pixels; without a range, `get_plain_pixels` does.

    Raises:
      ValueError: as `normalize` and `get_plain_pixels`; or the slice has another number of channels.
    """
    pixels, n_clipped = (get_plain_pixels(piece), 0) if value_range is None else normalize(piece, value_range)
    return codec.convert_channels(pixels, channels), n_clipped


def is_empty(image: np.ndarray) -> bool:
    """True if all pixels of an image for the networks are the lowest value: a slice of background only."""
    return bool((ranges.to_float(image) == -1).all())


def count_outside(values: np.ndarray, value_range: ValueRange) -> int:
    """Counts the values that `from_unit` clips."""
    low, high = value_range.low, value_range.high
    # Most images have no value outside of the range, and comparing floats with integers is slow.
    if not values.size or (values.min() >= low and values.max() <= high):
        return 0
    if values.dtype.kind in "iu":
        limits = np.iinfo(values.dtype)
        low, high = max(math.ceil(low), limits.min), min(math.floor(high), limits.max)
    return int(np.count_nonzero((values < low) | (values > high)))


def to_unit(floats: np.ndarray, value_range: ValueRange | None, dtype: np.dtype) -> np.ndarray:
    """Maps floats in [-1, 1] to values in their unit; clips the values, and rounds them for an integer `dtype`.

    Without a range, converts the floats with `ranges.from_float`.
    """
    if value_range is None:
        return ranges.from_float(floats, dtype)
    half = (value_range.high - value_range.low) / 2
    wide = np.clip(floats.astype(np.float64), -1, 1) * half + (value_range.low + value_range.high) / 2
    # The sum can exceed the range by rounding.
    wide = np.clip(wide, value_range.low, value_range.high)
    return np.rint(wide).astype(dtype) if np.dtype(dtype).kind in "iu" else wide.astype(dtype)


def choose_dtype(
    value_range: ValueRange | None, source: np.dtype, no_data: float | None = None
) -> np.dtype:
    """Chooses the dtype of a translated file whose values have the range `value_range`.

    Floats stay float32, or float64 if there is a range. Without a range, integers other than uint8 become uint16. For a
    range of whole numbers (`ValueRange.is_whole`), the dtype is the source's integer type, or else the first type that
    holds the range and `no_data`: uint8, uint16, int16, int32. For other ranges, the dtype is float32.

    Args:
      value_range: range of the result; None for the full range of uint8 and uint16, and [-1, 1] for floats.
      source: dtype of the file that is translated.
      no_data: a value, possibly outside the range, that the dtype must hold, too.
    """
    source = np.dtype(source)
    if source.kind == "f":
        return np.dtype(np.float64 if source.itemsize == 8 and value_range is not None else np.float32)
    if value_range is None:
        return source if source in (np.uint8, np.uint16) else np.dtype(np.uint16)
    needed = [value_range.low, value_range.high, *([] if no_data is None else [no_data])]
    if value_range.is_whole and all(float(value).is_integer() for value in needed):
        for dtype in (*([source] if source.kind in "iu" else []), *_INTEGERS):
            if np.iinfo(dtype).min <= min(needed) and max(needed) <= np.iinfo(dtype).max:
                return dtype
    return np.dtype(np.float32)


def to_rgb(image: np.ndarray, config: Config, domain: Domain) -> np.ndarray:
    """Converts an image of a domain to uint8 (H, W, 3) for viewing, through the window of the config.

    Args:
      image: (H, W, C), an input or an output of the networks, of a dtype that `images.ranges` describes.
    """
    value_range, window = config.get_range(domain), config.get_window(domain)
    if window is None or value_range is None:
        return ranges.to_rgb(image)
    black, white = (_place(bound, value_range) for bound in (window.low, window.high))
    floats = (ranges.to_float(image) - (black + white) / 2) / ((white - black) / 2)
    return ranges.to_rgb(np.clip(floats, -1, 1).astype(np.float32))


def _place(value: float, value_range: ValueRange) -> float:
    """Maps a value to the scale of [-1, 1] without clipping, so a value outside the range is beyond -1 or 1."""
    return (value - (value_range.low + value_range.high) / 2) / ((value_range.high - value_range.low) / 2)
