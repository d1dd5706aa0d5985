"""The kernel distance between two sets of features (Binkowski et al. 2018, "Demystifying MMD GANs", section 4).

KID is this distance where the features are those of the 2015 Inception network; see `inception`.
"""

import numpy as np

from cyclegan_tf.errors import UserError

SUBSETS, SUBSET_SIZE = 100, 100


def distance(features, reference, subsets=SUBSETS, subset_size=SUBSET_SIZE, seed=0):
    """Mean and standard deviation, over random subsets, of the unbiased squared MMD with the kernel (x'y / d + 1)^3.

    Args:
      features, reference: (n, d) and (k, d), of any float type; computed in float64.
      subsets: how many pairs of subsets are drawn, each without replacement.
      subset_size: images in each subset; half of the smaller set where that is less, but 2.
      seed: of the draw.

    Returns:
      (mean, standard deviation, images in a subset). The estimate is without bias, so that it lies around 0 for two
      samples of one distribution, on both sides of it, and at or below 0 for a set and itself.

    Raises:
      UserError: a set has fewer than two images.
    """
    sets = [np.asarray(values, np.float64) for values in (features, reference)]
    for values in sets:
        if len(values) < 2:
            raise UserError(f"KID needs at least 2 images on each side, and there are {len(values)}; give more images")
    size = min(subset_size, max(2, min(map(len, sets)) // 2))
    random = np.random.default_rng(seed)
    values = [
        squared_mmd(*(each[random.choice(len(each), size, replace=False)] for each in sets)) for _ in range(subsets)
    ]
    return float(np.mean(values)), float(np.std(values)), size


def squared_mmd(x, y):
    """Unbiased estimate of the squared maximum mean discrepancy of two float64 samples (n, d) and (k, d), n, k > 1."""
    n, k = len(x), len(y)
    of_x, of_y, between = _kernel(x, x), _kernel(y, y), _kernel(x, y)
    # Without the diagonals, where an image is compared with itself.
    within = (of_x.sum() - np.trace(of_x)) / (n * (n - 1)) + (of_y.sum() - np.trace(of_y)) / (k * (k - 1))
    return float(within - 2 * between.mean())


def _kernel(x, y):
    return (x @ y.T / x.shape[1] + 1) ** 3
