"""Convolutions against TensorFlow's in float64: outputs, gradients, second derivatives."""

import os
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from cyclegan_tf.networks import layers
from cyclegan_tf.ops import convolution, hardware
from cyclegan_tf.ops.convolution import Thresholds

keras = tf.keras


def _library(x, kernel, stride):
    return tf.nn.conv2d(x, kernel, stride, "VALID")


def _library_transposed(x, kernel, stride):
    sides = [stride * (side - 1) + kernel.shape[0] for side in x.shape[1:3]]
    return tf.nn.conv2d_transpose(x, kernel, (x.shape[0], *sides, kernel.shape[2]), stride, "VALID")


LAYERS = {layers.Conv2D: keras.layers.Conv2D, layers.Conv2DTranspose: keras.layers.Conv2DTranspose}
PAIRS = [(convolution.convolve, _library), (convolution.convolve_transpose, _library_transposed)]


def _use_thresholds(**values):
    """Sets the thresholds to these values in the body."""
    return mock.patch.object(convolution, "THRESHOLDS", Thresholds(**values))


def _random(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape)


def _results(function, x, kernel, stride):
    """The output, its gradients, and the gradients of a gradient penalty."""
    with tf.GradientTape() as outer:
        outer.watch((x, kernel))
        with tf.GradientTape() as inner:
            inner.watch((x, kernel))
            y = function(x, kernel, stride)
            loss = tf.reduce_mean(tf.square(y))
        first = inner.gradient(loss, (x, kernel))
        penalty = sum(tf.reduce_sum(tf.square(gradient)) for gradient in first)
    return y, *first, *outer.gradient(penalty, (x, kernel))


