"""Anti-aliased layers and networks against CUT's: outputs, features, gradients, weights by PyTorch's names."""

import itertools

import golden
import numpy as np
import pytest
import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.errors import UserError
from cyclegan_tf.networks import antialias, registry
from cyclegan_tf.pytorch import weights as pytorch_weights

keras = tf.keras

# The features without anti-aliasing have no gradients; tests/test_patch_nce.py compares them.
NETWORKS = [name for kind in ("generators", "discriminators") for name in golden.names(f"cut/{kind}")
            if name != "cut/generators/features_n9_no_antialias.npz"]
SAMPLED = ["downsample_even", "downsample_odd", "downsample_even_odd", "downsample_smallest", "upsample_even",
           "upsample_odd", "upsample_one_pixel"]


@pytest.fixture(scope="module")
def layers():
    return golden.Golden("cut/layers.npz")


def test_the_golden_set_is_there():
    assert NETWORKS == [
        "cut/generators/features_n9_antialias.npz", "cut/generators/resnet_n1_antialias.npz",
        "cut/generators/resnet_n1_no_antialias_up.npz", "cut/generators/resnet_n2_no_antialias.npz",
        "cut/discriminators/nlayer_n2_antialias.npz",
    ]


@pytest.mark.parametrize("case", SAMPLED)
def test_antialiased_sampling_matches_the_authors(layers, case):
    x = tf.constant(layers.images(f"{case}/x"))
    inputs = keras.Input((None, None, x.shape[-1]))
    network = keras.Model(inputs, getattr(antialias, case.split("_")[0])(inputs, "t"))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = network(x)
    layers.assert_close(golden.nchw(y), f"{case}/y")
    dx = tape.gradient(y, x, output_gradients=golden.nhwc(layers[f"{case}/dy"]))
    layers.assert_close(golden.nchw(dx), f"{case}/dx")


def test_upsampling_reads_only_its_receptive_field():
    layer = antialias.BlurUpsampling2D()
    x = np.random.default_rng(0).normal(size=(1, 5, 3, 2)).astype(np.float32)
    for begin, end in itertools.combinations(range(11), 2):
        start, stop, offset = layer.receptive_field().find_input(begin, end, 5)
        piece = layer(x[:, start:stop])[:, offset : offset + end - begin]
        np.testing.assert_allclose(piece, layer(x)[:, begin:end], rtol=0, atol=1e-6, err_msg=f"{begin} to {end}")


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16, tf.float16])
def test_upsampling_compiles_in_half_precision(dtype):
    layer = antialias.BlurUpsampling2D(dtype=dtype.name)
    x = tf.cast(np.random.default_rng(0).integers(0, 9, (1, 4, 3, 2)), dtype)

    def differentiate(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs)
        return outputs, tape.gradient(outputs, inputs)

    compiled = tf.function(differentiate, jit_compile=True, autograph=False)(x)
    # Each input pixel contributes a total of 4 to the outputs, as the border pixels are repeated.
    np.testing.assert_allclose(tf.cast(compiled[1], tf.float32), np.full(x.shape, 4), rtol=0, atol=1e-2)
    for found, expected in zip(compiled, differentiate(x), strict=True):
        assert found.dtype == dtype
        np.testing.assert_allclose(tf.cast(found, tf.float32), tf.cast(expected, tf.float32), rtol=0, atol=0.05)


@pytest.mark.parametrize("name", NETWORKS)
def test_network_outputs_and_gradients(name):
    case = golden.Golden(name)
    options = golden.options(case.info["config"])
    network = golden.build_with(options, case.group("w"))
    assert sum(int(np.prod(w.shape)) for w in network.trainable_weights) == case.info["net"]["parameters"]
    outputs = [key for key in case.info["arrays"] if key.startswith("y")]
    assert outputs
    for key in outputs:
        case.assert_close(golden.nchw(network(case.images(key.replace("y", "x")), training=True)), key)
    if name == "cut/generators/features_n9_antialias.npz":  # It has no gradients.
        return
    x = tf.constant(case.images("x0"))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = network(x, training=True)
    dy = golden.nhwc(case["dy0"])
    case.assert_close(golden.nchw(tape.gradient(y, x, output_gradients=dy)), "dx0")
    found = tape.gradient(y, network.trainable_weights, output_gradients=dy)
    named = dict(zip(golden.name_weights(network), (np.array(g) for g in found), strict=True))
    for key, gradient in pytorch_weights.to_pytorch(named, options).items():
        if not key.endswith(".filt"):
            case.assert_close(gradient, f"dw/{key}")


@pytest.mark.parametrize("name", NETWORKS)
def test_state_dicts_tell_the_architecture_and_come_back_unchanged(name):
    case = golden.Golden(name)
    state_dict, expected = case.group("w"), golden.options(case.info["config"])
    options = pytorch_weights.infer_architecture(state_dict)
    assert options.items() <= {"upsample": "transpose", **expected}.items()
    back = pytorch_weights.to_pytorch(pytorch_weights.to_keras(state_dict, options), options)
    assert set(back) == set(state_dict)
    for key, array in state_dict.items():
        np.testing.assert_array_equal(back[key], array, err_msg=key)


def test_another_blur_filter_is_refused():
    state_dict = golden.Golden("cut/discriminators/nlayer_n2_antialias.npz").group("w")
    state_dict["model.6.filt"] = np.full_like(state_dict["model.6.filt"], 1 / 9)
    options = pytorch_weights.infer_architecture(state_dict)
    with pytest.raises(UserError, match=r"model\.6\.filt"):
        pytorch_weights.to_keras(state_dict, options)


@pytest.mark.parametrize(("option", "blurs"), [
    ("none", []), ("down", ["down1_blur", "down2_blur"]), ("up", ["up1_resize", "up2_resize"]),
    ("both", ["down1_blur", "down2_blur", "up1_resize", "up2_resize"]),
])
def test_the_option_chooses_the_layers(option, blurs):
    config = Config(ngf=1, ndf=1, n_blocks=1, antialias=option)
    names = [layer.name for layer in registry.build_generator(config, "gen_ab").layers]
    assert [name for name in names if name.endswith(("_blur", "_resize"))] == blurs
    discriminator = registry.build_discriminator(config, "disc_a")
    halves = [layer.name for layer in discriminator.layers if layer.name.endswith("_halve")]
    assert len(halves) == (3 if option in ("down", "both") else 0)
    assert tuple(discriminator(np.zeros((1, 64, 64, 3), np.float32)).shape) == (1, 6, 6, 1)


@pytest.mark.parametrize("options", [
    {"generator": "unet"}, {"discriminator": "pixel"}, {"upsample": "resize_conv"},
])
def test_networks_without_such_layers_are_refused(options):
    with pytest.raises(UserError, match="--antialias=both"):
        Config(antialias="both", **options)


def test_upsampling_is_antialiased_beside_any_discriminator():
    assert Config(antialias="up", discriminator="pixel").antialias == "up"
