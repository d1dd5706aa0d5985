"""Trains flagfiles with several seeds each, and compares their measures at equal steps: mean and deviation over seeds.

  python experiments/ablation.py experiments/ablation/*.flags --seeds 0 1 2 [--steps 500] [--workdir=runs/ablation]

Each run is `python -m cyclegan_tf.train --flagfile=FILE --seed=S --workdir=WORKDIR/NAME-S`; runs that have ended stay
as they are, interrupted ones go on. Prints a Markdown table of what metrics.jsonl has of the held-out images after
`--steps` steps (default: after each run's last).
"""

import argparse
import os
import statistics
import subprocess
import sys

from cyclegan_tf.runs.metrics_log import read_records

MEASURES = ("psnr_ab", "ssim_ab", "lpips_ab", "psnr_ba", "ssim_ba", "lpips_ba")


def train(flagfile, seed, run):
    """Trains one run to its end, unless it is there already."""
    if any(record["kind"] == "test" for record in read_records(run)):
        return
    command = [sys.executable, "-m", "cyclegan_tf.train", f"--flagfile={flagfile}", f"--seed={seed}",
               f"--workdir={run}"]
    subprocess.run(command, check=True)


def measures(run, steps):
    """The measures of a run after `steps` steps, 0 for its last."""
    found = {record["step"]: record for record in read_records(run) if record["kind"] in ("eval", "test")}
    step = steps or max(found, default=0)
    if step not in found:
        raise SystemExit(f"{run} was not measured after {step} steps, but after {sorted(found)}")
    return step, found[step]


def table(flagfiles, seeds, workdir, steps):
    """Lines of a Markdown table: a row for each flagfile, a column for each measure that any of them has."""
    rows = []
    for flagfile in flagfiles:
        runs = [measures(path(workdir, flagfile, seed), steps) for seed in seeds]
        values = {name: [run[name] for _, run in runs if name in run] for name in MEASURES}
        rows.append((name_of(flagfile), sorted({step for step, _ in runs}), values))
    columns = [name for name in MEASURES if any(values[name] for _, _, values in rows)]
    yield "| | steps | " + " | ".join(columns) + " |"
    yield "|---" * (2 + len(columns)) + "|"
    for name, done, values in rows:
        cells = [spread(values[column]) for column in columns]
        yield f"| `{name}` | {', '.join(map(str, done))} | " + " | ".join(cells) + " |"


def spread(values):
    """Mean ± sample standard deviation, of one value the value."""
    if not values:
        return "-"
    digits = 2 if max(values) > 1.5 else 3
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def name_of(flagfile):
    return os.path.splitext(os.path.basename(flagfile))[0]


def path(workdir, flagfile, seed):
    return os.path.join(workdir, f"{name_of(flagfile)}-{seed}")


def main():
    """Trains what is missing, seed by seed, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flagfiles", nargs="+")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--workdir", default="runs/ablation")
    given = parser.parse_args()
    for seed in given.seeds:
        for flagfile in given.flagfiles:
            train(flagfile, seed, path(given.workdir, flagfile, seed))
    print(*table(given.flagfiles, given.seeds, given.workdir, given.steps), sep="\n")


if __name__ == "__main__":
    main()
