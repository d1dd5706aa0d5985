"""Differentiable augmentation against recorded numbers of the original, the ranges of its draws, and its use."""

import dataclasses
from unittest import mock

import golden
import numpy as np
import pytest
import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.errors import UserError
from cyclegan_tf.models import diff_augment, losses, replicas, seeds
from cyclegan_tf.models.registry import build_model

POLICY = ["color", "translation", "cutout"]
POLICIES = {"color": "color", "translation": "translation", "cutout": "cutout",
            "color_translation_cutout": "color,translation,cutout"}


@pytest.fixture(scope="module")
def recorded():
    return golden.Golden("augmentation/diffaugment.npz")


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("case", POLICIES)
@pytest.mark.parametrize("size", ["even", "odd"])
def test_results_and_gradients_equal_the_originals(recorded, size, case, compiled):
    arrays = recorded.group(f"{size}/{case}")
    draws = {name: tf.constant(array) for name, array in arrays.items() if name not in ("y", "dy", "dx")}

    @tf.function(jit_compile=compiled, autograph=False)
    def result(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = diff_augment.augment(x, POLICIES[case].split(","), draws)
        return y, tape.gradient(y, x, output_gradients=dy)

    y, dx = result(tf.constant(recorded.images(f"{size}/x")), tf.constant(golden.nhwc(arrays["dy"])))
    for name, found in (("y", y), ("dx", dx)):
        tolerance = recorded.info["arrays"][f"{size}/{case}/{name}"]["max_abs_tolerance"]
        np.testing.assert_allclose(found, golden.nhwc(arrays[name]), rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("case", POLICIES)
def test_xla_compiles_once_for_all_steps(case):
    """XLA takes the number of the step as an input of its program, not as one of the program's constants."""
    config = Config.preset("tiny", diff_augment=POLICIES[case])

    @tf.function(jit_compile=True, autograph=False)
    def step(images, iteration):
        with tf.GradientTape() as tape:
            tape.watch(images)
            augmented = diff_augment.augment_step(config, images, "b/fake", iteration)
        return tape.gradient(augmented, images)

    program = step.experimental_get_compiler_ir(tf.zeros((2, 16, 16, 3)), tf.constant(3, tf.int64))(stage="hlo")
    assert "s64[] parameter(1)" in program


def test_draws_have_the_ranges_of_the_original(recorded):
    for size, shape in (("even", (16, 20)), ("odd", (15, 21))):
        draws = diff_augment.draw(["translation", "cutout", "color"], tf.constant([1, 2], tf.int64), (5000, *shape))
        for name, (lowest, highest) in recorded.info["integer_ranges_here"][size].items():
            found = draws.pop(name).numpy()
            # With 5000 draws every value of at most 22 comes up, each about equally often.
            assert sorted(set(found)) == list(range(lowest, highest + 1)), name
            counts = np.bincount(found - lowest)
            expected = 5000 / len(counts)
            assert np.all(np.abs(counts - expected) < 6 * np.sqrt(expected)), name
        assert sorted(draws) == ["brightness", "contrast", "saturation"]
        for uniform in draws.values():
            assert 0 <= uniform.numpy().min() < 0.01
            assert 0.99 < uniform.numpy().max() < 1


def test_draws_follow_the_seed_alone():
    def draws(*seed):
        found = diff_augment.draw(POLICY, tf.constant(seed, tf.int64), (8, 64, 64))
        return {name: array.numpy().tolist() for name, array in found.items()}

    assert draws(1, 2) == draws(1, 2)
    for name, numbers in draws(1, 2).items():
        assert numbers != draws(1, 3)[name]
        assert numbers != draws(7, 2)[name]
    # The draws of one call differ from each other.
    assert len({tuple(numbers) for numbers in draws(1, 2).values()}) == 7


def test_each_image_of_a_batch_is_augmented_on_its_own():
    images = np.tile(np.random.default_rng(0).uniform(-1, 1, (1, 16, 16, 3)), (4, 1, 1, 1)).astype(np.float32)
    draws = diff_augment.draw(POLICY, tf.constant([1, 2], tf.int64), images.shape)
    together = diff_augment.augment(tf.constant(images), POLICY, draws).numpy()
    for i in range(4):
        own = {name: array[i : i + 1] for name, array in draws.items()}
        alone = diff_augment.augment(images[i : i + 1], POLICY, own)
        np.testing.assert_allclose(together[i : i + 1], alone, rtol=0, atol=1e-6)
    assert len({image.tobytes() for image in together}) == 4


DISCRIMINATORS = {"cyclegan": "pixel", "pix2pix": "pixel", "cut": "patch"}
TINY = {
    model: Config.preset(
        "tiny", model=model, discriminator=discriminator, n_layers=1, pool_size=0, ngf=2, ndf=2, seed=5,
        diff_augment=",".join(POLICY), lambda_identity=0.0, nce_features=4, nce_patches=4,
    )
    for model, discriminator in DISCRIMINATORS.items()
}


def batch(number):
    return tf.constant(np.random.default_rng(number).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32))


def augment_by_hand(images, use, iteration=0):
    seed = seeds.make_step_seed(5, f"augment/{use}", tf.constant(iteration, tf.int64))
    return diff_augment.augment(images, POLICY, diff_augment.draw(POLICY, seed, images.shape))


def step(model):
    """The scalars of an eager step, which takes less time than tracing the step."""
    model.compiled_step = model.step
    return {name: float(value) for name, value in model.train_step(batch(0), batch(1)).items()}


def lsgan(on_real, on_fake):
    return 0.5 * (np.mean((on_real - 1) ** 2) + np.mean(on_fake**2))


def test_cyclegans_discriminators_see_augmented_images():
    model = build_model(TINY["cyclegan"])
    nets, real = model.networks, {"a": batch(0), "b": batch(1)}
    fake = {"a": nets["gen_ba"](real["b"]), "b": nets["gen_ab"](real["a"])}
    expected = {}
    for domain, generator in (("a", "gen_ba"), ("b", "gen_ab")):
        disc = nets[f"disc_{domain}"]
        on_real, on_fake = (
            disc(augment_by_hand(images[domain], f"{domain}/{use}")) for images, use in ((real, "real"), (fake, "fake"))
        )
        expected[f"loss/disc_{domain}"] = lsgan(on_real, on_fake)
        expected[f"loss/{generator}"] = np.mean(
            (disc(augment_by_hand(fake[domain], f"{domain}/generator")) - 1) ** 2
        )
    scalars = step(model)
    for name, value in expected.items():
        assert scalars[name] == pytest.approx(value, rel=1e-4), name


def test_pix2pix_augments_a_pair_with_the_same_numbers():
    model = build_model(TINY["pix2pix"])
    gen, disc = (model.networks[name] for name in ("gen_ab", "disc_b"))

    def score(a, b, use):
        return disc(tf.concat([augment_by_hand(a, f"b/{use}"), augment_by_hand(b, f"b/{use}")], axis=-1))

    fake = gen(batch(0))
    expected = lsgan(score(batch(0), batch(1), "real"), score(batch(0), fake, "fake"))
    scalars = step(model)
    assert scalars["loss/disc_b"] == pytest.approx(expected, rel=1e-4)
    # The generator learns from the updated discriminator.
    assert scalars["loss/gen_ab"] == pytest.approx(np.mean((score(batch(0), fake, "generator") - 1) ** 2), rel=1e-4)


def test_cuts_discriminator_sees_augmented_images():
    model = build_model(TINY["cut"])
    gen, disc = (model.networks[name] for name in ("gen_ab", "disc_b"))
    fake = gen(batch(0))
    expected = lsgan(disc(augment_by_hand(batch(1), "b/real")), disc(augment_by_hand(fake, "b/fake")))
    scalars = step(model)
    assert scalars["loss/disc_b"] == pytest.approx(expected, rel=1e-4)
    on_fake = disc(augment_by_hand(fake, "b/generator"))
    assert scalars["loss/gen_ab"] == pytest.approx(np.mean((on_fake - 1) ** 2), rel=1e-4)


def test_the_gradient_penalty_is_taken_at_mixtures_of_augmented_images():
    model = build_model(dataclasses.replace(TINY["cyclegan"], gan_mode="wgangp"))
    seen = []
    with mock.patch.object(
        losses, "gradient_penalty", lambda disc, real, fake, alpha: seen.append((real, fake)) or tf.constant(0.0)
    ):
        fake_a = model.networks["gen_ba"](batch(1))
        step(model)
    np.testing.assert_allclose(seen[0][0], augment_by_hand(batch(0), "a/real"), rtol=0, atol=1e-6)
    np.testing.assert_allclose(seen[0][1], augment_by_hand(fake_a, "a/fake"), rtol=0, atol=1e-5)


@pytest.mark.parametrize("model", TINY)
def test_without_the_option_discriminators_see_the_images_themselves(model):
    built = build_model(dataclasses.replace(TINY[model], diff_augment=""))
    fake, real = built.networks["gen_ab"](batch(0)), batch(1)
    if model == "pix2pix":
        fake, real = (tf.concat([batch(0), image], axis=-1) for image in (fake, real))
    disc = built.networks["disc_b"]
    expected = lsgan(disc(real), disc(fake))
    assert step(built)["loss/disc_b"] == pytest.approx(expected, rel=1e-4)


def test_random_numbers_depend_on_step_seed_and_use():
    def augment(config, use, iteration):
        return diff_augment.augment_step(config, batch(0), use, tf.constant(iteration, tf.int64)).numpy()

    config = TINY["cyclegan"]
    first = augment(config, "a/real", 3)
    np.testing.assert_array_equal(first, augment(config, "a/real", 3))
    np.testing.assert_array_equal(first, augment_by_hand(batch(0), "a/real", 3))
    others = [augment(config, "a/real", 4), augment(config, "a/fake", 3)]
    others.append(augment(dataclasses.replace(config, seed=6), "a/real", 3))
    assert all(np.abs(first - other).max() > 0.1 for other in others)


def test_replicas_split_the_random_numbers_of_the_whole_batch():
    images = tf.concat([batch(0), batch(1), batch(2)], axis=0)
    whole, config = augment_by_hand(images, "a/real"), TINY["cyclegan"]
    for number in range(3):
        with mock.patch.object(replicas, "get_replica", lambda number=number: (number, 3)):
            part = diff_augment.augment_step(config, batch(number), "a/real", tf.constant(0, tf.int64))
        np.testing.assert_allclose(part, whole[2 * number : 2 * number + 2], rtol=0, atol=1e-6)


@pytest.mark.parametrize("value", ["blur", "color,blur", "cutout,cutout"])
def test_unknown_augmentations_are_refused(value):
    with pytest.raises(UserError, match="expected any of color, translation, cutout"):
        Config(diff_augment=value)
    assert Config(diff_augment="cutout, color").augmentations == ["cutout", "color"]
