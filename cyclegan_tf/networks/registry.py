"""The networks by name: what a Config asks for, built."""

from functools import partial

from cyclegan_tf.config import architectures
from cyclegan_tf.networks import initialization, patch_features
from cyclegan_tf.networks.discriminators import patch_discriminator, pixel_discriminator
from cyclegan_tf.networks.generators import resize_unet_generator, resnet_generator, unet_generator


def _resnet(config, **options):
    return resnet_generator(**{
        "n_blocks": config.n_blocks, "padding": config.padding, "upsample": config.upsample,
        "antialias": config.antialias, **options
    })


def _unet(config, **options):
    return unet_generator(n_downs=config.n_downs, upsample=config.upsample, **options)


def _resize_unet(config, **options):
    del config
    return resize_unet_generator(**options)


def _patch(config, **options):
    antialias = config.antialias in ("down", "both")
    return patch_discriminator(**{"n_layers": config.n_layers, "antialias": antialias, **options})


def _pixel(config, **options):
    del config
    return pixel_discriminator(**options)


# Name -> builder of a Config and keyword arguments common to all. experiments/ has a flagfile for each of those that
# are not the authors', and says where it is described.
GENERATORS = {
    "resnet": _resnet,
    "unet": _unet,
    # 4x4 in place of 3x3 in the down- and up-sampling convolutions.
    "torchgan": partial(_resnet, kernel=4),
    # TensorFlow's padding, blocks that concatenate, a norm in front of tanh.
    "tf_blog": partial(_resnet, padding="same", merge="concat", norm_before_tanh=True),
    "unet_book": partial(_resize_unet, n_downs=4),
}
DISCRIMINATORS = {
    "patch": _patch,
    "pixel": _pixel,
    # Four halvings; zeros at the left and the top in front of a head with padding of its own: 64 px -> 4 x 4.
    "torchgan": partial(_patch, n_layers=4, stride_1_layer=False, head_padding=(2, 1)),
    # Four halvings, one more layer, and nothing lost at the edges: 256 px -> 16 x 16.
    "tf_blog": partial(_patch, n_layers=4, padding="same"),
    # The mean of the map: one value an image.
    "patch_mean": partial(_patch, averaged=True),
    # Four halvings, the norm behind the activation: 128 px -> 8 x 8.
    "unet_book": partial(_patch, n_layers=4, stride_1_layer=False, padding="same", activation_first=True),
}


def build_generator(config, name):
    """The generator gen_ab or gen_ba that `config` describes, with fresh weights."""
    build = GENERATORS[config.generator]
    inputs, outputs = architectures.channels(config, name)
    network = build(
        config, input_channels=inputs, output_channels=outputs, ngf=config.ngf, norm=config.norm,
        norm_affine=config.norm_affine, dropout=config.dropout, name=name,
    )
    return _initialize(config, network)


def build_discriminator(config, name):
    """The discriminator disc_a or disc_b that `config` describes, with fresh weights."""
    build = DISCRIMINATORS[config.discriminator]
    network = build(
        config, input_channels=architectures.channels(config, name)[0], ndf=config.ndf, norm=config.norm,
        norm_affine=config.norm_affine, second_derivative=config.gan_mode == "wgangp", name=name,
    )
    return _initialize(config, network)


def build_feature_network(config, generator, layers, name):
    """The feature network of CUT for the outputs of the `layers` of `generator`, with fresh weights."""
    maps = patch_features.find_maps(generator, layers)
    return _initialize(
        config, patch_features.build_feature_network([m.shape[-1] for m in maps], config.nce_features, name)
    )


def _initialize(config, network):
    if config.initialization == "xavier":
        initialization.initialize_xavier(network)
    return network
