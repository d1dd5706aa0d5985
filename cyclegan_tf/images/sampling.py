"""Samples the values of an array, for statistics of large images."""

import numpy as np

_GOLDEN_RATIO = (np.sqrt(5) - 1) / 2


def sample_evenly(values: np.ndarray, count: int) -> np.ndarray:
    """Returns up to `count` values of a flat array, in order: at least half as many, or all values of a smaller array.

    The places are multiples of the golden ratio, modulo the size: they are spread evenly, and without a period, so that
    the values of an image come from all of its channels and columns.
    """
    if values.size <= count:
        return values
    # Three neighboring multiples on the circle span more than 1 / count of it (three-distance theorem), so at most two
    # fall on the same value.
    places = np.arange(count) * _GOLDEN_RATIO % 1 * values.size
    return values[np.unique(places.astype(np.int64))]
