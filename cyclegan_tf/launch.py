"""Trains with several workers on this machine, each in its own process.

  cyclegan launch --workers=2 -- --dataset=horse2zebra --workdir=runs/two

The launcher passes the options after -- to cyclegan train. Each line of output begins with the number of its worker.
If one worker fails, the launcher ends the others and exits with the status of the failed worker. Ctrl-C, SIGTERM and
SIGHUP are passed on, so all workers save their state. For several machines see experiments/cluster. On one machine with
several GPUs a single process is simpler: it uses all GPUs by default (--strategy=auto).
"""

from absl import flags

from cyclegan_tf import cli
from cyclegan_tf.errors import UserError
from cyclegan_tf.training import local_workers

_WORKERS = flags.DEFINE_integer("workers", 2, "number of processes", lower_bound=1, upper_bound=256)


def main(argv: list[str]) -> int:
    """Starts the workers; returns the exit status."""
    if not argv[1:]:
        raise UserError("the options of cyclegan train are missing; give them after --")
    return local_workers.launch(_WORKERS.value, argv[1:])


if __name__ == "__main__":
    cli.run(main, operands=True)
