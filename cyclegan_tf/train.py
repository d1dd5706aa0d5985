"""Trains a CycleGAN, pix2pix or CUT model.

  cyclegan train --preset=demo
  cyclegan train --preset=fast_cpu --dataset=FOLDER --workdir=runs/mine
  cyclegan train --dataset=horse2zebra

Learns to translate images between two domains, A and B. Options default to the values of the paper's authors, which
need a GPU; --preset=fast_cpu needs none. Other options override the options of a preset, wherever they stand.

Writes sample grids, metrics, checkpoints and SavedModels to the run directory (--workdir, default runs/NAME). Start the
same command again to resume an interrupted run. Watch a run with: tensorboard --logdir=runs
"""

import logging
from collections.abc import Sequence

from absl import flags

from cyclegan_tf import cli
from cyclegan_tf.config import flags as config_flags
from cyclegan_tf.errors import Stopped
from cyclegan_tf.ops import startup
from cyclegan_tf.runs import directory as run_directory

log = logging.getLogger("cyclegan_tf")

# The options that --help shows; --helpfull shows all.
_COMMON = (
    "dataset", "preset", "workdir", "model", "load_size", "crop_size", "batch_size", "n_epochs", "n_epochs_decay",
    "max_steps", "init_from", "diff_augment", "sample_every", "dry_run",
)


def main(argv: list[str]) -> int:
    """Parses the flags and trains the run; returns the exit status."""
    del argv
    config = config_flags.from_flags(flags.FLAGS)
    workdir = flags.FLAGS.workdir or run_directory.choose_default(config)

    # --help does not need TensorFlow.
    startup.import_tensorflow()
    from cyclegan_tf.models import compilation
    from cyclegan_tf.training import trainer

    compilation.set_threads(config)
    if flags.FLAGS.dry_run:
        trainer.rehearse(config, workdir)
        return 0
    try:
        trainer.train(config, workdir, exit_on_second_signal=True)
    except Stopped as stopped:
        log.warning("%s", stopped)
        return stopped.status
    return 0


def _define_flags(arguments: Sequence[str]) -> None:
    config_flags.define_flags(arguments)
    cli.define_path("workdir", None, "run directory; default: runs/ and the name of the data set")
    flags.DEFINE_bool("dry_run", False, "show the data, the networks, the device and the length of the run, and the "
                      "time and memory of a step; write nothing")


if __name__ == "__main__":
    cli.run(main, define_flags=_define_flags, common=_COMMON, groups=config_flags.group_options())
