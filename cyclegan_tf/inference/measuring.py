"""Measures a model, loaded from its path, on the held-out images of a data set."""

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from cyclegan_tf.config import Config, architectures
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.config.options import require_names
from cyclegan_tf.data import sources
from cyclegan_tf.errors import UserError
from cyclegan_tf.inference import bounded, loading
from cyclegan_tf.inference.loading import LoadedTranslator
from cyclegan_tf.metrics import evaluation, measures, report
from cyclegan_tf.metrics.measures import Record
from cyclegan_tf.metrics.setting import Protocol, Setting
from cyclegan_tf.runs import directory as run_directory

log = logging.getLogger("cyclegan_tf")

# The measures that each of these options is for.
_MEASURES_OF_OPTIONS = {
    "reference": ("fid", "kid"), "inception": ("fid", "kid"), "judge": ("judge",), "judge_classes_a": ("judge",),
    "judge_classes_b": ("judge",), "labels": ("segmentation",), "segmenter": ("segmentation",),
}
# "crop" keeps the size of test images; "none" rounds it to what the generator of the Config accepts.
_NATIVE_SIZE: dict[str, Any] = {"preprocess": "crop", "crop_size": architectures.SMALLEST_SIZE}

# A side in pixels to resize images to, or the size of each image.
Size = int | Literal["native"]


def parse_measures(text: str, given: Iterable[str]) -> list[str]:
    """Returns the measures that --metrics names.

    Args:
      text: value of --metrics; empty for all measures that the data and the weights allow.
      given: names of the options that the command line sets.

    Raises:
      UserError: a measure is unknown, or an option is for measures that --metrics leaves out.
    """
    names = require_names("metrics", text, measures.NAMES)
    for option in given:
        users = _MEASURES_OF_OPTIONS.get(option, ())
        # Without --metrics, only segmentation is left out.
        if users and not set(users) & set(names or ("fid", "kid", "judge")):
            raise UserError(f"--{option} is for {' and '.join(users)}; leave --{option} out, or add {users[0]} to "
                            "--metrics")
    return names


def parse_size(text: str) -> Size:
    """Returns the value of --size; raises a UserError for other texts than native and 4 to 65536."""
    if text == "native":
        return "native"
    if not text.isdecimal() or not 4 <= int(text) <= 2**16:
        raise UserError(f"--size={text}: expected native or a number of pixels, 4 to {2**16}")
    return int(text)


def choose_data_config(model: str, size: Size | None = None, **overrides: Any) -> Config:
    """Chooses the Config to load data with: the measured run's Config, or a Config for whole images.

    Args:
      model: value of --model.
      size: side in pixels to resize images to; "native" keeps the size of each image; None keeps the run's
        preprocessing.
      **overrides: options that replace those of the Config. With a `dataset`, the run's max_dataset_size and paired do
        not apply: all images are loaded, and `paired` is "auto" by default.

    Raises:
      UserError: `model` is not a run, and there is no `dataset`; or an option is invalid.
    """
    if not overrides.get("dataset"):
        overrides.pop("dataset", None)  # An empty name, as of an unset variable of the shell, names no data set.
    if run_directory.is_run(model):
        config = Config.load(run_directory.locate(model))
    elif "dataset" in overrides:
        config = Config(**_NATIVE_SIZE)
    else:
        loading.require_model(model)
        raise UserError(f"--model={model} is not a run directory, so its data set is unknown; give a run "
                        "directory or --dataset")
    values: dict[str, Any] = {"max_dataset_size": 0, "paired": "auto"} if "dataset" in overrides else {}
    if size == "native":
        values |= _NATIVE_SIZE
    elif size:
        values |= {"preprocess": "resize_and_crop", "load_size": size, "crop_size": size}
    return dataclasses.replace(config, **(values | overrides))


def measure_model(
    path: str, direction: Direction | None, config: Config, protocol: Protocol, names: Sequence[str],
    with_baselines: bool,
) -> list[Record]:
    """Measures a model in one direction or in all; logs which measures are left out and which mean little.

    Args:
      path: path of the model, as for `loading.load_directions`.
      direction: the only direction to measure; None measures all directions of the model.
      config: names the data set and its preprocessing; from `choose_data_config`.
      names: of `measures.NAMES`; if empty, all of `measures.choose_default` that the data and the weights allow.
      with_baselines: whether to measure the trivial translations too.

    Returns:
      The records of `evaluation.measure`, each with the entries "model" and "dataset", and with "baselines": the value
      of each trivial translation by name, if the measure has such values.

    Raises:
      UserError: the model or the data set cannot be opened, or a measure in `names` cannot be computed.
    """
    models = loading.load_directions(path, direction)
    if not run_directory.is_run(path):
        config = _adapt_to_generator(config, models)
    dataset = sources.open_dataset(config, needs_training=False)
    for assumption in filter(None, (dataset.pairing, dataset.substitution)):
        log.info("%s", assumption)
    translate = bounded.make_bounded(models, config, "give --size=256 or another --size for smaller images")
    chosen, setting = names or measures.choose_default(config), Setting(dataset, config, protocol)
    records, skipped = evaluation.measure(translate, setting, chosen, strict=bool(names))
    records = [{**record, "model": path, "dataset": config.dataset} for record in records]
    if with_baselines:
        compared = evaluation.measure_baselines(chosen, models, setting)
        for record in records:
            if values := compared.get(report.format_key(record["metric"], record["direction"])):
                record["baselines"] = values
    if skipped:
        log.info("%s", report.format_skipped(skipped))
    for warning in report.list_warnings(records):
        log.warning("%s", warning)
    return records


def _adapt_to_generator(config: Config, models: Mapping[Direction, LoadedTranslator]) -> Config:
    """Returns the config with the channels and units of a generator that was saved without a Config."""
    (direction, model), = models.items()
    values: dict[str, Any] = {"lambda_identity": 0.0}
    sides = direction.order("input_channels", "output_channels")
    values |= dict(zip(sides, (model.input_channels, model.output_channels), strict=True))
    texts = [str(each or "") for each in (model.units.source, model.units.target)]
    values |= dict(zip(direction.order("range_a", "range_b"), texts, strict=True))
    return dataclasses.replace(config, **values)
