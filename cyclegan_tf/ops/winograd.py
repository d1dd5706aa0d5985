"""3x3 convolutions of stride 1 with 4 multiplications for each output in place of 9: for the CPU, where these count.

Winograd's minimal filtering F(2x2, 3x3), Lavin and Gray 2015, section 4: the input in tiles of 4x4 pixels that overlap
by 2, of which come tiles of 2x2 outputs. With the letters there, each of the 16 pixels of a tile is, over all tiles, a
matrix: V = B' d B of the input (tiles, C), U = G g G' of the kernel (C, C'), and of M = V U, 16 matrix products, the
outputs are A' M A. Gradients are the transposed of that. B and A only add and subtract: what rounds is less than in
adding up nine products for each output and channel, and the results are nearer to the exact ones.

Maps are (N, H, W, C), of known sizes; H and W of outputs even. They are float32, or bfloat16, in which sums of tiles
and products are rounded too: four times as much as in the convolution itself. Everything is differentiable.
"""

import numpy as np
import tensorflow as tf

_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)
_KERNEL = np.kron(_G, _G)  # (16, 9): G g G' as a product with the kernel's nine elements.

# Makes a function one operation of the graph that calls it, traced once for each shape: a step has hundreds.
operation = tf.function(autograph=False, experimental_attributes={"_noinline": True})


@operation
def convolve(x, kernel):
    """The convolution without padding: (N, H + 2, W + 2, C), (3, 3, C, C') -> (N, H, W, C')."""
    tiles, transformed = _input_tiles(x), _kernel(kernel)
    return _outputs([tf.matmul(v, u) for v, u in zip(tiles, transformed, strict=True)], *_counts(x))


@operation
def gradients(x, kernel, dy):
    """The gradients of `convolve` at x and kernel for that at its output, dy (N, H, W, C')."""
    of_products = _output_gradient_tiles(dy)
    of_tiles = [tf.matmul(dm, u, transpose_b=True) for dm, u in zip(of_products, _kernel(kernel), strict=True)]
    of_kernel = [tf.matmul(v, dm, transpose_a=True) for v, dm in zip(_input_tiles(x), of_products, strict=True)]
    of_kernel = tf.cast(tf.reshape(tf.stack(of_kernel), (16, -1)), tf.float32)
    of_kernel = tf.cast(tf.matmul(_KERNEL, of_kernel, transpose_a=True), kernel.dtype)
    return _input_gradient(of_tiles, *_counts(x)), tf.reshape(of_kernel, kernel.shape)


def _counts(x):
    """(images, rows, columns) of tiles of the input `x`."""
    return x.shape[0], x.shape[1] // 2 - 1, x.shape[2] // 2 - 1


def _kernel(kernel):
    """U: 16 matrices (C, C')."""
    transformed = tf.matmul(_KERNEL, tf.cast(tf.reshape(kernel, (9, -1)), tf.float32))
    return tf.unstack(tf.cast(tf.reshape(transformed, (16, *kernel.shape[2:])), kernel.dtype))


def _input_tiles(x):
    """V: 16 matrices (tiles, C)."""
    def transformed(x, axis):
        even, odd = _halves(x, axis)
        before, after = ((slice(None),) * axis + (slice(start, stop),) for start, stop in ((None, -1), (1, None)))
        d0, d1, d2, d3 = even[before], odd[before], even[after], odd[after]
        return d0 - d2, d1 + d2, d2 - d1, d1 - d3

    return [_matrix(v) for rows in transformed(x, 1) for v in transformed(rows, 2)]


def _outputs(products, images, rows, columns):
    """A' M A: (N, H, W, C') of 16 matrices (tiles, C')."""
    def transformed(m0, m1, m2, m3):
        return m0 + m1 + m2, m1 - m2 - m3

    maps = [tf.reshape(m, (images, rows, columns, -1)) for m in products]
    above, below = zip(*(transformed(*maps[column::4]) for column in range(4)), strict=True)
    return _joined(_joined(*transformed(*above), 2), _joined(*transformed(*below), 2), 1)


def _output_gradient_tiles(dy):
    """A dy A': 16 matrices (tiles, C')."""
    def transformed(dy, axis):
        even, odd = _halves(dy, axis)
        return even, even + odd, even - odd, -odd

    return [_matrix(dm) for rows in transformed(dy, 1) for dm in transformed(rows, 2)]


def _input_gradient(of_tiles, images, rows, columns):
    """B dV B', added up where tiles overlap: (N, H + 2, W + 2, C) of 16 matrices (tiles, C)."""
    def transformed(v0, v1, v2, v3, axis):
        first, last = ([[0, 0]] * axis + [pad] + [[0, 0]] * (3 - axis) for pad in ([0, 1], [1, 0]))
        even = tf.pad(v0, first) + tf.pad(v1 + v2 - v0, last)
        odd = tf.pad(v1 - v2 + v3, first) - tf.pad(v3, last)
        return _joined(even, odd, axis)

    maps = [tf.reshape(dv, (images, rows, columns, -1)) for dv in of_tiles]
    return transformed(*(transformed(*maps[4 * row : 4 * row + 4], axis=2) for row in range(4)), axis=1)


def _matrix(x):
    return tf.reshape(x, (-1, x.shape[-1]))


def _halves(x, axis):
    """The even and the odd rows (axis 1) or columns (axis 2) of (N, H, W, C)."""
    images, height, width, channels = x.shape
    if axis == 2:
        return tf.split(tf.reshape(x, (images, height, width // 2, 2 * channels)), 2, axis=3)
    halves = tf.split(tf.reshape(x, (images, height // 2, 2 * width * channels)), 2, axis=2)
    return [tf.reshape(half, (images, height // 2, width, channels)) for half in halves]


def _joined(even, odd, axis):
    """(N, H, W, C) of which those are the even and the odd rows (axis 1) or columns (axis 2)."""
    images, height, width, channels = even.shape
    if axis == 2:
        return tf.reshape(tf.concat([even, odd], 3), (images, height, 2 * width, channels))
    rows = [tf.reshape(half, (images, height, width * channels)) for half in (even, odd)]
    return tf.reshape(tf.concat(rows, 2), (images, 2 * height, width, channels))
