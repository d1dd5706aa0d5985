"""Measures of an image against the true image.

Both images are arrays (H, W, C) of one kind: uint8, uint16, or float32 in [-1, 1].
"""

import numpy as np
import tensorflow as tf

from cyclegan_tf.errors import UserError
from cyclegan_tf.images import ranges

# Halved four times and rounded up, 161 pixels become 11, the size of the window.
MS_SSIM_SMALLEST = 161


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB: 10 log10(range^2 / mean squared error), with range 255, 65535 or 2."""
    return float(tf.image.psnr(*_shift_to_zero(image, truth)))


def ssim(image: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity, at most 1, of images of at least 11 x 11 pixels (Wang et al. 2004).

    Gaussian window of 11 pixels with sigma 1.5, K1 = 0.01, K2 = 0.03; computed per channel and averaged.
    """
    return float(tf.image.ssim(*_shift_to_zero(image, truth)))


def ms_ssim(image: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity at five scales (Wang et al. 2003), of images of at least 161 x 161 pixels; see `ssim`.

    Raises:
      UserError: the image is smaller, so that the window of 11 pixels does not fit at the last scale.
    """
    if min(image.shape[:2]) < MS_SSIM_SMALLEST:
        raise UserError(f"ms_ssim needs images of at least {MS_SSIM_SMALLEST} x {MS_SSIM_SMALLEST} pixels, but one has "
                        f"{image.shape[1]} x {image.shape[0]}: use larger images, or another measure")
    return float(tf.image.ssim_multiscale(*_shift_to_zero(image, truth)))


def l1(image: np.ndarray, truth: np.ndarray) -> float:
    """Mean absolute difference, in units of the range [-1, 1]."""
    return float(np.mean(np.abs(ranges.to_float(image) - ranges.to_float(truth)), dtype=np.float64))


def _shift_to_zero(image: np.ndarray, truth: np.ndarray) -> tuple[tf.Tensor, tf.Tensor, float]:
    """Both images in a range that starts at 0, and the end of that range."""
    if image.dtype == np.uint8:
        return tf.convert_to_tensor(image), tf.convert_to_tensor(truth), 255
    if image.dtype == np.uint16:
        # tf.image.ssim does not support uint16.
        return tf.cast(image, tf.float32), tf.cast(truth, tf.float32), 65535.0
    return (tf.convert_to_tensor(image) + 1.0) / 2.0, (tf.convert_to_tensor(truth) + 1.0) / 2.0, 1.0
