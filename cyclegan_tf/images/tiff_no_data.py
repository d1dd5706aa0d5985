"""Pixels without data in TIFF files, marked by a value that GDAL stores in the tag GDAL_NODATA, or by alpha 0."""

import math
from typing import Any

import numpy as np

TAG = 42113  # GDAL_NODATA


def read(page: Any) -> float | None:
    """Reads the value of pixels without data; None if the page has no such value.

    Raises:
      ValueError: the value is not a number.
    """
    text = page.tags.valueof(TAG)
    if text is None:
        return None
    try:
        return float(str(text).strip("\0 "))
    except ValueError:
        raise ValueError(f"the value of pixels without data (GDAL_NODATA) is {text!r}, which is not a number; "
                         "set a number, for example with gdal_edit.py -a_nodata 0") from None


def find_valid(samples: np.ndarray, no_data: float | None, alpha: np.ndarray | None = None) -> np.ndarray | None:
    """Finds the pixels (H, W) that have data in a channel; None if all pixels have data.

    Args:
      no_data: a value that the dtype of the samples holds, or None; see `fit`.
      alpha: (H, W), 0 for pixels without data, or None.

    Raises:
      ValueError: a pixel is NaN, but NaN is not the no-data value; or only some channels of a pixel are NaN.
    """
    valid = None if alpha is None else alpha > 0
    if no_data is not None:
        missing = np.isnan(samples) if math.isnan(no_data) else samples == samples.dtype.type(no_data)
        has_value = ~missing.all(axis=-1)
        valid = has_value if valid is None else valid & has_value
    if samples.dtype.kind == "f":
        bad = np.isnan(samples).any(axis=-1) & (True if valid is None else valid)
        if count := int(np.count_nonzero(bad)):
            if no_data is not None and math.isnan(no_data):
                raise ValueError(f"{count} pixels are NaN in some channels, but not in all; a pixel has no data "
                                 "(GDAL_NODATA) only if all its channels are NaN: set all channels to NaN, or none")
            raise ValueError(f"{count} pixels are NaN without being marked as pixels without data (GDAL_NODATA); mark "
                             "them, for example with gdal_edit.py -a_nodata nan, or replace them")
    return None if valid is None or valid.all() else valid


def fit(no_data: float | None, dtype: np.dtype) -> float | None:
    """Converts the value of pixels without data to an image's `dtype`; None if the dtype cannot hold the value."""
    if no_data is None:
        return None
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            overflows = math.isfinite(no_data) and np.isinf(dtype.type(no_data))
        return None if overflows else no_data
    if dtype.kind not in "iub":
        return no_data
    limits = np.iinfo(np.uint8 if dtype == np.bool_ else dtype)
    return no_data if no_data.is_integer() and limits.min <= no_data <= limits.max else None


def mark(pixels: np.ndarray, valid: np.ndarray, no_data: float) -> np.ndarray:
    """Sets pixels without data to `no_data`, and moves equal values of other pixels to the next value of the dtype."""
    value = pixels.dtype.type(no_data)
    if pixels.dtype.kind == "f":
        neighbor = np.nextafter(value, pixels.dtype.type(0 if value else 1))
    else:
        neighbor = value - 1 if value == np.iinfo(pixels.dtype).max else value + 1
    pixels = np.where(pixels == value, pixels.dtype.type(neighbor), pixels)
    return np.where(valid[..., np.newaxis], pixels, value)
