"""Fréchet distance between two sets of features (Heusel et al. 2017, eq. 6).

FID is this distance between features of the 2015 Inception network; see `inception`.
"""

import numpy as np

from cyclegan_tf.errors import UserError


def compute_distance(features: np.ndarray, reference: np.ndarray) -> float:
    """Returns the Fréchet distance between two sets of features.

    The distance is |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) for means m and covariances S. Let the rows of X and Y
    be the deviations from the means: S1 = X'X / (n - 1) and S2 = Y'Y / (k - 1). Then the trace of the square root is
    the sum of the singular values of XY' / ((n - 1)(k - 1))^(1/2). This form takes no matrix square root, so it stays
    accurate with fewer images than dimensions, where S1 and S2 are singular.

    Args:
      features, reference: arrays (n, d) and (k, d) of any float type; computed in float64.

    Returns:
      A float >= 0; 0 for equal sets, up to rounding.

    Raises:
      UserError: a set has fewer than two images, so the covariance of the set is undefined.
    """
    sets = [np.asarray(values, np.float64) for values in (features, reference)]
    for values in sets:
        if len(values) < 2:
            raise UserError(f"fid needs at least 2 images on each side, but one side has {len(values)}: add images")
    means = [values.mean(axis=0) for values in sets]
    deviations = [(values - mean) / np.sqrt(len(values) - 1) for values, mean in zip(sets, means, strict=True)]
    variance = sum(np.sum(values**2) for values in deviations)
    # R of a QR decomposition gives the same singular values, with at most d rows instead of n.
    small = [np.linalg.qr(values, mode="r") if len(values) > values.shape[1] else values for values in deviations]
    root = np.linalg.svd(small[0] @ small[1].T, compute_uv=False).sum()
    return float(max(0.0, np.sum((means[0] - means[1]) ** 2) + variance - 2 * root))
