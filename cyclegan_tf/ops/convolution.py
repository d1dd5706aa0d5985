"""Keras's 2-D convolutions, on the CPU by those of TensorFlow's kernels that are fast there.

The numbers are the library's but for rounding. What is chosen, and the times behind it: experiments/benchmarks.
"""

import tensorflow as tf

from cyclegan_tf.ops import hardware, recompute, winograd

# Multiplications and additions from which a kernel's gradient is taken by matrix products; below it gains nothing.
_LARGE = 1e9
_FEW = 32  # Channels below which they gain nothing either; filters below which others do.
_SMALL = 1e8  # Multiplications and additions below which it gains nothing there.
# Pixels times both numbers of channels from which Winograd's algorithm is faster; and each of these numbers.
_WORTH = 4e6
_MANY = 64


# Keras 2 would convert what layers call to graph code, a second at the start of each process, where nothing needs it.
@tf.autograph.experimental.do_not_convert
def convolve(x, kernel, stride):
    """`tf.nn.conv2d` without padding: (N, H, W, C), (k, k, C, C') -> (N, (H - k) // stride + 1, ..., C').

    Differentiable any number of times.
    """
    if not _chooses(x):
        return tf.nn.conv2d(x, kernel, stride, "VALID")
    saves = _is_for_winograd(x.shape, kernel.shape, stride)
    # In bfloat16 a step's forward passes would gain next to nothing, for four times the rounding.
    saves_forward = saves and x.dtype == tf.float32

    @tf.custom_gradient
    def function(x, kernel):
        def gradient(dy):
            again = recompute.recompute(x, dy)
            if saves:
                return winograd.gradients(again, kernel, dy)
            return _adjoint(dy, kernel, x.shape, stride), _kernel_gradient(again, dy, kernel.shape[0], stride)

        if saves_forward:
            # A tape need not look inside: it would trace a backward pass of it that nobody takes.
            return winograd.convolve(tf.stop_gradient(x), tf.stop_gradient(kernel)), gradient
        return _forward(x, kernel, stride), gradient

    return function(x, kernel)


@tf.autograph.experimental.do_not_convert
def convolve_transpose(x, kernel, stride):
    """`tf.nn.conv2d_transpose` without padding: (N, H, W, C), (k, k, C', C) -> (N, stride (H - 1) + k, ..., C').

    Differentiable any number of times.
    """
    sizes = x.shape if x.shape.is_fully_defined() else tf.unstack(tf.shape(x))
    size, filters = kernel.shape[0], kernel.shape[2]
    shape = (sizes[0], *(stride * (side - 1) + size for side in sizes[1:3]), filters)
    if _chooses(x):
        return _adjoint(x, kernel, shape, stride)
    y = tf.nn.conv2d_transpose(x, kernel, tf.stack(shape), stride, "VALID")
    return tf.ensure_shape(y, (x.shape[0], *(side and stride * (side - 1) + size for side in x.shape[1:3]), filters))


@tf.autograph.experimental.do_not_convert
def add_bias(x, bias):
    """x + bias, (N, H, W, C) and (C,); differentiable any number of times."""
    if hardware.portable_ops_forced() or hardware.has_gpu():
        return tf.nn.bias_add(x, bias)

    @tf.custom_gradient
    def function(x, bias):
        def gradient(dy):
            # BiasAddGrad adds up bfloat16 in bfloat16 on a CPU, where 256 + 1 is 256: of 64 x 64 ones it makes 256. And
            # oneDNN would join it to the kernel's gradient, which is of what follows.
            of_bias = tf.cast(tf.reduce_sum(tf.cast(dy, tf.float32), axis=(0, 1, 2)), dy.dtype)
            return recompute.wait_for(dy, of_bias), of_bias

        return tf.nn.bias_add(x, bias), gradient

    return function(x, tf.convert_to_tensor(bias))


def _chooses(x):
    """Whether there is something to choose, for a type that the CPU multiplies."""
    multiplied = x.dtype == tf.float32 or (x.dtype == tf.bfloat16 and hardware.use_bfloat16_kernels())
    return multiplied and hardware.use_cpu_kernels(x)


def _is_for_winograd(shape, kernel_shape, stride):
    """Whether `winograd` takes the convolution, and is faster."""
    batch, height, width, channels = shape
    if kernel_shape[:2] != (3, 3) or stride > 1 or height % 2 or width % 2 or min(height, width) < 4:
        return False
    filters = kernel_shape[3]
    return min(channels, filters) >= _MANY and batch * height * width * channels * filters >= _WORTH


def _forward(x, kernel, stride):
    if x.shape[0] > 1:
        return tf.nn.conv2d(x, kernel, stride, "VALID")
    # TensorFlow 2.21 has oneDNN convolve one image with the kernel as it lies in memory, which takes three times as
    # long without AVX-512, up to fifty times with few filters; but not in a convolution of three dimensions.
    y = tf.nn.conv3d(tf.expand_dims(x, 1), tf.expand_dims(kernel, 0), (1, 1, stride, stride, 1), "VALID")
    return tf.squeeze(y, 1)


