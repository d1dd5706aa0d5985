"""A generator and a discriminator with two convolutions each."""

import tensorflow as tf

import cyclegan_tf

keras = tf.keras


@cyclegan_tf.register_generator("toy", size_multiple=2)
def build_generator(config, input_channels, output_channels, name):
    inputs = keras.Input((None, None, input_channels))
    x = keras.layers.Conv2D(config.ngf, 4, 2, padding="same", activation="relu", name="down")(inputs)
    x = keras.layers.Conv2DTranspose(output_channels, 4, 2, padding="same", name="up")(x)
    return keras.Model(inputs, keras.layers.Activation("tanh", dtype="float32", name="tanh")(x), name=name)


@cyclegan_tf.register_discriminator("toy")
def build_discriminator(config, input_channels, name):
    inputs = keras.Input((None, None, input_channels))
    x = keras.layers.Conv2D(config.ndf, 4, 2, padding="same", activation="relu", name="down")(inputs)
    x = keras.layers.Conv2D(1, 4, padding="same", dtype="float32", name="scores")(x)
    return keras.Model(inputs, x, name=name)
