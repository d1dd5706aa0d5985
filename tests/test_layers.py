"""Layers against the authors' PyTorch layers: outputs, and gradients at inputs and weights."""

import golden
import numpy as np
import pytest
import tensorflow as tf

from cyclegan_tf.networks import blocks, layers
from cyclegan_tf.ops import instance_norm

keras = tf.keras

LAYERS = golden.Golden("layers/layers.npz")

# Golden case -> function of a symbolic tensor that applies the layer, named "t".
CASES = {
    "conv_k7_reflect3": lambda x: blocks.conv(x, "t", 3, 7, padding=3, padding_mode="reflect"),
    "conv_k3_s2_p1_even": lambda x: blocks.conv(x, "t", 3, 3, stride=2, padding=1),
    "conv_k3_s2_p1_odd": lambda x: blocks.conv(x, "t", 3, 3, stride=2, padding=1),
    "conv_k4_s2_p1_even": lambda x: blocks.conv(x, "t", 3, 4, stride=2, padding=1),
    "conv_k4_s2_p1_odd": lambda x: blocks.conv(x, "t", 3, 4, stride=2, padding=1),
    "conv_k4_s1_p1": lambda x: blocks.conv(x, "t", 3, 4, padding=1),
    "convT_k3_s2_p1_op1": lambda x: blocks.transposed_conv(x, "t", 2, 3),
    "convT_k4_s2_p1": lambda x: blocks.transposed_conv(x, "t", 2, 4),
    "reflect_pad1": lambda x: blocks.pad(x, "t", 1, "reflect"),
    "replicate_pad1": lambda x: blocks.pad(x, "t", 1, "replicate"),
    "instance_norm": lambda x: blocks.normalize(x, "t", "instance"),
    "instance_norm_small": lambda x: blocks.normalize(x, "t", "instance"),
    "instance_norm second": lambda x: blocks.normalize(x, "t", "instance", second_derivative=True),
    "instance_norm_small second": lambda x: blocks.normalize(x, "t", "instance", second_derivative=True),
    "batch_norm_train": lambda x: blocks.normalize(x, "t", "batch"),
    "batch_norm_eval": lambda x: blocks.normalize(x, "t", "batch"),
    "leaky_relu": lambda x: blocks.leaky_relu(x, "t"),
}


def _build(case, channels):
    inputs = keras.Input((None, None, channels))
    return keras.Model(inputs, CASES[case](inputs))


def _keras_layout(array):
    return np.transpose(array, (2, 3, 1, 0)) if array.ndim == 4 else array


def _pytorch_layout(array):
    return np.transpose(array, (3, 2, 0, 1)) if array.ndim == 4 else array


def _set_weights(model, weights):
    """Sets PyTorch's `weights`, whose last parts are weight, bias, running_mean, running_var."""
    weights = {key.split(".")[-1]: _keras_layout(array) for key, array in weights.items()}
    names = ("weight", "bias", "running_mean", "running_var")
    model.set_weights([weights[name] for name in names if name in weights])


def test_every_golden_layer_has_a_test():
    assert {case.removesuffix(" second") for case in CASES} == set(LAYERS.info["cases"])
    assert len(LAYERS.info["cases"]) == 15


@pytest.mark.parametrize("case", [case for case in CASES if case != "batch_norm_eval"])
def test_forward_and_gradients(case):
    name = case.removesuffix(" second")
    x = tf.constant(LAYERS.images(f"{name}/x"))
    model = _build(case, x.shape[-1])
    _set_weights(model, LAYERS.group(f"{name}/w"))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = model(x, training=True)
    LAYERS.assert_close(golden.nchw(y), f"{name}/y")
    dx, *dw = tape.gradient(y, [x, *model.trainable_weights], output_gradients=LAYERS.images(f"{name}/dy"))
    LAYERS.assert_close(golden.nchw(dx), f"{name}/dx")
    expected = [key for key in LAYERS.info["arrays"] if key.startswith(f"{name}/dw/")]
    # Both frameworks list a layer's kernel or scale before its bias or offset.
    assert len(dw) == len(expected)
    for gradient, key in zip(dw, expected, strict=True):
        LAYERS.assert_close(_pytorch_layout(gradient.numpy()), key)


