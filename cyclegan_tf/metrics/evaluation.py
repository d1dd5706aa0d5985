"""Measures a model on a data set; all measures share one pass over the images of a direction."""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.data.dataset import ImageDataset
from cyclegan_tf.errors import UserError
from cyclegan_tf.metrics import baselines, kid, measures
from cyclegan_tf.metrics.measures import Measure, Record
from cyclegan_tf.metrics.task import Networks, Protocol, Task, Translate
from cyclegan_tf.ops import exhaustion
from cyclegan_tf.runs import directory as run_directory

# Number of images, on each side, from which on a measure is worth comparing; and what is wrong with fewer.
_ENOUGH_IMAGES = {"fid": 2048, "kid": 2 * kid.SUBSET_SIZE}
_FEW_IMAGES = {"fid": "is biased upwards", "kid": "varies strongly"}


class Skipped(NamedTuple):
    """A measure that was left out in one direction.

    Attributes:
      name: one of `measures.NAMES`.
      direction: the direction.
      reason: a phrase without the name, such as "needs pairs: equal file names in testA and testB".
    """

    name: str
    direction: Direction
    reason: str


def measure(
    translate: Mapping[Direction, Translate], dataset: ImageDataset, config: Config, protocol: Protocol,
    names: Iterable[str] = measures.DEFAULT, networks: Networks | None = None, strict: bool = False,
) -> tuple[list[Record], list[Skipped]]:
    """Measures translations of the test images, or of the training images of a domain without test images.

    Args:
      translate: for each direction to measure, a function that translates an image (H, W, C).
      config: Config of the measured run; its preprocessing options resize the images.
      names: measures, from `measures.NAMES`.
      networks: the measuring networks of `protocol`, if they are loaded already.
      strict: raise an error for a measure that cannot be computed; by default such measures are skipped.

    Returns:
      (records, skipped). A record is a dict with metric, direction, value, n, split, size, preprocess, and, where they
      apply, std (over images; for KID over subsets), weights and others.

    Raises:
      UserError: `strict` is set and a measure cannot be computed.
    """
    networks = networks or Networks(protocol)
    records: list[Record] = []
    skipped: list[Skipped] = []
    for direction in translate:
        task = Task(direction, translate, dataset, config, protocol, networks)
        running: dict[str, Measure] = {}
        for name in names:
            with _skip_on_error(name, direction, None if strict else skipped):
                running[name] = measures.build(name, task)
        records += _measure_direction(task, running, None if strict else skipped)
    return records, skipped


def measure_baselines(
    names: Iterable[str], directions: Iterable[Direction], dataset: ImageDataset, config: Config, protocol: Protocol,
    networks: Networks,
) -> dict[str, dict[str, float]]:
    """Measures the trivial translations of `baselines`.

    Args:
      names: measures; measures that are not in `measures.COMPARABLE` or cannot be computed are left out.

    Returns:
      {`format_key` of a measure: {name of a baseline: value}}.
    """
    comparable = [name for name in names if name in measures.COMPARABLE]
    found: dict[str, dict[str, float]] = {}
    for direction in directions if comparable else ():
        for baseline, color_map in baselines.fit(Task(direction, {}, dataset, config, protocol, networks)).items():
            records, _ = measure({direction: color_map}, dataset, config, protocol, comparable, networks)
            for key, value in values_by_key(records).items():
                found.setdefault(key, {})[baseline] = value
    return found


def _measure_direction(task: Task, running: dict[str, Measure], skipped: list[Skipped] | None) -> list[Record]:
    sizes = set()
    for index, source, truth in task.number_pairs(_count_needed_images(running.values())):
        result = task.run(source)
        sizes.add(f"{result.shape[1]}x{result.shape[0]}")
        for name in list(running):
            with _skip_on_error(name, task.direction, skipped, running):
                running[name].add(source, result, truth, index)
    common = {
        "direction": task.direction, "split": task.split,
        "size": min(sizes) if len(sizes) == 1 else f"{len(sizes)} sizes", "preprocess": task.config.preprocess,
    }
    records: list[Record] = []
    for name, finished in running.items():
        with _skip_on_error(name, task.direction, skipped):
            records += [{**record, **common} for record in finished.records()]
    return records


def _count_needed_images(running: Iterable[Measure]) -> int | None:
    """Counts the images that the measures need: the largest limit; None if one of the measures needs all images."""
    limits = [each.limit for each in running]
    return None if None in limits else max((limit for limit in limits if limit), default=0)


@contextlib.contextmanager
def _skip_on_error(
    name: str, direction: Direction, skipped: list[Skipped] | None, running: dict[str, Measure] | None = None
) -> Iterator[None]:
    """Skips the measure if the body raises a UserError or exhausts the memory, and removes it from `running`.

    Args:
      skipped: receives the measure; None lets the UserError through.
    """
    try:
        with exhaustion.explain(name, "measure smaller images (evaluate --size=256) or leave the measure out"):
            yield
    except UserError as error:
        if skipped is None:
            raise
        skipped.append(Skipped(name, direction, str(error).removeprefix(f"{name} ")))
        if running is not None:
            del running[name]


