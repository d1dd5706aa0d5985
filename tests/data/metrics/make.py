"""Makes distances.npz: features, and the distances between them by torchmetrics; see README.md, one folder up.

Run with: numpy torch==2.13.0 torchmetrics==1.9.0
"""

import numpy as np
import torch
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import poly_mmd

rng = np.random.default_rng(10)
arrays = {}
for name, n, k, dimensions in (("many", 64, 48, 12), ("few", 20, 24, 40), ("two", 2, 5, 6)):
    x = (np.abs(rng.normal(0.4, 0.3, (n, dimensions))) @ rng.normal(0.2, 0.2, (dimensions, dimensions))).astype("f4")
    y = np.abs(rng.normal(0.5, 0.4, (k, dimensions))).astype("f4")
    arrays |= {f"{name}/x": x, f"{name}/y": y}
    x, y = x.astype("f8"), y.astype("f8")
    moments = [part for each in (x, y) for part in (each.mean(axis=0), np.cov(each, rowvar=False))]
    arrays[f"{name}/frechet"] = np.float64(_compute_fid(*map(torch.from_numpy, moments)))
    # poly_mmd needs sets of equal size.
    size = min(n, k)
    arrays[f"{name}/squared_mmd"] = np.float64(poly_mmd(torch.from_numpy(x[:size]), torch.from_numpy(y[:size])))
np.savez_compressed("distances.npz", **arrays)
print({key: float(value) for key, value in arrays.items() if value.ndim == 0})
