"""2-D convolutions that use the fastest of several kernels on a CPU.

Results differ from TensorFlow's by rounding only. Everything is differentiable any number of times.
"""

import dataclasses
from collections.abc import Callable, Sequence

import tensorflow as tf

from cyclegan_tf.ops import hardware, kernel_gradients, recompute, winograd
from cyclegan_tf.ops.tracing import no_autograph

_Gradients = tuple[tf.Tensor, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """Sizes at which another kernel becomes faster than TensorFlow's.

    Measured with experiments/benchmarks/convolution.py; the tables are in the section "One convolution" of
    experiments/benchmarks/README.md. Work is the number of multiplications and additions of the direct convolution.

    Attributes:
      winograd_work: smallest number of input pixels times channels times filters for Winograd's algorithm.
      winograd_channels: smallest number of channels, and of filters, for Winograd's algorithm.
      products_work: smallest work for the kernel's gradient as one matrix product per kernel element.
      products_channels: smallest number of channels, and of filters, for these products.
      few_filters: a convolution with fewer filters than this, and fewer than it has channels, has kernels of its own.
      few_filters_work: smallest work for these kernels.
    """

    winograd_work: float = 4e6
    winograd_channels: int = 64
    products_work: float = 1e9
    products_channels: int = 32
    few_filters: int = 32
    few_filters_work: float = 1e8


THRESHOLDS = Thresholds()


@no_autograph
def convolve(x: tf.Tensor, kernel: tf.Tensor, stride: int) -> tf.Tensor:
    """`tf.nn.conv2d` without padding: (N, H, W, C), (k, k, C, C') -> (N, (H - k) // stride + 1, ..., C')."""
    if not _use_cpu_kernels(x):
        return tf.nn.conv2d(x, kernel, stride, "VALID")
    use_winograd = _use_winograd(x.shape, kernel.shape, stride)
    # In bfloat16, Winograd's forward pass would save next to nothing and round four times as much.
    use_winograd_forward = use_winograd and x.dtype == tf.float32

    @tf.custom_gradient
    def function(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], _Gradients]]:
        def gradient(dy: tf.Tensor) -> _Gradients:
            recomputed = recompute.recompute(x, dy)
            if use_winograd:
                return winograd.compute_gradients(recomputed, kernel, dy)
            kernel_gradient = _kernel_gradient(recomputed, dy, kernel.shape[0], stride)
            return _input_gradient(dy, kernel, x.shape, stride), kernel_gradient

        if use_winograd_forward:
            # Without stop_gradient, a tape would trace a backward pass through the algorithm that nothing uses.
            return winograd.convolve(tf.stop_gradient(x), tf.stop_gradient(kernel)), gradient
        return convolve_directly(x, kernel, stride), gradient

    return function(x, kernel)


@no_autograph
def convolve_transpose(x: tf.Tensor, kernel: tf.Tensor, stride: int) -> tf.Tensor:
    """`tf.nn.conv2d_transpose` without padding: (N, H, W, C), (k, k, C', C) -> (N, stride (H - 1) + k, ..., C')."""
    sizes = x.shape if x.shape.is_fully_defined() else tf.unstack(tf.shape(x))
    size, filters = kernel.shape[0], kernel.shape[2]
    shape = (sizes[0], *(stride * (side - 1) + size for side in sizes[1:3]), filters)
    if _use_cpu_kernels(x):
        return _input_gradient(x, kernel, shape, stride)
    y = tf.nn.conv2d_transpose(x, kernel, tf.stack(shape), stride, "VALID")
    return tf.ensure_shape(y, (x.shape[0], *(side and stride * (side - 1) + size for side in x.shape[1:3]), filters))


@no_autograph
def add_bias(x: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """x + bias, (N, H, W, C) and (C,)."""
    if hardware.portable_ops_forced() or hardware.has_gpu():
        return tf.nn.bias_add(x, bias)

    @tf.custom_gradient
    def function(x: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], _Gradients]]:
        def gradient(dy: tf.Tensor) -> _Gradients:
            # On a CPU, BiasAddGrad adds bfloat16 numbers up in bfloat16, where 256 + 1 is 256: the sum of 64 x 64 ones
            # is 256. Also, oneDNN would fuse BiasAddGrad into the kernel's gradient, which is computed later.
            bias_gradient = tf.cast(tf.reduce_sum(tf.cast(dy, tf.float32), axis=(0, 1, 2)), dy.dtype)
            return recompute.wait_for(dy, bias_gradient), bias_gradient

        return tf.nn.bias_add(x, bias), gradient

    return function(x, tf.convert_to_tensor(bias))


