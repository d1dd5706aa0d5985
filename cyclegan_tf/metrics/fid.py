"""The Frechet distance between two sets of features (Heusel et al. 2017, eq. 6).

FID is this distance where the features are those of the 2015 Inception network; see `inception`.
"""

import numpy as np

from cyclegan_tf.errors import UserError


def distance(features, reference):
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) of the Gaussians with the means m and covariances S of two sets.

    With deviations X and Y from the means as rows, S1 = X'X / (n - 1) and S2 = Y'Y / (k - 1), and the trace of the root
    is the sum of the singular values of XY' / ((n - 1)(k - 1))^(1/2). So no square root of a matrix is taken, which
    with fewer images than dimensions would be one of a singular matrix.

    Args:
      features, reference: (n, d) and (k, d), of any float type; computed in float64.

    Returns:
      float >= 0; 0 for equal sets, up to rounding.

    Raises:
      UserError: a set has fewer than two images, which have no covariance.
    """
    sets = [np.asarray(values, np.float64) for values in (features, reference)]
    for values in sets:
        if len(values) < 2:
            raise UserError(f"FID needs at least 2 images on each side, and there are {len(values)}; give more images")
    means = [values.mean(axis=0) for values in sets]
    scaled = [(values - mean) / np.sqrt(len(values) - 1) for values, mean in zip(sets, means, strict=True)]
    variance = sum(np.sum(values**2) for values in scaled)
    # An orthogonal factor from the left changes no singular value; this makes at most d rows of n.
    small = [np.linalg.qr(values, mode="r") if len(values) > values.shape[1] else values for values in scaled]
    root = np.linalg.svd(small[0] @ small[1].T, compute_uv=False).sum()
    return float(max(0.0, np.sum((means[0] - means[1]) ** 2) + variance - 2 * root))
