"""What all command lines share: quiet TensorFlow, one-line errors, exit statuses."""

import logging
import os
import runpy
import sys

from cyclegan_tf.errors import UserError
from cyclegan_tf.ops import cuda_libraries


def run(main, operands=False):
    """Runs absl `main(argv)`; a UserError becomes one line on stderr and exit status 2.

    Args:
      operands: whether the command takes arguments that are no options.
    """
    from absl import app

    # TensorFlow reads these when it is imported. Its notes on CPU features and missing GPUs are not errors; oneDNN's
    # convolutions are faster on every x86 CPU, and TensorFlow by itself turns them on only for the newest.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    # On a GPU, allocate memory as needed and leave the rest to other processes.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    cuda_libraries.load()

    def guarded(argv):
        logging.basicConfig(format="%(message)s", stream=sys.stderr, force=True)
        logging.getLogger("cyclegan_tf").setLevel(logging.INFO)
        try:
            if len(argv) > 1 and not operands:
                raise UserError(f"unexpected arguments: {' '.join(argv[1:])}; options start with -- (see --help)")
            return main(argv)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130

    app.run(guarded)


def train():
    """The console script cyclegan-train."""
    _run_as_main("cyclegan_tf.train")


def convert():
    """The console script cyclegan-convert."""
    _run_as_main("cyclegan_tf.convert")


def export():
    """The console script cyclegan-export."""
    _run_as_main("cyclegan_tf.export")


def translate():
    """The console script cyclegan-translate."""
    _run_as_main("cyclegan_tf.translate")


def launch():
    """The console script cyclegan-launch."""
    _run_as_main("cyclegan_tf.launch")


def evaluate():
    """The console script cyclegan-evaluate."""
    _run_as_main("cyclegan_tf.evaluate")


def datasets():
    """The console script cyclegan-datasets."""
    _run_as_main("cyclegan_tf.datasets")


def gallery():
    """The console script cyclegan-gallery."""
    _run_as_main("cyclegan_tf.gallery")


def _run_as_main(module):
    # As `python -m` does: absl takes the text and the flags of --help from __main__.
    runpy.run_module(module, run_name="__main__", alter_sys=True)
