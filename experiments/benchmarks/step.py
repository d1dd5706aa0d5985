"""Time of a training step, compared with the authors' step in PyTorch, measured in turns on one machine.

  python experiments/benchmarks/step.py [--sizes 64,6,32,1 256,9,64,1] [--rounds=5] [--sides ours eager compiled]
  python experiments/benchmarks/step.py --device=gpu

A size is pixels, residual blocks, filters (of generators and discriminators), batch. Each side is a separate process
that waits while the others work. In a round, each side has one turn of as many steps as take about `--seconds`. A step
computes the losses, gradients and updates of both generators and both discriminators, and the pools; its images are
already in memory. The `bf16` sides compute in bfloat16 (in PyTorch: torch.autocast with channels last). The table has
the median over rounds, the ratio to the first side in the same rounds, the time of the first step after the networks
are built (tracing, compiling), and the peak memory. Needs PyTorch.

On a GPU, float32 products use TF32. A turn ends when the GPU has finished its last step; as in training, the losses of
a step are read after the next step is queued. "Queued" is the host's time to queue a step: if it equals the step's
time, the GPU waits for the host. Memory is the most that the framework's allocator handed out. The last column relates
the step to the card's speed at multiplying 8192 x 8192 matrices in the same type, and counts only the operations of
convolutions. By default, each size has a selection of sides, and sides that fit into 80 GB together start together.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, NamedTuple, TextIO

import harness

TITLES = {
    "ours": "cyclegan_tf", "ours_bf16": "cyclegan_tf, bfloat16", "ours_recompute": "cyclegan_tf, --recompute",
    "ours_bf16_recompute": "cyclegan_tf, bfloat16, --recompute", "ours_jit": "cyclegan_tf, XLA",
    "ours_bf16_jit": "cyclegan_tf, bfloat16, XLA",
    "eager": "PyTorch", "compiled": "PyTorch, torch.compile",
    "eager_bf16": "PyTorch, bfloat16", "compiled_bf16": "PyTorch, torch.compile, bfloat16",
    "graphs_bf16": "PyTorch, torch.compile, CUDA graphs, bfloat16",
}
# Options of this package's sides.
OURS: dict[str, dict[str, Any]] = {
    "ours": {}, "ours_bf16": {"mixed_precision": "bfloat16"}, "ours_recompute": {"recompute": True},
    "ours_bf16_recompute": {"mixed_precision": "bfloat16", "recompute": True}, "ours_jit": {"jit_compile": "on"},
    "ours_bf16_jit": {"mixed_precision": "bfloat16", "jit_compile": "on"},
}

Size = tuple[int, ...]  # Pixels, blocks, filters, batch.
# Runs a number of steps and returns the seconds that it took to queue them.
RunSteps = Callable[[int], float]

# The GPU's default: waves of sides that start together. A card of 80 GB does not hold more of them at the same time,
# because the frameworks reserve more memory than they hand out.
WAVES: list[list[tuple[Size, list[str]]]] = [
    [
        ((256, 9, 64, 1), ["ours_jit", "ours_bf16_jit", "compiled_bf16", "graphs_bf16"]),
        ((256, 9, 64, 4), ["ours_jit", "ours_bf16_jit", "graphs_bf16"]),
    ],
    [((512, 9, 64, 1), ["ours_bf16_jit", "graphs_bf16"]), ((256, 9, 64, 16), ["ours_bf16_jit", "graphs_bf16"])],
    [((512, 9, 64, 1), ["eager"]), ((256, 9, 64, 4), ["eager"])],
    [((256, 9, 64, 16), ["eager"])],
    [((256, 9, 64, 1), ["ours", "eager"])],
]


class Result(NamedTuple):
    """Measurements of a side: seconds of a step in each round, seconds to queue it, first step, peak memory in MiB."""

    seconds: tuple[float, ...]
    queued: float
    first: float
    peak: float


def build_ours(
    side: str, device: str, pixels: int, n_blocks: int, filters: int, batch: int
) -> tuple[RunSteps, Callable[[], float]]:
    """Builds this package's model; returns a function that runs steps and one that returns the peak memory in MiB."""
    from cyclegan_tf.ops import startup

    startup.import_tensorflow()
    import tensorflow as tf

    from cyclegan_tf.models import compilation
    from cyclegan_tf.models.cyclegan import CycleGAN
    from cyclegan_tf.training.distribution import OneReplica

    config = harness.make_config(pixels, n_blocks, filters, batch, **{"jit_compile": "off", **OURS[side]})
    compilation.set_threads(config)
    if device == "gpu" and not tf.config.list_logical_devices("GPU"):
        raise SystemExit("TensorFlow sees no GPU")
    model, replicas = CycleGAN(config), OneReplica()
    real_a, real_b = (
        tf.random.stateless_uniform((batch, pixels, pixels, 3), (seed, 0), -1, 1) for seed in range(2)
    )

    def run_steps(count: int) -> float:
        read_previous: Callable[[], object] | None = None
        queued = 0.0
        for _ in range(count):
            start = time.perf_counter()
            read = replicas.train_step(model, [(real_a, real_b)], lambda: None)
            queued += time.perf_counter() - start
            if read_previous:
                read_previous()
            read_previous = read
        if read_previous:
            read_previous()
        return queued

    def peak() -> float:
        if device == "gpu":
            return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20
        return harness.peak_memory()

    return run_steps, peak


