"""Seconds of a training step beside the authors' step in PyTorch, in turns on one machine.

  python experiments/benchmarks/step.py [--sizes 64,6,32,1 256,9,64,1] [--rounds=5] [--sides ours eager compiled]
  python experiments/benchmarks/step.py --device=gpu

A size is pixels, residual blocks, filters (of generators and discriminators), batch. Each side is a process of its own
that waits while the others work; a round is one turn of each, of as many steps as take about `--seconds`. A step is all
of it: both generators' and discriminators' losses, gradients and updates, and the pools, on images that are there
already. `bf16` sides run in bfloat16 (torch.autocast with channels last). Printed are the medians of the rounds, the
ratio to the first side in the same rounds, the time of the first step after the networks are built (tracing,
compiling), and the peak memory. Needs PyTorch.

On a GPU products of float32 are made in TF32. A turn ends when the GPU has done its last step; as in training, the
losses of a step are read when the next one is queued. "Queued" is the time that the host takes to queue a step: where
it is as long as the step, the GPU waits for the host. Memory is what the framework's allocator had handed out at most.
The last column is the share of the rate at which the card multiplies matrices of 8192 x 8192 in that type, counting
the multiplications and additions of the convolutions alone. Up to batches of 512 x 512 pixels the first steps of all
sides run at the same time; with larger ones each side is alone, since the card has no room for all.
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
    "ours_bf16_recompute": "cyclegan_tf, bfloat16, --recompute", "ours_jit": "cyclegan_tf, XLA",
    "ours_bf16_jit": "cyclegan_tf, bfloat16, XLA",
    "eager": "PyTorch", "compiled": "PyTorch, torch.compile",
    "eager_bf16": "PyTorch, bfloat16", "compiled_bf16": "PyTorch, torch.compile, bfloat16",
    "graphs_bf16": "PyTorch, torch.compile, CUDA graphs, bfloat16",
}
# Options of this package's sides.
OURS = {
    "ours": {}, "ours_bf16": {"mixed_precision": "bfloat16"}, "ours_recompute": {"recompute": True},
    "ours_bf16_recompute": {"mixed_precision": "bfloat16", "recompute": True}, "ours_jit": {"jit_compile": "on"},
    "ours_bf16_jit": {"mixed_precision": "bfloat16", "jit_compile": "on"},
}
DEFAULTS = {
    "cpu": {"sizes": ["64,6,32,1", "256,9,64,1"], "sides": ["ours", "eager", "compiled"], "rounds": 5, "seconds": 10.0},
    "gpu": {
        "sizes": ["256,9,64,1", "256,9,64,4", "256,9,64,16", "512,9,64,1"], "rounds": 3, "seconds": 0.7,
        "sides": ["ours", "ours_jit", "ours_bf16", "ours_bf16_jit", "eager", "eager_bf16", "compiled_bf16",
                  "graphs_bf16"],
    },
}

ROOM = 512**2  # Pixels of a batch up to which a card of 80 GiB holds all sides at once.


def our_work(side, device, pixels, n_blocks, filters, batch):
    """A function that does so many steps of this package, and one that tells the peak memory in MiB."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # As cyclegan_tf's command lines do.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    import tensorflow as tf

    from cyclegan_tf.config import Config
    from cyclegan_tf.models import compilation
    from cyclegan_tf.models.cyclegan import CycleGAN
    from cyclegan_tf.training.distribution import OneReplica

    config = Config(n_blocks=n_blocks, ngf=filters, ndf=filters, batch_size=batch, crop_size=pixels,
                    load_size=pixels, **{"jit_compile": "off", **OURS[side]})
    compilation.set_threads(config)
    if device == "gpu" and not tf.config.list_logical_devices("GPU"):
        raise SystemExit("TensorFlow sees no GPU")
    model, replicas = CycleGAN(config), OneReplica()
    images = [tf.random.stateless_uniform((batch, pixels, pixels, 3), (seed, 0), -1, 1) for seed in range(2)]

    def steps(count):
        read, queued = None, 0.0
        for _ in range(count):
            start = time.perf_counter()
            following = replicas.train_step(model, [images], lambda: None)
            queued += time.perf_counter() - start
            if read:
                read()
            read = following
        read()
        return queued

    def peak():
        return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20 if device == "gpu" else process_peak()

    return steps, peak


