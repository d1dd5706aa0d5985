"""Networks rebuilt from Keras's own layers, for files that load without this package."""

import statistics

import numpy as np
import pytest
import tensorflow as tf

from cyclegan_tf.errors import UserError
from cyclegan_tf.exporters import portable
from cyclegan_tf.networks import layers

keras = tf.keras


def network_of(*stacked):
    """Returns a network of layers, one after the other."""
    inputs = outputs = keras.Input((None, None, 3))
    for layer in stacked:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


def test_a_layer_is_rebuilt_by_its_type_and_not_by_its_name():
    network = network_of(
        keras.layers.Activation("gelu", name="my_relu"), keras.layers.Activation(layers.leaky_relu, name="a_relu"),
        keras.layers.Activation(layers.relu, name="b_leaky_relu"),
    )
    image = np.linspace(-3, 3, 4 * 4 * 3, dtype=np.float32).reshape(1, 4, 4, 3)
    twin = portable.rebuild(network)
    assert [twin.get_layer(name).get_config().get("activation") for name in ("my_relu", "b_leaky_relu")] == [
        "gelu", "relu"
    ]
    # GELU(x) is x times the probability that a normally distributed value is below x.
    gelu = image * np.vectorize(statistics.NormalDist().cdf)(image)
    np.testing.assert_allclose(np.asarray(twin(image)), np.maximum(np.maximum(gelu, 0.2 * gelu), 0), atol=1e-5)


class Scale(keras.layers.Layer):
    """A layer that Keras does not have."""

    def build(self, input_shape):
        self.factor = self.add_weight(name="factor", shape=(), initializer="ones")

    def call(self, inputs):
        return inputs * self.factor


class PortableScale(Scale):
    def to_keras(self, inputs):
        return keras.layers.Rescaling(float(np.asarray(self.factor)), name=self.name)(inputs)


def test_a_layer_declares_how_to_rebuild_it():
    network = network_of(keras.layers.Conv2D(2, 3), PortableScale(name="scale"))
    network.get_layer("scale").set_weights([np.float32(3)])
    image = np.random.default_rng(4).normal(size=(1, 8, 9, 3)).astype(np.float32)
    twin = portable.rebuild(network)
    assert type(twin.get_layer("scale")) is keras.layers.Rescaling
    np.testing.assert_allclose(np.asarray(twin(image)), np.asarray(network(image)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("layer", [
    Scale(name="mine"), type("Mine", (keras.layers.ReLU,), {})(name="mine"),
    keras.layers.Lambda(lambda x: 2 * x, name="mine"), keras.layers.Activation(lambda x: 2 * x, name="mine"),
    keras.layers.Conv2D(3, 1, activation=layers.relu, name="mine"), keras.layers.Activation(tf.sin, name="mine"),
], ids=["own", "derived", "lambda", "activation", "convolution", "tensorflow"])
def test_a_layer_that_keras_cannot_load_is_an_error(layer):
    with pytest.raises(UserError, match=r"layer mine \(\w+\) cannot be rebuilt from Keras's layers: .* to_keras"):
        portable.rebuild(network_of(layer))
