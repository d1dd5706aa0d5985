"""Padding and cropping against TensorFlow's and Keras's: values, gradients, second derivatives."""

import numpy as np
import pytest
import tensorflow as tf

from cyclegan_tf.networks import blocks, layers

keras = tf.keras
PAIRS = {
    "reflection": (layers.ReflectionPadding2D(2), lambda x: tf.pad(x, [[0, 0], [2, 2], [2, 2], [0, 0]], "REFLECT")),
    "cropping": (layers.Cropping2D(((1, 0), (2, 1))), keras.layers.Cropping2D(((1, 0), (2, 1)), dtype="float64")),
}


def _results(function, x):
    """The output, the gradient of its sum of cubes at x, and the gradient of that gradient's sum of squares."""
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
            loss = tf.reduce_sum(y**3)
        first = tape.gradient(loss, x)
        penalty = tf.reduce_sum(first**2)
    return y, first, outer.gradient(penalty, x)


@pytest.mark.parametrize("sizes", ["known", "unknown"])
@pytest.mark.parametrize("kind", PAIRS)
def test_matches_the_library_up_to_second_derivatives(kind, sizes):
    x = np.random.default_rng(0).normal(size=(2, 7, 5, 3))
    ours, library = PAIRS[kind]
    shape = x.shape if sizes == "known" else (None, None, None, 3)
    found = tf.function(lambda x: _results(ours, x), input_signature=[tf.TensorSpec(shape)])(x.astype(np.float32))
    for value, expected in zip(found, _results(library, tf.constant(x)), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 2, 9, 3), (1, 9, 2, 3)])
def test_reflection_padding_refuses_small_maps(shape):
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
        PAIRS["reflection"][0](tf.zeros(shape))


@pytest.mark.parametrize("shape", [(None, None, None, 3), (1, None, 8, 3), (1, 9, 8, 3)])
def test_cropping_keeps_static_sizes(shape):
    ours, library = PAIRS["cropping"]
    found = tf.function(ours).get_concrete_function(tf.TensorSpec(shape)).output_shapes
    assert found.as_list() == list(library.compute_output_shape(shape))


@pytest.mark.usefixtures("cpu_kernels")
def test_graph_avoids_slow_ops():
    inputs = keras.Input((8, 8, 3))
    network = keras.Model(inputs, blocks.transposed_conv(blocks.pad(inputs, "a", 1, "reflect"), "b", 2, 3))

    @tf.function(autograph=False)
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(network(x))
        return tape.gradient(loss, x)

    operations = {operation.type for operation in gradient.get_concrete_function(tf.TensorSpec((1, 8, 8, 3))).graph
                  .get_operations()}
    assert {"GatherV2", "Slice", "MirrorPadGrad", "Pad"} < operations
    assert not {"MirrorPad", "StridedSliceGrad"} & operations
