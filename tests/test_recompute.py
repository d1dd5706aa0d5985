"""Cheap feature maps are recomputed in the backward pass."""

import collections

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context

from cyclegan_tf.config import Config
from cyclegan_tf.networks import layers, registry
from cyclegan_tf.ops import convolution, recompute

IMAGES = np.random.default_rng(0).normal(size=(2, 10, 9, 3)).astype(np.float32)
KERNEL = np.random.default_rng(1).normal(size=(3, 3, 3, 4)).astype(np.float32)
PADDINGS = [[0, 0], [1, 1], [1, 1], [0, 0]]


def chain(images, kernel, relu=recompute.relu, convolve=convolution.convolve):
    images = tf.pad(tf.pad(relu(images), PADDINGS, "REFLECT"), PADDINGS)
    return convolve(tf.gather(images, [3, 1, 2, 0, 4, 5], axis=2), kernel, 1)


def gradients(images, kernel, **functions):
    """Gradients of the sum of squares, and of a penalty on its gradient at the images."""
    with tf.GradientTape() as outer:
        outer.watch((images, kernel))
        with tf.GradientTape() as tape:
            tape.watch((images, kernel))
            loss = tf.reduce_sum(tf.square(chain(images, kernel, **functions)))
        first = tape.gradient(loss, (images, kernel))
        penalty = tf.reduce_sum(tf.square(first[0]))
    return *first, *outer.gradient(penalty, (images, kernel))


@pytest.mark.parametrize("wrapped", [lambda f: f, tf.function], ids=["eager", "graph"])
def test_gradients_match_tensorflow(wrapped):
    found = wrapped(gradients)(tf.constant(IMAGES), tf.constant(KERNEL))
    library = {"relu": tf.nn.relu, "convolve": lambda x, kernel, stride: tf.nn.conv2d(x, kernel, stride, "VALID")}
    expected = gradients(tf.constant(IMAGES, tf.float64), tf.constant(KERNEL, tf.float64), **library)
    for value, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


@tf.function(autograph=False)
def compute_gradient_after_gather(kernel, convolve):
    rows = tf.gather(IMAGES, np.random.default_rng(2).integers(0, 10, (2, 10)), axis=1, batch_dims=1)
    return tf.gradients(tf.reduce_sum(tf.square(convolve(rows, kernel))), kernel)[0]


def test_a_batched_gather_is_recomputed_with_the_same_indices():
    found = compute_gradient_after_gather(tf.constant(KERNEL), lambda x, kernel: convolution.convolve(x, kernel, 1))
    expected = compute_gradient_after_gather(tf.constant(KERNEL), lambda x, kernel: tf.nn.conv2d(x, kernel, 1, "VALID"))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.usefixtures("cpu_kernels")
def test_optimized_graph_computes_cheap_ops_twice():
    @tf.function(autograph=False)
    def gradient(images, kernel):
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            loss = tf.reduce_sum(tf.square(chain(images, kernel)))
        return tape.gradient(loss, kernel)

    # No public function returns the graph that TensorFlow executes.
    with context.collect_graphs(optimized=True) as graphs:
        gradient(tf.constant(IMAGES), tf.constant(KERNEL))
    kinds = collections.Counter(node.op for node in graphs[-1].node)
    assert [kinds[kind] for kind in ("Relu", "MirrorPad", "Pad", "GatherV2")] == [2, 2, 2, 2]


@pytest.mark.usefixtures("cpu_kernels")
def test_generator_recomputes_every_relu_and_padding():
    network = registry.build_generator(Config.preset("tiny"), "gen_ab")

    @tf.function(autograph=False)
    def gradients(images):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(network(images, training=True))
        return tape.gradient(loss, network.trainable_variables)

    graph = gradients.get_concrete_function(tf.TensorSpec((1, 32, 32, 3))).graph
    kinds = collections.Counter(operation.type for operation in graph.get_operations())
    reflections = [layer for layer in network.layers if isinstance(layer, layers.ReflectionPadding2D)]
    relus = [layer for layer in network.layers if layer.name.endswith("_relu")]
    # Once in the forward pass, once in the backward pass.
    assert kinds["Relu"] == 2 * len(relus) == 12
    assert kinds["GatherV2"] == 2 * 2 * len(reflections)  # Rows and columns.


@pytest.mark.usefixtures("cpu_kernels")
def test_input_gradient_waits_for_the_bias_gradient():
    layer = layers.Conv2D(4, 3)
    layer.build((None, None, None, 3))

    @tf.function(autograph=False)
    def gradient(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = tf.reduce_sum(layer(images))
        return tape.gradient(loss, [images, layer.bias])

    graph = gradient.get_concrete_function(tf.TensorSpec(IMAGES.shape)).graph
    [of_images] = (operation for operation in graph.get_operations() if operation.type == "Conv2DBackpropInput")
    # All ops that the images' gradient depends on.
    pending, found = [of_images], set()
    while pending:
        operation = pending.pop()
        pending += operation.control_inputs + [tensor.op for tensor in operation.inputs]
        found.add(operation.name)
    of_bias = graph.structured_outputs[1].op
    while of_bias.type == "Identity":
        of_bias = of_bias.inputs[0].op
    assert of_bias.type == "Sum" and of_bias.name in found
