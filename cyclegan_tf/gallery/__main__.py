"""Writes the page of a run anew: index.html in its directory.

  python -m cyclegan_tf.gallery --model=runs/demo

Training writes it too, with each sample grid and at the end. This command translates the held-out images with the
newest checkpoint, so it also serves runs that are not finished. Open the page in any browser; it needs no server.
"""

import logging

from absl import flags

from cyclegan_tf import command_line
from cyclegan_tf.errors import UserError

log = logging.getLogger("cyclegan_tf")


def main(argv):
    """Parses the flags and writes the page."""
    del argv
    if not flags.FLAGS.model:
        raise UserError("give --model=RUN, the run directory")
    write(flags.FLAGS.model)
    return 0


def write(workdir):
    """Writes index.html and gallery/ of a run directory; without the run's images, gallery/ stays as it is.

    Raises:
      UserError: it is no run directory.
    """
    from cyclegan_tf.config import Config
    from cyclegan_tf.gallery import page

    config = Config.load(workdir)
    try:
        _write_results(workdir, config)
    except UserError as error:
        log.warning("no new results of held-out images: %s", error)
    log.info("wrote %s", page.write(workdir))


def _write_results(workdir, config):
    import os

    from cyclegan_tf import checkpoints, inference
    from cyclegan_tf.data import sources
    from cyclegan_tf.gallery import results

    directions = ["a2b"] if config.model == "pix2pix" else list(inference.DIRECTIONS)
    translators = {direction: inference.load_run(workdir, direction) for direction in directions}
    step = checkpoints.found(os.path.join(workdir, "checkpoints"))[0][0]
    results.write(workdir, config, translators, sources.open_dataset(config), step)


def console():
    """The command line; its flags are defined here, so that importing this module defines none."""
    flags.DEFINE_string("model", None, "run directory")
    command_line.run(main)


if __name__ == "__main__":
    console()
