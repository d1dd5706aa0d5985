"""The objective of each network with options other than the paper's, against gradients computed by hand."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.models import losses
from cyclegan_tf.models.cyclegan import CycleGAN
from cyclegan_tf.models.pix2pix import Pix2Pix

TINY = Config.preset("tiny", pool_size=0, lambda_a=7.0, lambda_b=11.0, discriminator="pixel")


def batch(seed):
    return tf.constant(np.random.default_rng(seed).uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32))


def run_step(model):
    """The scalars of a first step, run eagerly because tracing would take longer than the step."""
    model.compiled_step = model.step
    return {name: float(value) for name, value in model.train_step(batch(0), batch(1)).items()}


def compute_generator_losses(model, cycle_loss, cross):
    """{name: loss} of the generators' losses, with one network call for each batch; call it while a tape records."""
    config, nets, real_a, real_b = model.config, model.networks, batch(0), batch(1)
    fake_b, fake_a = nets["gen_ab"](real_a, training=True), nets["gen_ba"](real_b, training=True)
    same_a, same_b = (fake_a, fake_b) if cross else (nets["gen_ba"](real_a), nets["gen_ab"](real_b))
    terms = {
        "gen_ab": losses.build_loss(config).generator(nets["disc_b"](fake_b, training=True)),
        "gen_ba": losses.build_loss(config).generator(nets["disc_a"](fake_a, training=True)),
        "cycle_a": 7.0 * cycle_loss(nets["gen_ba"](fake_b, training=True), real_a),
        "cycle_b": 11.0 * cycle_loss(nets["gen_ab"](fake_a, training=True), real_b),
        "identity_a": 0.5 * 7.0 * tf.reduce_mean(tf.abs(same_a - real_a)),
        "identity_b": 0.5 * 11.0 * tf.reduce_mean(tf.abs(same_b - real_b)),
    }
    return {name: loss for name, loss in terms.items() if config.lambda_identity or "identity" not in name}


ALL = ("gen_ab", "gen_ba", "cycle_a", "cycle_b", "identity_a", "identity_b")
# Case -> options, the losses that gen_ab minimizes, the losses that gen_ba minimizes.
CASES = {
    "joint": ({}, ALL, ALL),
    "separate": (
        {"generator_loss": "separate"}, ("gen_ab", "cycle_b", "identity_b"), ("gen_ba", "cycle_a", "identity_a"),
    ),
    "separate_without_identity": (
        {"generator_loss": "separate", "lambda_identity": 0.0}, ("gen_ab", "cycle_b"), ("gen_ba", "cycle_a"),
    ),
    "cross": ({"identity_mode": "cross"}, ALL, ALL),
    "l2": ({"cycle_loss": "l2", "gan_mode": "vanilla"}, ALL, ALL),
}


@pytest.mark.parametrize("case", CASES)
def test_generators_minimize_their_losses(case):
    options, *learned = CASES[case]
    model = CycleGAN(dataclasses.replace(TINY, **options))
    distance = losses.l1_loss if case != "l2" else lambda x, y: tf.reduce_mean((x - y) ** 2)
    with tf.GradientTape(persistent=True) as tape:
        terms = compute_generator_losses(model, distance, cross=case == "cross")
        totals = [tf.add_n([terms[name] for name in names]) for names in learned]
    norms = {
        name: float(tf.linalg.global_norm(tape.gradient(total, model.networks[name].trainable_variables)))
        for name, total in zip(("gen_ab", "gen_ba"), totals, strict=True)
    }
    scalars = run_step(model)
    for name, value in terms.items():
        np.testing.assert_allclose(scalars[f"loss/{name}"], value, rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(scalars["loss/generators"], sum(map(float, terms.values())), rtol=1e-4)
    for name, norm in norms.items():
        np.testing.assert_allclose(scalars[f"grad_norm/{name}"], norm, rtol=1e-3, err_msg=name)


@pytest.mark.parametrize("kind", [CycleGAN, Pix2Pix])
def test_discriminators_have_their_own_labels_and_learning_rate(kind):
    config = dataclasses.replace(TINY, label_smoothing=0.25, learning_rate=2e-4, disc_learning_rate=4e-4)
    if kind is Pix2Pix:
        config = dataclasses.replace(config, model="pix2pix")
    model = kind(config)

    def rates():
        return {name: float(optimizer.learning_rate.numpy()) for name, optimizer in model.optimizers.items()}

    def expected(generators, discriminators):
        return {name: generators if name.startswith("gen") else discriminators for name in model.optimizers}

    assert rates() == pytest.approx(expected(2e-4, 4e-4))
    # Halving the generators' rate halves the discriminators'.
    model.set_learning_rate(1e-4)
    assert rates() == pytest.approx(expected(1e-4, 2e-4))
    disc, gen = model.networks["disc_b"], model.networks["gen_ab"]
    real, fake = batch(1), gen(batch(0), training=True)
    if kind is Pix2Pix:
        real, fake = (tf.concat([batch(0), image], axis=-1) for image in (real, fake))
    wanted = 0.5 * (np.mean((disc(real) - 0.75) ** 2) + np.mean(disc(fake) ** 2))
    np.testing.assert_allclose(run_step(model)["loss/disc_b"], wanted, rtol=1e-4)


def test_discriminators_share_the_generators_learning_rate_by_default():
    model = CycleGAN(TINY)
    model.set_learning_rate(1e-4)
    assert {round(float(o.learning_rate.numpy()), 9) for o in model.optimizers.values()} == {1e-4}
