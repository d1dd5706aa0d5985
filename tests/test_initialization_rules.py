"""Xavier and normal initialization against CUT's statistics."""

import golden
import numpy as np
import pytest
import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.networks import initialization, patch_features, registry
from cyclegan_tf.networks.weights import name_weights
from cyclegan_tf.pytorch import weights as pytorch_weights

keras = tf.keras


@pytest.fixture(scope="module")
def recorded():
    return golden.read_json("cut/init.json")["nets"]


def check(kernel, expected, name):
    """Asserts the manifest's rule: mean, standard deviation and tails of a normal distribution without truncation."""
    assert sorted(kernel.shape) == sorted(expected["shape"]), name
    n, s = kernel.size, expected["expected_std"]
    assert abs(kernel.mean()) <= 5 * s / np.sqrt(n), name
    assert abs(kernel.std() - s) <= 5 * s / np.sqrt(2 * n), name
    assert abs(np.mean(np.abs(kernel) > 2.5 * s) - 0.01242) <= 5 * 0.111 / np.sqrt(n), name


@pytest.mark.parametrize(("net", "name"), [("G", "gen_ab"), ("D", "disc_b")])
def test_xavier_networks_have_the_authors_statistics(recorded, net, name):
    keras.utils.set_random_seed(1)
    config = Config(antialias="both", initialization="xavier")
    build = registry.build_generator if net == "G" else registry.build_discriminator
    network = build(config, name)
    assert sum(int(np.prod(w.shape)) for w in network.weights) == recorded[net]["parameters"]
    options = {"kind": "generator" if net == "G" else "discriminator", "generator": "resnet", "discriminator": "patch",
               "ngf": 64, "ndf": 64, "n_blocks": 9, "n_layers": 3, "norm": "instance", "padding": "reflect",
               "dropout": False, "antialias": "both", "input_channels": 3, "output_channels": 3}
    weights = pytorch_weights.to_pytorch({key: w.numpy() for key, w in name_weights(network).items()}, options)
    kernels = {key.removesuffix(".weight"): array for key, array in weights.items() if key.endswith(".weight")}
    assert set(kernels) == set(recorded[net]["layers"])
    for key, kernel in kernels.items():
        check(kernel, recorded[net]["layers"][key], key)
        assert not weights[f"{key}.bias"].any()


def test_xavier_feature_network_has_the_authors_statistics(recorded):
    keras.utils.set_random_seed(1)
    network = patch_features.build_feature_network((3, 128, 256, 256, 256))
    initialization.initialize_xavier(network)
    assert sum(int(np.prod(w.shape)) for w in network.weights) == recorded["F"]["parameters"]
    for name, weight in name_weights(network).items():
        number, layer = name.split("/")[0].removeprefix("mlp").split("_")
        if name.endswith("/kernel"):
            check(weight.numpy(), recorded["F"]["layers"][f"mlp_{number}.{ {'hidden': 0, 'output': 2}[layer] }"], name)
        else:
            assert not weight.numpy().any()


def test_normal_feature_network_has_the_standard_deviation_of_the_other_networks():
    keras.utils.set_random_seed(1)
    for name, weight in name_weights(patch_features.build_feature_network((128, 256))).items():
        array = weight.numpy()
        if name.endswith("/kernel"):
            check(array, {"shape": array.shape, "expected_std": 0.02}, name)
        else:
            assert not array.any()


def test_each_layer_and_each_seed_draws_other_weights():
    network = patch_features.build_feature_network((16, 16), width=16)

    def draw(seed):
        keras.utils.set_random_seed(seed)
        initialization.initialize_xavier(network)
        return [weight.numpy() for name, weight in name_weights(network).items() if name.endswith("kernel")]

    first, again, other = draw(1), draw(1), draw(2)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({array.tobytes() for array in [*first, *other]}) == 8


class Scale(keras.layers.Layer):
    """A layer of another package: a kernel, and neither a bias nor `use_bias`."""

    def build(self, input_shape):
        self.kernel = self.add_weight(name="kernel", shape=(1, input_shape[-1]), initializer="ones")

    def call(self, inputs):
        return inputs * self.kernel


def test_xavier_reaches_layers_of_other_packages_and_nested_networks():
    inputs = keras.Input((None, None, 200))
    inner = keras.Sequential([keras.layers.Conv2D(200, 3, bias_initializer="ones", name="conv")], name="inner")
    network = keras.Model(inputs, Scale(name="scale")(inner(inputs)))
    initialization.initialize_xavier(network)
    weights = {name: weight.numpy() for name, weight in name_weights(network).items()}
    # 0.02 sqrt(2 / (fan_in + fan_out)); a 3x3 kernel has fans of 9 * 200.
    np.testing.assert_allclose(weights["inner/kernel"].std(), 0.02 * np.sqrt(2 / 3600), rtol=0.02)
    np.testing.assert_allclose(weights["scale/kernel"].std(), 0.02 * np.sqrt(2 / 201), rtol=0.3)
    assert not weights["inner/bias"].any()
