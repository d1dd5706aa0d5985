"""Convolutions against those of TensorFlow in float64: outputs, gradients, second derivatives."""

import os
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from cyclegan_tf.networks import layers
from cyclegan_tf.ops import convolution, hardware

keras = tf.keras


def _library(x, kernel, stride):
    return tf.nn.conv2d(x, kernel, stride, "VALID")


def _library_transposed(x, kernel, stride):
    sides = [stride * (side - 1) + kernel.shape[0] for side in x.shape[1:3]]
    return tf.nn.conv2d_transpose(x, kernel, (x.shape[0], *sides, kernel.shape[2]), stride, "VALID")


PAIRS = [(convolution.convolve, _library), (convolution.convolve_transpose, _library_transposed)]


def _numbers(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape)


def _results(function, x, kernel, stride):
    """The output, its gradients, and those of the gradients' squares, as a gradient penalty takes them."""
    with tf.GradientTape() as outer:
        outer.watch((x, kernel))
        with tf.GradientTape() as inner:
            inner.watch((x, kernel))
            y = function(x, kernel, stride)
            loss = tf.reduce_mean(tf.square(y))
        first = inner.gradient(loss, (x, kernel))
        penalty = sum(tf.reduce_sum(tf.square(gradient)) for gradient in first)
    return y, *first, *outer.gradient(penalty, (x, kernel))


def _assert_equal_to_the_library(x, kernel, stride, ours, library):
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
def test_values_gradients_and_second_derivatives(batch, taller, wider, channels, size, stride, functions, few):
    # As if every convolution were a large one, of many filters or of few.
    with mock.patch.multiple(convolution, _LARGE=0, _SMALL=0, _FEW=9 if few else 0, _WORTH=np.inf):
        x = _numbers(batch, size + taller, size + wider, channels[0])
        _assert_equal_to_the_library(
            x, _numbers(size, size, *(channels if functions[0] is convolution.convolve else channels[::-1])), stride,
            *functions,
        )


# The smallest, and one with other numbers of everything.
@pytest.mark.parametrize(("shape", "filters"), [((1, 4, 4, 1), 1), ((2, 6, 10, 3), 4)])
def test_winograd(shape, filters):
    with mock.patch.multiple(convolution, _WORTH=0, _MANY=0, _forward=None):
        _assert_equal_to_the_library(_numbers(*shape), _numbers(3, 3, shape[-1], filters), 1, *PAIRS[0])


def test_winograd_rounds_about_as_much_as_the_library():
    x, kernel = _numbers(1, 18, 18, 64), _numbers(3, 3, 64, 64)
    expected = _results(_library, tf.constant(x), tf.constant(kernel), 1)
    errors = []
    for function in convolution.convolve, _library:
        with mock.patch.multiple(convolution, _WORTH=0):
            found = _results(function, tf.constant(x, tf.float32), tf.constant(kernel, tf.float32), 1)
        pairs = zip(found[:3], expected[:3], strict=True)
        errors.append([np.abs(np.array(one) - other).mean() for one, other in pairs])
    for ours, theirs in zip(*errors, strict=True):
        assert 0 < ours < 1.5 * theirs


@pytest.mark.parametrize("shape", [(1, 34, 34, 3), (2, 34, 17, 3)])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_librarys_own_kernels_for_small_ones(shape, stride):
    _assert_equal_to_the_library(_numbers(*shape), _numbers(4, 4, 3, 8), stride, *PAIRS[0])


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
    """Types of the operations in that graph, and in the functions that it calls."""
    definition = _graph(*arguments, **options).as_graph_def()
    functions = definition.library.function
    return [node.op for nodes in (definition.node, *(function.node_def for function in functions)) for node in nodes]


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="chosen for the CPU")
def test_what_is_chosen():
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
    for small in ((1, 70, 70, 3), 32, 7, 1), ((1, 10, 10, 128), 128, 3, 1):
        operations = _operations(*small)
        assert {"Conv3D", "Conv2DBackpropFilter", "Conv2DBackpropInput"} < set(operations)
        assert "MatMul" not in operations


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="chosen for the CPU")
def test_winograd_is_two_functions_of_the_graph():
    # A tape that looked inside would make a third and a fourth: a forward pass that keeps everything, and its gradient.
    functions = _graph((1, 18, 18, 128), 128, 3, 1).as_graph_def().library.function
    names = sorted(function.signature.name.rsplit("_", 1)[0] for function in functions)
    assert names == ["__inference_convolve", "__inference_gradients"]


