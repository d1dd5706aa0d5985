"""Warnings about options that a run sets, but that have no effect."""

from collections.abc import Iterator
from typing import Any

from cyclegan_tf.config.architectures import list_options
from cyclegan_tf.config.config import Config
from cyclegan_tf.config.registries import DISCRIMINATORS, GENERATORS, MODELS, ModelEntry
from cyclegan_tf.config.run_options import FIELDS
from cyclegan_tf.errors import UserError

# {option: {other option: values}}: the option has no effect if every other option has one of the listed values. The
# rules about loss weights apply only to the models of this package.
_IDLE_WITH: dict[str, dict[str, tuple[Any, ...]]] = {
    "lr_decay_every": {"lr_policy": ("linear", "cosine", "constant")},
    "load_size": {"preprocess": ("crop", "none")},
    **{key: {"lambda_a": (0,), "lambda_b": (0,)} for key in ("lambda_identity", "cycle_loss")},
    **{key: {"lambda_nce": (0,)} for key in ("nce_layers", "nce_patches", "nce_features", "nce_temperature")},
}


def find_idle_options(config: Config) -> Iterator[str]:
    """Yields a warning for each option that has no effect, although its value differs from the default.

    Raises:
      UserError: the model or a network is registered with unknown options.
    """
    declared = {
        "model": MODELS[config.model].options, "generator": GENERATORS[config.generator].options,
        "discriminator": DISCRIMINATORS[config.discriminator].options,
    }
    # The options that only some models, generators or discriminators read.
    selective = {
        "model": [option for entry in MODELS.values() if _is_own(entry) for option in entry.options or ()],
        "generator": list_options("gen"), "discriminator": list_options("disc"),
    }
    flags = {reader: f"--{reader}={getattr(config, reader)}" for reader in declared}
    read = {reader: selective[reader] if options is None else options for reader, options in declared.items()}
    for reader, options in read.items():
        if unknown := sorted(set(options) - set(FIELDS)):
            raise UserError(f"{flags[reader]} is registered with unknown options: {', '.join(unknown)}; correct their "
                            "names")
    for name in FIELDS:
        if getattr(config, name) == config.get_default(name):
            continue
        readers = [reader for reader, options in selective.items() if name in options and name != reader]
        others = _IDLE_WITH.get(name, {}) if _is_own(MODELS[config.model]) or "model" not in readers else {}
        reason = ""
        if readers and not any(name in read[reader] for reader in readers):
            reason = "on " + " and ".join(flags[reader] for reader in readers)
        elif others and all(getattr(config, other) in values for other, values in others.items()):
            reason = "with " + " and ".join(f"--{other}={getattr(config, other)}" for other in others)
        if reason:
            yield f"--{name}={getattr(config, name)} has no effect {reason}"
    if config.dropout and config.generator in ("unet", "unet_reflect", "unet_full") and config.n_downs < 6:
        yield (f"--dropout has no effect on --generator={config.generator} with --n_downs={config.n_downs}, because "
               "only deeper levels have dropout; use --n_downs=6 or more")


def _is_own(entry: ModelEntry) -> bool:
    """True for a model of this package."""
    return (entry.build.__module__ or "").startswith("cyclegan_tf.")  # A function from exec has no module.
