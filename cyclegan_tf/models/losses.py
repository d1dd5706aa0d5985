"""Losses: pure functions of predictions and images.

Predictions are a discriminator's raw scores (no sigmoid), of any shape and float type. Images are (N, H, W, C) in
[-1, 1]. Every function returns a float32 scalar.
"""

from collections.abc import Callable
from functools import partial

import tensorflow as tf

from cyclegan_tf.config import Config, registries
from cyclegan_tf.config.registries import AdversarialLoss
from cyclegan_tf.errors import UserError, describe_error


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


def make_lsgan(smoothing: float = 0.0) -> AdversarialLoss:
    """Makes the least-squares loss (Mao et al. 2017; CycleGAN paper, section 3.1).

    Discriminator: mean (D(x) - 1)^2 and mean D(G(x))^2. Generator: mean (D(G(x)) - 1)^2.

    Args:
      smoothing: one-sided label smoothing (Salimans et al. 2016, section 3.4): the discriminator's target of real
        images is 1 - smoothing instead of 1. The targets of generated images do not change.
    """
    return _make_labeled(_squared_distance, smoothing)


def make_vanilla(smoothing: float = 0.0) -> AdversarialLoss:
    """Makes the cross-entropy loss (CycleGAN paper, equation 1), with the sigmoid s.

    Discriminator: -mean log s(D(x)) and -mean log(1 - s(D(G(x)))). Generator: -mean log s(D(G(x))).

    Args:
      smoothing: as in `make_lsgan`.
    """
    return _make_labeled(_cross_entropy, smoothing)


def _make_labeled(distance: Callable[..., tf.Tensor], smoothing: float) -> AdversarialLoss:
    one = partial(distance, target=1.0)
    return AdversarialLoss(partial(distance, target=1.0 - smoothing), partial(distance, target=0.0), one)


# Discriminator: -mean D(x) and mean D(G(x)). Generator: -mean D(G(x)). Arjovsky et al. 2017; training adds
# `gradient_penalty`.
WGANGP = AdversarialLoss(_negative_mean, _mean, _negative_mean)
# Discriminator: mean max(0, 1 - D(x)) and mean max(0, 1 + D(G(x))). Generator: -mean D(G(x)). Miyato et al. 2018.
HINGE = AdversarialLoss(partial(_hinge, sign=1.0), partial(_hinge, sign=-1.0), _negative_mean)


def build_loss(config: Config) -> AdversarialLoss:
    """Makes the adversarial loss that --gan_mode names.

    Raises:
      UserError: the registered function does not fulfill the contract of `register_loss`.
    """
    option = f"--gan_mode={config.gan_mode}"
    loss = registries.LOSSES[config.gan_mode].build(config)
    if not isinstance(loss, AdversarialLoss):
        raise UserError(f"{option}: the registered function returns a {type(loss).__name__}; return a "
                        "cyclegan_tf.AdversarialLoss")
    scores = tf.constant([[[[-0.5]], [[0.5]]]])
    for name, function in loss._asdict().items():
        try:
            value = function(scores)
        except Exception as error:  # The function of a plugin may raise any type.
            raise UserError(f"{option}: its function {name!r} fails for scores (1, 2, 1, 1): {describe_error(error)}; "
                            "it must take one tensor of scores") from error
        if not tf.is_tensor(value) or value.dtype != tf.float32 or value.shape != ():
            found = f"a {value.dtype.name} tensor {value.shape}" if tf.is_tensor(value) else f"{value!r:.80}"
            raise UserError(f"{option}: its function {name!r} returns {found} for scores (1, 2, 1, 1); return a "
                            "float32 scalar, the mean over all scores")
    return loss


def l1_loss(image: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Returns mean |image - target|: the cycle loss (paper equation 2) and identity loss (section 5.2), unweighted."""
    return _mean(tf.abs(image - target))


def l2_loss(image: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Returns mean (image - target)^2: DiscoGAN's reconstruction loss (Kim et al. 2017, section 2.2), unweighted."""
    return _mean(tf.square(image - target))


# The values of --cycle_loss.
CYCLE_LOSSES = {"l1": l1_loss, "l2": l2_loss}


# The norm of the gradient that the penalty prefers, and the weight of the penalty.
PENALTY_NORM, PENALTY_WEIGHT = 1.0, 10.0


def gradient_penalty(
    discriminator: Callable[[tf.Tensor], tf.Tensor], real: tf.Tensor, fake: tf.Tensor, alpha: tf.Tensor
) -> tf.Tensor:
    """Returns the gradient penalty of wgangp (Gulrajani et al. 2017, equation 3), a float32 scalar.

    PENALTY_WEIGHT * mean over images of (||grad_x sum D(x)||_2 - PENALTY_NORM)^2 at x = alpha real + (1 - alpha) fake.
    As in the authors' code, 1e-16 is added to the gradient before its norm is taken.

    The training step differentiates this gradient again, so every layer of the discriminator needs a correct second
    derivative. The second derivative of norms that use `tf.nn.moments` is wrong, because that function stops the
    gradient at the mean.

    Args:
      discriminator: function of a batch of images.
      real, fake: images (N, H, W, C).
      alpha: (N,) mixing weights, uniform in [0, 1].
    """
    alpha = tf.reshape(alpha, (-1, 1, 1, 1))
    mixed = alpha * real + (1.0 - alpha) * fake
    with tf.GradientTape() as tape:
        tape.watch(mixed)
        total = tf.reduce_sum(discriminator(mixed))
    gradient = tape.gradient(total, mixed)
    norm = tf.sqrt(tf.reduce_sum(tf.square(gradient + 1e-16), axis=(1, 2, 3)))
    return PENALTY_WEIGHT * tf.reduce_mean(tf.square(norm - PENALTY_NORM))
