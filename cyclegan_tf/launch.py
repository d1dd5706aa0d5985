"""Trains with several workers on this machine, each a process of its own.

  python -m cyclegan_tf.launch --workers=2 -- --dataset=horse2zebra --workdir=runs/two

What follows -- are the options of cyclegan_tf.train. The lines of the workers begin with their numbers. If one fails
the others are ended, and its exit status is the launcher's; SIGTERM and Ctrl-C are passed on, and all workers save.
For several machines see experiments/cluster. On one machine with several GPUs a single process with
--strategy=mirrored, the default there, is simpler.
"""

from absl import flags

from cyclegan_tf import cli
from cyclegan_tf.errors import UserError
from cyclegan_tf.training import local_workers

_WORKERS = flags.DEFINE_integer("workers", 2, "processes to start", lower_bound=1)


def main(argv):
    """Starts the workers; returns the exit status."""
    if not argv[1:]:
        raise UserError("the options of cyclegan_tf.train are missing: give them after --")
    return local_workers.launch(_WORKERS.value, argv[1:])


if __name__ == "__main__":
    cli.run(main, operands=True)
