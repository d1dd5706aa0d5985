"""Facts about the networks of a `Config` that do not need TensorFlow."""

from cyclegan_tf.config import registries
from cyclegan_tf.config.config import Config


def channels(config: Config, name: str) -> tuple[int, int]:
    """(input, output) channels of network `name`: gen_ab, gen_ba, disc_a, disc_b, or another one of the model."""
    a, b = config.input_channels, config.output_channels
    found = {"gen_ab": (a, b), "gen_ba": (b, a), "disc_a": (a, 1), "disc_b": (b, 1)}
    own = registries.MODELS[config.model].channels
    return {**found, **(own(config) if own else {})}[name]


def size_multiple(config: Config) -> int:
    """The generator keeps the size of images whose height and width are multiples of this number of pixels."""
    multiple = registries.GENERATORS[config.generator].size_multiple
    return multiple(config) if callable(multiple) else multiple
