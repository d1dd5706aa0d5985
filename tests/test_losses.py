"""Losses against the authors' values and gradients, or against sums computed by hand."""

import golden
import numpy as np
import pytest
import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.models import losses
from cyclegan_tf.networks.weights import name_weights
from cyclegan_tf.pytorch import weights as pytorch_weights

GAN = golden.Golden("losses/gan_loss.npz")
PENALTY = golden.Golden("losses/gradient_penalty.npz")

GAN_CASES = sorted(key.removeprefix("loss/") for key in GAN.info["arrays"] if key.startswith("loss/"))
ALPHA = {"mixed": PENALTY["alpha"][:, 0], "real": np.ones(2, np.float32), "fake": np.zeros(2, np.float32)}


def test_the_golden_set_is_there():
    assert len(GAN_CASES) == 3 * 2 * 3
    assert set(PENALTY.info["cases"]) == {"mixed", "real", "fake", "mixed_c0.5_l3"}


@pytest.mark.parametrize("case", GAN_CASES)
def test_adversarial_losses_match_the_authors(case):
    mode, target, prediction_name = case.split("/")
    # The authors' generators use the loss of the target "real" on generated images.
    built = losses.build_loss(Config(gan_mode=mode))
    functions = {"real": (built.real, built.generator), "fake": (built.fake,)}[target]
    for function in functions:
        prediction = tf.constant(GAN.images(prediction_name))
        with tf.GradientTape() as tape:
            tape.watch(prediction)
            loss = function(prediction)
        GAN.assert_close(loss, f"loss/{case}")
        GAN.assert_close(golden.nchw(tape.gradient(loss, prediction)), f"grad/{case}")


def test_hinge_loss_by_hand():
    prediction = tf.constant([[3.0, 1.0], [0.5, -2.0]])
    # max(0, 1 - p) = 0, 0, 0.5, 3 and max(0, 1 + p) = 4, 2, 1.5, 0; the mean of p is 0.625.
    assert losses.HINGE.real(prediction).numpy() == 3.5 / 4
    assert losses.HINGE.fake(prediction).numpy() == 7.5 / 4
    assert losses.HINGE.generator(prediction).numpy() == -0.625
    # Half of the sum.
    assert losses.HINGE.discriminator(prediction, prediction).numpy() == 11 / 8


def smooth(mode):
    return losses.build_loss(Config(gan_mode=mode, label_smoothing=0.1))


def test_smoothed_labels_by_hand():
    prediction = tf.constant([[3.0, 1.0], [0.5, -2.0]])
    # (p - 0.9)^2 = 4.41, 0.01, 0.16, 8.41.
    np.testing.assert_allclose(smooth("lsgan").real(prediction), 12.99 / 4, rtol=1e-6)
    # -0.9 log s(p) - 0.1 log(1 - s(p)) = log(1 + exp(-p)) + 0.1 p.
    expected = np.mean(np.log1p(np.exp([-3.0, -1.0, -0.5, 2.0])) + 0.1 * np.array([3.0, 1.0, 0.5, -2.0]))
    np.testing.assert_allclose(smooth("vanilla").real(prediction), expected, rtol=1e-6)
    for mode in ("lsgan", "vanilla"):
        sharp = losses.build_loss(Config(gan_mode=mode))
        for part in ("fake", "generator"):
            np.testing.assert_array_equal(getattr(smooth(mode), part)(prediction), getattr(sharp, part)(prediction))


def test_l2_loss_by_hand():
    image = tf.constant([[[[0.5, -1.0], [0.25, 1.0]]]])
    target = tf.constant([[[[-0.5, -1.0], [0.5, 0.0]]]])
    # (1 + 0 + 0.0625 + 1) / 4.
    assert losses.l2_loss(image, target).numpy() == 0.515625


def test_l1_loss_by_hand():
    image = tf.constant([[[[0.5, -1.0], [0.25, 1.0]]]])
    target = tf.constant([[[[-0.5, -1.0], [0.5, 0.0]]]])
    # (1 + 0 + 0.25 + 1) / 4, in either order.
    assert losses.l1_loss(image, target).numpy() == 0.5625
    assert losses.l1_loss(target, image).numpy() == 0.5625


@pytest.mark.parametrize("mode", ["lsgan", "vanilla", "wgangp", "hinge"])
def test_losses_of_half_precision_are_float32(mode):
    prediction = tf.constant([0.5, -2.0], tf.float16)
    for function in losses.build_loss(Config(gan_mode=mode)):
        loss = function(prediction)
        assert loss.dtype == tf.float32
        np.testing.assert_allclose(loss, function(tf.cast(prediction, tf.float32)), rtol=1e-6)
    assert losses.l1_loss(prediction, prediction + 1).dtype == tf.float32


def _discriminator():
    return golden.build_with(golden.options(PENALTY.info["config"]), PENALTY.group("w"), second_derivative=True)


@pytest.mark.parametrize("case", PENALTY.info["cases"])
def test_gradient_penalty_matches_the_authors(monkeypatch, case):
    setting = PENALTY.info["cases"][case]
    discriminator = _discriminator()
    images = PENALTY.images("real"), PENALTY.images("fake"), ALPHA[setting["type"]]
    monkeypatch.setattr(losses, "PENALTY_NORM", setting["constant"])
    monkeypatch.setattr(losses, "PENALTY_WEIGHT", setting["lambda_gp"])
    with tf.GradientTape() as tape:
        penalty = losses.gradient_penalty(discriminator, *images)
    PENALTY.assert_close(penalty, f"{case}/penalty")
    expected = PENALTY.group(f"{case}/weight_grad")
    if expected:
        weights = {name: w for name, w in name_weights(discriminator).items() if w.trainable}
        gradients = tape.gradient(penalty, list(weights.values()))
        # The head's bias changes no gradient: None here, recorded as zero.
        assert [name for name, g in zip(weights, gradients, strict=True) if g is None] == ["head_conv/bias"]
        gradients = [np.zeros(1, np.float32) if gradient is None else gradient.numpy() for gradient in gradients]
        named = dict(zip(weights, gradients, strict=True))
        for key, gradient in pytorch_weights.to_pytorch(named, golden.options(PENALTY.info["config"])).items():
            PENALTY.assert_close(gradient, f"{case}/weight_grad/{key}")


def test_gradient_penalty_cases_have_second_derivatives():
    assert len(PENALTY.group("mixed/weight_grad")) == 8


def test_input_gradient_matches_the_authors():
    alpha = ALPHA["mixed"].reshape(2, 1, 1, 1)
    mixed = tf.constant(alpha * PENALTY.images("real") + (1 - alpha) * PENALTY.images("fake"))
    discriminator = _discriminator()
    with tf.GradientTape() as tape:
        tape.watch(mixed)
        total = tf.reduce_sum(discriminator(mixed))
    PENALTY.assert_close(golden.nchw(tape.gradient(total, mixed)).reshape(2, -1), "mixed/input_grad")


def test_gradient_penalty_by_hand():
    # The gradient of 2 x0 - x1 is (2, -1) everywhere, so its norm is sqrt(5), whatever the images and the mixing.
    def critic(x):
        return 2 * x[..., 0] - x[..., 1]

    real, fake = np.ones((3, 1, 1, 2), np.float32), np.zeros((3, 1, 1, 2), np.float32)
    penalty = losses.gradient_penalty(critic, real, fake, np.array([0.0, 0.5, 1.0], np.float32))
    np.testing.assert_allclose(penalty, 10 * (np.sqrt(5) - 1) ** 2, rtol=1e-6)
