"""Translates files for the command cyclegan_tf.translate, shows a progress bar, and reports skipped files."""

import dataclasses
import logging
import sys
from typing import Any

from tqdm import tqdm

from cyclegan_tf import console
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.inference import batch, jobs, loading

log = logging.getLogger("cyclegan_tf")


def translate_files(
    model: str, direction: Direction | None, source: str, output: str, *, overwrite: bool, batch_size: int, tile: int,
    max_side: int, **stack_options: Any,
) -> bool:
    """Translates images, folders of images and videos; returns False if files were skipped.

    Args:
      model, direction: as in `loading.load`.
      source: file, folder or pattern, as in `jobs.find`.
      output: folder of the results, or the result file of a single input.
      overwrite: whether to replace results that exist already.
      batch_size, tile, max_side: as in `batch.run`.
      **stack_options: attributes of `stacks.StackOptions` that replace the model's.

    Raises:
      UserError: an argument is wrong, or a result exists already; nothing is written.
    """
    found = jobs.find(source, output)
    translator = loading.load(model, direction)
    translator = dataclasses.replace(
        translator, stack_options=dataclasses.replace(translator.stack_options, **stack_options)
    )
    planned = jobs.plan(found, output, translator.output_channels, overwrite, translator.units.target)
    total, shows_bar = 0, console.is_terminal(sys.stderr)
    if shows_bar:
        total = batch.count_slices(translator, planned)
    bar_format = "{percentage:3.0f}%|{bar}| {n:.1f}/{total} {unit} [{elapsed}<{remaining}]"
    count = sum(job.n_files for job in planned)
    unit = "images" if total == count else "slices"
    with tqdm(total=total, unit=unit, bar_format=bar_format, disable=not shows_bar) as bar:
        bad = batch.run(translator, planned, batch_size, tile, bar.update, max_side)
    skipped = 0
    for job in planned:
        if reason := bad.get(job.source):
            skipped += job.n_files
            others = f" and {job.n_files - 1} more of its series" if job.n_files > 1 else ""
            log.warning("skipped %s%s: %s", job.source, others, reason)
    log.info("translated %d of %d files into %s", count - skipped, count, output)
    return not bad
