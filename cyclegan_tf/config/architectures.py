"""Facts about the networks of a `Config` that do not need TensorFlow."""

from cyclegan_tf.config.config import Config


def channels(config: Config, name: str) -> tuple[int, int]:
    """(input, output) channels of network `name`: gen_ab, gen_ba, disc_a or disc_b.

    The discriminator of pix2pix (disc_b) sees A and B concatenated.
    """
    a, b = config.input_channels, config.output_channels
    seen_by_disc_b = a + b if config.model == "pix2pix" else b
    return {"gen_ab": (a, b), "gen_ba": (b, a), "disc_a": (a, 1), "disc_b": (seen_by_disc_b, 1)}[name]


def size_multiple(config: Config) -> int:
    """The generator keeps the size of images whose height and width are multiples of this number of pixels."""
    return 2 ** {"unet": config.n_downs, "unet_book": 4}.get(config.generator, 2)
