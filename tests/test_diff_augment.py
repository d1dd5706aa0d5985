"""Differentiable augmentation against recorded numbers of the original, and the ranges of its draws."""

import golden
import numpy as np
import pytest
import tensorflow as tf

from cyclegan_tf.models import diff_augment

POLICIES = {"color": "color", "translation": "translation", "cutout": "cutout",
            "color_translation_cutout": "color,translation,cutout"}


@pytest.fixture(scope="module")
def recorded():
    return golden.Golden("augmentation/diffaugment.npz")


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("case", POLICIES)
@pytest.mark.parametrize("size", ["even", "odd"])
def test_results_and_gradients_are_the_originals(recorded, size, case, compiled):
    arrays = recorded.group(f"{size}/{case}")
    draws = {name: tf.constant(array) for name, array in arrays.items() if name not in ("y", "dy", "dx")}

    @tf.function(jit_compile=compiled, autograph=False)
    def result(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = diff_augment.augment(x, POLICIES[case], draws)
        return y, tape.gradient(y, x, output_gradients=dy)

    y, dx = result(tf.constant(recorded.images(f"{size}/x")), tf.constant(golden.nhwc(arrays["dy"])))
    for name, found in (("y", y), ("dx", dx)):
        tolerance = recorded.info["arrays"][f"{size}/{case}/{name}"]["max_abs_tolerance"]
        np.testing.assert_allclose(found, golden.nhwc(arrays[name]), rtol=0, atol=tolerance, err_msg=name)


def test_draws_have_the_ranges_of_the_original(recorded):
    for size, shape in (("even", (16, 20)), ("odd", (15, 21))):
        draws = diff_augment.draw("translation,cutout,color", tf.constant([1, 2], tf.int64), (5000, *shape))
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
        found = diff_augment.draw("color,translation,cutout", tf.constant(seed, tf.int64), (8, 64, 64))
        return {name: array.numpy().tolist() for name, array in found.items()}

    assert draws(1, 2) == draws(1, 2)
    for name, numbers in draws(1, 2).items():
        assert numbers != draws(1, 3)[name]
        assert numbers != draws(7, 2)[name]
    # Draws of one call are independent of each other.
    assert len({tuple(numbers) for numbers in draws(1, 2).values()}) == 7


def test_each_image_of_a_batch_is_augmented_on_its_own():
    images = np.tile(np.random.default_rng(0).uniform(-1, 1, (1, 16, 16, 3)), (4, 1, 1, 1)).astype(np.float32)
    policy = "color,translation,cutout"
    draws = diff_augment.draw(policy, tf.constant([1, 2], tf.int64), images.shape)
    together = diff_augment.augment(tf.constant(images), policy, draws).numpy()
    for i in range(4):
        own = {name: array[i : i + 1] for name, array in draws.items()}
        alone = diff_augment.augment(images[i : i + 1], policy, own)
        np.testing.assert_allclose(together[i : i + 1], alone, rtol=0, atol=1e-6)
    assert len({image.tobytes() for image in together}) == 4
