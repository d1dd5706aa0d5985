"""Rewrites the page of a run: index.html in the run directory.

  cyclegan gallery --model=runs/demo
  cyclegan gallery --model=runs/horse2zebra --dataset=/new/place/horse2zebra

Training writes the page with each sample grid and at its end. This command translates the held-out images with the
newest checkpoint, so it also works for a run that is not finished. If the sample grid of that step is missing or is of
an old version, the command draws the grid. Any browser shows the page; no server is needed.
"""

import dataclasses
import logging
import os
from typing import Any

from absl import flags

from cyclegan_tf import cli
from cyclegan_tf.config import Config, field_flags
from cyclegan_tf.config import flags as config_flags
from cyclegan_tf.config.domains import find_names
from cyclegan_tf.errors import UserError
from cyclegan_tf.ops import startup
from cyclegan_tf.storage import filesystem, path_checks

log = logging.getLogger("cyclegan_tf")

# Options of the run that the command line overrides.
_OVERRIDES = ("dataset", "data_dir", "paired")


def main(argv: list[str]) -> int:
    """Parses the flags and writes the page; returns the exit status."""
    del argv
    cli.require_given("model", remedy="give --model=RUN, the run directory")
    write(flags.FLAGS.model, **config_flags.read_overrides(*_OVERRIDES))
    return 0


def write(workdir: str, **overrides: Any) -> None:
    """Writes index.html, gallery/ and the newest sample grid of a run directory.

    If the images of the run are missing, writes only index.html. Keeps a sample grid that the page can show as tiles,
    and draws no sample grid of the images that `overrides` name.

    Args:
      **overrides: as in `measuring.choose_data_config`, such as the `dataset` to draw.

    Raises:
      UserError: `workdir` is not a run directory, or has no checkpoint yet, or the images that `overrides` name cannot
        be opened.
    """
    if not filesystem.exists(os.path.join(workdir, "config.json")):
        raise UserError(f"--model={workdir} is not a run directory: it has no config.json; give the folder that "
                        "cyclegan train wrote, such as --model=runs/horse2zebra")
    # --help does not need TensorFlow.
    startup.import_tensorflow()
    from cyclegan_tf.data import sources
    from cyclegan_tf.inference import bounded, measuring, translator
    from cyclegan_tf.runs import page, page_images, sample_files
    from cyclegan_tf.training import memory_remedies, samples

    path_checks.require_utf8("model", workdir)
    names = find_names(Config.load(workdir))
    config = dataclasses.replace(
        measuring.choose_data_config(workdir, **overrides), name_a=names.a, name_b=names.b
    )
    try:
        dataset = sources.open_dataset(config, needs_training=False)
    except UserError as error:
        if overrides:
            raise
        log.warning("the page keeps its old images, because the held-out images cannot be opened: %s", error)
    else:
        _, step, translators = translator.load_run(workdir)
        remedy = memory_remedies.describe_for_images(config)
        translate = bounded.make_bounded(translators, config, remedy, workdir)
        page_images.write(workdir, config, translate, dataset, step)
        # The sample grids of a run show its own images.
        if not overrides and sample_files.read_layout(sample_files.get_path(workdir, step)) is None:
            picture = samples.draw_sample_grid(config, translate, dataset, workdir, step)
            sample_files.write(workdir, step, picture)
    log.info("wrote %s", page.write(workdir))


def _define_flags() -> None:
    # Not at import, because other commands have flags of the same names.
    cli.define_path("model", None, "run directory")
    for name in _OVERRIDES:
        field_flags.define_override(name, "default: as in the run")


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
