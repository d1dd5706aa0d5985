"""Measures of a translation whose true result is known."""

import numpy as np
import tensorflow as tf


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


def _positive(image, truth):
    """Both images in a range that begins at 0, and the end of that range."""
    if image.dtype == np.uint8:
        return tf.convert_to_tensor(image), tf.convert_to_tensor(truth), 255
    if image.dtype == np.uint16:
        # As floats: TensorFlow's own conversion knows uint16, its SSIM does not.
        return tf.cast(image, tf.float32), tf.cast(truth, tf.float32), 65535.0
    return (tf.convert_to_tensor(image) + 1.0) / 2.0, (tf.convert_to_tensor(truth) + 1.0) / 2.0, 1.0
