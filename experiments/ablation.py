"""Trains flagfiles with several seeds each and compares their measures at equal steps.

  python experiments/ablation.py experiments/ablation/*.flags --seeds 0 1 2 [--steps 500] [--workdir=runs/ablation]

Each run is `python -m cyclegan_tf.train --flagfile=FILE --seed=S --workdir=WORKDIR/NAME-S`. Finished runs are not
repeated, and interrupted runs are resumed. Prints a Markdown table with the mean and the standard deviation over seeds
of the held-out images' measures after `--steps` steps (default: at the end of each run).
"""

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence

from cyclegan_tf.runs import metrics_log
from cyclegan_tf.runs.metrics_log import Record, read_records

MEASURES = ("psnr_ab", "ssim_ab", "lpips_ab", "psnr_ba", "ssim_ba", "lpips_ba")


def train(flagfile: str, seed: int, run: str) -> None:
    """Trains one run to its end, unless it has finished already."""
    if any(record["kind"] in metrics_log.FINAL_KINDS for record in read_records(run)):
        return
    command = [sys.executable, "-m", "cyclegan_tf.train", f"--flagfile={flagfile}", f"--seed={seed}",
               f"--workdir={run}"]
    subprocess.run(command, check=True)


def read_measures(run: str, steps: int) -> tuple[int, Record]:
    """Returns a step and the measures of a run after it: `steps`, or the last measured step if `steps` is 0."""
    records = (record for record in read_records(run) if record["kind"] in metrics_log.HELD_OUT_KINDS)
    measured = {record["step"]: record for record in records}
    step = steps or max(measured, default=0)
    if step not in measured:
        raise SystemExit(f"{run} has no measures after {step} steps, only after {sorted(measured)}")
    return step, measured[step]


def format_table(flagfiles: Sequence[str], seeds: Sequence[int], workdir: str, steps: int) -> Iterator[str]:
    """Yields the lines of a Markdown table: a row per flagfile, a column per measure that any flagfile has."""
    rows = []
    for flagfile in flagfiles:
        runs = [read_measures(run_path(workdir, flagfile, seed), steps) for seed in seeds]
        values = {name: [run[name] for _, run in runs if name in run] for name in MEASURES}
        rows.append((name_of(flagfile), sorted({step for step, _ in runs}), values))
    columns = [name for name in MEASURES if any(values[name] for _, _, values in rows)]
    yield "| | steps | " + " | ".join(columns) + " |"
    yield "|---" * (2 + len(columns)) + "|"
    for name, measured_steps, values in rows:
        cells = [format_spread(values[column]) for column in columns]
        yield f"| `{name}` | {', '.join(map(str, measured_steps))} | " + " | ".join(cells) + " |"


def format_spread(values: Sequence[float]) -> str:
    """Formats mean ± sample standard deviation, a single value as it is, and no value as "-"."""
    if not values:
        return "-"
    digits = 2 if max(values) > 1.5 else 3
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def name_of(flagfile: str) -> str:
    """Returns the flagfile's name without folder and suffix."""
    return os.path.splitext(os.path.basename(flagfile))[0]


def run_path(workdir: str, flagfile: str, seed: int) -> str:
    """Returns the run directory of a flagfile and seed."""
    return os.path.join(workdir, f"{name_of(flagfile)}-{seed}")


def main() -> None:
    """Trains the missing runs, seed by seed, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flagfiles", nargs="+", metavar="FLAGFILE")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=0, help="step to compare at; 0: the end of each run")
    parser.add_argument("--workdir", default="runs/ablation", help="folder of the run directories")
    args = parser.parse_args()
    for seed in args.seeds:
        for flagfile in args.flagfiles:
            train(flagfile, seed, run_path(args.workdir, flagfile, seed))
    print(*format_table(args.flagfiles, args.seeds, args.workdir, args.steps), sep="\n")


if __name__ == "__main__":
    main()
