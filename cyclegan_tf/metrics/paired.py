"""Measures of a translation whose true result is known."""

import numpy as np
import tensorflow as tf

from cyclegan_tf.errors import UserError
from cyclegan_tf.images import ranges

MS_SSIM_SMALLEST = 161  # Halved four times, rounded up: 11.


def psnr(image, truth):
    """Peak signal-to-noise ratio in dB of images (H, W, C): 10 log10(range^2 / mean squared difference).

    Both are uint8 (range 255), uint16 (65535) or float32 in [-1, 1] (2).
    """
    return float(tf.image.psnr(*_positive(image, truth)))


def ssim(image, truth):
    """Structural similarity, at most 1, of images (H, W, C) of at least 11 x 11 pixels (Wang et al. 2004).

    Gaussian window of 11 pixels and sigma 1.5, K1 = 0.01, K2 = 0.03, each channel on its own, averaged. Kinds of images
    as of `psnr`.
    """
    return float(tf.image.ssim(*_positive(image, truth)))


def ms_ssim(image, truth):
    """Structural similarity at five scales (Wang et al. 2003), of images of at least 161 x 161 pixels; as `ssim`.

    Raises:
      UserError: the images are smaller, so that at the last scale the window of 11 pixels does not fit.
    """
    if min(image.shape[:2]) < MS_SSIM_SMALLEST:
        raise UserError(f"ms_ssim needs images of at least {MS_SSIM_SMALLEST} x {MS_SSIM_SMALLEST} pixels, and there "
                        f"is one of {image.shape[1]} x {image.shape[0]}; leave it out, or give larger images")
    return float(tf.image.ssim_multiscale(*_positive(image, truth)))


def l1(image, truth):
    """Mean absolute difference of images (H, W, C), in units of the range [-1, 1]; kinds of images as of `psnr`."""
    return float(np.mean(np.abs(ranges.to_float(image) - ranges.to_float(truth)), dtype=np.float64))


def _positive(image, truth):
    """Both images in a range that begins at 0, and the end of that range."""
    if image.dtype == np.uint8:
        return tf.convert_to_tensor(image), tf.convert_to_tensor(truth), 255
    if image.dtype == np.uint16:
        # As floats: TensorFlow's own conversion knows uint16, its SSIM does not.
        return tf.cast(image, tf.float32), tf.cast(truth, tf.float32), 65535.0
    return (tf.convert_to_tensor(image) + 1.0) / 2.0, (tf.convert_to_tensor(truth) + 1.0) / 2.0, 1.0
