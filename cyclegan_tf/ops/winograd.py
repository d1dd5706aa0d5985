"""3x3 convolutions of stride 1 with 4 multiplications per output instead of 9, which pays off on a CPU.

Winograd's minimal filtering F(2x2, 3x3), Lavin and Gray 2015, section 4. The input is cut into tiles of 4x4 pixels that
overlap by 2; each tile yields 2x2 outputs. In the paper's notation, each of a tile's 16 pixels is a matrix over all
tiles: V = B' d B of the input, (tiles, C), and U = G g G' of the kernel, (C, C'). 16 matrix products M = V U give the
outputs A' M A. Gradients are the transposes of these operations. B and A only add and subtract, so the rounding error
is smaller than for a sum of nine products per output and channel.

Feature maps are (N, H, W, C) with static shapes; outputs have even H and W. They are float32, or bfloat16, where sums
of tiles and products are rounded too: four times as much error as a direct convolution. All functions are
differentiable.
"""

import numpy as np
import tensorflow as tf

from cyclegan_tf.ops.tracing import single_op

_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)
_KERNEL_TRANSFORM = np.kron(_G, _G)  # (16, 9): G g G' as a product with the kernel's nine elements.


@single_op
def convolve(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Convolution without padding: (N, H + 2, W + 2, C), (3, 3, C, C') -> (N, H, W, C')."""
    tiles, transformed = _transform_input(x), _transform_kernel(kernel)
    return _inverse_transform([tf.matmul(v, u) for v, u in zip(tiles, transformed, strict=True)], *_count_tiles(x))


@single_op
def compute_gradients(x: tf.Tensor, kernel: tf.Tensor, dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Gradients of `convolve` with respect to `x` and `kernel`; `dy` is the gradient at its output, (N, H, W, C')."""
    dm = _transform_output_gradient(dy)
    dv = [tf.matmul(m, u, transpose_b=True) for m, u in zip(dm, _transform_kernel(kernel), strict=True)]
    du = [tf.matmul(v, m, transpose_a=True) for v, m in zip(_transform_input(x), dm, strict=True)]
    stacked = tf.cast(tf.reshape(tf.stack(du), (16, -1)), tf.float32)
    kernel_gradient = tf.cast(tf.matmul(_KERNEL_TRANSFORM, stacked, transpose_a=True), kernel.dtype)
    return _inverse_transform_input_gradient(dv, *_count_tiles(x)), tf.reshape(kernel_gradient, kernel.shape)


def _count_tiles(x: tf.Tensor) -> tuple[int, int, int]:
    """(images, rows, columns) of tiles of the input `x`."""
    return x.shape[0], x.shape[1] // 2 - 1, x.shape[2] // 2 - 1


def _transform_kernel(kernel: tf.Tensor) -> list[tf.Tensor]:
    """U: 16 matrices (C, C')."""
    transformed = tf.matmul(_KERNEL_TRANSFORM, tf.cast(tf.reshape(kernel, (9, -1)), tf.float32))
    return tf.unstack(tf.cast(tf.reshape(transformed, (16, *kernel.shape[2:])), kernel.dtype))


def _transform_input(x: tf.Tensor) -> list[tf.Tensor]:
    """V: 16 matrices (tiles, C)."""

    def transform(x: tf.Tensor, axis: int) -> tuple[tf.Tensor, ...]:
        even, odd = _split(x, axis)
        before, after = ((slice(None),) * axis + (slice(start, stop),) for start, stop in ((None, -1), (1, None)))
        d0, d1, d2, d3 = even[before], odd[before], even[after], odd[after]
        return d0 - d2, d1 + d2, d2 - d1, d1 - d3

    return [_flatten(v) for rows in transform(x, 1) for v in transform(rows, 2)]


def _inverse_transform(products: list[tf.Tensor], images: int, rows: int, columns: int) -> tf.Tensor:
    """A' M A: 16 matrices (tiles, C') -> (N, H, W, C')."""

    def transform(m0: tf.Tensor, m1: tf.Tensor, m2: tf.Tensor, m3: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return m0 + m1 + m2, m1 - m2 - m3

    maps = [tf.reshape(m, (images, rows, columns, -1)) for m in products]
    above, below = zip(*(transform(*maps[column::4]) for column in range(4)), strict=True)
    return _interleave(_interleave(*transform(*above), 2), _interleave(*transform(*below), 2), 1)


def _transform_output_gradient(dy: tf.Tensor) -> list[tf.Tensor]:
    """A dy A': 16 matrices (tiles, C')."""

    def transform(dy: tf.Tensor, axis: int) -> tuple[tf.Tensor, ...]:
        even, odd = _split(dy, axis)
        return even, even + odd, even - odd, -odd

    return [_flatten(m) for rows in transform(dy, 1) for m in transform(rows, 2)]


def _inverse_transform_input_gradient(dv: list[tf.Tensor], images: int, rows: int, columns: int) -> tf.Tensor:
    """B dV B', summed where tiles overlap: 16 matrices (tiles, C) -> (N, H + 2, W + 2, C)."""

    def transform(axis: int, v0: tf.Tensor, v1: tf.Tensor, v2: tf.Tensor, v3: tf.Tensor) -> tf.Tensor:
        first, last = ([[0, 0]] * axis + [pad] + [[0, 0]] * (3 - axis) for pad in ([0, 1], [1, 0]))
        even = tf.pad(v0, first) + tf.pad(v1 + v2 - v0, last)
        odd = tf.pad(v1 - v2 + v3, first) - tf.pad(v3, last)
        return _interleave(even, odd, axis)

    maps = [tf.reshape(v, (images, rows, columns, -1)) for v in dv]
    return transform(1, *(transform(2, *maps[4 * row : 4 * row + 4]) for row in range(4)))


def _flatten(x: tf.Tensor) -> tf.Tensor:
    """(N, H, W, C) -> (N H W, C)."""
    return tf.reshape(x, (-1, x.shape[-1]))


def _split(x: tf.Tensor, axis: int) -> list[tf.Tensor]:
    """The even and the odd rows (axis 1) or columns (axis 2) of (N, H, W, C)."""
    images, height, width, channels = x.shape
    if axis == 2:
        return tf.split(tf.reshape(x, (images, height, width // 2, 2 * channels)), 2, axis=3)
    halves = tf.split(tf.reshape(x, (images, height // 2, 2 * width * channels)), 2, axis=2)
    return [tf.reshape(half, (images, height // 2, width, channels)) for half in halves]


def _interleave(even: tf.Tensor, odd: tf.Tensor, axis: int) -> tf.Tensor:
    """The (N, H, W, C) whose even and odd rows (axis 1) or columns (axis 2) are `even` and `odd`: undoes `_split`."""
    images, height, width, channels = even.shape
    if axis == 2:
        return tf.reshape(tf.concat([even, odd], 3), (images, height, 2 * width, channels))
    rows = [tf.reshape(half, (images, height, width * channels)) for half in (even, odd)]
    return tf.reshape(tf.concat(rows, 2), (images, 2 * height, width, channels))
