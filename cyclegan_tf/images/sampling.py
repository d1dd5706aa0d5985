"""A sample of the values of an array, for statistics of large images."""

import math

import numpy as np


def sample_evenly(values: np.ndarray, count: int) -> np.ndarray:
    """Returns every n-th value of a flat array: about `count` values, or all values of a smaller array.

    n has no common factor with the size. Otherwise, the values of an image would come from some of its channels or
    columns only.
    """
    step = max(1, values.size // count)
    while math.gcd(step, values.size) > 1:
        step += 1
    return values[::step]
