"""Measures of a model on a data set: one pass over the images of each direction for all of them."""

import contextlib
import dataclasses
import json

from cyclegan_tf.config import Config
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.errors import UserError
from cyclegan_tf.metrics import measures
from cyclegan_tf.runs import directory as run_directory


def measure(translate, dataset, config, protocol, names=measures.DEFAULT, networks=None, strict=False):
    """Measures translations of the held-out images; of the training images where none are held out.

    Args:
      translate: `Direction` -> function of an image (H, W, C) of any kind of `images.ranges` to the same kind.
      dataset: the `ImageDataset`.
      config: how its images are resized: the Config of the run that is measured.
      protocol: the `measures.Protocol`.
      names: of `measures.NAMES`.
      networks: `measures.Networks` of the protocol, if it has been used before.
      strict: whether a measure that cannot be had is an error.

    Returns:
      (records, notes). A record is a dict with metric, direction, value, std where there is one (over images; of KID
      over subsets), n, split, protocol, size, weights where there are some. A note says what was left out, and why.

    Raises:
      UserError: strict, and a measure cannot be had.
    """
    networks = networks or measures.Networks(protocol)
    records, notes = [], []
    for direction in translate:
        task = measures.Task(direction, translate, dataset, config, protocol, networks)
        found = {}
        for name in names:
            with _noted(name, direction, None if strict else notes):
                found[name] = measures.KINDS[name](name, task)
        records += _measure_direction(task, found, None if strict else notes)
    return records, list(dict.fromkeys(notes))


def _measure_direction(task, found, notes):
    found, sizes = dict(found), set()
    for source, truth in task.pairs(_most_images(found.values())):
        result = task.run(source)
        sizes.add(f"{result.shape[1]}x{result.shape[0]}")
        for name in list(found):
            with _noted(name, task.direction, notes, found):
                found[name].add(source, result, truth)
    common = {
        "direction": task.direction, "split": task.split,
        "size": min(sizes) if len(sizes) == 1 else f"{len(sizes)} sizes", "preprocess": task.config.preprocess,
    }
    records = []
    for name, measure_ in found.items():
        with _noted(name, task.direction, notes):
            records += [{**record, **common} for record in measure_.records()]
    return records


def _most_images(found):
    """How many images the measures want: the largest of their limits, None for all."""
    limits = [measure_.limit for measure_ in found]
    return None if None in limits else max(limits, default=0)


@contextlib.contextmanager
def _noted(name, direction, notes, found=None):
    """Makes a UserError in the body a note, unless `notes` is None, and takes the measure out of `found`."""
    try:
        yield
    except UserError as error:
        if notes is None:
            raise
        notes.append(f"left out {name}, {direction}: {error}")
        if found is not None:
            del found[name]


def format_key(metric, direction):
    """The name of a measure of one direction in metrics.jsonl: psnr_ab, kid_ba, cycle_a ..."""
    direction = Direction(direction)
    source, target = direction.source, direction.target
    # Named after the images that ought to come back.
    suffix = {"cycle": source, "identity": target}.get(metric, source + target)
    return f"{metric}_{suffix}"


def values_by_key(records):
    """The values of records by `format_key`."""
    return {format_key(record["metric"], record["direction"]): record["value"] for record in records}


def format_table(records):
    """The records as lines of text, in columns."""
    rows = [("metric", "direction", "value", "std", "n", "against")]
    for record in records:
        against = f"{record['n_reference']} real, {record['reference']}" if "reference" in record else ""
        if "real_target" in record:
            against = f"real: {record['real_source']:.3g} source, {record['real_target']:.3g} target"
        deviation = record.get("std")
        rows.append((record["metric"], record["direction"], f"{record['value']:.5g}",
                     "" if deviation is None else f"{deviation:.3g}", str(record["n"]), against))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def format_lines(records):
    """The records as JSON, one a line."""
    return "".join(json.dumps(record) + "\n" for record in records)


def require_known(names):
    """Raises a UserError unless all names, those of --metrics, are of `measures.NAMES`."""
    unknown = [name for name in names if name not in measures.NAMES]
    if unknown:
        raise UserError(f"--metrics={','.join(names)}: {', '.join(unknown)} is none of {', '.join(measures.NAMES)}")


def choose_data_config(model, dataset=None, data_dir=None, size=None):
    """The options of the data: those of the run that is measured, else of whole images, with the flags on top."""
    values = {}
    if run_directory.is_run(model):
        config = Config.load(run_directory.locate(model))
    elif dataset:
        config = Config(preprocess="none", pool_size=0)
    else:
        raise UserError(f"--dataset is missing: {model} is no run, which would know its own")
    if dataset:
        values |= {"dataset": dataset, "max_dataset_size": 0}
    if data_dir:
        values["data_dir"] = data_dir
    if size:
        values |= {"preprocess": "resize_and_crop", "load_size": size, "crop_size": size}
    return dataclasses.replace(config, **values)