def torch_work(side, device, pixels, n_blocks, filters, batch):
    """The same of the PyTorch twin."""
    import torch
    import torch_twin

    mode, _, half = side.partition("_")
    options = {"eager": None, "compiled": "default", "graphs": "reduce-overhead"}
    cuda = device == "gpu"
    twin = torch_twin.Twin(filters, n_blocks, compiled=options[mode], autocast=bool(half),
                           device="cuda" if cuda else "cpu")
    images = [torch.rand(batch, 3, pixels, pixels, device=twin.device) * 2 - 1 for _ in range(2)]
    if half:
        images = [image.to(memory_format=torch.channels_last) for image in images]

    def steps(count):
        queued = 0.0
        for _ in range(count):
            start = time.perf_counter()
            twin.step(*images)
            queued += time.perf_counter() - start
        if cuda:
            torch.cuda.synchronize()
        return queued

    def peak():
        return torch.cuda.max_memory_allocated() / 2**20 if cuda else process_peak()

    return steps, peak


def process_peak():
    """Peak memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def work(side, device, size):
    """A side's process: says when it is ready; does the steps it is told to, and answers with seconds and peak MiB."""
    steps, peak = (our_work if side in OURS else torch_work)(side, device, *size)
    print("ready", flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        queued = steps(int(line))
        print(time.perf_counter() - start, queued, peak(), flush=True)


class Side:
    """A process that does steps when it is asked to."""

    def __init__(self, name, device, size, errors):
        command = [sys.executable, __file__, "--worker", name, "--device", device, "--sizes", ",".join(map(str, size))]
        self.name, self.peak, self.alive = name, 0.0, True
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )

    def wait(self):
        """Waits until the networks are built."""
        self._answer()

    def ask(self, count):
        """Asks for `count` steps."""
        if self.alive:
            self._process.stdin.write(f"{count}\n")
            self._process.stdin.flush()

    def answer(self, count):
        """The seconds of one of the `count` steps asked for, and those that it took to queue it."""
        answer = self._answer()
        if not self.alive:
            return float("nan"), float("nan")
        self.peak = float(answer[2])
        return float(answer[0]) / count, float(answer[1]) / count

    def _answer(self):
        answer = self._process.stdout.readline().split()
        if not answer and self.alive:
            self.alive = False
            print(f"{TITLES[self.name]} has died; run it alone with --worker {self.name} to see why", flush=True)
        return answer

    def steps(self, count):
        """Does `count` steps; returns the seconds of one, and those that it took to queue it."""
        self.ask(count)
        return self.answer(count)

    def close(self):
        self._process.stdin.close()
        self._process.wait()


def measure(given, size, peaks):
    """Prints a Markdown table of the sides at one size."""
    with open(given.errors or os.devnull, "a") as errors:
        sides = {}
        for name in given.sides:
            sides[name] = Side(name, given.device, size, errors)
            if given.device == "cpu":  # Nobody's start is measured beside another's.
                sides[name].wait()
        if given.device == "gpu":
            for side in sides.values():
                side.wait()
        alone = given.device == "gpu" and size[0] ** 2 * size[3] > ROOM
        first, times = (run_alone if alone else run_in_turns)(sides, given)
        for side in sides.values():
            side.close()
    sides = {name: side for name, side in sides.items() if side.alive}
    print_table(given.device == "gpu", size, peaks, sides, first, times)


def run_in_turns(sides, given):
    """({side: seconds of its first step}, {side: [seconds of a step, seconds to queue it] of each round})."""
    if given.device == "gpu":  # Several minutes if one waited for the other.
        for side in sides.values():
            side.ask(1)
        first = {name: side.answer(1)[0] for name, side in sides.items()}
    else:
        first = {name: side.steps(1)[0] for name, side in sides.items()}
    counts = {name: calibrate(side, given.seconds) for name, side in sides.items()}
    times = {name: [] for name in sides}
    for _ in range(given.rounds):
        for name, side in sides.items():
            times[name].append(side.steps(counts[name]))
    return first, times


def run_alone(sides, given):
    """The same, of one side after the other, each of which ends before the next one begins."""
    first, times = {}, {}
    for name, side in sides.items():
        first[name] = side.steps(1)[0]
        count = calibrate(side, given.seconds)
        times[name] = [side.steps(count) for _ in range(given.rounds)]
        side.close()
    return first, times


