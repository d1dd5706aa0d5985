"""Combinations of option values that cannot work, each with an error message."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from cyclegan_tf.config.domains import find_name_conflicts
from cyclegan_tf.config.registries import DISCRIMINATORS, GENERATORS, LOSSES, MODELS
from cyclegan_tf.errors import UserError

if TYPE_CHECKING:
    from cyclegan_tf.config.config import Config


def find_conflicts(config: "Config") -> Iterator[str]:
    """Yields a message for each conflict between options; the message names the flags and the remedy."""
    yield from find_name_conflicts(config)
    yield from _find_size_conflicts(config)
    if config.window and not (config.range_a or config.range_b):
        yield (f"--window={config.window} needs the unit of --range_a or --range_b; set one of them, for "
               "example --range_a=-1024,3071")
    # Check the model's requirements first: the model's default options can conflict with options of the networks.
    if find_model_conflicts := MODELS[config.model].find_conflicts:
        found = find_model_conflicts(config)
        if isinstance(found, str) or not isinstance(found, Iterable):
            raise UserError(f"the function find_conflicts of --model={config.model} returns {found!r}; expected a list "
                            "of messages")
        yield from found
    yield from _find_network_conflicts(config)
    yield from _find_objective_conflicts(config)
    yield from _find_evaluation_conflicts(config)


def _find_size_conflicts(config: "Config") -> Iterator[str]:
    if config.crops and config.preprocess != "crop" and config.load_size < config.crop_size:
        yield (f"--load_size={config.load_size} is smaller than --crop_size={config.crop_size}, so images are too "
               "small to crop; raise --load_size or lower --crop_size")
    has_pools = MODELS[config.model].has_pools
    if not config.crops and (config.batch_size > 1 or (has_pools and config.pool_size > 0)):
        yield (f"--preprocess={config.preprocess} makes images of different sizes, which cannot share a batch"
               + (" or an image pool; use --batch_size=1 --pool_size=0" if has_pools else "; use --batch_size=1"))
    if not config.crops and config.crop == "center":
        yield (f"--crop=center has no effect because --preprocess={config.preprocess} does not crop; use "
               "--preprocess=crop or a mode that ends in _and_crop")
    if not config.max_steps and not config.n_epochs + config.n_epochs_decay:
        yield "there is nothing to train: set --n_epochs, --n_epochs_decay or --max_steps to more than 0"


def _find_network_conflicts(config: "Config") -> Iterator[str]:
    if config.penalizes_gradient and config.norm == "batch":
        yield (f"--gan_mode={config.gan_mode} penalizes the gradient of each image separately, but --norm=batch makes "
               "the images of a batch depend on each other; use --norm=instance or --norm=none")
    if config.norm_affine and config.norm != "instance":
        yield f"--norm_affine has no effect on --norm={config.norm}; remove it or use --norm=instance"
    if config.penalizes_gradient and config.mixed_precision == "float16":
        yield (f"--mixed_precision=float16 cannot scale the gradient inside the loss of --gan_mode={config.gan_mode}; "
               "use --mixed_precision=bfloat16")
    if config.recompute and (config.dropout or config.norm == "batch"):
        yield ("--recompute runs layers twice, so --dropout would draw a second mask and --norm=batch would update its "
               "running statistics twice; use --recompute without --dropout and --norm=batch")
    if config.jit_compile == "on" and not config.crops:
        yield (f"--jit_compile=on compiles again for every image size, and --preprocess={config.preprocess} makes many "
               "sizes; use --jit_compile=off or a --preprocess mode that crops")
    yield from _find_antialias_conflicts(config)


def _find_antialias_conflicts(config: "Config") -> Iterator[str]:
    if config.antialias == "none":
        return
    flag = f"--antialias={config.antialias}"
    if MODELS[config.model].defaults.get("antialias") == config.antialias:
        flag += f" (the default of --model={config.model})"
    antialiased = {"generator": [name for name, entry in GENERATORS.items() if "antialias" in (entry.options or ())]}
    if config.antialias != "up":  # Discriminators do not upsample.
        antialiased["discriminator"] = [
            name for name, entry in DISCRIMINATORS.items() if "antialias" in (entry.options or ())
        ]
    for option, names in antialiased.items():
        if getattr(config, option) not in names:
            yield (f"{flag} has no effect on --{option}={getattr(config, option)}; use --antialias=none, or "
                   f"--{option}={' or '.join(names)}")
    if config.antialias in ("up", "both") and config.upsample != "transpose":
        remedy = "down" if config.antialias == "both" else "none"
        yield (f"{flag} replaces the upsampling of --upsample={config.upsample}; use --antialias={remedy} or "
               "--upsample=transpose")


def _find_objective_conflicts(config: "Config") -> Iterator[str]:
    if config.identity_mode == "cross" and not config.lambda_identity:
        yield "--lambda_identity=0 turns off the identity loss that --identity_mode=cross selects; change one of them"
    if config.identity_mode == "cross" and not config.lambda_a and not config.lambda_b:
        yield ("--lambda_a=0 and --lambda_b=0 turn off the identity loss that --identity_mode=cross selects, because "
               "--lambda_identity is relative to them; raise one of them or use --identity_mode=same")
    if config.paired == "no" and config.trains_on_pairs:
        yield f"{config.pairing_flag} trains on pairs, which --paired=no rules out; remove one of them"
    if config.label_smoothing and not LOSSES[config.gan_mode].has_labels:
        yield f"--gan_mode={config.gan_mode} has no labels to smooth; use --label_smoothing=0"
    if config.disc_learning_rate and not config.learning_rate:
        yield ("--disc_learning_rate is scaled by the schedule of --learning_rate, which must not be 0; set a positive "
               "--learning_rate")


def _find_evaluation_conflicts(config: "Config") -> Iterator[str]:
    if config.keep_best and not config.eval_every:
        yield f"--keep_best={config.keep_best} needs --eval_every, the number of steps between evaluations"
    if config.patience and not config.keep_best:
        yield f"--patience={config.patience} needs --keep_best, the measure that should improve"
