"""Instance normalization of tensors: statistics in float32 whatever the type of the images.

Maps are (N, H, W, C), float32, bfloat16 or float16; so are the results, of the type of their map.
"""

import tensorflow as tf

from cyclegan_tf.ops import hardware

# Images of a batch up to which each has an operation of its own.
_FEW = 8


# As in `convolution`.
@tf.autograph.experimental.do_not_convert
def normalize(x, epsilon):
    """(x - mean) / sqrt(var + epsilon), with its derivative in closed form.

    Ioffe and Szegedy 2015, section 3, per image. In half precision the map itself is all that is kept for the
    derivative; only sums over it are in float32.
    """
    if hardware.has_gpu() and not hardware.portable_ops_forced() and x.shape[0] is not None and x.shape[0] <= _FEW:
        return _batch_norms(x, epsilon)
    fused = hardware.use_cpu_kernels(x) and x.shape[0] <= _FEW

    @tf.custom_gradient
    def function(x):
        if fused and x.dtype == tf.bfloat16:
            y, scale = _fused(x, epsilon)
        else:
            mean, scale = _moments(x, epsilon)
            y = _scale(x, mean, scale)

        def gradient(dy):
            if fused and x.dtype != tf.float16:
                return _fused_gradient(dy, y, scale)
            along_y = _mean(_single(dy) * _single(y))
            return tf.cast(scale, x.dtype) * (dy - tf.cast(_mean(dy), x.dtype) - y * tf.cast(along_y, x.dtype))

        return y, gradient

    return function(x)


@tf.autograph.experimental.do_not_convert
def normalize_by_formula(x, epsilon, gamma=None, beta=None):
    """(x - mean) / sqrt(var + epsilon) * gamma + beta, differentiable any number of times."""
    return _scale(x, *_moments(x, epsilon), gamma, beta)


def _moments(x, epsilon):
    """(mean, 1 / sqrt(var + epsilon)) over H and W of each image and channel, float32 (N, 1, 1, C)."""
    mean = _mean(x)
    return mean, tf.math.rsqrt(_mean(tf.square(_single(x) - mean)) + epsilon)


def _scale(x, mean, scale, gamma=None, beta=None):
    """(x - mean) scale gamma + beta, multiplied out as the libraries do, so that it rounds as theirs."""
    scale = scale if gamma is None else scale * _single(gamma)
    shift = -mean * scale
    return tf.cast(_single(x) * scale + (shift if beta is None else shift + _single(beta)), x.dtype)


def _batch_norms(x, epsilon):
    """`normalize` as a batch norm of each image, with the library's derivative: on a GPU two kernels, not ten."""
    ones, zeros = tf.ones(x.shape[-1]), tf.zeros(x.shape[-1])
    return tf.concat([
        tf.raw_ops.FusedBatchNormV3(
            x=image, scale=ones, offset=zeros, mean=[], variance=[], epsilon=epsilon, is_training=True
        ).y
        for image in tf.split(x, x.shape[0])
    ], 0)


def _fused(x, epsilon):
    """(`normalize`, 1 / sqrt(var + epsilon)): a batch norm of each image, which is one operation.

    Not in float32, where the sums of that operation are less exact than `_moments`.
    """
    ones, zeros = tf.ones(x.shape[-1]), tf.zeros(x.shape[-1])
    maps, variances = [], []
    for image in tf.split(x, x.shape[0]):
        result = tf.raw_ops.FusedBatchNormV3(
            x=image, scale=ones, offset=zeros, mean=[], variance=[], epsilon=epsilon, is_training=True
        )
        maps.append(result.y)
        variances.append(result.reserve_space_2)
    return tf.concat(maps, 0), tf.math.rsqrt(tf.stack(variances) + epsilon)[:, tf.newaxis, tf.newaxis]


def _fused_gradient(dy, y, scale):
    """scale (dy - mean(dy) - y mean(dy y)): the gradient of a batch norm of `y`, whose mean is 0 and variance 1."""
    ones, zeros = tf.ones(y.shape[-1]), tf.zeros(y.shape[-1])
    return tf.concat([
        tf.raw_ops.FusedBatchNormGradV3(
            y_backprop=dy, x=y, scale=tf.reshape(scale, [-1]), reserve_space_1=zeros, reserve_space_2=ones,
            reserve_space_3=[], epsilon=0, is_training=True,
        ).x_backprop
        for dy, y, scale in zip(*(tf.split(tensor, y.shape[0]) for tensor in (dy, y, scale)), strict=True)
    ], 0)


def _mean(x):
    return tf.reduce_mean(_single(x), axis=(1, 2), keepdims=True)


def _single(x):
    return tf.cast(x, tf.float32)
