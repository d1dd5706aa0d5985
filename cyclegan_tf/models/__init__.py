"""The networks by name: what a Config asks for, built."""

from cyclegan_tf.models.discriminators import patch_discriminator, pixel_discriminator
from cyclegan_tf.models.generators import resnet_generator, unet_generator

# Name -> builder of a Config and keyword arguments common to all.
GENERATORS = {
    "resnet": lambda config, **common: resnet_generator(
        n_blocks=config.n_blocks, padding=config.padding, upsample=config.upsample, **common
    ),
    "unet": lambda config, **common: unet_generator(n_downs=config.n_downs, **common),
}
DISCRIMINATORS = {
    "patch": lambda config, **common: patch_discriminator(n_layers=config.n_layers, **common),
    "pixel": lambda config, **common: pixel_discriminator(**common),
}


def channels(config, name):
    """(input, output) channels of the network `name`: gen_ba is the way back, a pix2pix discriminator sees A and B."""
    a, b = config.input_channels, config.output_channels
    seen_by_disc_b = a + b if config.model == "pix2pix" else b
    return {"gen_ab": (a, b), "gen_ba": (b, a), "disc_a": (a, 1), "disc_b": (seen_by_disc_b, 1)}[name]


def build_generator(config, name):
    """The generator gen_ab or gen_ba that `config` describes, with fresh weights."""
    build = GENERATORS[config.generator]
    inputs, outputs = channels(config, name)
    return build(
        config, input_channels=inputs, output_channels=outputs, ngf=config.ngf, norm=config.norm,
        dropout=config.dropout, name=name,
    )


def build_discriminator(config, name):
    """The discriminator disc_a or disc_b that `config` describes, with fresh weights."""
    build = DISCRIMINATORS[config.discriminator]
    return build(
        config, input_channels=channels(config, name)[0], ndf=config.ndf, norm=config.norm,
        second_derivative=config.gan_mode == "wgangp", name=name,
    )


def size_multiple(config):
    """Images whose height and width are multiples of this come out of the generator at their own size."""
    return 4 if config.generator == "resnet" else 2**config.n_downs


def named_weights(model):
    """The model's variables by "LAYER/WEIGHT" ("stem_conv/kernel"), in layer order; the same on both stacks."""
    return {
        f"{layer.name}/{weight.name.split(':')[0].split('/')[-1]}": weight
        for layer in model.layers
        for weight in layer.weights
    }
