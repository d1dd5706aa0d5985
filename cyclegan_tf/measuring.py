"""Measures of a model on a data set: one pass over the images of each direction for all of them."""

import json

from cyclegan_tf.errors import UserError
from cyclegan_tf.metrics import measures


def measure(translate, dataset, config, protocol, names=(), networks=None):
    """Measures translations of the held-out images; of the training images where none are held out.

    Args:
      translate: direction (a2b, b2a) -> function of an image (H, W, C) of any kind of `images` to the same kind.
      dataset: the `ImageDataset`.
      config: how its images are resized: the Config of the run that is measured.
      protocol: the `measures.Protocol`.
      names: of `measures.NAMES`; empty: all of `measures.DEFAULT` that can be had.
      networks: `measures.Networks` of the protocol, if it has been used before.

    Returns:
      (records, notes). A record is a dict with metric, direction, value, std where there is one (over images; of KID
      over subsets), n, split, protocol, size, weights where there are some. A note says what was left out, and why.

    Raises:
      UserError: a measure that was asked for by name cannot be had, or there are no images.
    """
    networks = networks or measures.Networks(protocol)
    records, notes = [], []
    for direction in translate:
        task = measures.Task(direction, translate, dataset, config, protocol, networks)
        found = {}
        for name in names or measures.DEFAULT:
            with _Failure(name, direction, bool(names), notes):
                found[name] = measures.KINDS[name](name, task)
        records += _measure_direction(task, found, bool(names), notes)
    return records, list(dict.fromkeys(notes))


def _measure_direction(task, found, strict, notes):
    sizes = set()
    truths = task.load(task.targets) if task.dataset.has_pairs else None
    for source in task.load(task.sources):
        truth = next(truths) if truths else None
        if source is None:
            continue
        result = task.run(source)
        sizes.add(f"{result.shape[1]}x{result.shape[0]}")
        for name, measure_ in list(found.items()):
            with _Failure(name, task.direction, strict, notes) as failure:
                measure_.add(source, result, truth)
            if failure.happened:
                del found[name]
    if not sizes:
        raise UserError(f"{task.sources.where} has no image that can be read")
    common = {
        "direction": task.direction, "split": task.split,
        "size": min(sizes) if len(sizes) == 1 else f"{len(sizes)} sizes", "preprocess": task.config.preprocess,
    }
    records = []
    for name, measure_ in found.items():
        with _Failure(name, task.direction, strict, notes):
            records += [{**record, **common} for record in measure_.records()]
    return records


class _Failure:
    """Context in which the UserError of a measure that nobody asked for becomes a note."""

    def __init__(self, name, direction, strict, notes):
        self._where, self._strict, self._notes = f"{name}, {direction}", strict, notes
        self.happened = False

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if kind is None or not issubclass(kind, UserError) or self._strict:
            return False
        self.happened = True
        self._notes.append(f"left out {self._where}: {error}")
        return True


def by_name(records):
    """The values of records by name of measure and direction, as in metrics.jsonl: psnr_ab, kid_ba, cycle_a ..."""
    values = {}
    for record in records:
        source, target = record["direction"].split("2")
        # Named after the images that ought to come back.
        suffix = {"cycle": source, "identity": target}.get(record["metric"], source + target)
        values[f"{record['metric']}_{suffix}"] = record["value"]
    return values


def table(records):
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


def lines(records):
    """The records as JSON, one a line."""
    return "".join(json.dumps(record) + "\n" for record in records)
