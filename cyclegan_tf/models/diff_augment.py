"""Differentiable augmentation of the images that discriminators see (Zhao et al. 2020).

Real and generated images get the same kinds of augmentation, in the losses of the discriminators and of the generators.
A discriminator then cannot memorize a small training set, and the generators do not learn to imitate augmented images.

A policy is a sequence of names of `FUNCTIONS`, which are applied in that order. Images are (N, H, W, C) in [-1, 1];
augmented values are not clipped to that range. Every image of a batch has its own random numbers.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.models import replicas, seeds

Draws = dict[str, tf.Tensor]

_TRANSLATION_RATIO = 0.125  # Largest shift as a share of the side.
_CUTOUT_RATIO = 0.5  # Side of the rectangle as a share of the image's side.


def augment_step(config: Config, images: tf.Tensor, use: str, iteration: tf.Tensor) -> tf.Tensor:
    """Augments a batch (N, H, W, C) of a training step as --diff_augment says; the option must not be empty.

    The random numbers follow from the run's seed, the step and the use. They are drawn for the images of all replicas,
    and each replica takes its part.

    Args:
      use: names the images and the network that learns from them, such as "b/fake"; each use has its own numbers.
      iteration: number of the step, int64 scalar.
    """
    policy, (number, count) = config.augmentations, replicas.get_replica()
    shape = tf.shape(images)
    seed = seeds.make_step_seed(config.seed, f"augment/{use}", iteration)
    draws = draw(policy, seed, (count * shape[0], shape[1], shape[2]))
    return augment(images, policy, {name: tf.split(numbers, count)[number] for name, numbers in draws.items()})


def draw(policy: Sequence[str], seed: tf.Tensor, shape: Sequence[int | tf.Tensor]) -> Draws:
    """Draws the random numbers of `policy`, a pure function of `seed`.

    Args:
      policy: names of `FUNCTIONS`.
      seed: int64 (2,).
      shape: (number of images, height, width); further entries, such as the channels, are ignored.

    Returns:
      {name of the draw: (N,)}: float32 in [0, 1) for brightness, saturation and contrast; int32 for the others.
    """
    count, height, width = shape[0], shape[1], shape[2]
    draws = {}
    for number, name in enumerate(_list_draws(policy)):
        uniform = tf.random.stateless_uniform((count,), seed + tf.constant([number, 0], tf.int64))
        if name in ("brightness", "saturation", "contrast"):
            draws[name] = uniform
            continue
        side = height if name.endswith("rows") else width
        if name.startswith("translation"):
            largest = _scale_and_round(side, _TRANSLATION_RATIO)
            lowest = -largest
        else:
            lowest, largest = 0, side - _scale_and_round(side, _CUTOUT_RATIO) % 2
        draws[name] = lowest + _to_integers(uniform, largest - lowest + 1)
    return draws


def augment(images: tf.Tensor, policy: Sequence[str], draws: Draws) -> tf.Tensor:
    """Augments `images` (N, H, W, C) by the functions of `policy` with the numbers that `draw` drew for the batch."""
    for name in policy:
        images = FUNCTIONS[name](images, draws)
    return images


def _change_color(x: tf.Tensor, draws: Draws) -> tf.Tensor:
    """Shifts brightness by up to 0.5, and scales saturation by 0 to 2 and contrast by 0.5 to 1.5."""
    brightness, saturation, contrast = (
        tf.reshape(tf.cast(draws[name], x.dtype), (-1, 1, 1, 1)) for name in ("brightness", "saturation", "contrast")
    )
    x = x + (brightness - 0.5)
    gray = tf.reduce_mean(x, axis=3, keepdims=True)
    x = (x - gray) * (2 * saturation) + gray
    mean = tf.reduce_mean(x, axis=(1, 2, 3), keepdims=True)
    return (x - mean) * (contrast + 0.5) + mean


def _translate(x: tf.Tensor, draws: Draws) -> tf.Tensor:
    """Shifts each image by up to an eighth of its sides; pixels that enter at the border are 0."""
    return _shift(x, draws["translation_rows"], draws["translation_columns"])


def _shift(x: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Moves pixel (y, x) of image i to (y + rows[i], x + columns[i]); pixels without a source become 0.

    tf.slice cannot replace tf.gather: XLA must know the start of a slice at compile time, so XLA would compile each
    step again.
    """

    @tf.custom_gradient
    def function(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        y = x
        for axis, offsets in (1, rows), (2, columns):
            side = tf.shape(x)[axis]
            margin = _scale_and_round(side, _TRANSLATION_RATIO)
            padded = tf.pad(y, [[margin, margin] if each == axis else [0, 0] for each in range(4)])
            y = tf.gather(padded, margin + tf.range(side) + offsets[:, tf.newaxis], axis=axis, batch_dims=1)
        return tf.ensure_shape(y, x.shape), lambda dy: _shift(dy, -rows, -columns)

    return function(x)


def _cut_out(x: tf.Tensor, draws: Draws) -> tf.Tensor:
    """Sets a rectangle of half the image's sides to 0; a part of the rectangle may lie outside the image."""
    inside = []
    for name, side in (("cutout_rows", tf.shape(x)[1]), ("cutout_columns", tf.shape(x)[2])):
        length = _scale_and_round(side, _CUTOUT_RATIO)
        first = tf.reshape(draws[name] - length // 2, (-1, 1))  # (N, 1)
        position = tf.range(side)
        inside.append((position >= first) & (position < first + length))  # (N, side)
    rectangle = inside[0][:, :, tf.newaxis, tf.newaxis] & inside[1][:, tf.newaxis, :, tf.newaxis]  # (N, H, W, 1)
    return x * tf.cast(~rectangle, x.dtype)


FUNCTIONS = {"color": _change_color, "translation": _translate, "cutout": _cut_out}
_DRAWS = {
    "color": ("brightness", "saturation", "contrast"),
    "translation": ("translation_rows", "translation_columns"),
    "cutout": ("cutout_rows", "cutout_columns"),
}


def _list_draws(policy: Sequence[str]) -> list[str]:
    return [name for function in policy for name in _DRAWS[function]]


def _scale_and_round(side: tf.Tensor, ratio: float) -> tf.Tensor:
    """int(ratio * side + 0.5), as the original computes it."""
    return tf.cast(tf.cast(side, tf.float32) * ratio + 0.5, tf.int32)


def _to_integers(uniform: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Converts uniform numbers in [0, 1) to integers from 0 to `count` - 1."""
    # A product just below `count` may round up to `count`.
    return tf.minimum(tf.cast(uniform * tf.cast(count, tf.float32), tf.int32), count - 1)
