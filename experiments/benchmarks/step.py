"""Seconds of a training step beside the authors' step in PyTorch, eager and compiled, in turns on one machine.

  python experiments/benchmarks/step.py [--sizes 64,6,32,1 256,9,64,1] [--rounds=5] [--sides ours eager compiled]

A size is pixels, residual blocks, filters (of generators and discriminators), batch. Each side is a process of its own
that waits while the others work; a round is one turn of each, of as many steps as take about `--seconds`. A step is all
of it: both generators' and discriminators' losses, gradients and updates, and the pools, on images that are there
already. `bf16` sides run in bfloat16 (torch.autocast with channels last). Printed are the medians of the rounds, the
ratio to ours in the same rounds, the time of the first step after the networks are built (tracing, compiling), and the
peak memory of the process. Needs PyTorch.
"""

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import time

TITLES = {
    "ours": "cyclegan_tf", "ours_bf16": "cyclegan_tf, bfloat16", "ours_recompute": "cyclegan_tf, --recompute",
    "ours_bf16_recompute": "cyclegan_tf, bfloat16, --recompute", "ours_jit": "cyclegan_tf, --jit_compile=on",
    "eager": "PyTorch", "compiled": "PyTorch, torch.compile",
    "eager_bf16": "PyTorch, bfloat16", "compiled_bf16": "PyTorch, torch.compile, bfloat16",
}
# Options of this package's sides.
OURS = {
    "ours": {}, "ours_bf16": {"mixed_precision": "bfloat16"}, "ours_recompute": {"recompute": True},
    "ours_bf16_recompute": {"mixed_precision": "bfloat16", "recompute": True}, "ours_jit": {"jit_compile": "on"},
}


def our_step(side, pixels, n_blocks, filters, batch):
    """A function that does one step of this package, and its images."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # As cyclegan_tf's command lines do.
    import tensorflow as tf

    from cyclegan_tf.config import Config
    from cyclegan_tf.models import compilation
    from cyclegan_tf.models.cyclegan import CycleGAN

    config = Config(n_blocks=n_blocks, ngf=filters, ndf=filters, batch_size=batch, crop_size=pixels,
                    load_size=pixels, **OURS[side])
    compilation.set_threads(config)
    model = CycleGAN(config)
    images = [tf.random.stateless_uniform((batch, pixels, pixels, 3), (seed, 0), -1, 1) for seed in range(2)]

    def step():
        return float(model.train_step(*images)["loss/generators"])

    return step


def torch_step(side, pixels, n_blocks, filters, batch):
    """A function that does one step of the PyTorch twin."""
    import torch
    import torch_twin

    twin = torch_twin.Twin(filters, n_blocks, compiled=side.startswith("compiled"), autocast=side.endswith("bf16"))
    images = [torch.rand(batch, 3, pixels, pixels) * 2 - 1 for _ in range(2)]
    if side.endswith("bf16"):
        images = [image.to(memory_format=torch.channels_last) for image in images]
    return lambda: twin.step(*images)


def work(side, size):
    """A side's process: says when it is ready; does the steps it is told to, and answers with seconds and peak MiB."""
    step = (our_step if side in OURS else torch_step)(side, *size)
    print("ready", flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            step()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(time.perf_counter() - start, peak, flush=True)


class Side:
    """A process that does steps when it is asked to."""

    def __init__(self, name, size):
        command = [sys.executable, __file__, "--worker", name, "--sizes", ",".join(map(str, size))]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._process.stdout.readline()  # Nobody's start is measured beside another's.
        self.peak = 0.0

    def steps(self, count):
        """Does `count` steps; returns the seconds of one."""
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().split()
        if not answer:
            raise SystemExit("a side has died; run it alone with --worker to see why")
        self.peak = float(answer[1])
        return float(answer[0]) / count

    def close(self):
        self._process.stdin.close()
        self._process.wait()


def measure(names, size, rounds, seconds):
    """Prints a Markdown table of the sides at one size."""
    sides = {name: Side(name, size) for name in names}
    first = {name: side.steps(1) for name, side in sides.items()}
    counts = {name: max(1, round(seconds / side.steps(2))) for name, side in sides.items()}
    times = {name: [] for name in names}
    for _ in range(rounds):
        for name, side in sides.items():
            times[name].append(side.steps(counts[name]))
    pixels, n_blocks, filters, batch = size
    print(f"\n{pixels} px, {n_blocks} blocks, {filters} filters, batch {batch}\n")
    print("| | s a step (lowest to highest) | images/s | beside ours | first step | peak memory |")
    print("|---|---|---|---|---|---|")
    for name, side in sides.items():
        median = statistics.median(times[name])
        ratio = statistics.median(t / ours for t, ours in zip(times[name], times[names[0]], strict=True))
        span = f"{min(times[name]):.3f} to {max(times[name]):.3f}"
        print(f"| {TITLES[name]} | {median:.3f} ({span}) | {batch / median:.2f} | {ratio:.2f} | {first[name]:.1f} s | "
              f"{side.peak:.0f} MiB |", flush=True)
        side.close()


def main():
    """Prints a table for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["64,6,32,1", "256,9,64,1"])
    parser.add_argument("--sides", nargs="+", choices=TITLES, default=["ours", "eager", "compiled"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--worker", choices=TITLES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    sizes = [tuple(map(int, size.split(","))) for size in given.sizes]
    if given.worker:
        work(given.worker, sizes[0])
        return
    from importlib.metadata import version

    print(f"TensorFlow {version('tensorflow')}, PyTorch {version('torch')}, Python {platform.python_version()}, "
          f"{len(os.sched_getaffinity(0))} cores, {given.rounds} rounds")
    for size in sizes:
        measure(given.sides, size, given.rounds, given.seconds)


if __name__ == "__main__":
    main()
