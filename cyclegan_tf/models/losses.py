"""The terms of the objective: pure functions of predictions and images.

Predictions are a discriminator's raw outputs (no sigmoid), of any shape; images are in [-1, 1]. Every function returns
a scalar, computed and returned in float32.
"""

from functools import partial

import tensorflow as tf


def _mean(values):
    return tf.reduce_mean(tf.cast(values, tf.float32))


def _cross_entropy(logits, target):
    """Mean binary cross-entropy of a sigmoid on `logits`, stable for logits of any size."""
    logits = tf.cast(logits, tf.float32)
    labels = tf.fill(tf.shape(logits), tf.constant(target, logits.dtype))
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits))


def _squared_distance(prediction, target):
    return _mean(tf.square(tf.cast(prediction, tf.float32) - target))


def _negative_mean(prediction):
    return -_mean(prediction)


def _hinge(prediction, sign):
    return _mean(tf.nn.relu(1.0 - sign * prediction))


# Each mode: (loss of the discriminator on real images, on generated ones, loss of the generator).
_ADVERSARIAL = {
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
    # -mean D(x) and mean D(G(x)); generator -mean D(G(x)). Arjovsky et al. 2017; wants `gradient_penalty` too.
    "wgangp": (_negative_mean, _mean, _negative_mean),
    # mean max(0, 1 - D(x)) and mean max(0, 1 + D(G(x))); generator -mean D(G(x)). Miyato et al. 2018.
    "hinge": (partial(_hinge, sign=1.0), partial(_hinge, sign=-1.0), _negative_mean),
}


def discriminator_real_loss(mode, prediction, smoothing=0.0):
    """Loss of a discriminator's `prediction` on real images; `mode` is lsgan, vanilla, wgangp or hinge.

    Args:
      smoothing: the target of a real image is 1 - smoothing in place of 1, that of a generated one stays 0 and that of
        the generator 1: one-sided label smoothing (Salimans et al. 2016, section 3.4). For lsgan, mean
        (D(x) - 1 + smoothing)^2, and vanilla, whose cross-entropy has it for label; the others have no targets.
    """
    function = _ADVERSARIAL[mode][0]
    return function(prediction, target=1.0 - smoothing) if smoothing else function(prediction)


def discriminator_fake_loss(mode, prediction):
    """Loss of a discriminator's `prediction` on generated images."""
    return _ADVERSARIAL[mode][1](prediction)


def generator_loss(mode, prediction):
    """Adversarial loss of a generator, from the discriminator's `prediction` on its images."""
    return _ADVERSARIAL[mode][2](prediction)


def l1_loss(image, target):
    """mean |image - target|: the cycle loss (paper equation 2) and the identity loss (section 5.2), unweighted."""
    return _mean(tf.abs(image - target))


def l2_loss(image, target):
    """mean (image - target)^2: DiscoGAN's reconstruction loss (Kim et al. 2017, section 2.2), unweighted."""
    return _mean(tf.square(image - target))


# The option --cycle_loss.
CYCLE_LOSSES = {"l1": l1_loss, "l2": l2_loss}


def gradient_penalty(discriminator, real, fake, alpha, constant=1.0, weight=10.0):
    """weight * mean over samples of (||grad_x sum D(x)||_2 - constant)^2 at x = alpha real + (1 - alpha) fake.

    Gulrajani et al. 2017, equation 3. As in the authors' code the norm is of the gradient plus 1e-16.
    The gradient is differentiated once more by the training step, so every layer of `discriminator` must have a right
    second derivative: `tf.nn.moments` stops the gradient at the mean, and norms built on it do not.

    Args:
      discriminator: a function of a batch of images.
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
    return weight * tf.reduce_mean(tf.square(norm - constant))