@pytest.mark.parametrize(("shape", "dtype"), [
    ((None, 66, 66, 256), tf.float32), ((1, 66, 66, 256), tf.float16), ((1, 66, 66, 256), tf.bfloat16),
])
def test_unknown_sizes_and_other_types_are_the_librarys(shape, dtype, monkeypatch):
    monkeypatch.setattr(hardware, "use_bfloat16_kernels", lambda: False)
    operations = _operations(shape, 256, 3, 1, dtype)
    assert not {"Conv3D", "MatMul"} & set(operations)
    assert {"Conv2D", "Conv2DBackpropFilter", "Conv2DBackpropInput"} < set(operations)


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="chosen for the CPU")
def test_of_bfloat16_the_gradients_are_chosen(monkeypatch):
    monkeypatch.setattr(hardware, "use_bfloat16_kernels", lambda: True)
    block = _operations((2, 34, 34, 128), 128, 3, 1, tf.bfloat16)
    assert (block.count("Conv2D"), block.count("PartitionedCall")) == (1, 1)
    assert not {"Conv2DBackpropInput", "Conv2DBackpropFilter"} & set(block)
    assert _operations((2, 258, 258, 64), 128, 3, 2, tf.bfloat16).count("MatMul") == 6


@pytest.mark.skipif(
    bool(tf.config.list_physical_devices("GPU")) or not hardware.use_bfloat16_kernels()
    or os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0",
    reason="other CPUs, which do not choose, add bfloat16 up in bfloat16",
)
@pytest.mark.parametrize(("shape", "filters", "stride"), [
    ((1, 18, 18, 128), 128, 1), ((2, 17, 18, 64), 64, 1), ((1, 33, 33, 32), 64, 2), ((2, 18, 18, 32), 3, 1),
])
def test_bfloat16_is_rounded_as_often_as_it_must_be(shape, filters, stride, monkeypatch):
    monkeypatch.setattr(convolution, "_LARGE", 0)
    monkeypatch.setattr(convolution, "_SMALL", 0)
    x, kernel = (tf.cast(_numbers(*numbers), tf.bfloat16) for numbers in (shape, (3, 3, shape[-1], filters)))
    found, exact = [], []
    for function, dtype, results in (convolution.convolve, x.dtype, found), (_library, tf.float64, exact):
        given = tf.cast(x, dtype), tf.cast(kernel, dtype)
        with tf.GradientTape() as tape:
            tape.watch(given)
            y = function(*given, stride)
        dy = tf.cast(tf.cast(_numbers(*y.shape), tf.bfloat16), dtype)
        results += [y, *tape.gradient(y, given, dy)]
    errors = []
    for value, expected in zip(found, exact, strict=True):
        assert value.dtype == tf.bfloat16
        errors.append(np.linalg.norm(tf.cast(value, tf.float64) - expected) / np.linalg.norm(expected))
    # A rounding of a number is off by 2^-9 of the next lower power of 2 at most, 0.0017 of the number in the mean.
    once, winograd_ = 0.0018, convolution._is_for_winograd(shape, kernel.shape, stride)
    # Winograd's algorithm rounds tiles twice, kernels, products, and sums of products twice, some of which cancel out.
    assert errors[0] < once and max(errors[1:]) < (5 * once if winograd_ else once)


@pytest.mark.parametrize(("features", "expected"), [
    ("flags\t\t: fpu avx512f avx512_bf16 amd_lbr", True), ("flags\t\t: avx512_bf16 amx_bf16 amx_tile", False),
    ("flags\t\t: fpu avx2", False), ("Features\t: fp asimd bf16", False), (None, False),
])
def test_which_processors_multiply_bfloat16(features, expected):
    files = mock.mock_open(read_data=f"processor\t: 0\n{features}\nbugs\t: none\n")
    if features is None:
        files.side_effect = FileNotFoundError
    with mock.patch("builtins.open", files):
        assert hardware.use_bfloat16_kernels.__wrapped__() is expected


@pytest.mark.parametrize("ours", layers.LIBRARY)
@pytest.mark.parametrize("bias", [True, False])
def test_layers_have_the_weights_and_shapes_of_the_librarys(ours, bias):
    made = [kind(5, 4, 2, use_bias=bias, name="t") for kind in (ours, layers.LIBRARY[ours])]
    models = []
    for layer in made:
        inputs = keras.Input((None, None, 3))
        models.append(keras.Model(inputs, layer(inputs)))
    names = [[weight.name.split(":")[0].split("/")[-1] for weight in layer.weights] for layer in made]
    assert names[0] == names[1] == ["kernel", "bias"][: 1 + bias]
    assert models[0].output_shape == models[1].output_shape
    weights = [_numbers(*weight.shape) for weight in made[0].weights]
    for model in models:
        model.set_weights(weights)
    for shape in (1, 9, 8, 3), (2, 7, 10, 3):
        x = tf.constant(_numbers(*shape), tf.float32)
        np.testing.assert_allclose(models[0](x), models[1](x), rtol=0, atol=2e-5)
    assert type(ours.from_config(made[0].get_config())) is ours


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("ours", layers.LIBRARY)
def test_a_bias_has_the_gradient_of_all_pixels_in_half_precision_too(ours, dtype):
    layer = ours(2, 1, dtype=f"mixed_{dtype}")
    with tf.GradientTape() as tape:
        y = layer(np.zeros((2, 64, 32, 3), np.float32))
        assert y.dtype == dtype
        loss = tf.reduce_sum(tf.cast(y, tf.float32))
    # A derivative of 1 at each of 2 x 64 x 32 pixels.
    np.testing.assert_array_equal(tape.gradient(loss, layer.bias), [4096.0, 4096.0])
