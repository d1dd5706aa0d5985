"""Measures a model on a data set; all measures share one pass over the images of a direction."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from cyclegan_tf.config.direction import Direction
from cyclegan_tf.data.bad_images import BadImageError
from cyclegan_tf.errors import UserError
from cyclegan_tf.metrics import baselines, measures, report
from cyclegan_tf.metrics.measures import Measure, Record
from cyclegan_tf.metrics.report import Skipped
from cyclegan_tf.metrics.setting import Setting
from cyclegan_tf.metrics.task import Task, Translate
from cyclegan_tf.ops import exhaustion


def measure(
    translate: Mapping[Direction, Translate], setting: Setting, names: Sequence[str] = measures.DEFAULT,
    strict: bool = False,
) -> tuple[list[Record], list[Skipped]]:
    """Measures translations of the test images, or of the training images of a domain without test images.

    Args:
      translate: for each direction to measure, a function that translates an image (H, W, C).
      setting: the images, and how to compare them.
      names: measures, from `measures.NAMES`.
      strict: raise an error for a measure that cannot be computed; by default such measures are skipped.

    Returns:
      (records, skipped). A record is a dict with metric, direction, value, n, split, size, preprocess, and, where they
      apply, std (over images; for KID over subsets), weights and others.

    Raises:
      UserError: `strict` is set and a measure cannot be computed.
      BadImageError: an image cannot be used, and the data set stops at such images.
    """
    records: list[Record] = []
    skipped: list[Skipped] = []
    for direction in translate:
        task = Task(direction, translate, setting)
        running: dict[str, Measure] = {}
        for name in names:
            with _skip_on_error(name, direction, None if strict else skipped):
                running[name] = measures.build(name, task)
        records += _measure_direction(task, running, None if strict else skipped)
    return records, skipped


def measure_baselines(
    names: Iterable[str], directions: Iterable[Direction], setting: Setting
) -> dict[str, dict[str, float]]:
    """Measures the trivial translations of `baselines`.

    Args:
      names: measures; measures that are not in `measures.COMPARABLE` or cannot be computed are left out.

    Returns:
      {`report.format_key` of a measure: {name of a baseline: value}}.
    """
    comparable = [name for name in names if name in measures.COMPARABLE]
    found: dict[str, dict[str, float]] = {}
    for direction in directions if comparable else ():
        for baseline, color_map in baselines.fit(Task(direction, {}, setting)).items():
            records, _ = measure({direction: color_map}, setting, comparable)
            for key, value in report.index_values(records).items():
                found.setdefault(key, {})[baseline] = value
    return found


def _measure_direction(task: Task, running: dict[str, Measure], skipped: list[Skipped] | None) -> list[Record]:
    shapes = []
    for index, source, truth in task.enumerate_pairs(_count_needed_images(running.values())):
        result = task.run(source)
        shapes.append(result.shape)
        for name in list(running):
            with _skip_on_error(name, task.direction, skipped, running):
                running[name].add(source, result, truth, index)
    common = {
        "direction": task.direction, "split": task.split, "size": measures.describe_size(shapes),
        "preprocess": task.setting.config.preprocess,
    }
    records: list[Record] = []
    for name, finished in running.items():
        with _skip_on_error(name, task.direction, skipped):
            # Values of a measure replace common values: measures of target images set `split` and `size`.
            records += [{"metric": name, **common, **record} for record in finished.compute_records()]
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

    A BadImageError is not skipped, because --on_bad_image=error asks to stop at the first bad image.

    Args:
      skipped: receives the measure; None lets the UserError through.
    """
    try:
        with exhaustion.explain(name, "measure smaller images (evaluate --size=256) or leave the measure out"):
            yield
    except BadImageError:
        raise
    except UserError as error:
        if skipped is None:
            raise
        skipped.append(Skipped(name, direction, str(error).removeprefix(f"{name} ")))
        if running is not None:
            del running[name]


def require_measurable(names: Sequence[str], directions: Sequence[Direction], setting: Setting) -> set[str]:
    """Raises a UserError if a measure cannot be computed on this data set; returns the keys of all measures.

    Loads the measuring networks, but translates nothing.
    """

    def translate(image: np.ndarray) -> np.ndarray:
        raise AssertionError("building a measure translates nothing")

    keys = set()
    for direction in directions:
        task = Task(direction, dict.fromkeys(directions, translate), setting)
        for name in names:
            measures.build(name, task)
            keys.add(report.format_key(name, direction))
    return keys