def print_table(gpu, size, peaks, sides, first, times):
    """Prints the Markdown table of one size."""
    pixels, n_blocks, filters, batch = size
    print(f"\n{pixels} px, {n_blocks} blocks, {filters} filters, batch {batch}\n")
    columns = ["", "ms a step (lowest to highest)", "images/s", "beside the first", "first step", "peak memory"]
    columns += ["queued", "of the peak"] * gpu
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    work = batch * operations(pixels, n_blocks, filters)
    reference = [t for t, _ in times[next(iter(sides))]]
    for name, side in sides.items():
        seconds = [t for t, _ in times[name]]
        median = statistics.median(seconds)
        ratio = statistics.median(t / ours for t, ours in zip(seconds, reference, strict=True))
        cells = [
            TITLES[name], f"{1e3 * median:.1f} ({1e3 * min(seconds):.1f} to {1e3 * max(seconds):.1f})",
            f"{batch / median:.2f}", f"{ratio:.2f}", f"{first[name]:.1f} s", f"{side.peak:.0f} MiB",
        ]
        if gpu:
            queued = statistics.median(q for _, q in times[name])
            cells += [f"{1e3 * queued:.1f} ms", f"{work / median / peaks['bf16' in name]:.0%}"]
        print("| " + " | ".join(cells) + " |", flush=True)


def calibrate(side, seconds):
    """The number of steps that take about so many seconds, after some that warm up."""
    side.steps(3)
    duration = side.steps(3)[0]
    return max(1, round(seconds / duration)) if side.alive else 1


def operations(pixels, n_blocks, filters):
    """Multiplications and additions of the convolutions in a step for one image of each domain."""
    area = pixels**2
    # Each term: kernel elements x input channels x output channels x pixels at which the kernel is applied.
    generator = 2 * 49 * 3 * filters * area + 2 * 9 * 2 * filters**2 * area // 4
    generator += 2 * 9 * 8 * filters**2 * area // 16 + 2 * n_blocks * 9 * 16 * filters**2 * area // 16
    discriminator = 16 * (3 * filters * area // 4 + 2 * filters**2 * area // 16 + 8 * filters**2 * area // 64)
    discriminator += 16 * (32 * filters**2 * (pixels // 8 - 1) ** 2 + 8 * filters * (pixels // 8 - 2) ** 2)
    # Six passes through generators, each with both gradients. Two through discriminators with the gradient at the
    # image, four with that at the weights, for which all but the first layer's inputs' are needed too.
    return 2 * (6 * 3 * generator + (2 * 2 + 4 * 3) * discriminator)


def matrix_peaks():
    """[operations a second in TF32, in bfloat16] of products of 8192 x 8192 random matrices on the GPU, by PyTorch."""
    code = (
        "import time, torch; torch.backends.cuda.matmul.allow_tf32 = True\n"
        "for dtype in torch.float32, torch.bfloat16:\n"
        "    a, b = (torch.randn(8192, 8192, device='cuda', dtype=dtype) for _ in range(2))\n"
        "    times = []\n"
        "    for _ in range(13):\n"
        "        torch.cuda.synchronize(); start = time.perf_counter(); a @ b\n"
        "        torch.cuda.synchronize(); times.append(time.perf_counter() - start)\n"
        "    print(2 * 8192**3 / sorted(times[3:])[5])\n"
        "print(torch.cuda.get_device_name())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split("\n")
    print(f"{found[2]}: products of matrices at {float(found[0]) / 1e12:.0f} TFLOP/s in TF32, "
          f"{float(found[1]) / 1e12:.0f} in bfloat16")
    return [float(found[0]), float(found[1])]


def main():
    """Prints a table for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=DEFAULTS, default="cpu")
    parser.add_argument("--sizes", nargs="+")
    parser.add_argument("--sides", nargs="+", choices=TITLES)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--errors", help="file for what the sides write to stderr")
    parser.add_argument("--worker", choices=TITLES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    for name, value in DEFAULTS[given.device].items():
        if getattr(given, name) is None:
            setattr(given, name, value)
    sizes = [tuple(map(int, size.split(","))) for size in given.sizes]
    if given.worker:
        work(given.worker, given.device, sizes[0])
        return
    from importlib.metadata import version

    print(f"TensorFlow {version('tensorflow')}, PyTorch {version('torch')}, Python {platform.python_version()}, "
          f"{len(os.sched_getaffinity(0))} cores, {given.rounds} rounds")
    peaks = matrix_peaks() if given.device == "gpu" else None
    for size in sizes:
        measure(given, size, peaks)


if __name__ == "__main__":
    main()
