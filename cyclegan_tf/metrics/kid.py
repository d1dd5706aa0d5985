"""Kernel distance between two sets of features (Binkowski et al. 2018, "Demystifying MMD GANs", section 4).

KID is this distance between features of the 2015 Inception network; see `inception`.
"""

import numpy as np

from cyclegan_tf.errors import UserError

SUBSETS, SUBSET_SIZE = 100, 100
SEED = 0  # Seed of the random subsets.


def compute_distance(features: np.ndarray, reference: np.ndarray) -> tuple[float, float, int]:
    """Returns the kernel distance between two sets of features: the unbiased squared MMD, averaged over random subsets.

    The kernel is (x'y / d + 1)^3. There are `SUBSETS` pairs of subsets, each drawn without replacement. A subset has
    `SUBSET_SIZE` images, or half of the smaller set, but at least 2.

    Args:
      features, reference: arrays (n, d) and (k, d) of any float type; computed in float64.

    Returns:
      (mean, standard deviation, images in a subset). The mean and the standard deviation are over the subsets. The
      estimate is unbiased: for two samples of one distribution, the mean scatters around 0 and can be negative; for a
      set and itself, the expected mean is at most 0.

    Raises:
      UserError: a set has fewer than two images.
    """
    sets = [np.asarray(values, np.float64) for values in (features, reference)]
    for values in sets:
        if len(values) < 2:
            raise UserError(f"kid needs at least 2 images on each side, but one side has {len(values)}: add images")
    size = min(SUBSET_SIZE, max(2, min(map(len, sets)) // 2))
    random = np.random.default_rng(SEED)
    estimates = [
        compute_squared_mmd(*(each[random.choice(len(each), size, replace=False)] for each in sets))
        for _ in range(SUBSETS)
    ]
    return float(np.mean(estimates)), float(np.std(estimates)), size


def compute_squared_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """Estimates the squared maximum mean discrepancy of float64 samples (n, d) and (k, d), n, k > 1, without bias."""
    n, k = len(x), len(y)
    of_x, of_y, between = _kernel(x, x), _kernel(y, y), _kernel(x, y)
    # Leave the diagonals out, because they compare each image with itself.
    within = (of_x.sum() - np.trace(of_x)) / (n * (n - 1)) + (of_y.sum() - np.trace(of_y)) / (k * (k - 1))
    return float(within - 2 * between.mean())


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3
