"""Declared receptive fields: a layer computes the same on a piece of an image as on the whole image."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from cyclegan_tf.errors import UserError
from cyclegan_tf.networks import layers, receptive_field
from cyclegan_tf.networks.receptive_field import ReceptiveField

keras = layers.keras

SIZE = (19, 23)


class Shift(keras.layers.Layer):
    """A layer of another package: pixel i of the output is pixel i of the input, plus its right neighbor."""

    def call(self, inputs):
        return inputs[:, :, :-1] + inputs[:, :, 1:]

    def receptive_field(self):
        return ReceptiveField(), ReceptiveField(after=1)


LAYERS = {
    "reflection": lambda: layers.ReflectionPadding2D(3),
    "replication": layers.ReplicationPadding2D,
    "own_convolution": lambda: layers.Conv2D(3, 3, 2),
    "own_transposed_convolution": lambda: layers.Conv2DTranspose(3, 4, 2),
    "own_cropping": lambda: layers.Cropping2D(((1, 2), (0, 1))),
    "own_batch_norm": layers.BatchNormalization,
    "declared": Shift,
    "dilated_convolution": lambda: keras.layers.Conv2D(3, 3, dilation_rate=2, padding="same"),
    "depthwise_convolution": lambda: keras.layers.DepthwiseConv2D(3, padding="same"),
    "separable_convolution": lambda: keras.layers.SeparableConv2D(3, (3, 5), padding="same"),
    "zero_padding": lambda: keras.layers.ZeroPadding2D(((1, 2), (5, 0))),
    "cropping": lambda: keras.layers.Cropping2D(((1, 2), (0, 3))),
    "upsampling": lambda: keras.layers.UpSampling2D((2, 3)),
    "bilinear_upsampling": lambda: keras.layers.UpSampling2D(2, interpolation="bilinear"),
    "bicubic_upsampling": lambda: keras.layers.UpSampling2D(3, interpolation="bicubic"),
    "max_pooling": lambda: keras.layers.MaxPooling2D(3, 2, "same"),
    "average_pooling": lambda: keras.layers.AveragePooling2D(3, 2, "same"),
    "channel_norm": keras.layers.LayerNormalization,
    "activation": lambda: keras.layers.Activation("gelu"),
    "prelu": lambda: keras.layers.PReLU(shared_axes=[1, 2]),
    "dense": lambda: keras.layers.Dense(4),
} | {
    f"convolution_{kernel}_{stride}_{padding}": lambda kernel=kernel, stride=stride, padding=padding:
        keras.layers.Conv2D(3, kernel, stride, padding=padding)
    for kernel, stride, padding in itertools.product((1, 2, 3, 4, 7), (1, 2, 3), ("valid", "same"))
} | {
    f"transposed_convolution_{kernel}_{stride}_{padding}": lambda kernel=kernel, stride=stride, padding=padding:
        keras.layers.Conv2DTranspose(3, kernel, stride, padding=padding)
    for kernel, stride, padding in itertools.product((1, 3, 4), (1, 2, 3), ("valid", "same"))
}


@pytest.mark.parametrize("axis", [1, 2], ids=["height", "width"])
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_piece_of_the_image_gives_the_same_pixels(make, axis):
    keras.utils.set_random_seed(0)
    layer, images = make(), np.random.default_rng(0).normal(size=(1, *SIZE, 2)).astype(np.float32)
    whole = np.asarray(layer(images))
    field, size = receptive_field.find_receptive_fields(layer)[axis - 1], images.shape[axis]
    length = whole.shape[axis]
    edges = sorted({0, 1, length // 3, length // 2, length - 1, length})
    shortest = size
    for begin, end in itertools.combinations(edges, 2):
        start, stop, offset = field.find_input(begin, end, size)
        shortest = min(shortest, stop - start)
        piece = np.asarray(layer(np.take(images, range(start, stop), axis)))
        found = np.take(piece, range(offset, offset + end - begin), axis)
        expected = np.take(whole, range(begin, end), axis)
        np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6, err_msg=f"pixels {begin} to {end}")
    assert shortest < size, "every piece is the whole image"


@pytest.mark.parametrize("layer", [
    keras.layers.GlobalAveragePooling2D(name="mystery"), keras.layers.Concatenate(axis=1, name="mystery"),
    keras.layers.LayerNormalization(axis=[1, 2, 3], name="mystery"), keras.layers.PReLU(name="mystery"),
    keras.layers.UpSampling2D(2, interpolation="lanczos3", name="mystery"),
    type("Derived", (keras.layers.Conv2D,), {})(3, 3, name="mystery"),
], ids=lambda layer: type(layer).__name__)
def test_unknown_receptive_field_is_an_error_that_names_the_layer(layer):
    with pytest.raises(UserError, match=r"the receptive field of layer mystery \(\w+\) is unknown; give its class"):
        receptive_field.find_receptive_fields(layer)


def add_mean(x):
    """An activation that reads the whole image."""
    return x + tf.reduce_mean(x, axis=(1, 2), keepdims=True)


@pytest.mark.parametrize("layer", [
    lambda function: keras.layers.Activation(function, name="mystery"),
    lambda function: keras.layers.Conv2D(2, 3, activation=function, name="mystery"),
], ids=["activation", "convolution"])
def test_an_activation_that_may_read_the_whole_image_is_refused_unless_declared(layer):
    for function in (add_mean, tf.nn.softmax):
        message = f"layer mystery applies the function {function.__name__}, which may depend on the whole"
        with keras.utils.custom_object_scope({"add_mean": add_mean}), pytest.raises(UserError, match=message):
            receptive_field.find_receptive_fields(layer(function))
    declared, known = layer(receptive_field.pointwise(lambda x: 2 * x)), layer("gelu")
    assert receptive_field.find_receptive_fields(declared) == receptive_field.find_receptive_fields(known)
