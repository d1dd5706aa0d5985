"""Images from formulas, equal on every machine, to compare the measuring networks on."""

import numpy as np


def metric_images():
    """Returns images of waves, stripes and patches: uint8 (3, 240, 240, 3)."""
    y, x, c = np.ogrid[:240, :240, :3]
    waves = 128 + 90 * np.sin(x / (7 + 5 * c)) * np.cos(y / (11 + 3 * c)) + 20 * np.sin(x * y / 900)
    stripes = np.where((x + 2 * y * (c + 1)) % 40 < 17, 220 - 60 * c, 30 + 70 * c)
    patches = (x // 48 * 53 + y // 30 * 91 + c * 67) % 256 + 0 * waves
    return np.stack([np.rint(np.clip(image, 0, 255)).astype(np.uint8) for image in (waves, stripes, patches)])
