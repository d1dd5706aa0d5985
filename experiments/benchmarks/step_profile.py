"""Where a training step's time and memory go: tracing, the first run, memory by stages, time by operations.

  python experiments/benchmarks/step_profile.py [--size 256,9,64,1] [--mixed_precision=none] [--recompute]
      [--rows=14]

A size is that of step.py. Times of operations are by TensorFlow's profiler, without what an operation calls, added up
over threads, as shares of all; operations inside of calls are counted as themselves.
"""

import argparse
import collections
import glob
import os
import resource
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # As cyclegan_tf's command lines do.

import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.models import compilation
from cyclegan_tf.models.cyclegan import CycleGAN


def peak():
    """Peak memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def own_times(folder):
    """{operation: seconds in it and not in what it calls}, of the profile in `folder`."""
    try:
        from tensorflow.tsl.profiler.protobuf import xplane_pb2
    except ImportError:  # Its place since TensorFlow 2.17.
        from tsl.profiler.protobuf import xplane_pb2
    space, times = xplane_pb2.XSpace(), collections.Counter()
    with open(glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)[0], "rb") as file:
        space.ParseFromString(file.read())
    for plane in space.planes:
        for line in plane.lines if "CPU" in plane.name else ():
            around = []
            for event in sorted(line.events, key=lambda event: (event.offset_ps, -event.duration_ps)):
                while around and around[-1][0] <= event.offset_ps:
                    around.pop()
                name = plane.event_metadata[event.metadata_id].name.split(":")[-1].split("#")[0].strip()
                if around:
                    times[around[-1][1]] -= event.duration_ps / 1e12
                times[name] += event.duration_ps / 1e12
                around.append((event.offset_ps + event.duration_ps, name))
    times.pop("Run", None)  # The whole graph's, on a thread that waits.
    return times


def main():
    """Prints what its description says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="256,9,64,1")
    parser.add_argument("--mixed_precision", default="none")
    parser.add_argument("--recompute", action="store_true")
    parser.add_argument("--rows", type=int, default=14)
    given = parser.parse_args()
    pixels, n_blocks, filters, batch = map(int, given.size.split(","))
    stages = [("TensorFlow", peak())]
    config = Config(n_blocks=n_blocks, ngf=filters, ndf=filters, batch_size=batch, crop_size=pixels, load_size=pixels,
                    recompute=given.recompute, mixed_precision=given.mixed_precision)
    compilation.set_threads(config)
    model = CycleGAN(config)
    stages.append(("networks, optimizers", peak()))
    images = [tf.random.stateless_uniform((batch, pixels, pixels, 3), (seed, 0), -1, 1) for seed in range(2)]
    seconds = []
    for work in (lambda: model.train_step.get_concrete_function(*images), *[lambda: step(model, images)] * 3):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
        stages.append(("graph" if len(seconds) == 1 else f"step {len(seconds) - 1}", peak()))
    graph = model.train_step.get_concrete_function(*images).graph
    print(f"TensorFlow {tf.__version__}, {len(os.sched_getaffinity(0))} cores, {given.size}")
    print(f"tracing {seconds[0]:.1f} s, {len(graph.get_operations())} operations; "
          f"steps {', '.join(f'{time_:.2f}' for time_ in seconds[1:])} s")
    print("peak MiB: " + ", ".join(f"{memory:.0f} after {stage}" for stage, memory in stages))
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        step(model, images)
        tf.profiler.experimental.stop()
        times = own_times(folder)
    for name, spent in times.most_common(given.rows):
        print(f"{100 * spent / sum(times.values()):5.1f} % {name}")


def step(model, images):
    """One training step, to its end."""
    return float(model.train_step(*images)["loss/generators"])


if __name__ == "__main__":
    main()
