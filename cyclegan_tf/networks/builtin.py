"""Registers the generators and discriminators of this package; imports TensorFlow only when one of them is built."""

from typing import TYPE_CHECKING, Any

from cyclegan_tf.config import Config
from cyclegan_tf.config.registries import register_discriminator, register_generator

if TYPE_CHECKING:
    import tensorflow as tf

# experiments/ has a flagfile for each architecture that comes from elsewhere, which names its source.

_GENERATOR_OPTIONS = ("ngf", "norm", "norm_affine", "dropout")
_RESNET_OPTIONS = (*_GENERATOR_OPTIONS, "n_blocks", "upsample")
_UNET_OPTIONS = (*_GENERATOR_OPTIONS, "n_downs", "upsample")
_DISCRIMINATOR_OPTIONS = ("ndf", "norm", "norm_affine")
_PATCH_OPTIONS = (*_DISCRIMINATOR_OPTIONS, "n_layers", "antialias")


def list_resnet_layers(config: Config) -> tuple[str, ...]:
    """Returns the names of the layers whose outputs CUT compares by default, in a ResNet generator.

    The layers are the stem's padding, both downsampling convolutions, and the residual blocks 1 and 5. With 9 blocks,
    they are layers 0, 4, 8, 12 and 16 of the authors' anti-aliased generator. With fewer than 5 blocks, the last block
    takes the place of block 5. --antialias does not change the layers, but it changes the authors' numbers: without
    anti-aliasing, the authors' layers 0, 4, 8, 12 and 16 are stem_pad, down1_conv, down2_relu, block3_add and
    block7_add.
    """
    blocks = dict.fromkeys(f"block{i}_add" for i in (1, min(5, config.n_blocks)))
    return ("stem_pad", "down1_conv", "down2_conv", *blocks)


@register_generator(
    "resnet", size_multiple=4, options=(*_RESNET_OPTIONS, "padding", "antialias"), nce_layers=list_resnet_layers
)
def build_resnet(config: Config, input_channels: int, output_channels: int, name: str) -> "tf.keras.Model":
    """The paper's ResNet."""
    options = {"padding": config.padding, "antialias": config.antialias}
    return _build_resnet(config, input_channels, output_channels, name, **options)


@register_generator("unet", size_multiple=lambda config: 2**config.n_downs, options=_UNET_OPTIONS)
def build_unet(config: Config, input_channels: int, output_channels: int, name: str) -> "tf.keras.Model":
    """The U-Net of pix2pix."""
    return _build_unet(config, input_channels, output_channels, name)


@register_generator("unet_reflect", size_multiple=lambda config: 2**config.n_downs, options=_UNET_OPTIONS)
def build_unet_reflect(config: Config, input_channels: int, output_channels: int, name: str) -> "tf.keras.Model":
    """The U-Net of pix2pix with reflection padding in its encoder.

    With --upsample=resize_conv, no layer pads with zeros, so translations have no rims along their borders.
    """
    return _build_unet(config, input_channels, output_channels, name, padding="reflect")


@register_generator("unet_full", size_multiple=lambda config: 2**config.n_downs, options=_UNET_OPTIONS)
def build_unet_full(config: Config, input_channels: int, output_channels: int, name: str) -> "tf.keras.Model":
    """The U-Net of pix2pix with reflection padding and with a skip connection from the image to the last layer."""
    return _build_unet(config, input_channels, output_channels, name, padding="reflect", joins_image=True)


@register_generator(
    "torchgan", size_multiple=4, options=(*_RESNET_OPTIONS, "padding"), nce_layers=list_resnet_layers
)
def build_torchgan(config: Config, input_channels: int, output_channels: int, name: str) -> "tf.keras.Model":
    """A ResNet with 4x4 instead of 3x3 kernels in the downsampling and upsampling convolutions."""
    return _build_resnet(config, input_channels, output_channels, name, kernel=4, padding=config.padding)


@register_generator("tf_blog", size_multiple=4, options=_RESNET_OPTIONS)
def build_tf_blog(config: Config, input_channels: int, output_channels: int, name: str) -> "tf.keras.Model":
    """A ResNet with TensorFlow's padding, residual blocks that concatenate, and a norm before tanh."""
    options = {"padding": "same", "merge": "concat", "norm_before_tanh": True}
    return _build_resnet(config, input_channels, output_channels, name, **options)


