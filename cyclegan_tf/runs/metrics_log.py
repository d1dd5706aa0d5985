"""metrics.jsonl of a run directory: one JSON record per line, {"step", "kind", **values}. Needs no TensorFlow."""

import json
import logging
import os
from collections.abc import Callable
from typing import Any, TextIO

from cyclegan_tf.storage import atomic, filesystem, json_lines

log = logging.getLogger("cyclegan_tf")

FILE_NAME = "metrics.jsonl"
# The kinds of records with the scalars of a training step, and with their means over an epoch.
TRAIN, EPOCH = "train", "epoch"
# The kinds of records with measures, after a step and at the end of a run. Measures are of held-out images, or of
# training images that replace missing held-out images.
EVAL, EVAL_OF_TRAINING = "eval", "eval_training_images"
FINAL, FINAL_OF_TRAINING = "test", "final_training_images"
HELD_OUT_KINDS = (EVAL, FINAL)
TRAINING_KINDS = (EVAL_OF_TRAINING, FINAL_OF_TRAINING)
# The kind of the record with the final measures of trivial translations: values by MEASURE/BASELINE.
BASELINES = "baselines"
# The kinds of records with the number of images that each measure comes from, after a step and at the end of a run.
COUNTS, FINAL_COUNTS = "counts", "final_counts"
COUNTS_KINDS = (COUNTS, FINAL_COUNTS)
# The kinds of records that a run writes at its end.
FINAL_KINDS = (FINAL_COUNTS, BASELINES, FINAL, FINAL_OF_TRAINING)
Record = dict[str, Any]


def read_records(
    workdir: str | os.PathLike[str], report: Callable[[str], object] = log.warning
) -> list[Record]:
    """Reads the records of a run's metrics.jsonl, oldest first; an empty list if the file does not exist.

    Skips lines that are not records. An unfinished last line does not count as damage: a running process is writing the
    line, or a crash cut the line off.

    Args:
      report: called with one line of text if a line before the last one is skipped.
    """
    path = os.path.join(workdir, FILE_NAME)
    if not filesystem.exists(path):
        return []
    lines = filesystem.read_bytes(path).split(b"\n")
    records = [_parse_record(line) for line in lines]
    damaged = [number for number, record in enumerate(records[:-1], 1) if record is None]
    if damaged:
        more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        report(f"{path} is damaged: ignoring line {damaged[0]}{more}")
    return [record for record in records if record is not None]


def _parse_record(line: bytes) -> Record | None:
    """Parses a line; None if the line is not a record."""
    try:
        record = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("kind"), str) or type(record.get("step")) is not int:
        return None
    # Old files hold the numbers NaN and Infinity, which are not JSON; `json.loads` reads both spellings.
    numbers = {key: json_lines.parse_number(value) for key, value in record.items() if key != "kind"}
    # `type`, not isinstance, because True is an int too. The limit rejects integers beyond int64.
    is_valid = all(type(n) is float or (type(n) is int and abs(n) < 2**63) for n in numbers.values())
    return record | numbers if is_valid else None


def open_log(workdir: str, is_wanted: Callable[[Record], bool]) -> TextIO:
    """Opens a run's metrics.jsonl for appending; first removes damaged lines and records that `is_wanted` rejects."""
    path = os.path.join(workdir, FILE_NAME)
    if filesystem.exists(path):
        kept = [json_lines.format_line(record) for record in read_records(workdir) if is_wanted(record)]
        with atomic.open_for_writing(path) as file:
            file.writelines(kept)
    return filesystem.open_for_appending(path)
