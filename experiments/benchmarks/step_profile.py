"""Time and memory of a training step: tracing, first steps, memory by stage, time by operation.

  python experiments/benchmarks/step_profile.py [--size 256,9,64,1] [--mixed_precision=none] [--recompute]
      [--rows=14]

A size is the same as in step.py. TensorFlow's profiler gives the times of operations. They are summed over threads and
printed as shares of the total. If an operation calls others, their time counts as theirs, not as its own.
"""

import collections
import glob
import tempfile
import time

import harness
import tensorflow as tf

from cyclegan_tf.models import compilation
from cyclegan_tf.models.cyclegan import CycleGAN


def read_own_times(folder: str) -> collections.Counter[str]:
    """Reads the profile in `folder`; returns {operation: seconds in it, without the operations that it calls}."""
    try:
        from tensorflow.tsl.profiler.protobuf import xplane_pb2
    except ImportError:  # TensorFlow 2.17 and later.
        from tsl.profiler.protobuf import xplane_pb2
    space = xplane_pb2.XSpace()
    times: collections.Counter[str] = collections.Counter()
    with open(glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)[0], "rb") as file:
        space.ParseFromString(file.read())
    for plane in space.planes:
        for line in plane.lines if "CPU" in plane.name else ():
            callers: list[tuple[int, str]] = []
            for event in sorted(line.events, key=lambda event: (event.offset_ps, -event.duration_ps)):
                while callers and callers[-1][0] <= event.offset_ps:
                    callers.pop()
                name = plane.event_metadata[event.metadata_id].name.split(":")[-1].split("#")[0].strip()
                if callers:
                    times[callers[-1][1]] -= event.duration_ps / 1e12
                times[name] += event.duration_ps / 1e12
                callers.append((event.offset_ps + event.duration_ps, name))
    times.pop("Run", None)  # The thread that waits for the whole graph.
    return times


def main() -> None:
    """Prints the time of tracing and of three steps, the memory after each stage, and the share of each operation."""
    parser = harness.make_parser(__doc__)
    parser.add_argument("--size", default="256,9,64,1", metavar="PIXELS,BLOCKS,FILTERS,BATCH")
    parser.add_argument("--mixed_precision", default="none", help="none or bfloat16")
    parser.add_argument("--recompute", action="store_true")
    parser.add_argument("--rows", type=int, default=14, help="operations to print")
    args = parser.parse_args()
    pixels, n_blocks, filters, batch = map(int, args.size.split(","))
    memory = {"TensorFlow": harness.peak_memory()}
    config = harness.make_config(
        pixels, n_blocks, filters, batch, recompute=args.recompute, mixed_precision=args.mixed_precision
    )
    compilation.set_threads(config)
    model = CycleGAN(config)
    memory["networks, optimizers"] = harness.peak_memory()
    images = [tf.random.stateless_uniform((batch, pixels, pixels, 3), (seed, 0), -1, 1) for seed in range(2)]

    # The first step, split into tracing and computing.
    past = model.draw_past(*(image.shape for image in images))
    start = time.perf_counter()
    graph = model.compiled_step.get_concrete_function(*images, *past).graph
    tracing = time.perf_counter() - start
    memory["graph"] = harness.peak_memory()
    start = time.perf_counter()
    scalars, fakes = model.compiled_step(*images, *past)
    float(scalars["loss/generators"])
    model.store_fakes([fakes])
    seconds = [time.perf_counter() - start]
    memory["step 1"] = harness.peak_memory()
    for number in (2, 3):
        start = time.perf_counter()
        run_step(model, images)
        seconds.append(time.perf_counter() - start)
        memory[f"step {number}"] = harness.peak_memory()

    print(f"TensorFlow {tf.__version__}, {harness.count_cores()} cores, {args.size}")
    print(f"tracing {tracing:.1f} s, {len(graph.get_operations())} operations; "
          f"steps {', '.join(f'{duration:.2f}' for duration in seconds)} s")
    print("peak MiB: " + ", ".join(f"{peak:.0f} after {stage}" for stage, peak in memory.items()))
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        run_step(model, images)
        tf.profiler.experimental.stop()
        times = read_own_times(folder)
    for name, spent in times.most_common(args.rows):
        print(f"{100 * spent / sum(times.values()):5.1f} % {name}")


def run_step(model: CycleGAN, images: list[tf.Tensor]) -> None:
    """Runs one training step and waits for its end."""
    float(model.train_step(*images)["loss/generators"])


if __name__ == "__main__":
    main()