@register_generator("unet_book", size_multiple=16, options=_GENERATOR_OPTIONS)
def build_unet_book(config: Config, input_channels: int, output_channels: int, name: str) -> "tf.keras.Model":
    """A U-Net of four levels that upsamples by repeating pixels."""
    from cyclegan_tf.networks.generators import resize_unet_generator

    return resize_unet_generator(n_downs=4, **_generator_options(config, input_channels, output_channels, name))


def _build_resnet(
    config: Config, input_channels: int, output_channels: int, name: str, **options: Any
) -> "tf.keras.Model":
    from cyclegan_tf.networks.generators import resnet_generator

    return resnet_generator(
        n_blocks=config.n_blocks, upsample=config.upsample,
        **_generator_options(config, input_channels, output_channels, name), **options,
    )


def _build_unet(
    config: Config, input_channels: int, output_channels: int, name: str, **options: Any
) -> "tf.keras.Model":
    from cyclegan_tf.networks.generators import unet_generator

    return unet_generator(
        n_downs=config.n_downs, upsample=config.upsample,
        **_generator_options(config, input_channels, output_channels, name), **options,
    )


def _generator_options(config: Config, input_channels: int, output_channels: int, name: str) -> dict[str, Any]:
    return {
        "input_channels": input_channels, "output_channels": output_channels, "ngf": config.ngf, "norm": config.norm,
        "norm_affine": config.norm_affine, "dropout": config.dropout, "name": name,
    }


def compute_smallest_size(config: Config) -> int:
    """Returns the smallest height and width for a PatchGAN, in pixels.

    Each of the last two layers loses a row and a column.
    """
    return 3 * 2**config.n_layers


@register_discriminator("patch", smallest_size=compute_smallest_size, options=_PATCH_OPTIONS)
def build_patch(config: Config, input_channels: int, name: str) -> "tf.keras.Model":
    """The PatchGAN."""
    return _build_patch(config, input_channels, name)


@register_discriminator("pixel", options=_DISCRIMINATOR_OPTIONS)
def build_pixel(config: Config, input_channels: int, name: str) -> "tf.keras.Model":
    """The PixelGAN, which scores each pixel by itself."""
    from cyclegan_tf.networks.discriminators import pixel_discriminator

    return pixel_discriminator(**_discriminator_options(config, input_channels, name))


@register_discriminator("torchgan", smallest_size=16, options=_DISCRIMINATOR_OPTIONS)
def build_torchgan_discriminator(config: Config, input_channels: int, name: str) -> "tf.keras.Model":
    """Four layers of stride 2, and more zeros on the left and at the top of the head's input: 64 px -> 4x4."""
    return _build_layers(config, input_channels, name, n_layers=4, stride_1_layer=False, head_padding=(2, 1))


@register_discriminator("tf_blog", smallest_size=16, options=_DISCRIMINATOR_OPTIONS)
def build_tf_blog_discriminator(config: Config, input_channels: int, name: str) -> "tf.keras.Model":
    """Four layers of stride 2, one of stride 1, and no loss at the edges: 256 px -> 16x16."""
    return _build_layers(config, input_channels, name, n_layers=4, padding="same")


@register_discriminator("patch_mean", smallest_size=compute_smallest_size, options=_PATCH_OPTIONS)
def build_patch_mean(config: Config, input_channels: int, name: str) -> "tf.keras.Model":
    """A PatchGAN that returns the mean score of an image."""
    return _build_patch(config, input_channels, name, averaged=True)


@register_discriminator("unet_book", smallest_size=16, options=_DISCRIMINATOR_OPTIONS)
def build_unet_book_discriminator(config: Config, input_channels: int, name: str) -> "tf.keras.Model":
    """Four layers of stride 2, with norms after the activations: 128 px -> 8x8."""
    options = {"n_layers": 4, "stride_1_layer": False, "padding": "same", "activation_first": True}
    return _build_layers(config, input_channels, name, **options)


def _build_patch(config: Config, input_channels: int, name: str, **options: Any) -> "tf.keras.Model":
    antialias = config.antialias in ("down", "both")
    return _build_layers(config, input_channels, name, n_layers=config.n_layers, antialias=antialias, **options)


def _build_layers(config: Config, input_channels: int, name: str, **options: Any) -> "tf.keras.Model":
    from cyclegan_tf.networks.discriminators import patch_discriminator

    return patch_discriminator(**_discriminator_options(config, input_channels, name), **options)


def _discriminator_options(config: Config, input_channels: int, name: str) -> dict[str, Any]:
    return {
        "input_channels": input_channels, "ndf": config.ndf, "norm": config.norm, "norm_affine": config.norm_affine,
        "second_derivative": config.penalizes_gradient, "name": name,
    }
