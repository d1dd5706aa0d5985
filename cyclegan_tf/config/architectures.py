"""Facts about networks that need no TensorFlow."""


def channels(config, name):
    """(input, output) channels of the network `name`: gen_ba is the way back, a pix2pix discriminator sees A and B."""
    a, b = config.input_channels, config.output_channels
    seen_by_disc_b = a + b if config.model == "pix2pix" else b
    return {"gen_ab": (a, b), "gen_ba": (b, a), "disc_a": (a, 1), "disc_b": (seen_by_disc_b, 1)}[name]


def size_multiple(config):
    """Images whose height and width are multiples of this come out of the generator at their own size."""
    return 2 ** {"unet": config.n_downs, "unet_book": 4}.get(config.generator, 2)
