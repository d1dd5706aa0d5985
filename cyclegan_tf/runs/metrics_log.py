"""metrics.jsonl of a run directory: one JSON record per line, {"step", "kind", **values}. Needs no TensorFlow."""

import json
import os
from collections.abc import Callable
from typing import Any, TextIO

from cyclegan_tf.storage import atomic, filesystem

FILE_NAME = "metrics.jsonl"
# The kinds of records with measures, after a step and at the end of a run: of held-out images, or of training images
# that take their place.
EVAL, EVAL_OF_TRAINING = "eval", "eval_training_images"
FINAL, FINAL_OF_TRAINING = "test", "final_training_images"
FINAL_KINDS = (FINAL, FINAL_OF_TRAINING)
Record = dict[str, Any]


def read_records(workdir: str | os.PathLike[str]) -> list[Record]:
    """The records of a run's metrics.jsonl, oldest first; an empty list if the file does not exist.

    Reading stops at the first line that is not JSON: the line that a running process is writing, or the line that a
    crash cut off.
    """
    path = os.path.join(workdir, FILE_NAME)
    records: list[Record] = []
    if not filesystem.exists(path):
        return records
    with filesystem.open_for_reading(path) as file:
        for line in file:
            try:
                records.append(json.loads(line))
            except ValueError:
                break
    return records


def open_log(workdir: str, is_wanted: Callable[[Record], bool]) -> TextIO:
    """Opens a run's metrics.jsonl for appending, after dropping an unfinished line and records that are not wanted."""
    path = os.path.join(workdir, FILE_NAME)
    if filesystem.exists(path):
        kept = [format_record(record) for record in read_records(workdir) if is_wanted(record)]
        with atomic.open_for_writing(path) as file:
            file.writelines(kept)
    return filesystem.open_for_appending(path)


def format_record(record: Record) -> str:
    """The line of metrics.jsonl that holds `record`."""
    return json.dumps(record) + "\n"
