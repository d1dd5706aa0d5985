"""`Config`: every option of a run in one frozen dataclass, and its reader and writer of config.json."""

import dataclasses
import json
import os
import zlib
from collections.abc import Mapping
from typing import Any

from cyclegan_tf.config import plugins, presets, registries, value_ranges
from cyclegan_tf.config.conflicts import find_conflicts
from cyclegan_tf.config.direction import DOMAINS, Direction, Domain
from cyclegan_tf.config.options import UNSET, split_names, validate
from cyclegan_tf.config.run_options import FIELDS, RunOptions
from cyclegan_tf.config.value_ranges import Units, ValueRange
from cyclegan_tf.errors import UserError, describe_error
from cyclegan_tf.storage import atomic, filesystem

# The version of config.json. In version 1, which had no number, --dataset=demo was what demo_maps is now.
_VERSION = 2


@dataclasses.dataclass(frozen=True)
class Config(RunOptions):
    """The options of a training run. Defaults are from the CycleGAN authors' code (Zhu et al. 2017, section 7).

    `config.run_options` declares the options. Some models have other defaults (`models.builtin`). The modules in
    `plugins` are imported before the other options are validated.

    Sizes are in pixels. `log_every`, `sample_every`, `checkpoint_every` and `eval_every` are in steps; 0 means "only at
    the end". A resumed run may change only the fields marked `may_differ`; see `config.options.option`.

    `dataclasses.replace` keeps all other options, including defaults of the former model; build a new `Config` to
    change `model`.

    Raises:
      UserError: a value is invalid, or two options contradict each other; the message names the flags.
    """

    def __post_init__(self) -> None:
        self._set_defaults("plugins", "model")
        # The modules may register the names that other options are validated against.
        validate(FIELDS["plugins"], self.plugins)
        plugins.import_plugins(self.plugins)
        self._set_defaults()
        for name, field in FIELDS.items():
            object.__setattr__(self, name, validate(field, getattr(self, name)))  # The class is frozen.
        for message in find_conflicts(self):
            raise UserError(message)

    def _set_defaults(self, *names: str) -> None:
        """Gives the options that the caller has not set, or only those called `names`, their default values."""
        if unknown := sorted(set(self._get_model_defaults()) - set(FIELDS)):
            raise UserError(f"--model={self.model} is registered with defaults of unknown options: "
                            f"{', '.join(unknown)}; correct their names")
        for name in names or FIELDS:
            if getattr(self, name) is UNSET:
                object.__setattr__(self, name, self.get_default(name))

    def _get_model_defaults(self) -> Mapping[str, Any]:
        # An unregistered model has no defaults; `validate` reports the wrong name later.
        known = isinstance(self.model, str) and self.model in registries.MODELS
        return registries.MODELS[self.model].defaults if known else {}

    def get_default(self, name: str) -> Any:
        """Returns the model's default of option `name`, or the option's own default if the model sets none."""
        return self._get_model_defaults().get(name, FIELDS[name].metadata["default"])

    @property
    def extra_metrics(self) -> list[str]:
        """The names in `eval_metrics`."""
        return split_names("eval_metrics", self.eval_metrics)

    @property
    def augmentations(self) -> list[str]:
        """The names in `diff_augment`."""
        return split_names("diff_augment", self.diff_augment)

    @property
    def directions(self) -> tuple[Direction, ...]:
        """The directions that the run learns: a2b and b2a, or only a2b for a model with one generator."""
        return registries.MODELS[self.model].directions

    @property
    def crops(self) -> bool:
        """True if all training images become squares of `crop_size`."""
        return self.preprocess.endswith("crop")

    @property
    def trains_on_pairs(self) -> bool:
        """True if the images A and B of a training step must be pairs."""
        entry = registries.MODELS[self.model]
        reads_mode = entry.options is None or "identity_mode" in entry.options
        return entry.paired or (reads_mode and self.identity_mode == "cross")

    @property
    def pairing_flag(self) -> str:
        """The option that makes the config train on pairs, for error messages."""
        return f"--model={self.model}" if registries.MODELS[self.model].paired else "--identity_mode=cross"

    @property
    def penalizes_gradient(self) -> bool:
        """True if the adversarial loss has a gradient penalty, which differentiates the discriminators twice."""
        return registries.LOSSES[self.gan_mode].gradient_penalty

    def get_channels(self, domain: Domain) -> int:
        """The number of channels of the images of a domain."""
        return {"a": self.input_channels, "b": self.output_channels}[domain]

    def get_range(self, domain: Domain) -> ValueRange | None:
        """Returns the value range of a domain, mapped to [-1, 1]; None if the range is unset or not yet measured."""
        name = f"range_{domain}"
        return value_ranges.parse_range(name, getattr(self, name)).value

    def get_units(self, direction: Direction) -> Units:
        """The ranges of the images that the generator of a direction takes and gives."""
        return Units(*direction.order(self.get_range("a"), self.get_range("b")))

    def has_units(self, domain: Domain) -> bool:
        """True if a range maps the values of a domain, which then keep their unit."""
        return bool(getattr(self, f"range_{domain}"))

    def get_window(self, domain: Domain) -> ValueRange | None:
        """Returns the value range of a domain that pictures show from black to white; None for the whole range."""
        return value_ranges.parse_window("window", self.window)[DOMAINS.index(domain)]

    def compute_checksums(self) -> dict[str, int]:
        """Computes a checksum of each option, such as --seed, that the workers of a run must have in common."""
        shared = (name for name, field in FIELDS.items() if not field.metadata["per_machine"])
        return {f"--{name}": zlib.crc32(json.dumps(getattr(self, name)).encode()) for name in shared}

    def to_json(self) -> str:
        """Returns `config_version` and the options, in the order of the fields, as an indented JSON object."""
        return json.dumps({"config_version": _VERSION, **dataclasses.asdict(self)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "config.json") -> "Config":
        """Parses the text of `to_json`. Missing options take their defaults, so that old runs still load.

        Args:
          where: the name of the file, for error messages.

        Raises:
          UserError: the text is not a JSON object, has an unknown option, or a value is invalid; or a plugin cannot be
            imported.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where} is not valid JSON ({error}); restore it or use another --workdir") from error
        if not isinstance(values, dict) or any(isinstance(value, list | dict) for value in values.values()):
            raise UserError(f"{where} is not a JSON object of options; restore it or use another --workdir")
        values = _upgrade(values, where)
        unknown = sorted(set(values) - set(FIELDS))
        if unknown:
            raise UserError(
                f"{where} has unknown options: {', '.join(unknown)}; use the version of cyclegan_tf that wrote the "
                "file, or another --workdir"
            )
        try:
            return cls(**values)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error

    def save(self, workdir: str) -> None:
        """Writes WORKDIR/config.json."""
        with atomic.open_for_writing(os.path.join(workdir, "config.json"), durable=True) as file:
            file.write(self.to_json())

    @classmethod
    def load(cls, workdir: str) -> "Config":
        """Reads WORKDIR/config.json.

        Raises:
          UserError: the file is missing or invalid.
        """
        path = os.path.join(workdir, "config.json")
        if not filesystem.exists(path):
            raise UserError(f"{workdir} is not a run directory: it has no config.json; give a folder that "
                            "cyclegan train has written")
        try:
            text = filesystem.read_bytes(path).decode()
        except OSError as error:
            raise UserError(f"cannot read {path}: {describe_error(error)}") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not valid UTF-8 ({error}); restore it or use another --workdir") from error
        return cls.from_json(text, where=path)

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> "Config":
        """Returns the options of --preset=`name` with `overrides` applied.

        Raises:
          UserError: there is no such preset, or an option is invalid.
        """
        if name not in presets.NAMES:
            raise UserError(f"--preset={name}: expected one of {', '.join(presets.NAMES)}")
        return cls(**{**presets.read(name), **overrides})


def _upgrade(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Converts the contents of a config.json of any version to the options of this version."""
    values = dict(values)
    version = values.pop("config_version", 1)
    if type(version) is not int or version not in (1, _VERSION):  # True equals 1.
        raise UserError(
            f"{where} has config_version {version}, expected at most {_VERSION}; use the version of cyclegan_tf that "
            "wrote the file, or another --workdir"
        )
    if version == 1 and values.get("dataset", "demo") == "demo":
        values["dataset"] = "demo_maps"
    for option in ("eval_metrics", "nce_layers"):
        # Earlier versions accepted empty names and ignored them.
        if isinstance(values.get(option), str):
            values[option] = ",".join(name for name in values[option].split(",") if name.strip())
    return values


def list_differences(old: Config, new: Config) -> list[str]:
    """Returns a line "name: old -> new" for each differing option that a resumed run must not change.

    Two spellings of a value, such as photos and photos/ or a,b and a, b, do not differ.
    """
    return [
        f"{name}: {getattr(old, name)} -> {getattr(new, name)}"
        for name, field in FIELDS.items()
        if not field.metadata["may_differ"] and _normalize(field, old) != _normalize(field, new)
    ]


def _normalize(field: dataclasses.Field, config: Config) -> Any:
    value = getattr(config, field.name)
    if field.metadata["is_list"]:
        return split_names(field.name, value)
    if field.metadata["check"] is value_ranges.parse_range:
        return value_ranges.parse_range(field.name, value)
    return value.rstrip("/") or value if field.metadata["is_path"] else value
