"""Measures of a translation whose true result is known."""

import tensorflow as tf


def psnr(image, truth):
    """Peak signal-to-noise ratio in dB of uint8 images (H, W, C): 10 log10(255^2 / mean squared difference)."""
    return float(tf.image.psnr(image, truth, max_val=255))


def ssim(image, truth):
    """Structural similarity, at most 1, of uint8 images (H, W, C) of at least 11 x 11 pixels (Wang et al. 2004).

    Gaussian window of 11 pixels and sigma 1.5, K1 = 0.01, K2 = 0.03, each channel on its own, averaged.
    """
    return float(tf.image.ssim(tf.convert_to_tensor(image), tf.convert_to_tensor(truth), max_val=255))
