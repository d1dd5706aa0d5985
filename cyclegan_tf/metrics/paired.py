"""Measures of an image against the true image.

Both images are arrays (H, W, C) of one kind: uint8, uint16, or float32 in [-1, 1].
"""

import math

import numpy as np
import tensorflow as tf

from cyclegan_tf.errors import UserError
from cyclegan_tf.images import ranges

_WINDOW = 11  # Side of the Gaussian window of SSIM in pixels.
_MS_SSIM_SMALLEST = 161  # Halved four times and rounded up, 161 pixels become 11.

# A graph, because starting each operation from Python would take longer than computing on a small image.
_IMAGE = tf.TensorSpec((None, None, None), tf.float32)
_ssim = tf.function(tf.image.ssim, autograph=False, input_signature=(_IMAGE, _IMAGE, tf.TensorSpec((), tf.float32)))


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB: 10 log10(range^2 / mean squared error), with range 255, 65535 or 2."""
    return float(tf.image.psnr(*_scale(image, truth), 1.0))


def compute_psnr(squared_error: float, peak: float) -> float:
    """Computes the PSNR in dB from a mean squared error: 10 log10(peak^2 / squared_error), infinite for no error."""
    return 10 * math.log10(peak**2 / squared_error) if squared_error else math.inf


def ssim(image: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity, at most 1, of images of at least 11 x 11 pixels (Wang et al. 2004).

    Gaussian window of 11 pixels with sigma 1.5, K1 = 0.01, K2 = 0.03; computed per channel and averaged.

    Raises:
      UserError: the image is smaller than the window.
    """
    require_size("ssim", image, _WINDOW)
    return float(_ssim(*_scale(image, truth), 1.0))


def ms_ssim(image: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity at five scales (Wang et al. 2003), of images of at least 161 x 161 pixels; see `ssim`.

    Raises:
      UserError: the image is smaller, so that the window of 11 pixels does not fit at the last scale.
    """
    require_size("ms_ssim", image, _MS_SSIM_SMALLEST)
    return float(tf.image.ssim_multiscale(*_scale(image, truth), 1.0))


def l1(image: np.ndarray, truth: np.ndarray) -> float:
    """Mean absolute difference of two images whose values are scaled to [-1, 1]."""
    return float(np.mean(np.abs(ranges.to_float(image) - ranges.to_float(truth)), dtype=np.float64))


def require_size(name: str, image: np.ndarray, smallest: int) -> None:
    """Raises a UserError if an image (H, W, C) is smaller than `smallest` pixels in height or width."""
    if min(image.shape[:2]) < smallest:
        raise UserError(f"{name} needs images of at least {smallest} x {smallest} pixels, but one has {image.shape[1]} "
                        f"x {image.shape[0]}: use larger images, or another measure")


def _scale(image: np.ndarray, truth: np.ndarray) -> list[np.ndarray]:
    """Scales both images to float32 in [0, 1], because SSIM loses digits with larger values."""
    peak = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 0
    return [
        each.astype(np.float32) / np.float32(peak) if peak else (each + np.float32(1)) / 2 for each in (image, truth)
    ]