def build_torch(
    side: str, device: str, pixels: int, n_blocks: int, filters: int, batch: int
) -> tuple[RunSteps, Callable[[], float]]:
    """Like `build_ours`, for the PyTorch twin."""
    import torch
    import torch_twin

    mode, _, half = side.partition("_")
    compile_modes = {"eager": None, "compiled": "default", "graphs": "reduce-overhead"}
    cuda = device == "gpu"
    twin = torch_twin.Twin(filters, n_blocks, compiled=compile_modes[mode], autocast=bool(half),
                           device="cuda" if cuda else "cpu")
    images = [torch.rand(batch, 3, pixels, pixels, device=twin.device) * 2 - 1 for _ in range(2)]
    if half:
        images = [image.to(memory_format=torch.channels_last) for image in images]

    def run_steps(count: int) -> float:
        queued = 0.0
        for _ in range(count):
            start = time.perf_counter()
            twin.step(*images)
            queued += time.perf_counter() - start
        if cuda:
            torch.cuda.synchronize()
        return queued

    def peak() -> float:
        return torch.cuda.max_memory_allocated() / 2**20 if cuda else harness.peak_memory()

    return run_steps, peak


def serve(side: str, device: str, size: Size) -> None:
    """Runs the process of a side: for each number of steps on stdin, runs them and prints seconds and peak MiB."""
    run_steps, peak = (build_ours if side in OURS else build_torch)(side, device, *size)
    print("ready", flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        queued = run_steps(int(line))
        print(time.perf_counter() - start, queued, peak(), flush=True)


class Side:
    """A process that runs steps on request.

    Attributes:
      name: key of TITLES.
      peak: peak memory in MiB, after the latest steps.
      alive: False once the process has died.
    """

    def __init__(self, name: str, device: str, size: Size, errors: TextIO) -> None:
        command = [sys.executable, __file__, "--worker", name, "--device", device, "--sizes", ",".join(map(str, size))]
        self.name, self.peak, self.alive = name, 0.0, True
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        assert self._process.stdin and self._process.stdout  # They are pipes.
        self._requests, self._answers = self._process.stdin, self._process.stdout

    def wait_until_ready(self) -> None:
        """Waits until the networks are built."""
        self._read_line()

    def start_steps(self, count: int) -> None:
        """Makes the process start `count` steps, without waiting for them."""
        if self.alive:
            self._requests.write(f"{count}\n")
            self._requests.flush()

    def finish_steps(self, count: int) -> tuple[float, float]:
        """Waits for the `count` steps that were started; returns the seconds of a step and the seconds to queue it."""
        answer = self._read_line()
        if not self.alive:
            return float("nan"), float("nan")
        self.peak = float(answer[2])
        return float(answer[0]) / count, float(answer[1]) / count

    def run_steps(self, count: int) -> tuple[float, float]:
        """Runs `count` steps; returns the seconds of a step and the seconds to queue it."""
        self.start_steps(count)
        return self.finish_steps(count)

    def close(self) -> None:
        """Ends the process."""
        self._requests.close()
        self._process.wait()

    def _read_line(self) -> list[str]:
        answer = self._answers.readline().split()
        if not answer and self.alive:
            self.alive = False
            print(f"{TITLES[self.name]} has died; run it alone with --worker {self.name} to see why", flush=True)
        return answer


def measure(wave: list[tuple[Size, list[str]]], args: argparse.Namespace) -> dict[Size, dict[str, Result]]:
    """Measures the sides of one wave in turns; leaves out sides that died."""
    with open(args.errors or os.devnull, "a") as errors:
        sides = {}
        for size, names in wave:
            for name in names:
                sides[size, name] = side = Side(name, args.device, size, errors)
                if args.device == "cpu":  # On a CPU, sides that start at the same time would slow each other down.
                    side.wait_until_ready()
        if args.device == "gpu":  # In turns, compiling would take several minutes.
            for side in sides.values():
                side.wait_until_ready()
            for side in sides.values():
                side.start_steps(1)
            first = {key: side.finish_steps(1)[0] for key, side in sides.items()}
        else:
            first = {key: side.run_steps(1)[0] for key, side in sides.items()}
        counts = {key: choose_count(side, args.seconds) for key, side in sides.items()}
        times: dict[tuple[Size, str], list[tuple[float, float]]] = {key: [] for key in sides}
        for _ in range(args.rounds):
            for key, side in sides.items():
                times[key].append(side.run_steps(counts[key]))
        for side in sides.values():
            side.close()
    results: dict[Size, dict[str, Result]] = {}
    for (size, name), side in sides.items():
        if side.alive:
            seconds, queued = zip(*times[size, name], strict=True)
            result = Result(seconds, statistics.median(queued), first[size, name], side.peak)
            results.setdefault(size, {})[name] = result
    return results


def choose_count(side: Side, seconds: float) -> int:
    """Warms a side up; returns the number of steps that take about `seconds`."""
    side.run_steps(2)
    duration = side.run_steps(2)[0]
    return max(1, round(seconds / duration)) if side.alive else 1


def print_table(size: Size, results: dict[str, Result], peaks: list[float] | None) -> None:
    """Prints the Markdown table of one size; `peaks` are the results of `measure_matrix_products` on a GPU."""
    pixels, n_blocks, filters, batch = size
    print(f"\n{pixels} px, {n_blocks} blocks, {filters} filters, batch {batch}\n")
    columns = ["", "ms a step (lowest to highest)", "images/s", "ratio to the first", "first step", "peak memory"]
    columns += ["queued", "of the peak"] if peaks else []
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    work = batch * count_operations(pixels, n_blocks, filters)
    reference = next(iter(results.values())).seconds
    for name, result in results.items():
        median = statistics.median(result.seconds)
        ratio = statistics.median(t / ours for t, ours in zip(result.seconds, reference, strict=False))
        cells = [
            TITLES[name], f"{1e3 * median:.1f} ({1e3 * min(result.seconds):.1f} to {1e3 * max(result.seconds):.1f})",
            f"{batch / median:.2f}", f"{ratio:.2f}", f"{result.first:.1f} s", f"{result.peak:.0f} MiB",
        ]
        if peaks:
            cells += [f"{1e3 * result.queued:.1f} ms", f"{work / median / peaks['bf16' in name]:.0%}"]
        print("| " + " | ".join(cells) + " |", flush=True)


def count_operations(pixels: int, n_blocks: int, filters: int) -> int:
    """Returns the multiplications and additions of the convolutions in a step with one image of each domain."""
    area = pixels**2
    # Each term: kernel elements x input channels x output channels x output pixels.
    generator = 2 * 49 * 3 * filters * area + 2 * 9 * 2 * filters**2 * area // 4
    generator += 2 * 9 * 8 * filters**2 * area // 16 + 2 * n_blocks * 9 * 16 * filters**2 * area // 16
    discriminator = 16 * (3 * filters * area // 4 + 2 * filters**2 * area // 16 + 8 * filters**2 * area // 64)
    discriminator += 16 * (32 * filters**2 * (pixels // 8 - 1) ** 2 + 8 * filters * (pixels // 8 - 2) ** 2)
    # A generator runs six times with the gradients of inputs and weights. A discriminator runs twice with the gradient
    # of its input, and four times with the gradients of its weights, which need the input gradients of all layers but
    # the first.
    return 2 * (6 * 3 * generator + (2 * 2 + 4 * 3) * discriminator)


def measure_matrix_products() -> list[float]:
    """Multiplies 8192 x 8192 random matrices on the GPU; returns operations per second in TF32 and in bfloat16."""
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
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    tf32, bfloat16, card = child.stdout.splitlines()
    print(f"{card}: matrix products at {float(tf32) / 1e12:.0f} TFLOP/s in TF32, "
          f"{float(bfloat16) / 1e12:.0f} in bfloat16")
    return [float(tf32), float(bfloat16)]


def main() -> None:
    """Parses the command line and prints a table for each size."""
    parser = harness.make_parser(__doc__)
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--sizes", nargs="+", default=["64,6,32,1", "256,9,64,1"])
    parser.add_argument("--sides", nargs="+", choices=TITLES, help="by default, a GPU runs a selection at four sizes")
    parser.add_argument("--rounds", type=int, help="turns of each side; default 5, on a GPU 3")
    parser.add_argument("--seconds", type=float, help="approximate length of a turn; default 10, on a GPU 0.7")
    parser.add_argument("--errors", help="file for the sides' stderr")
    parser.add_argument("--worker", choices=TITLES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    sizes = [tuple(map(int, size.split(","))) for size in args.sizes]
    if args.worker:
        serve(args.worker, args.device, sizes[0])
        return
    gpu = args.device == "gpu"
    args.rounds, args.seconds = args.rounds or (3 if gpu else 5), args.seconds or (0.7 if gpu else 10.0)
    print(f"TensorFlow {version('tensorflow')}, PyTorch {version('torch')}, Python {platform.python_version()}, "
          f"{harness.count_cores()} cores, {args.rounds} rounds")
    peaks = measure_matrix_products() if gpu else None
    waves = [[(size, args.sides or ["ours", "eager", "compiled"])] for size in sizes]
    if gpu and not args.sides:
        waves = WAVES
    tables: dict[Size, dict[str, Result]] = {}
    for wave in waves:
        for size, results in measure(wave, args).items():
            tables.setdefault(size, {}).update(results)
    for size, results in tables.items():
        print_table(size, results, peaks)


if __name__ == "__main__":
    main()