def format_skipped(skipped: Iterable[Skipped]) -> str:
    """Formats a line that says which measures were left out and why; groups measures with the same reason."""
    groups: dict[tuple[str, frozenset[Direction]], list[str]] = {}
    directions: dict[tuple[str, str], set[Direction]] = {}
    for name, direction, reason in skipped:
        directions.setdefault((name, reason), set()).add(direction)
    for (name, reason), found in directions.items():
        groups.setdefault((reason, frozenset(found)), []).append(name)
    parts = [
        f"{', '.join(names)}{f' in direction {min(found)}' if len(found) == 1 else ''} ({reason})"
        for (reason, found), names in groups.items()
    ]
    return f"left out {'; '.join(parts)}"


def warn_of_few_images(records: Iterable[Record]) -> list[str]:
    """Returns a warning for each of FID and KID that was computed from too few images to be meaningful.

    FID is biased upwards (Binkowski et al. 2018, section 4), and its covariances are singular with fewer images than
    features. KID is unbiased, but its subsets are smaller than `kid.SUBSET_SIZE` with fewer than twice as many images.
    """
    fewest: dict[str, int] = {}
    for record in records:
        if record["metric"] in _ENOUGH_IMAGES:
            count = min(record["n"], record["n_reference"])
            fewest[record["metric"]] = min(count, fewest.get(record["metric"], count))
    return [
        f"{name} of {count} images means little, because it {_FEW_IMAGES[name]} with fewer than {_ENOUGH_IMAGES[name]} "
        "(docs/metrics.md): compare it only with values from the same images"
        for name, count in fewest.items() if count < _ENOUGH_IMAGES[name]
    ]


def require_measurable(
    names: Sequence[str], directions: Sequence[Direction], dataset: ImageDataset, config: Config, protocol: Protocol,
    networks: Networks,
) -> set[str]:
    """Raises a UserError if a measure cannot be computed on this data set; returns the keys of all measures.

    Loads the measuring networks, but translates nothing.
    """

    def translate(image: np.ndarray) -> np.ndarray:
        raise AssertionError("building a measure translates nothing")

    keys = set()
    for direction in directions:
        task = Task(direction, dict.fromkeys(directions, translate), dataset, config, protocol, networks)
        for name in names:
            measures.build(name, task)
            keys.add(format_key(name, direction))
    return keys


def format_key(metric: str, direction: Direction | str) -> str:
    """Formats the name of a measure and its direction for metrics.jsonl, such as psnr_ab, kid_ba or cycle_a."""
    direction = Direction(direction)
    # "cycle" and "identity" are named after the domain of the images that should come back unchanged.
    one_domain = {"cycle": direction.source, "identity": direction.target}
    return f"{metric}_{one_domain.get(metric, direction.source + direction.target)}"


def values_by_key(records: Iterable[Record]) -> dict[str, float]:
    """Returns the value of each record by its `format_key`."""
    return {format_key(record["metric"], record["direction"]): record["value"] for record in records}


def format_table(records: Iterable[Record]) -> str:
    """Formats records as a text table with aligned columns; each baseline has a column."""
    records = list(records)
    compared = [name for name in baselines.NAMES if any(name in record.get("baselines", {}) for record in records)]
    rows = [("metric", "direction", "value", "std", "n", *compared, "against")]
    for record in records:
        others = [record.get("baselines", {}).get(name) for name in compared]
        against = f"{record['n_reference']} real, {record['reference']}" if "reference" in record else ""
        if "real_target" in record:
            against = f"real: {record['real_source']:.3g} source, {record['real_target']:.3g} target"
        deviation = record.get("std")
        rows.append((record["metric"], str(record["direction"]), f"{record['value']:.5g}",
                     "" if deviation is None else f"{deviation:.3g}", str(record["n"]),
                     *("" if other is None else f"{other:.5g}" for other in others), against))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def require_known(names: Sequence[str]) -> None:
    """Raises a UserError if --metrics names a measure that does not exist."""
    unknown = [name for name in names if name not in measures.NAMES]
    if unknown:
        raise UserError(f"--metrics={','.join(names)}: unknown {', '.join(unknown)}; expected some of "
                        f"{', '.join(measures.NAMES)}")


def choose_data_config(
    model: str, dataset: str | None = None, data_dir: str | None = None, size: int | None = None,
    paired: str | None = None,
) -> Config:
    """Chooses the Config to load data with: the measured run's Config, or a Config for whole images.

    The other arguments override the options of the Config.

    Args:
      model: value of --model.
      dataset, data_dir: as in the Config; None keeps the run's value.
      size: side in pixels to resize images to; None keeps the run's preprocessing.
      paired: as in the Config; None keeps the run's value for the run's data set, and is "auto" for another data set.

    Raises:
      UserError: `model` is not a run, and there is no `dataset`.
    """
    values: dict[str, Any] = {}
    if run_directory.is_run(model):
        config = Config.load(run_directory.locate(model))
    elif dataset:
        config = Config(preprocess="none", pool_size=0)
    else:
        raise UserError(f"--model={model} is not a run directory, so its data set is unknown; give a run "
                        "directory or --dataset")
    if dataset:
        values |= {"dataset": dataset, "max_dataset_size": 0, "paired": "auto"}
    if data_dir:
        values["data_dir"] = data_dir
    if paired:
        values["paired"] = paired
    if size:
        values |= {"preprocess": "resize_and_crop", "load_size": size, "crop_size": size}
    return dataclasses.replace(config, **values)
