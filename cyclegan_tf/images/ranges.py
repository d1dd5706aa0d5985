"""Value ranges of images.

An image is an array (H, W, C) of one of three kinds, and in the networks a float in [-1, 1]:

  uint8    0 .. 255, black to white: most files
  uint16   0 .. 65535: 16-bit PNG and TIFF files, .npy files
  float32  -1 .. 1: .npy and TIFF files of floats
"""

import numpy as np
import tensorflow as tf

_WHITE = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}


def to_float(image):
    """Any kind of image, array or tensor, -> the same in float32 -1 .. 1: k / 127.5 - 1 or k / 32767.5 - 1."""
    if image.dtype in (np.float32, tf.float32):
        return image
    half = np.float32(_WHITE[np.dtype(tf.as_dtype(image.dtype).as_numpy_dtype)] / 2)
    if not isinstance(image, np.ndarray):
        return tf.cast(image, tf.float32) / half - 1.0
    # In place, and in the order of the pixels in the result: the data pipeline spends its time here.
    floats = image.astype(np.float32, order="C")
    floats /= half
    floats -= np.float32(1)
    return floats


def from_float(image, dtype):
    """Floats -1 .. 1, array or tensor, -> the kind of image that `dtype` names, rounded and clipped to its range."""
    dtype = tf.as_dtype(dtype).as_numpy_dtype
    if isinstance(image, np.ndarray):
        if dtype == np.float32:
            return np.clip(image, -1, 1).astype(np.float32)
        white = np.float32(_WHITE[np.dtype(dtype)])
        return np.rint(np.clip((image.astype(np.float32) + 1) * (white / 2), 0, white)).astype(dtype)
    image = tf.cast(image, tf.float32)
    if dtype == np.float32:
        return tf.clip_by_value(image, -1.0, 1.0)
    white = float(_WHITE[np.dtype(dtype)])
    return tf.cast(tf.round(tf.clip_by_value((image + 1.0) * (white / 2), 0.0, white)), dtype)


def to_uint8(image):
    """Float -1 .. 1 -> uint8 0 .. 255, a tensor; rounded, values outside are clipped."""
    return from_float(tf.convert_to_tensor(image), tf.uint8)


def to_rgb(image):
    """Any kind of image (H, W, C) as uint8 (H, W, 3) to look at.

    One channel is shown gray, two as the gray of their mean, more than three by the first three.
    """
    if image.shape[-1] == 2:
        image = from_float(to_float(image).mean(-1, keepdims=True), image.dtype)
    if image.dtype != np.uint8:
        image = from_float(np.nan_to_num(to_float(image)), np.uint8)
    return np.broadcast_to(image, (*image.shape[:2], 3)) if image.shape[-1] == 1 else image[..., :3]
