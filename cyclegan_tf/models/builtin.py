"""Registers the package's models and adversarial losses; imports TensorFlow only to build a model or a loss."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from cyclegan_tf.config import Config
from cyclegan_tf.config.registries import GENERATORS, AdversarialLoss, register_loss, register_model

if TYPE_CHECKING:
    from cyclegan_tf.models.base import Model

_CUT_OPTIONS = (
    "lambda_nce", "nce_identity", "flip_equivariance", "nce_layers", "nce_patches", "nce_features", "nce_temperature",
)
_CUT_DEFAULTS = {"antialias": "both", "initialization": "xavier", "pool_size": 0}


def _find_cyclegan_conflicts(config: Config) -> Iterator[str]:
    has_same_identity = config.identity_mode == "same" and config.lambda_identity > 0
    if has_same_identity and config.input_channels != config.output_channels:
        yield (f"--input_channels={config.input_channels} and --output_channels={config.output_channels} differ, but "
               "the identity loss gives a generator images of its output domain; use --lambda_identity=0")


@register_model(
    "cyclegan", find_conflicts=_find_cyclegan_conflicts, options=(
        "generator_loss", "cycle_loss", "lambda_a", "lambda_b", "lambda_identity", "identity_mode", "pool_size",
    ),
)
def build_cyclegan(config: Config, replicas: Iterable[int]) -> "Model":
    """CycleGAN (Zhu et al. 2017)."""
    from cyclegan_tf.models.cyclegan import CycleGAN

    return CycleGAN(config, replicas)


def _find_one_direction_conflicts(config: Config) -> Iterator[str]:
    if config.penalizes_gradient:
        yield f"--model={config.model} does not support --gan_mode={config.gan_mode}; remove it"
    for option in ("identity_mode", "generator_loss", "cycle_loss"):
        if (value := getattr(config, option)) != config.get_default(option):
            yield f"--model={config.model} has one generator and no cycle; remove --{option}={value}"


@register_model(
    "pix2pix", directions=("a2b",), paired=True, has_pools=False, find_conflicts=_find_one_direction_conflicts,
    options=("lambda_l1",),
    # The discriminator sees A and B concatenated.
    channels=lambda config: {"disc_b": (config.input_channels + config.output_channels, 1)},
)
def build_pix2pix(config: Config, replicas: Iterable[int]) -> "Model":
    """pix2pix (Isola et al. 2017)."""
    from cyclegan_tf.models.pix2pix import Pix2Pix

    return Pix2Pix(config, replicas)


def _find_cut_conflicts(config: Config) -> Iterator[str]:
    flag = f"--model={config.model}"
    if not config.nce_layers and GENERATORS[config.generator].nce_layers is None:
        yield (f"{flag} does not know which layers of --generator={config.generator} to compare; name them with "
               "--nce_layers")
    if config.input_channels != config.output_channels:
        yield (f"{flag} gives the generator images of both domains, so --input_channels={config.input_channels} "
               f"and --output_channels={config.output_channels} must be equal")
    if config.norm == "batch":
        yield f"{flag} does not support --norm=batch; remove it"
    yield from _find_one_direction_conflicts(config)
    if config.recompute:
        yield f"{flag} needs feature maps of the generator that --recompute does not keep; remove --recompute"


# Defaults of the authors' code that differ from CycleGAN's.
@register_model(
    "cut", defaults={**_CUT_DEFAULTS, "n_epochs": 200, "n_epochs_decay": 200}, directions=("a2b",), has_pools=False,
    find_conflicts=_find_cut_conflicts, options=_CUT_OPTIONS,
)
def build_cut(config: Config, replicas: Iterable[int]) -> "Model":
    """CUT (Park et al. 2020)."""
    from cyclegan_tf.models.cut import Cut

    return Cut(config, replicas)


register_model(
    "fastcut", defaults={
        **_CUT_DEFAULTS, "n_epochs": 150, "n_epochs_decay": 50, "lambda_nce": 10.0, "nce_identity": False,
        "flip_equivariance": True,
    }, directions=("a2b",), has_pools=False, find_conflicts=_find_cut_conflicts, options=_CUT_OPTIONS,
)(build_cut)


@register_loss("lsgan", has_labels=True)
def make_lsgan(config: Config) -> AdversarialLoss:
    """Least squares (Mao et al. 2017), as in section 3.1 of the paper."""
    from cyclegan_tf.models import losses

    return losses.make_lsgan(config.label_smoothing)


@register_loss("vanilla", has_labels=True)
def make_vanilla(config: Config) -> AdversarialLoss:
    """Cross-entropy, as in equation 1 of the paper."""
    from cyclegan_tf.models import losses

    return losses.make_vanilla(config.label_smoothing)


@register_loss("wgangp", gradient_penalty=True)
def make_wgangp(config: Config) -> AdversarialLoss:
    """The Wasserstein distance, with a gradient penalty (Gulrajani et al. 2017)."""
    from cyclegan_tf.models import losses

    return losses.WGANGP


@register_loss("hinge")
def make_hinge(config: Config) -> AdversarialLoss:
    """The hinge loss (Miyato et al. 2018)."""
    from cyclegan_tf.models import losses

    return losses.HINGE
