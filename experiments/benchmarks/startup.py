"""Seconds from the command to the start of training, and to the end of the first step.

  python experiments/benchmarks/startup.py [--flags="--generator=resnet --n_blocks=9 ..."] [--repeats=3]

Starts `python -m cyclegan_tf.train` with the given flags (default: the demo set with the paper's networks at 256
pixels) and reads its log. Training starts when the networks are built and the first sample grid is written.
"""

import subprocess
import sys
import tempfile
import time

import harness

# {event: beginning of its line in the log}
EVENTS = {"training starts": "training steps", "first step done": "step 1/"}


def measure(flags: list[str]) -> dict[str, float]:
    """Starts a run and stops it after its first step; returns the seconds until each of EVENTS."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "cyclegan_tf.train", f"--workdir={folder}/run", *flags, "--log_every=1"]
        start = time.perf_counter()
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
            assert child.stderr  # It is a pipe.
            seconds: dict[str, float] = {}
            line = ""
            for line in child.stderr:
                for name, words in EVENTS.items():
                    if line.startswith(words):
                        seconds.setdefault(name, time.perf_counter() - start)
                if "first step done" in seconds:
                    break
            child.kill()
        if seconds.keys() != EVENTS.keys():
            raise SystemExit(f"the run ended before its first step: {line}")
        return seconds


def main() -> None:
    """Prints the medians."""
    parser = harness.make_parser(__doc__)
    parser.add_argument("--flags", default="--dataset=demo_maps", help="flags of the run, in one string")
    parser.add_argument("--repeats", type=int, default=3, help="runs to start")
    args = parser.parse_args()
    runs = [measure(args.flags.split()) for _ in range(args.repeats)]
    print(f"{args.flags}, {harness.count_cores()} cores, median of {args.repeats}")
    for name in EVENTS:
        print(f"{name}: {harness.format_spread([seconds[name] for seconds in runs], 's', 1)}")


if __name__ == "__main__":
    main()
