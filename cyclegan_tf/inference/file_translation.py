"""Translates files to files, shows a progress bar, and reports skipped files."""

import logging
import sys
from typing import TYPE_CHECKING

from tqdm import tqdm

from cyclegan_tf import console
from cyclegan_tf.inference import batch, jobs
from cyclegan_tf.storage import filesystem, path_checks

if TYPE_CHECKING:
    from cyclegan_tf.inference.loading import LoadedTranslator

log = logging.getLogger("cyclegan_tf")


def translate_files(
    translator: "LoadedTranslator", source: str, output: str, *, overwrite: bool, batch_size: int, tile: int,
    max_side: int,
) -> dict[str, str]:
    """Translates files; `loading.LoadedTranslator.translate_files` documents the other arguments and the errors.

    Args:
      translator: divides files into slices as its `stack_options` say.
      source: file, folder or pattern, as in `jobs.find`.
    """
    found = jobs.find(source, output)
    path_checks.require_creatable("output", output)
    planned = jobs.plan(
        found, output, translator.output_channels, overwrite, translator.units.target,
        is_file=filesystem.isfile(source),
    )
    total, shows_bar = 0, console.is_terminal(sys.stderr)
    if shows_bar:
        total = batch.count_slices(translator, planned)
    bar_format = "{percentage:3.0f}%|{bar}| {n:.1f}/{total} {unit} [{elapsed}<{remaining}]"
    count = sum(job.n_files for job in planned)
    unit = "images" if total == count else "slices"
    with tqdm(total=total, unit=unit, bar_format=bar_format, disable=not shows_bar) as bar:
        bad = batch.run(translator, planned, batch_size, tile, bar.update, max_side)
    skipped: dict[str, str] = {}
    for job in planned:
        if reason := bad.get(job.source):
            skipped |= dict.fromkeys(job.series or (job.source,), reason)
            others = f" and {job.n_files - 1} more of its series" if job.n_files > 1 else ""
            log.warning("skipped %s%s: %s", job.source, others, reason)
    log.info("translated %d of %d files into %s", count - len(skipped), count, output)
    return skipped
