"""Gradients of a convolution with respect to its kernel, as matrix products: faster on a CPU than TensorFlow's op.

`x` is the input (N, H, W, C) and `dy` the gradient at the output (N, H', W', C') of a convolution without padding; all
sizes are static. The result has the shape of the kernel, (size, size, C, C').
"""

import tensorflow as tf

from cyclegan_tf.ops.tracing import single_op


@single_op
def multiply_shifted_inputs(x: tf.Tensor, dy: tf.Tensor, size: int, stride: int) -> tf.Tensor:
    """The kernel's gradient for stride 1 or 2, one matrix product per kernel element.

    For stride 1, x becomes a matrix with one row per pixel, (N H W, C), and dy is padded with zeros to the same pixels.
    The input shifted by i rows and j columns is then the slice of x from row i W + j on, which needs no copy; where the
    slice runs into the next row or image, dy is zero. For stride 2, even and odd rows are two such inputs, and two
    neighboring columns are one pixel of 2 C channels.
    """
    batch, height, width, channels = x.shape
    rows, columns = -(-height // stride), -(-width // stride)
    if height % stride or width % stride:
        x = tf.pad(x, [[0, 0], [0, rows * stride - height], [0, columns * stride - width], [0, 0]])
    phases = tf.unstack(tf.reshape(x, (batch, rows, stride, -1)), axis=2) if stride > 1 else [x]
    phases = [tf.reshape(phase, (-1, stride * channels)) for phase in phases]
    dy = tf.pad(dy, [[0, 0], [0, rows - dy.shape[1]], [0, columns - dy.shape[2]], [0, 0]])
    last = (size - 1) // stride  # The largest shift, in rows and columns of a phase.
    count = batch * rows * columns - last * (columns + 1)
    dy = tf.reshape(dy, (-1, dy.shape[-1]))[:count]

    def kernel_row(i: int) -> tf.Tensor:
        starts = [i // stride * columns + j for j in range(last + 1)]
        products = [tf.matmul(phases[i % stride][start : start + count], dy, transpose_a=True) for start in starts]
        return tf.reshape(tf.concat(products, 0), (-1, channels, dy.shape[-1]))[:size]

    return tf.stack([kernel_row(i) for i in range(size)])


@single_op
def multiply_shifted_gradients(x: tf.Tensor, dy: tf.Tensor, size: int) -> tf.Tensor:
    """The kernel's gradient for stride 1 and few filters, one matrix product per row of the kernel.

    Shifts dy, which is smaller than x: once per column of the kernel, side by side in a matrix with size C' numbers per
    pixel. A shift by rows is a slice of that matrix.
    """
    _, height, width, channels = x.shape
    last, filters = size - 1, dy.shape[-1]
    dy = tf.pad(dy, [[0, 0], [0, height - dy.shape[1]], [0, width - dy.shape[2]], [0, 0]])
    dy, x = tf.reshape(dy, (-1, filters)), tf.reshape(x, (-1, channels))
    pixels, rows = x.shape[0], last * width
    dy = tf.pad(dy, [[rows + last, 0], [0, 0]])  # The slices below leave out zeros at the end only.
    columns = tf.concat([dy[last - j : last - j + rows + pixels] for j in range(size)], 1)
    starts = [rows - i * width for i in range(size)]
    products = [tf.matmul(x, columns[start : start + pixels], transpose_a=True) for start in starts]
    return tf.transpose(tf.reshape(tf.stack(products), (size, channels, size, filters)), (0, 2, 1, 3))