def convolve_directly(x: tf.Tensor, kernel: tf.Tensor, stride: int) -> tf.Tensor:
    """The direct convolution of `convolve`, by the op that is faster for the batch size."""
    if x.shape[0] > 1:
        return tf.nn.conv2d(x, kernel, stride, "VALID")
    # For a batch of one, TensorFlow 2.21 makes oneDNN read the kernel in its layout in memory. Without AVX-512 that
    # takes three times as long, with few filters up to fifty times. Conv3D does not do so.
    y = tf.nn.conv3d(tf.expand_dims(x, 1), tf.expand_dims(kernel, 0), (1, 1, stride, stride, 1), "VALID")
    return tf.squeeze(y, 1)


def _use_cpu_kernels(x: tf.Tensor) -> bool:
    """True if the optimized CPU kernels support this dtype and static shape."""
    is_supported = x.dtype == tf.float32 or (x.dtype == tf.bfloat16 and hardware.use_bfloat16_kernels())
    return is_supported and hardware.use_cpu_kernels(x)


def _use_winograd(shape: Sequence[int], kernel_shape: Sequence[int], stride: int) -> bool:
    """True if `winograd` supports the convolution and is faster."""
    batch, height, width, channels = shape
    if kernel_shape[:2] != (3, 3) or stride > 1 or height % 2 or width % 2 or min(height, width) < 4:
        return False
    filters = kernel_shape[3]
    work = batch * height * width * channels * filters
    return min(channels, filters) >= THRESHOLDS.winograd_channels and work >= THRESHOLDS.winograd_work


def _input_gradient(dy: tf.Tensor, kernel: tf.Tensor, shape: Sequence[int], stride: int) -> tf.Tensor:
    """The gradient of a convolution with respect to its input of `shape`, which is a transposed convolution of `dy`."""

    @tf.custom_gradient
    def function(dy: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], _Gradients]]:
        def gradient(ddx: tf.Tensor) -> _Gradients:
            recomputed = recompute.recompute(dy, ddx)
            return convolve(ddx, kernel, stride), _kernel_gradient(ddx, recomputed, kernel.shape[0], stride)

        if _has_few_filters(shape, dy.shape, kernel.shape[0], stride):
            around = [kernel.shape[0] - 1] * 2
            padded = tf.pad(dy, [[0, 0], around, around, [0, 0]])
            return convolve_directly(padded, tf.transpose(tf.reverse(kernel, [0, 1]), (0, 1, 3, 2)), 1), gradient
        return tf.nn.conv2d_transpose(dy, kernel, shape, stride, "VALID"), gradient

    return function(dy, kernel)


def _kernel_gradient(x: tf.Tensor, dy: tf.Tensor, size: int, stride: int) -> tf.Tensor:
    """The gradient of a convolution of `x` with respect to its kernel: (size, size, C, C')."""
    shape = (size, size, x.shape[-1], dy.shape[-1])
    if _has_few_filters(x.shape, dy.shape, size, stride):
        return kernel_gradients.multiply_shifted_gradients(x, dy, size)
    is_large = _work(shape, dy.shape) >= THRESHOLDS.products_work
    if is_large and size <= 4 and stride <= 2 and min(shape[2:]) >= THRESHOLDS.products_channels:
        return kernel_gradients.multiply_shifted_inputs(x, dy, size, stride)
    return tf.raw_ops.Conv2DBackpropFilter(
        input=x, filter_sizes=shape, out_backprop=dy, strides=(1, stride, stride, 1), padding="VALID"
    )


def _has_few_filters(shape: Sequence[int], y_shape: Sequence[int], size: int, stride: int) -> bool:
    """True if both gradients of a convolution from `shape` to `y_shape` should use the kernels for few filters.

    Here TensorFlow's kernels may write out a matrix of size^2 C numbers per pixel: 784 MiB for the head of the paper's
    generator at 256 pixels.
    """
    channels, filters = shape[-1], y_shape[-1]
    is_narrow = filters < min(channels, THRESHOLDS.few_filters)
    return stride == 1 and is_narrow and _work((size, size, channels), y_shape) >= THRESHOLDS.few_filters_work


def _work(kernel_shape: Sequence[int], y_shape: Sequence[int]) -> int:
    """Multiplications and additions of a convolution to `y_shape` by a kernel (size, size, C, ...)."""
    return 2 * kernel_shape[0] * kernel_shape[1] * kernel_shape[2] * tf.TensorShape(y_shape).num_elements()
