"""Shared by all commands: environment of TensorFlow, one-line errors, exit statuses, entry points."""

import functools
import logging
import os
import runpy
import sys
from collections.abc import Callable

from cyclegan_tf.errors import UserError
from cyclegan_tf.ops import cuda_libraries


def run(main: Callable[[list[str]], int | None], operands: bool = False) -> None:
    """Parses the flags, runs `main(argv)`, and exits the process with the status that `main` returns (None: 0).

    A UserError becomes one line on stderr and exit status 2, Ctrl-C becomes exit status 130.

    Args:
      main: gets the command's name and its arguments that are not flags.
      operands: if False, arguments that are not flags are a UserError.
    """
    from absl import app

    # TensorFlow reads these variables when it is imported. The first hides its notes on CPU features and missing GPUs.
    # oneDNN's convolutions are faster on every x86 CPU, but TensorFlow uses them by default on the newest CPUs only.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    # On a GPU, allocate memory as needed and leave the rest to other processes.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    cuda_libraries.load()

    def run_guarded(argv: list[str]) -> int | None:
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

    app.run(run_guarded)


def _run_as_main(module: str) -> None:
    # Like `python -m`, because absl takes the text and the flags of --help from the module __main__.
    runpy.run_module(module, run_name="__main__", alter_sys=True)


# The entry points of the console scripts cyclegan-train, cyclegan-translate ...
train = functools.partial(_run_as_main, "cyclegan_tf.train")
translate = functools.partial(_run_as_main, "cyclegan_tf.translate")
evaluate = functools.partial(_run_as_main, "cyclegan_tf.evaluate")
export = functools.partial(_run_as_main, "cyclegan_tf.export")
convert = functools.partial(_run_as_main, "cyclegan_tf.convert")
datasets = functools.partial(_run_as_main, "cyclegan_tf.datasets")
launch = functools.partial(_run_as_main, "cyclegan_tf.launch")
gallery = functools.partial(_run_as_main, "cyclegan_tf.gallery")
