"""The networks by name: builds the generators and discriminators that a Config describes."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import tensorflow as tf

from cyclegan_tf.config import Config, architectures
from cyclegan_tf.networks import initialization, patch_features
from cyclegan_tf.networks.discriminators import patch_discriminator, pixel_discriminator
from cyclegan_tf.networks.generators import resize_unet_generator, resnet_generator, unet_generator


def _resnet(config: Config, **options: Any) -> tf.keras.Model:
    return resnet_generator(**{
        "n_blocks": config.n_blocks, "padding": config.padding, "upsample": config.upsample,
        "antialias": config.antialias, **options
    })


def _unet(config: Config, **options: Any) -> tf.keras.Model:
    return unet_generator(n_downs=config.n_downs, upsample=config.upsample, **options)


def _resize_unet(config: Config, **options: Any) -> tf.keras.Model:
    del config
    return resize_unet_generator(**options)


def _patch(config: Config, **options: Any) -> tf.keras.Model:
    antialias = config.antialias in ("down", "both")
    return patch_discriminator(**{"n_layers": config.n_layers, "antialias": antialias, **options})


def _pixel(config: Config, **options: Any) -> tf.keras.Model:
    del config
    return pixel_discriminator(**options)


# Name -> function of a Config and keyword arguments. experiments/ has a flagfile for each architecture that is not the
# authors', which names its source.
GENERATORS: dict[str, Callable[..., tf.keras.Model]] = {
    "resnet": _resnet,
    "unet": _unet,
    # 4x4 kernels instead of 3x3 in the downsampling and upsampling convolutions.
    "torchgan": partial(_resnet, kernel=4),
    # TensorFlow's padding, residual blocks that concatenate, a norm before tanh.
    "tf_blog": partial(_resnet, padding="same", merge="concat", norm_before_tanh=True),
    "unet_book": partial(_resize_unet, n_downs=4),
}
DISCRIMINATORS: dict[str, Callable[..., tf.keras.Model]] = {
    "patch": _patch,
    "pixel": _pixel,
    # Four layers of stride 2, and more zeros on the left and at the top of the head's input: 64 px -> 4x4.
    "torchgan": partial(_patch, n_layers=4, stride_1_layer=False, head_padding=(2, 1)),
    # Four layers of stride 2, one of stride 1, and no loss at the edges: 256 px -> 16x16.
    "tf_blog": partial(_patch, n_layers=4, padding="same"),
    # The mean score of an image.
    "patch_mean": partial(_patch, averaged=True),
    # Four layers of stride 2, with norms after the activations: 128 px -> 8x8.
    "unet_book": partial(_patch, n_layers=4, stride_1_layer=False, padding="same", activation_first=True),
}


def build_generator(config: Config, name: str) -> tf.keras.Model:
    """Builds generator `name` (gen_ab or gen_ba) as `config` describes it, with fresh weights."""
    build = GENERATORS[config.generator]
    inputs, outputs = architectures.channels(config, name)
    network = build(
        config, input_channels=inputs, output_channels=outputs, ngf=config.ngf, norm=config.norm,
        norm_affine=config.norm_affine, dropout=config.dropout, name=name,
    )
    return _initialize(config, network)


def build_discriminator(config: Config, name: str) -> tf.keras.Model:
    """Builds discriminator `name` (disc_a or disc_b) as `config` describes it, with fresh weights."""
    build = DISCRIMINATORS[config.discriminator]
    network = build(
        config, input_channels=architectures.channels(config, name)[0], ndf=config.ndf, norm=config.norm,
        norm_affine=config.norm_affine, second_derivative=config.gan_mode == "wgangp", name=name,
    )
    return _initialize(config, network)


def build_feature_network(
    config: Config, generator: tf.keras.Model, layers: Sequence[str], name: str
) -> tf.keras.Model:
    """Builds the feature network of CUT for the outputs of the `layers` of `generator`, with fresh weights."""
    maps = patch_features.find_maps(generator, layers)
    return _initialize(
        config, patch_features.build_feature_network([m.shape[-1] for m in maps], config.nce_features, name)
    )


def _initialize(config: Config, network: tf.keras.Model) -> tf.keras.Model:
    """Applies --initialization; the builders draw the weights of the value "normal"."""
    if config.initialization == "xavier":
        initialization.initialize_xavier(network)
    return network
