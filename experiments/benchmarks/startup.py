"""Seconds from the command to the end of the first training step, part by part.

  python experiments/benchmarks/startup.py [--flags="--generator=resnet --n_blocks=9 ..."] [--repeats=3]

Starts `python -m cyclegan_tf.train` on the demo set with the given flags (default: the paper's networks at 256 pixels)
and reads its log: the first line comes when the networks are built and the first sample grid is written, the next when
the first step is done.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time


def run(flags):
    """Seconds until training starts and until the first step is done, of one run that is stopped then."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "cyclegan_tf.train", f"--workdir={folder}/run", *flags, "--log_every=1"]
        start = time.perf_counter()
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
            seconds = {}
            for line in child.stderr:
                for name, words in (("training starts", "training steps"), ("first step done", "step 1/")):
                    if line.startswith(words):
                        seconds.setdefault(name, time.perf_counter() - start)
                if "first step done" in seconds:
                    break
            child.kill()
        if "first step done" not in seconds:
            raise SystemExit(f"the run ended before its first step: {line}")
        return seconds


def main():
    """Prints medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flags", default="--dataset=demo")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    runs = [run(given.flags.split()) for _ in range(given.repeats)]
    print(f"{given.flags}, {len(os.sched_getaffinity(0))} cores, median of {given.repeats}")
    for name in runs[0]:
        values = sorted(seconds[name] for seconds in runs)
        print(f"{name}: {statistics.median(values):.1f} s (from {values[0]:.1f} to {values[-1]:.1f})")


if __name__ == "__main__":
    main()
