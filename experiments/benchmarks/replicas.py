"""Cost of data parallelism on one machine: one process on one core, compared with several processes on a core each.

  python experiments/benchmarks/replicas.py [--size 128,6,32] [--steps=8] [--workers=2] [--rounds=3]

A size is pixels, residual blocks, filters; each process has batch 1. Each round measures in turns: "alone", one process
on one core (each round on the next core); "apart", as many independent processes as there are workers, which share
memory and caches; "together", workers that average their gradients. The table has medians over rounds of the median
step (after two steps of warm-up), and a step's processor time. More processor time than "alone" is slower computation;
the difference between a step's time and its processor time is waiting. Efficiency is the time of "alone" over the row's
time. Worker i runs on core i, modulo the number of cores.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import harness

from cyclegan_tf.training import local_workers


def train(pixels: int, n_blocks: int, filters: int, n_steps: int) -> None:
    """Runs a process: prints the median seconds of its steps, and of an all-reduce with the size of its gradients."""
    import numpy as np

    from cyclegan_tf.models.cyclegan import CycleGAN
    from cyclegan_tf.training import strategies

    config = harness.make_config(pixels, n_blocks, filters)
    replicas = strategies.open_replicas(config)
    with replicas.scope():
        model = CycleGAN(config, replicas.local)
    rng = np.random.default_rng(replicas.local.start)
    real_a, real_b = (rng.uniform(-1, 1, (1, pixels, pixels, 3)).astype(np.float32) for _ in range(2))
    weights = [weight for network in model.networks.values() for weight in network.trainable_variables]
    gradients = np.zeros(sum(int(np.prod(weight.shape)) for weight in weights), np.float32)

    def run_step() -> None:
        read_scalars = replicas.train_step(model, [(real_a, real_b)], lambda: None)
        read_scalars()

    steps = time_calls(run_step, n_steps + 2)[2:]
    # Gathering makes one all-reduce for each replica.
    gathers = time_calls(lambda: replicas.workers.gather([{"gradients": gradients}]), 7)[2:]
    sums = [(seconds / replicas.count, busy / replicas.count) for seconds, busy in gathers]
    medians = [statistics.median(column) for column in (*zip(*steps, strict=True), *zip(*sums, strict=True))]
    print("RESULT", *medians, gradients.nbytes, flush=True)
    replicas.workers.barrier()


def time_calls(function: Callable[[], object], count: int) -> list[tuple[float, float]]:
    """Calls `function` `count` times; returns the seconds and processor seconds of each call."""
    rows = []
    for _ in range(count):
        start = time.perf_counter(), time.process_time()
        function()
        rows.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return rows


def measure(environments: list[dict[str, str]], size: str, n_steps: int, first_core: int = 0) -> list[float]:
    """Runs one process per environment, each on its own core; returns the means of their results."""
    cores = sorted(os.sched_getaffinity(0))
    command = [sys.executable, __file__, f"--size={size}", f"--steps={n_steps}", "--train"]
    processes = [
        subprocess.Popen(["taskset", "-c", str(cores[(first_core + index) % len(cores)]), *command], env=env, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for index, env in enumerate(environments)
    ]
    texts = [process.communicate()[0] for process in processes]
    rows = [[float(x) for x in text.split("RESULT", 1)[1].split()] for text in texts]
    return [statistics.mean(column) for column in zip(*rows, strict=True)]


def main() -> None:
    """Prints a Markdown table with a row for "alone", "apart" and "together"."""
    parser = harness.make_parser(__doc__)
    parser.add_argument("--size", default="128,6,32", metavar="PIXELS,BLOCKS,FILTERS")
    parser.add_argument("--steps", type=int, default=8, help="measured steps of each process")
    parser.add_argument("--workers", type=int, default=2, help="processes of \"apart\" and \"together\"")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    if args.train:
        pixels, n_blocks, filters = map(int, args.size.split(","))
        train(pixels, n_blocks, filters, args.steps)
        return
    os.environ.pop("TF_CONFIG", None)
    alone = dict(os.environ)
    rows: dict[str, list[list[float]]] = {"alone": [], "apart": [], "together": []}
    for turn in range(args.rounds):
        rows["alone"].append(measure([alone], args.size, args.steps, first_core=turn))
        rows["apart"].append(measure([alone] * args.workers, args.size, args.steps))
        rows["together"].append(measure(local_workers.make_environments(args.workers), args.size, args.steps))
        print(*(f"{kind} {measured[-1][0]:.3f}" for kind, measured in rows.items()), file=sys.stderr, flush=True)
    medians = {
        kind: [statistics.median(column) for column in zip(*measured, strict=True)] for kind, measured in rows.items()
    }
    print("| processes | s a step | processor time | efficiency |")
    print("|---|---|---|---|")
    for kind, (seconds, busy, *_) in medians.items():
        print(f"| {1 if kind == 'alone' else args.workers}, {kind} | {seconds:.3f} | {busy:.3f} | "
              f"{medians['alone'][0] / seconds:.2f} |")
    _, _, seconds, busy, n_bytes = medians["together"]
    print(f"\nAn all-reduce of {n_bytes / 1e6:.1f} MB alone: {seconds:.3f} s, {busy:.3f} s of processor time.")


if __name__ == "__main__":
    main()
