"""One process on one core against two and more on a core each: seconds of a step, and where the rest of them goes.

  python experiments/benchmarks/replicas.py [--size 128,6,32] [--steps=8] [--workers 2]

A size is pixels, residual blocks, filters; the batch is 1 a process. Printed are medians of the steps after the first
two: of one process alone; of as many as there are workers that know nothing of each other, which share memory and
caches; of workers that average their gradients; and of an all-reduce of as many numbers, by itself. Efficiency is the
first over the third. A worker runs on the core of its number, modulo the number of cores.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

from cyclegan_tf import launch


def work(pixels, n_blocks, filters, n_steps):
    """A process: prints the median seconds of its steps, and of an all-reduce of its gradients' size."""
    import numpy as np

    from cyclegan_tf import distribution
    from cyclegan_tf.config import Config
    from cyclegan_tf.training import CycleGAN

    config = Config(crop_size=pixels, load_size=pixels, n_blocks=n_blocks, ngf=filters, ndf=filters)
    replicas = distribution.open_replicas(config)
    with replicas.scope():
        model = CycleGAN(config, replicas.local)
    rng = np.random.default_rng(replicas.local.start)
    batch = [tuple(rng.uniform(-1, 1, (1, pixels, pixels, 3)).astype(np.float32) for _ in range(2))]
    data = bytes(4 * sum(int(np.prod(w.shape)) for net in model.networks.values() for w in net.trainable_variables))
    steps = timed(lambda: replicas.train_step(model, batch, lambda: None), n_steps + 2)[2:]
    sums = timed(lambda: replicas._total(data, own=True), 7)[2:] if replicas.count > 1 else [0.0]
    print(f"RESULT {statistics.median(steps)} {statistics.median(sums)} {len(data)}", flush=True)
    replicas.wait()


def timed(function, count):
    """Seconds of each of `count` calls."""
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return seconds


def measure(environments, size, n_steps):
    """Runs a process with each environment; returns the means of their results."""
    cores = sorted(os.sched_getaffinity(0))
    command = [sys.executable, __file__, f"--size={size}", f"--steps={n_steps}", "--work"]
    processes = [
        subprocess.Popen(["taskset", "-c", str(cores[index % len(cores)]), *command], env=env, text=True,
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
    parser.add_argument("--workers", type=int, nargs="+", default=[2])
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    if given.work:
        work(*(int(part) for part in given.size.split(",")), given.steps)
        return
    os.environ.pop("TF_CONFIG", None)
    alone = measure([os.environ], given.size, given.steps)[0]
    print(f"one process: {alone:.3f} s a step")
    for n in given.workers:
        apart = measure([os.environ] * n, given.size, given.steps)[0]
        together, reduce, n_bytes = measure(launch.environments(n), given.size, given.steps)
        print(f"{n} processes: {apart:.3f} s apart, {together:.3f} s together: efficiency {alone / together:.3f}; "
              f"an all-reduce of {n_bytes / 1e6:.1f} MB by itself {reduce:.3f} s", flush=True)


if __name__ == "__main__":
    main()
