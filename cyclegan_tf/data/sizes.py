"""The sizes to which --preprocess resizes images: training images before their random crop, and test images."""

from cyclegan_tf.config import Config, architectures


def compute_training_size(config: Config, height: int, width: int) -> tuple[int, int]:
    """Computes the (height, width) of a training image before its random crop.

    The authors' get_transform computes the same size, with two exceptions: it does not enlarge an image that is too
    small for the crop, and CUT's scale_shortside keeps an image whose shorter side is at least load_size, where this
    function shrinks it. Without a crop, sizes are rounded to multiples of what the generator accepts (4 pixels for a
    ResNet), and images too small for the discriminator are enlarged.
    """
    height, width = _scale_size(config, height, width)
    if config.crops:
        return height, width
    return _round_size(config, height, width, architectures.get_smallest_size(config))


def _round_size(config: Config, height: int, width: int, smallest: int) -> tuple[int, int]:
    """Rounds a size to multiples of what the generator accepts, and to at least `smallest`."""
    multiple = architectures.get_size_multiple(config)
    fewest = -(-smallest // multiple)
    return multiple * max(fewest, round(height / multiple)), multiple * max(fewest, round(width / multiple))


def _scale_size(config: Config, height: int, width: int) -> tuple[int, int]:
    load, crop = config.load_size, config.crop_size
    if config.preprocess == "resize_and_crop":
        return load, load
    if config.preprocess.startswith("scale_width"):
        # Like the authors' code, truncate the height, and enlarge images that are too flat to crop_size.
        return max(int(load * height / width), crop), load
    if config.preprocess.startswith("scale_shortside"):
        return round(load * height / min(height, width)), round(load * width / min(height, width))
    if config.crops:
        scale = max(1.0, crop / min(height, width))
        return max(crop, round(height * scale)), max(crop, round(width * scale))
    return height, width


def compute_test_size(config: Config, height: int, width: int) -> tuple[int, int]:
    """Computes the (height, width) of a test image: the whole image, at the scale of the training crops."""
    if config.preprocess == "resize_and_crop":
        return config.crop_size, config.crop_size
    height, width = _scale_size(config, height, width)
    return (height, width) if config.crops else _round_size(config, height, width, architectures.SMALLEST_SIZE)