def test_batch_norm_updates_running_statistics_in_training_only():
    model = _build("batch_norm_train", 3)
    _set_weights(model, LAYERS.group("batch_norm_train/w"))
    _, _, before_mean, before_variance = model.get_weights()
    model(LAYERS.images("batch_norm_eval/x"), training=False)
    np.testing.assert_array_equal(model.get_weights()[2], before_mean)
    np.testing.assert_array_equal(model.get_weights()[3], before_variance)
    model(LAYERS.images("batch_norm_train/x"), training=True)
    LAYERS.assert_close(model.get_weights()[2], "batch_norm_train/after/running_mean")
    LAYERS.assert_close(model.get_weights()[3], "batch_norm_train/after/running_var")


def test_batch_norm_eval():
    model = _build("batch_norm_eval", 3)
    _set_weights(model, LAYERS.group("batch_norm_train/w") | LAYERS.group("batch_norm_train/after"))
    y = model(LAYERS.images("batch_norm_eval/x"), training=False)
    LAYERS.assert_close(golden.nchw(y), "batch_norm_eval/y")


def test_instance_norm_is_a_subclass_of_the_stacks_library():
    library = type(layers.instance_normalization("t")).__mro__[1]
    assert library.__module__.startswith("tensorflow_addons" if tf.__version__.startswith("2.15.") else "keras")


@pytest.mark.parametrize("affine", [False, True])
def test_instance_norm_matches_the_library_in_training_and_inference(affine):
    layer = layers.instance_normalization("t", affine=affine)
    x = tf.random.stateless_normal((2, 7, 5, 3), (1, 2), mean=3.0)
    library = type(layer).__mro__[1].from_config(layer.get_config())
    layer(x), library(x)
    for each in (layer, library):
        each.set_weights([np.array([0.5, 2.0, -1.0], np.float32)] * (2 * affine))
    np.testing.assert_array_equal(layer(x, training=False), library(x))
    # The largest scale is 2, and rounding grows with it.
    np.testing.assert_allclose(layer(x, training=True), library(x), rtol=0, atol=2e-6 if affine else 1e-6)


def test_affine_instance_norm_has_the_gradients_of_the_librarys(monkeypatch):
    used = []
    normalized = instance_norm.normalize
    monkeypatch.setattr(instance_norm, "normalize", lambda *arguments: [used.append(1), normalized(*arguments)][1])
    layer, x = layers.instance_normalization("t", affine=True), tf.random.stateless_normal((2, 7, 5, 3), (1, 2))
    library = type(layer).__mro__[1].from_config(layer.get_config())
    gradients, weight = [], tf.random.stateless_normal((2, 7, 5, 3), (3, 4))
    for each in (layer, library):
        each(x)
        each.gamma.assign([0.5, 2.0, -1.0])
        each.beta.assign([0.0, 1.0, 3.0])
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = keras.Sequential([each])(x, training=True)
            total = tf.reduce_sum(y * weight)
        gradients.append([y, *tape.gradient(total, [x, *each.trainable_variables])])
    # The model passes `training` to the layer, which then uses the closed form.
    assert used
    for ours, theirs in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5)


def test_instance_norm_of_half_precision_has_float32_statistics():
    x = tf.constant(np.random.default_rng(0).normal(300, 30, (1, 8, 8, 2)), tf.float16)
    layer = layers.instance_normalization("t")
    layer.build(x.shape)
    y = layer.call(x, training=True)
    assert y.dtype == tf.float16
    expected = (np.float64(x) - np.float64(x).mean((1, 2))) / np.sqrt(np.float64(x).var((1, 2)) + 1e-5)
    np.testing.assert_allclose(y, expected, rtol=0, atol=4e-3)


@pytest.mark.parametrize(("mode", "numpy_mode", "padding"), [
    ("reflect", "reflect", 3), ("replicate", "edge", 1), ("zero", "constant", 2),
])
def test_padding_matches_numpy(mode, numpy_mode, padding):
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, blocks.pad(inputs, "t", padding, mode))
    sides = [(0, 0), (padding, padding), (padding, padding), (0, 0)]
    np.testing.assert_array_equal(model(x), np.pad(x, sides, mode=numpy_mode))
    assert tuple(model.compute_output_shape((2, 5, 4, 3))) == (2, 5 + 2 * padding, 4 + 2 * padding, 3)