def _adjoint(y, kernel, shape, stride):
    """The gradient of `_forward` at its input of `shape`; the library's, but for its own derivatives."""

    @tf.custom_gradient
    def function(y, kernel):
        def gradient(dx):
            again = recompute.recompute(y, dx)
            return convolve(dx, kernel, stride), _kernel_gradient(dx, again, kernel.shape[0], stride)

        if _is_of_few_filters(shape, y.shape, kernel.shape[0], stride):
            around = [kernel.shape[0] - 1] * 2
            padded = tf.pad(y, [[0, 0], around, around, [0, 0]])
            return _forward(padded, tf.transpose(tf.reverse(kernel, [0, 1]), (0, 1, 3, 2)), 1), gradient
        return tf.nn.conv2d_transpose(y, kernel, shape, stride, "VALID"), gradient

    return function(y, kernel)


def _is_of_few_filters(shape, y_shape, size, stride):
    """Whether the gradients of a convolution from maps of `shape` to maps of `y_shape` are taken as of few filters.

    The library may write out a matrix of size^2 C numbers for each pixel here, which for the head of the paper's
    generator at 256 pixels has 784 MiB.
    """
    channels, filters = shape[-1], y_shape[-1]
    work = 2 * size * size * channels * tf.TensorShape(y_shape).num_elements()
    return stride == 1 and filters < min(channels, _FEW) and work >= _SMALL


def _kernel_gradient(x, dy, size, stride):
    """The gradient of `_forward` at its kernel: (size, size, C, C')."""
    shape = (size, size, x.shape[-1], dy.shape[-1])
    if _is_of_few_filters(x.shape, dy.shape, size, stride):
        return _by_rows(x, dy, size)
    work = 2 * shape[0] * shape[1] * shape[2] * tf.TensorShape(dy.shape).num_elements()
    if work < _LARGE or size > 4 or stride > 2 or min(shape[2:]) < _FEW:
        return tf.raw_ops.Conv2DBackpropFilter(
            input=x, filter_sizes=shape, out_backprop=dy, strides=(1, stride, stride, 1), padding="VALID"
        )
    return _by_products(x, dy, size, stride)


@winograd.operation
def _by_products(x, dy, size, stride):
    """That gradient as matrix products of the gradient and the input shifted to each element of the kernel.

    For stride 1: x as a matrix of one row a pixel, (N H W, C), dy padded with zeros to the same pixels. Then a shift by
    i rows and j columns is a piece of x from row i W + j on, which is no copy; what belongs to another row or image
    meets a zero. For stride 2, even and odd rows are two such inputs, and a pair of columns is a pixel of 2 C channels.
    """
    batch, height, width, channels = x.shape
    rows, columns = -(-height // stride), -(-width // stride)
    if height % stride or width % stride:
        x = tf.pad(x, [[0, 0], [0, rows * stride - height], [0, columns * stride - width], [0, 0]])
    phases = tf.unstack(tf.reshape(x, (batch, rows, stride, -1)), axis=2) if stride > 1 else [x]
    phases = [tf.reshape(phase, (-1, stride * channels)) for phase in phases]
    dy = tf.pad(dy, [[0, 0], [0, rows - dy.shape[1]], [0, columns - dy.shape[2]], [0, 0]])
    last = (size - 1) // stride  # The largest shift, in phases' rows and columns.
    count = batch * rows * columns - last * (columns + 1)
    dy = tf.reshape(dy, (-1, dy.shape[-1]))[:count]

    def row(i):
        starts = [i // stride * columns + j for j in range(last + 1)]
        products = [tf.matmul(phases[i % stride][start : start + count], dy, transpose_a=True) for start in starts]
        return tf.reshape(tf.concat(products, 0), (-1, channels, dy.shape[-1]))[:size]

    return tf.stack([row(i) for i in range(size)])


@winograd.operation
def _by_rows(x, dy, size):
    """That gradient for stride 1 and few filters, as a product for each row of the kernel.

    As above, but it is dy that is shifted, which is the smaller one: first to each column, all side by side, a matrix
    of size C' numbers for each pixel; a shift by rows is a piece of that.
    """
    _, height, width, channels = x.shape
    last, filters = size - 1, dy.shape[-1]
    dy = tf.pad(dy, [[0, 0], [0, height - dy.shape[1]], [0, width - dy.shape[2]], [0, 0]])
    dy, x = tf.reshape(dy, (-1, filters)), tf.reshape(x, (-1, channels))
    pixels, rows = x.shape[0], last * width
    dy = tf.pad(dy, [[rows + last, 0], [0, 0]])  # Nothing but zeros are left out below, at the end.
    columns = tf.concat([dy[last - j : last - j + rows + pixels] for j in range(size)], 1)
    starts = [rows - i * width for i in range(size)]
    products = [tf.matmul(x, columns[start : start + pixels], transpose_a=True) for start in starts]
    return tf.transpose(tf.reshape(tf.stack(products), (size, channels, size, filters)), (0, 2, 1, 3))
