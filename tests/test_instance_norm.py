"""Instance normalization of tensors against its closed form in float64."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from cyclegan_tf.ops import instance_norm


@pytest.mark.parametrize(("dtype", "rounding"), [
    (tf.float32, 2.0**-24), (tf.bfloat16, 2.0**-9), (tf.float16, 2.0**-12),
])
@pytest.mark.parametrize("shape", [(1, 6, 5, 3), (3, 4, 4, 2), (9, 4, 4, 2), (2, 1, 1, 3)])
@pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["eager", "graph"])
def test_normalize_matches_the_closed_form(shape, dtype, rounding, wrap):
    x, dy = (tf.cast(np.random.default_rng(seed).normal(1, 2, shape), dtype) for seed in (0, 1))

    def both(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = instance_norm.normalize(x, 1e-5)
        return y, tape.gradient(y, x, dy)

    found = wrap(both)(x, dy)
    assert [value.dtype for value in found] == [dtype, dtype]
    # Ioffe and Szegedy 2015, section 3, in float64.
    x, dy = (np.asarray(tf.cast(value, tf.float64)) for value in (x, dy))
    mean = functools.partial(np.mean, axis=(1, 2), keepdims=True)
    scale = 1 / np.sqrt(x.var(axis=(1, 2), keepdims=True) + 1e-5)
    y = (x - mean(x)) * scale
    expected = y, scale * (dy - mean(dy) - y * mean(dy * y))
    # A few roundings in float32, plus roundings to the dtype: of the result, and of the map that the gradient reads.
    for value, exact, roundings in zip(found, expected, (1, 6), strict=True):
        bound = (roundings * rounding + 1e-6) * max(np.abs(y).max(), 1) * max(np.abs(exact).max(), 1)
        np.testing.assert_allclose(tf.cast(value, tf.float64), exact, rtol=0, atol=bound)


@pytest.mark.usefixtures("cpu_kernels")
def test_small_batches_are_unrolled_into_batch_norms():
    def count_batch_norms(shape, dtype):
        function = tf.function(lambda x: tf.gradients(instance_norm.normalize(x, 1e-5), x), autograph=False)
        graph = function.get_concrete_function(tf.TensorSpec(shape, dtype)).graph
        kinds = [operation.type for operation in graph.get_operations()]
        return kinds.count("FusedBatchNormV3"), kinds.count("FusedBatchNormGradV3")

    assert count_batch_norms((2, 4, 4, 3), tf.float32) == (0, 2)
    assert count_batch_norms((2, 4, 4, 3), tf.bfloat16) == (2, 2)
    assert count_batch_norms((2, 4, 4, 3), tf.float16) == (0, 0)
    assert count_batch_norms((9, 4, 4, 3), tf.bfloat16) == (0, 0)
    assert count_batch_norms((2, None, 4, 3), tf.bfloat16) == (0, 0)


def test_normalize_by_formula_matches_numpy():
    x = np.random.default_rng(0).normal(3, 2, (2, 6, 5, 3)).astype(np.float32)
    gamma, beta = np.array([0.5, 2, -1], np.float32), np.array([1, 0, 3], np.float32)
    plain = (x - x.mean((1, 2), keepdims=True)) / np.sqrt(x.var((1, 2), keepdims=True) + 1e-5)
    np.testing.assert_allclose(instance_norm.normalize_by_formula(x, 1e-5), plain, rtol=0, atol=1e-5)
    affine = instance_norm.normalize_by_formula(x, 1e-5, gamma, beta)
    np.testing.assert_allclose(affine, gamma * plain + beta, rtol=0, atol=1e-5)