def test_unknown_norms_and_paddings_are_errors():
    x = tf.keras.Input((8, 8, 3))
    for call, message in (
        (lambda: blocks.normalize(x, "n", "layer"), "n: unknown norm 'layer'; expected instance, batch or none"),
        (lambda: blocks.pad(x, "n", 1, "symmetric"), "n: unknown padding 'symmetric'"),
        (lambda: blocks.pad(x, "n", 3, "replicate"), "n: replication pads by one pixel, not by 3"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_resize_conv_repeats_pixels_and_convolves_with_reflection():
    x = np.random.default_rng(0).normal(size=(1, 3, 2, 1)).astype(np.float32)
    inputs = keras.Input((None, None, 1))
    model = keras.Model(inputs, blocks.resize_conv(inputs, "t", 1))
    # A kernel that is 1 at its left neighbor shifts the image to the right by one.
    kernel = np.zeros((3, 3, 1, 1), np.float32)
    kernel[1, 0] = 1.0
    model.set_weights([kernel, np.array([0.25], np.float32)])
    repeated = x.repeat(2, axis=1).repeat(2, axis=2)
    padded = np.pad(repeated, [(0, 0), (0, 0), (1, 1), (0, 0)], mode="reflect")
    np.testing.assert_allclose(model(x), padded[:, :, :4] + 0.25, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (4, 1), (4, 2), (7, 1)])
def test_same_matches_tensorflow(kernel, stride):
    x = np.random.default_rng(0).normal(size=(2, 8, 12, 3)).astype(np.float32)
    inputs = keras.Input((None, None, 3))
    padding = blocks.compute_same_padding(kernel, stride)
    model = keras.Model(inputs, blocks.conv(inputs, "t", 2, kernel, stride, padding=padding))
    library = keras.layers.Conv2D(2, kernel, stride, padding="same")
    library.build((None, None, None, 3))
    library.set_weights(model.get_weights())
    np.testing.assert_allclose(model(x), library(x), rtol=0, atol=1e-6)
    assert kernel != 3 or stride != 2 or np.abs(model(x)).max() > 0.01


@pytest.mark.parametrize("kernel", [3, 4])
def test_same_matches_tensorflow_for_transposed_convolutions(kernel):
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype(np.float32)
    inputs = keras.Input((None, None, 3))
    first = blocks.compute_same_padding(kernel, 2)[0]
    model = keras.Model(inputs, blocks.transposed_conv(inputs, "t", 2, kernel, first=first))
    library = keras.layers.Conv2DTranspose(2, kernel, 2, padding="same")
    library.build((None, None, None, 3))
    library.set_weights(model.get_weights())
    np.testing.assert_allclose(model(x), library(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("second_derivative", [False, True])
def test_affine_instance_norm_scales_and_offsets_each_channel(second_derivative):
    x = np.random.default_rng(0).normal(3, 2, (2, 6, 5, 3)).astype(np.float32)
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, blocks.normalize(inputs, "t", "instance", second_derivative, affine=True))
    assert [weight.name.split(":")[0].split("/")[-1] for weight in model.weights] == ["gamma", "beta"]
    plain = (x - x.mean((1, 2), keepdims=True)) / np.sqrt(x.var((1, 2), keepdims=True) + 1e-5)
    np.testing.assert_allclose(model(x), plain, rtol=0, atol=1e-5)  # From gamma 1 and beta 0 on.
    gamma, beta = np.array([0.5, 2, -1], np.float32), np.array([1, 0, 3], np.float32)
    model.set_weights([gamma, beta])
    np.testing.assert_allclose(model(x), gamma * plain + beta, rtol=0, atol=1e-5)


def test_concatenating_block_puts_the_new_channels_first():
    inputs = keras.Input((None, None, 2))
    block = blocks.residual_block(inputs, "t", 3, lambda x, name: x, "zero", merge="concat")
    model = keras.Model(inputs, block)
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    x = np.full((1, 4, 4, 2), -3.0, np.float32)
    np.testing.assert_array_equal(model(x), np.concatenate([np.zeros((1, 4, 4, 3)), x], axis=-1))


def test_residual_block_has_no_activation_after_the_sum():
    inputs = keras.Input((None, None, 2))
    model = keras.Model(inputs, blocks.residual_block(inputs, "t", 2, lambda x, name: x, "reflect"))
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    x = np.full((1, 4, 4, 2), -3.0, np.float32)
    np.testing.assert_array_equal(model(x), x)


@pytest.mark.parametrize("layer", [
    layers.ReflectionPadding2D(3, name="t"),
    layers.ReplicationPadding2D(name="t"),
    layers.DifferentiableInstanceNormalization(epsilon=0.5, center=True, scale=True, name="t"),
    layers.BatchNormalization(momentum=0.5, epsilon=0.25, name="t"),
    layers.Dropout(0.25, name="t"),
], ids=lambda layer: type(layer).__name__)
def test_layers_are_restored_from_their_config(layer):
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    again = type(layer).from_config(layer.get_config())
    np.testing.assert_array_equal(again(x), layer(x))
    assert again.name == "t"
    assert tuple(layer.compute_output_shape((2, 5, 4, 3))) == tuple(layer(x).shape)


@pytest.mark.parametrize(("dtype", "rounding"), [("float32", 2**-24), ("bfloat16", 2**-9)],
                         ids=["float32", "bfloat16"])
def test_leaky_relu_has_the_values_and_slopes_of_pytorch(dtype, rounding):
    x = tf.constant([-2.0, -0.5, 0.0, 0.5, 2.0], dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layers.leaky_relu(x)
    np.testing.assert_allclose(tf.cast(y, tf.float32), [-0.4, -0.1, 0.0, 0.5, 2.0], rtol=2 * rounding)
    # torch.nn.functional.leaky_relu has the smaller slope at 0.
    slopes = tf.cast(tape.gradient(y, x), tf.float32)
    np.testing.assert_allclose(slopes, [0.2, 0.2, 0.2, 1.0, 1.0], rtol=2 * rounding)


@pytest.mark.parametrize("layer", [layers.Conv2D, layers.Conv2DTranspose])
@pytest.mark.parametrize(("option", "value"), [
    ("activation", "relu"), ("padding", "same"), ("dilation_rate", 2), ("strides", (1, 2)), ("kernel_size", (3, 1)),
    ("data_format", "channels_first"),
])
def test_convolution_refuses_options_that_it_does_not_compute(layer, option, value):
    with pytest.raises(ValueError, match=rf"^layer t: .* does not support {option}=.*; use keras\.layers\.Conv2D"):
        layer(**{"filters": 2, "kernel_size": 3, "name": "t", option: value})


@pytest.mark.parametrize("layer", [layers.Conv2D, layers.Conv2DTranspose])
def test_convolution_is_rebuilt_from_its_config(layer):
    config = layer(2, 3, strides=2, use_bias=False).get_config()
    assert layer.from_config(config).get_config() == config


def draw_dropout(seeds, calls=1, rate=0.25):
    with layers.seed_dropout(lambda call: tf.constant([seeds, call], tf.int64)):
        return [layers.Dropout(rate)(tf.ones((1, 100, 100, 1)), training=True).numpy() for _ in range(calls)]


def test_dropout_drops_its_rate_and_scales_the_rest():
    (result,) = draw_dropout(seeds=0)
    np.testing.assert_allclose(np.unique(result), [0.0, 4 / 3], rtol=1e-6)
    # Four standard deviations of the share of 10,000 independent draws.
    assert abs((result == 0).mean() - 0.25) < 4 * (0.25 * 0.75 / 10_000) ** 0.5
    np.testing.assert_array_equal(layers.Dropout(0.25)(result), result)


def test_masks_of_dropout_follow_from_the_seed_and_the_call():
    first, second = draw_dropout(seeds=0, calls=2)
    again = draw_dropout(seeds=0, calls=2)
    (other,) = draw_dropout(seeds=1)
    np.testing.assert_array_equal([first, second], again)
    # Independent masks agree with probability 0.75^2 + 0.25^2, within four standard deviations.
    for mask in (second, other):
        assert abs((first == mask).mean() - 0.625) < 4 * (0.625 * 0.375 / 10_000) ** 0.5
