"""Instance normalization of tensors, with statistics in float32 for every dtype.

Inputs are (N, H, W, C) in float32, bfloat16 or float16; results have the shape and dtype of their input.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from cyclegan_tf.ops import hardware
from cyclegan_tf.ops.tracing import no_autograph

# Largest batch that is unrolled into one batch-norm op per image. The paragraph "Slow operations around convolutions"
# in experiments/benchmarks/README.md has the times of both ways.
MAX_UNROLLED_BATCH = 8


@no_autograph
def normalize(x: tf.Tensor, epsilon: float) -> tf.Tensor:
    """(x - mean) / sqrt(var + epsilon) per image and channel, with the gradient in closed form, for training.

    The gradient formula is from Ioffe and Szegedy 2015, section 3, with the pixels of one image as the batch. In half
    precision, the gradient keeps only the normalized map; no other tensor of its size is kept, and only sums are
    float32. Second derivatives need `normalize_by_formula`.
    """
    if hardware.has_gpu() and not hardware.portable_ops_forced() and _is_small_batch(x):
        return _join_maps(_batch_norm_each(x, epsilon))
    use_batch_norms = hardware.use_cpu_kernels(x) and _is_small_batch(x)

    @tf.custom_gradient
    def function(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        # In float32 the sums of FusedBatchNormV3 are less exact than the sums in `_moments`.
        if use_batch_norms and x.dtype == tf.bfloat16:
            results = _batch_norm_each(x, epsilon)
            variances = tf.stack([result.reserve_space_2 for result in results])
            y, scale = _join_maps(results), tf.math.rsqrt(variances + epsilon)[:, tf.newaxis, tf.newaxis]
        else:
            mean, scale = _moments(x, epsilon)
            y = _scale(x, mean, scale)

        def gradient(dy: tf.Tensor) -> tf.Tensor:
            if use_batch_norms and x.dtype != tf.float16:
                return _batch_norm_gradient(dy, y, scale)
            mean_along_y = _mean(_to_float32(dy) * _to_float32(y))
            return tf.cast(scale, x.dtype) * (dy - tf.cast(_mean(dy), x.dtype) - y * tf.cast(mean_along_y, x.dtype))

        return y, gradient

    return function(x)


@no_autograph
def normalize_by_formula(
    x: tf.Tensor, epsilon: float, gamma: tf.Tensor | None = None, beta: tf.Tensor | None = None
) -> tf.Tensor:
    """(x - mean) / sqrt(var + epsilon) * gamma + beta per image and channel; differentiable any number of times.

    `gamma` and `beta` are (C,); None leaves the factor or the term out.
    """
    return _scale(x, *_moments(x, epsilon), gamma, beta)


def _moments(x: tf.Tensor, epsilon: float) -> tuple[tf.Tensor, tf.Tensor]:
    """(mean, 1 / sqrt(var + epsilon)) over H and W of each image and channel, float32 (N, 1, 1, C)."""
    if hardware.is_compiled_for_gpu():
        # One pass over `x` computes both sums. Without the shift by one pixel (Chan et al. 1983), E[x^2] - E[x]^2 would
        # lose the variance of maps whose mean is much larger than their deviation.
        first = _to_float32(x[:, :1, :1])
        shifted = _to_float32(x) - first
        mean = _mean(shifted)
        variance = tf.maximum(_mean(tf.square(shifted)) - tf.square(mean), 0.0)
        return mean + first, tf.math.rsqrt(variance + epsilon)
    mean = _mean(x)
    return mean, tf.math.rsqrt(_mean(tf.square(_to_float32(x) - mean)) + epsilon)


def _scale(
    x: tf.Tensor, mean: tf.Tensor, scale: tf.Tensor, gamma: tf.Tensor | None = None, beta: tf.Tensor | None = None
) -> tf.Tensor:
    """(x - mean) * scale * gamma + beta, evaluated in the order of Keras and tensorflow-addons, to round as they do."""
    scale = scale if gamma is None else scale * _to_float32(gamma)
    shift = -mean * scale
    return tf.cast(_to_float32(x) * scale + (shift if beta is None else shift + _to_float32(beta)), x.dtype)


def _is_small_batch(x: tf.Tensor) -> bool:
    return x.shape[0] is not None and x.shape[0] <= MAX_UNROLLED_BATCH


def _batch_norm_each(x: tf.Tensor, epsilon: float) -> list[Any]:
    """Applies one FusedBatchNormV3 to each image: the instance norm in one kernel per image instead of ten ops.

    Returns the ops' results: y is the normalized image, on a CPU reserve_space_2 its variances (C,).
    """
    ones, zeros = tf.ones(x.shape[-1]), tf.zeros(x.shape[-1])
    return [
        tf.raw_ops.FusedBatchNormV3(
            x=image, scale=ones, offset=zeros, mean=[], variance=[], epsilon=epsilon, is_training=True
        )
        for image in tf.split(x, x.shape[0])
    ]


def _join_maps(results: list[Any]) -> tf.Tensor:
    return tf.concat([result.y for result in results], 0)


def _batch_norm_gradient(dy: tf.Tensor, y: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """scale * (dy - mean(dy) - y * mean(dy * y)), as the gradient of a batch norm of mean 0, variance 1."""
    ones, zeros = tf.ones(y.shape[-1]), tf.zeros(y.shape[-1])
    return tf.concat([
        tf.raw_ops.FusedBatchNormGradV3(
            y_backprop=dy, x=y, scale=tf.reshape(scale, [-1]), reserve_space_1=zeros, reserve_space_2=ones,
            reserve_space_3=[], epsilon=0, is_training=True,
        ).x_backprop
        for dy, y, scale in zip(*(tf.split(tensor, y.shape[0]) for tensor in (dy, y, scale)), strict=True)
    ], 0)


def _mean(x: tf.Tensor) -> tf.Tensor:
    """The mean over H and W, float32 (N, 1, 1, C)."""
    if hardware.is_compiled_for_gpu():
        # XLA sums few channels over many pixels in few thread blocks; the sums of the rows keep all of a GPU busy.
        return tf.reduce_mean(tf.reduce_mean(_to_float32(x), axis=2, keepdims=True), axis=1, keepdims=True)
    return tf.reduce_mean(_to_float32(x), axis=(1, 2), keepdims=True)


def _to_float32(x: tf.Tensor) -> tf.Tensor:
    return tf.cast(x, tf.float32)
