"""One process on one core against two and more on a core each: seconds of a step, and where the rest of them goes.

  python experiments/benchmarks/replicas.py [--size 128,6,32] [--steps=8] [--workers=2] [--rounds=3]

A size is pixels, residual blocks, filters; the batch is 1 a process. In each round, in turns: one process alone, on one
core after the other; as many as there are workers that know nothing of each other, which share memory and caches; and
workers that average their gradients. Printed are medians over rounds of medians of the steps after the first two, with
the processor time of a step: what is more of it than alone is slower work, what is missing of the whole is waiting.
Efficiency is the time alone over that of workers. A worker runs on the core of its number, modulo the number of cores.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

from cyclegan_tf.training import local_workers


def work(pixels, n_blocks, filters, n_steps):
    """A process: prints the median seconds of its steps, and of an all-reduce of its gradients' size."""
    import numpy as np

    from cyclegan_tf.config import Config
    from cyclegan_tf.models.cyclegan import CycleGAN
    from cyclegan_tf.training import distribution

    config = Config(crop_size=pixels, load_size=pixels, n_blocks=n_blocks, ngf=filters, ndf=filters)
    replicas = distribution.open_replicas(config)
    with replicas.scope():
        model = CycleGAN(config, replicas.local)
    rng = np.random.default_rng(replicas.local.start)
    batch = [tuple(rng.uniform(-1, 1, (1, pixels, pixels, 3)).astype(np.float32) for _ in range(2))]
    data = bytes(4 * sum(int(np.prod(w.shape)) for net in model.networks.values() for w in net.trainable_variables))

    def step():
        read_scalars = replicas.train_step(model, batch, lambda: None)
        read_scalars()

    steps = timed(step, n_steps + 2)[2:]
    sums = timed(lambda: replicas._sum_bytes(data, own=True), 7)[2:] if replicas.count > 1 else [(0.0, 0.0)]
    medians = [statistics.median(column) for column in (*zip(*steps, strict=True), *zip(*sums, strict=True))]
    print("RESULT", *medians, len(data), flush=True)
    replicas.barrier()


def timed(function, count):
    """(seconds, seconds of the processor) of each of `count` calls."""
    rows = []
    for _ in range(count):
        start = time.perf_counter(), time.process_time()
        function()
        rows.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return rows


def measure(environments, size, n_steps, first_core=0):
    """Runs a process with each environment; returns the means of their results."""
    cores = sorted(os.sched_getaffinity(0))
    command = [sys.executable, __file__, f"--size={size}", f"--steps={n_steps}", "--work"]
    processes = [
        subprocess.Popen(["taskset", "-c", str(cores[(first_core + index) % len(cores)]), *command], env=env, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for index, env in enumerate(environments)
    ]
    texts = [process.communicate()[0] for process in processes]
    rows = [[float(x) for x in text.split("RESULT", 1)[1].split()] for text in texts]
    return [statistics.mean(column) for column in zip(*rows, strict=True)]


def main():
    """Prints a line for each kind of run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="128,6,32")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    if given.work:
        work(*(int(part) for part in given.size.split(",")), given.steps)
        return
    os.environ.pop("TF_CONFIG", None)
    kinds = {"alone": [], "apart": [], "together": []}
    for turn in range(given.rounds):
        kinds["alone"].append(measure([os.environ], given.size, given.steps, first_core=turn))
        kinds["apart"].append(measure([os.environ] * given.workers, given.size, given.steps))
        kinds["together"].append(measure(local_workers.environments(given.workers), given.size, given.steps))
        print(*(f"{kind} {rows[-1][0]:.3f}" for kind, rows in kinds.items()), file=sys.stderr, flush=True)
    medians = {kind: [statistics.median(column) for column in zip(*rows, strict=True)] for kind, rows in kinds.items()}
    print("| processes | s a step | of them the processor's | efficiency |")
    print("|---|---|---|---|")
    for kind, (seconds, busy, *_) in medians.items():
        print(f"| {1 if kind == 'alone' else given.workers}, {kind} | {seconds:.3f} | {busy:.3f} | "
              f"{medians['alone'][0] / seconds:.2f} |")
    _, _, seconds, busy, n_bytes = medians["together"]
    print(f"\nAn all-reduce of {n_bytes / 1e6:.1f} MB by itself: {seconds:.3f} s, {busy:.3f} of the processor's.")


if __name__ == "__main__":
    main()