def _assert_matches_tensorflow(x, kernel, stride, ours, library):
    found = _results(ours, tf.constant(x, tf.float32), tf.constant(kernel, tf.float32), stride)
    expected = _results(library, tf.constant(x), tf.constant(kernel), stride)
    for value, theirs in zip(found, expected, strict=True):
        assert value.shape == theirs.shape
        np.testing.assert_allclose(value, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


@given(
    st.integers(1, 3), st.integers(0, 5), st.integers(0, 5), st.sampled_from([(1, 1), (2, 1), (3, 2), (4, 3)]),
    st.sampled_from([1, 2, 3, 4, 7]), st.sampled_from([1, 2, 3]), st.sampled_from(PAIRS), st.booleans(),
)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_matches_tensorflow_up_to_second_derivatives(
    batch, extra_rows, extra_columns, channels, size, stride, functions, few_filters
):
    # Every convolution is large, and has either few filters or many.
    bound = 9 if few_filters else 0
    with _use_thresholds(
        winograd_work=np.inf, products_work=0, products_channels=bound, few_filters=bound, few_filters_work=0
    ):
        x = _random(batch, size + extra_rows, size + extra_columns, channels[0])
        _assert_matches_tensorflow(
            x, _random(size, size, *(channels if functions[0] is convolution.convolve else channels[::-1])), stride,
            *functions,
        )


@pytest.mark.usefixtures("cpu_kernels")
@pytest.mark.parametrize(("shape", "filters"), [((1, 4, 4, 1), 1), ((2, 6, 10, 3), 4)], ids=["smallest", "unequal"])
def test_winograd_matches_tensorflow(shape, filters):
    with _use_thresholds(winograd_work=0, winograd_channels=0):
        assert not {"Conv2D", "Conv3D"} & set(_operations(shape, filters, 3, 1))
        _assert_matches_tensorflow(_random(*shape), _random(3, 3, shape[-1], filters), 1, *PAIRS[0])


def test_winograd_rounds_about_as_much_as_tensorflow():
    x, kernel = _random(1, 18, 18, 64), _random(3, 3, 64, 64)
    expected = _results(_library, tf.constant(x), tf.constant(kernel), 1)
    errors = []
    for function in convolution.convolve, _library:
        with _use_thresholds(winograd_work=0):
            found = _results(function, tf.constant(x, tf.float32), tf.constant(kernel, tf.float32), 1)
        pairs = zip(found[:3], expected[:3], strict=True)
        errors.append([np.abs(np.array(one) - other).mean() for one, other in pairs])
    for ours, theirs in zip(*errors, strict=True):
        assert 0 < ours < 1.5 * theirs


@pytest.mark.parametrize("shape", [(1, 34, 34, 3), (2, 34, 17, 3)])
@pytest.mark.parametrize("stride", [1, 2])
def test_small_convolutions_match_tensorflow(shape, stride):
    _assert_matches_tensorflow(_random(*shape), _random(4, 4, 3, 8), stride, *PAIRS[0])


def _graph(shape, filters, size, stride, dtype=tf.float32):
    """The graph of a convolution and its gradients."""

    def function(x, kernel):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch((x, kernel))
            y = convolution.convolve(x, kernel, stride)
        return tape.gradient(y, (x, kernel))

    specs = tf.TensorSpec(shape, dtype), tf.TensorSpec((size, size, shape[-1], filters), dtype)
    return tf.function(function).get_concrete_function(*specs).graph


def _operations(*arguments, **options):
    """Types of the ops in the graph of a convolution and its gradients, and in the functions that it calls."""
    definition = _graph(*arguments, **options).as_graph_def()
    functions = definition.library.function
    return [node.op for nodes in (definition.node, *(function.node_def for function in functions)) for node in nodes]


@pytest.mark.usefixtures("cpu_kernels")
def test_each_size_gets_its_fastest_kernels():
    for blocks in ((1, 66, 66, 256), 256), ((1, 34, 34, 128), 128), ((1, 18, 18, 128), 128):
        block = _operations(*blocks, 3, 1)
        assert block.count("PartitionedCall") == 2
        assert not {"Conv2D", "Conv3D", "Conv2DBackpropInput", "Conv2DBackpropFilter"} & set(block)
    odd = _operations((1, 65, 66, 256), 256, 3, 1)
    assert {"Conv3D", "Conv2DBackpropInput"} < set(odd) and odd.count("MatMul") == 9
    assert not {"Conv2D", "Conv2DBackpropFilter"} & set(odd)
    down = _operations((2, 258, 258, 64), 128, 3, 2)
    assert {"Conv2D", "Conv2DBackpropInput"} < set(down) and down.count("MatMul") == 6
    head = _operations((1, 134, 134, 32), 3, 7, 1)
    assert (head.count("Conv3D"), head.count("MatMul")) == (2, 7)
    assert not {"Conv2DBackpropInput", "Conv2DBackpropFilter"} & set(head)
    # Few channels, little work, and enough work for Winograd's algorithm but too few channels.
    for small in ((1, 70, 70, 3), 32, 7, 1), ((1, 10, 10, 128), 128, 3, 1), ((1, 66, 66, 32), 32, 3, 1):
        operations = _operations(*small)
        assert {"Conv3D", "Conv2DBackpropFilter", "Conv2DBackpropInput"} < set(operations)
        assert "MatMul" not in operations


def test_forced_portable_ops_are_tensorflows():
    with hardware.force_portable_ops():
        assert hardware.portable_ops_forced()
        operations = _operations((1, 66, 66, 256), 256, 3, 1)
    assert not hardware.portable_ops_forced()
    assert not {"Conv3D", "MatMul"} & set(operations)
    assert {"Conv2D", "Conv2DBackpropFilter", "Conv2DBackpropInput"} < set(operations)


@pytest.mark.usefixtures("cpu_kernels")
def test_winograd_adds_two_functions_to_the_graph():
    # If the tape traced into them, there would be two more: a forward pass that keeps everything, and its gradient.
    functions = _graph((1, 18, 18, 128), 128, 3, 1).as_graph_def().library.function
    names = sorted(function.signature.name.rsplit("_", 1)[0] for function in functions)
    assert names == ["__inference_compute_gradients", "__inference_convolve"]


@pytest.mark.parametrize(("shape", "dtype"), [
    ((None, 66, 66, 256), tf.float32), ((1, 66, 66, 256), tf.float16), ((1, 66, 66, 256), tf.bfloat16),
])
def test_unknown_sizes_and_other_dtypes_use_tensorflows_kernels(shape, dtype, monkeypatch):
    monkeypatch.setattr(hardware, "use_bfloat16_kernels", lambda: False)
    operations = _operations(shape, 256, 3, 1, dtype)
    assert not {"Conv3D", "MatMul"} & set(operations)
    assert {"Conv2D", "Conv2DBackpropFilter", "Conv2DBackpropInput"} < set(operations)


@pytest.mark.usefixtures("cpu_kernels")
def test_bfloat16_uses_fast_gradients_and_tensorflows_forward_pass(monkeypatch):
    monkeypatch.setattr(hardware, "use_bfloat16_kernels", lambda: True)
    block = _operations((2, 34, 34, 128), 128, 3, 1, tf.bfloat16)
    assert (block.count("Conv2D"), block.count("PartitionedCall")) == (1, 1)
    assert not {"Conv2DBackpropInput", "Conv2DBackpropFilter"} & set(block)
    assert _operations((2, 258, 258, 64), 128, 3, 2, tf.bfloat16).count("MatMul") == 6


@pytest.mark.usefixtures("cpu_kernels")
@pytest.mark.skipif(
    not hardware.use_bfloat16_kernels() or os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0",
    reason="TensorFlow's kernels, used on other CPUs, accumulate in bfloat16",
)
@pytest.mark.parametrize(("shape", "filters", "stride", "roundings"), [
    # Winograd's algorithm rounds tiles twice, kernels, products, and sums of products twice; some errors cancel.
    pytest.param((1, 18, 18, 128), 128, 1, 5, id="winograd"),
    pytest.param((2, 17, 18, 64), 64, 1, 1, id="products"),
    pytest.param((1, 33, 33, 32), 64, 2, 1, id="products of stride 2"),
    pytest.param((2, 18, 18, 32), 3, 1, 1, id="few filters"),
])
def test_bfloat16_gradients_round_no_more_than_necessary(shape, filters, stride, roundings):
    x, kernel = (tf.cast(_random(*numbers), tf.bfloat16) for numbers in (shape, (3, 3, shape[-1], filters)))
    found, exact = [], []
    with _use_thresholds(products_work=0, few_filters_work=0):
        for function, dtype, results in (convolution.convolve, x.dtype, found), (_library, tf.float64, exact):
            given = tf.cast(x, dtype), tf.cast(kernel, dtype)
            with tf.GradientTape() as tape:
                tape.watch(given)
                y = function(*given, stride)
            dy = tf.cast(tf.cast(_random(*y.shape), tf.bfloat16), dtype)
            results += [y, *tape.gradient(y, given, dy)]
    errors = []
    for value, expected in zip(found, exact, strict=True):
        assert value.dtype == tf.bfloat16
        errors.append(np.linalg.norm(tf.cast(value, tf.float64) - expected) / np.linalg.norm(expected))
    # One rounding changes a number by at most 2^-9 of the next lower power of 2, on average by 0.0017 of the number.
    assert errors[0] < 0.0018 and max(errors[1:]) < roundings * 0.0018


@pytest.mark.parametrize(("features", "expected"), [
    ("flags\t\t: fpu avx512f avx512_bf16 amd_lbr", True), ("flags\t\t: avx512_bf16 amx_bf16 amx_tile", False),
    ("flags\t\t: fpu avx2", False), ("Features\t: fp asimd bf16", False), (None, False),
])
def test_bfloat16_kernels_need_avx512_bf16_without_amx(features, expected):
    files = mock.mock_open(read_data=f"processor\t: 0\n{features}\nbugs\t: none\n")
    if features is None:
        files.side_effect = FileNotFoundError
    hardware.use_bfloat16_kernels.cache_clear()
    with mock.patch("builtins.open", files):
        found = hardware.use_bfloat16_kernels()
    hardware.use_bfloat16_kernels.cache_clear()
    assert found is expected


@pytest.mark.parametrize("ours", LAYERS)
@pytest.mark.parametrize("bias", [True, False])
def test_layers_match_keras(ours, bias):
    both = [kind(5, 4, 2, use_bias=bias, name="t") for kind in (ours, LAYERS[ours])]
    networks = []
    for layer in both:
        inputs = keras.Input((None, None, 3))
        networks.append(keras.Model(inputs, layer(inputs)))
    names = [[weight.name.split(":")[0].split("/")[-1] for weight in layer.weights] for layer in both]
    assert names[0] == names[1] == ["kernel", "bias"][: 1 + bias]
    assert networks[0].output_shape == networks[1].output_shape
    weights = [_random(*weight.shape) for weight in both[0].weights]
    for network in networks:
        network.set_weights(weights)
    for shape in (1, 9, 8, 3), (2, 7, 10, 3):
        x = tf.constant(_random(*shape), tf.float32)
        np.testing.assert_allclose(networks[0](x), networks[1](x), rtol=0, atol=2e-5)
    assert type(ours.from_config(both[0].get_config())) is ours


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("ours", LAYERS)
def test_bias_gradient_in_half_precision_sums_all_pixels(ours, dtype):
    layer = ours(2, 1, dtype=f"mixed_{dtype}")
    with tf.GradientTape() as tape:
        y = layer(np.zeros((2, 64, 32, 3), np.float32))
        assert y.dtype == dtype
        loss = tf.reduce_sum(tf.cast(y, tf.float32))
    # A derivative of 1 at each of 2 x 64 x 32 pixels.
    np.testing.assert_array_equal(tape.gradient(loss, layer.bias), [4096.0, 4096.0])
