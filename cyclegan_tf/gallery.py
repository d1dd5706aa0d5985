"""Writes the page of a run anew: index.html in its directory.

  python -m cyclegan_tf.gallery --model=runs/demo

Training writes it too, with each sample grid and at the end. This command translates the held-out images with the
newest checkpoint, so it also serves runs that are not finished. Open the page in any browser; it needs no server.
"""

import logging

from absl import flags

from cyclegan_tf import cli
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
      UserError: it is no run directory, or has no checkpoint yet.
    """
    from cyclegan_tf.config import Config
    from cyclegan_tf.data import sources
    from cyclegan_tf.inference import translator  # Imports TensorFlow, which --help can do without.
    from cyclegan_tf.runs import page, page_images

    config = Config.load(workdir)
    try:
        dataset = sources.open_dataset(config)
    except UserError as error:
        log.warning("no new results of held-out images: %s", error)
    else:
        step, translators = translator.load_translators(workdir)
        page_images.write(workdir, config, translators, dataset, step)
    log.info("wrote %s", page.write(workdir))


if __name__ == "__main__":
    flags.DEFINE_string("model", None, "run directory")
    cli.run(main)
