"""Instance normalization of tensors: statistics in float32 whatever the type of the images.

Maps are (N, H, W, C), float32, bfloat16 or float16; so are the results, of the type of their map.
"""

import tensorflow as tf


# As in `convolutions`.
@tf.autograph.experimental.do_not_convert
def normalized(x, epsilon):
    """(x - mean) / sqrt(var + epsilon), with its derivative in closed form.

    Ioffe and Szegedy 2015, section 3, per image. In half precision the map itself is all that is kept for the
    derivative; only sums over it are in float32.
    """

    @tf.custom_gradient
    def function(x):
        mean, scale = moments(x, epsilon)
        y = scaled(x, mean, scale)

        def gradient(dy):
            along_y = _mean(_single(dy) * _single(y))
            return tf.cast(scale, x.dtype) * (dy - tf.cast(_mean(dy), x.dtype) - y * tf.cast(along_y, x.dtype))

        return y, gradient

    return function(x)


@tf.autograph.experimental.do_not_convert
def moments(x, epsilon):
    """(mean, 1 / sqrt(var + epsilon)) over H and W of each image and channel, float32 (N, 1, 1, C)."""
    mean = _mean(x)
    return mean, tf.math.rsqrt(_mean(tf.square(_single(x) - mean)) + epsilon)


@tf.autograph.experimental.do_not_convert
def scaled(x, mean, scale, gamma=None, beta=None):
    """(x - mean) scale gamma + beta, multiplied out as the libraries do, so that it rounds as theirs."""
    scale = scale if gamma is None else scale * _single(gamma)
    shift = -mean * scale
    return tf.cast(_single(x) * scale + (shift if beta is None else shift + _single(beta)), x.dtype)


def _mean(x):
    return tf.reduce_mean(_single(x), axis=(1, 2), keepdims=True)


def _single(x):
    return tf.cast(x, tf.float32)
