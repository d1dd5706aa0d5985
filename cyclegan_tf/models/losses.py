"""Losses: pure functions of predictions and images.

Predictions are a discriminator's raw scores (no sigmoid), of any shape and float type. Images are (N, H, W, C) in
[-1, 1]. Every function computes in float32 and returns a float32 scalar.
"""

from collections.abc import Callable
from functools import partial

import tensorflow as tf


def _mean(values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.cast(values, tf.float32))


def _cross_entropy(logits: tf.Tensor, target: float) -> tf.Tensor:
    """Mean binary cross-entropy of sigmoid(logits), stable for large logits."""
    logits = tf.cast(logits, tf.float32)
    labels = tf.fill(tf.shape(logits), tf.constant(target, logits.dtype))
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits))


def _squared_distance(prediction: tf.Tensor, target: float) -> tf.Tensor:
    return _mean(tf.square(tf.cast(prediction, tf.float32) - target))


def _negative_mean(prediction: tf.Tensor) -> tf.Tensor:
    return -_mean(prediction)


def _hinge(prediction: tf.Tensor, sign: float) -> tf.Tensor:
    return _mean(tf.nn.relu(1.0 - sign * prediction))


# Mode -> (discriminator's loss on real images, its loss on generated images, generator's loss).
_ADVERSARIAL: dict[str, tuple[Callable[..., tf.Tensor], ...]] = {
    # mean (D(x) - 1)^2 and mean D(G(x))^2; generator mean (D(G(x)) - 1)^2. Mao et al. 2017, as in paper section 3.1.
    "lsgan": (
        partial(_squared_distance, target=1.0),
        partial(_squared_distance, target=0.0),
        partial(_squared_distance, target=1.0),
    ),
    # -mean log s(D(x)) and -mean log(1 - s(D(G(x)))); generator -mean log s(D(G(x))). Paper equation 1.
    "vanilla": (
        partial(_cross_entropy, target=1.0),
        partial(_cross_entropy, target=0.0),
        partial(_cross_entropy, target=1.0),
    ),
    # -mean D(x) and mean D(G(x)); generator -mean D(G(x)). Arjovsky et al. 2017; needs `gradient_penalty` too.
    "wgangp": (_negative_mean, _mean, _negative_mean),
    # mean max(0, 1 - D(x)) and mean max(0, 1 + D(G(x))); generator -mean D(G(x)). Miyato et al. 2018.
    "hinge": (partial(_hinge, sign=1.0), partial(_hinge, sign=-1.0), _negative_mean),
}


def discriminator_real_loss(mode: str, prediction: tf.Tensor, smoothing: float = 0.0) -> tf.Tensor:
    """Returns the loss of a discriminator's `prediction` on real images.

    Args:
      mode: lsgan, vanilla, wgangp or hinge.
      prediction: scores of real images.
      smoothing: one-sided label smoothing (Salimans et al. 2016, section 3.4), for lsgan and vanilla: the target of
        real images is 1 - smoothing instead of 1. The targets of generated images do not change.
    """
    function = _ADVERSARIAL[mode][0]
    return function(prediction, target=1.0 - smoothing) if smoothing else function(prediction)


def discriminator_fake_loss(mode: str, prediction: tf.Tensor) -> tf.Tensor:
    """Returns the loss of a discriminator's `prediction` on generated images."""
    return _ADVERSARIAL[mode][1](prediction)


def discriminator_loss(mode: str, on_real: tf.Tensor, on_fake: tf.Tensor, smoothing: float = 0.0) -> tf.Tensor:
    """Returns 1/2 (loss on real + loss on generated images) from a discriminator's scores of both."""
    return 0.5 * (discriminator_real_loss(mode, on_real, smoothing) + discriminator_fake_loss(mode, on_fake))


def generator_loss(mode: str, prediction: tf.Tensor) -> tf.Tensor:
    """Returns the adversarial loss of a generator from the discriminator's `prediction` on its images."""
    return _ADVERSARIAL[mode][2](prediction)


def l1_loss(image: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """mean |image - target|: the cycle loss (paper equation 2) and the identity loss (section 5.2), unweighted."""
    return _mean(tf.abs(image - target))


def l2_loss(image: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """mean (image - target)^2: DiscoGAN's reconstruction loss (Kim et al. 2017, section 2.2), unweighted."""
    return _mean(tf.square(image - target))


# The values of --cycle_loss.
CYCLE_LOSSES = {"l1": l1_loss, "l2": l2_loss}


def gradient_penalty(
    discriminator: Callable[[tf.Tensor], tf.Tensor], real: tf.Tensor, fake: tf.Tensor, alpha: tf.Tensor,
    constant: float = 1.0, weight: float = 10.0,
) -> tf.Tensor:
    """weight * mean over images of (||grad_x sum D(x)||_2 - constant)^2 at x = alpha real + (1 - alpha) fake.

    Gulrajani et al. 2017, equation 3. As in the authors' code, 1e-16 is added to the gradient before its norm is taken.
    The training step differentiates the gradient once more, so every layer of the discriminator needs a right second
    derivative. Norms that use `tf.nn.moments` have none, because that function stops the gradient at the mean.

    Args:
      discriminator: function of a batch of images.
      real, fake: images (N, H, W, C).
      alpha: (N,) mixing weights, uniform in [0, 1].
      constant: the norm that the penalty prefers.
      weight: the weight of the penalty.
    """
    alpha = tf.reshape(alpha, (-1, 1, 1, 1))
    mixed = alpha * real + (1.0 - alpha) * fake
    with tf.GradientTape() as tape:
        tape.watch(mixed)
        total = tf.reduce_sum(discriminator(mixed))
    gradient = tape.gradient(total, mixed)
    norm = tf.sqrt(tf.reduce_sum(tf.square(gradient + 1e-16), axis=(1, 2, 3)))
    return weight * tf.reduce_mean(tf.square(norm - constant))
