"""How long training stands still for a checkpoint of the paper's networks at 256 pixels, and how long it is written.

  python experiments/benchmarks/checkpoint.py [--repeats=7] [--folder=DIR]

With full pools of 50 float32 images. Training waits while the state is copied; a thread of its own writes it to
`--folder` (default the system's temporary folder).
"""

import argparse
import os
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.models.cyclegan import CycleGAN
from cyclegan_tf.runs import checkpoints
from cyclegan_tf.runs.checkpoints import Progress


def main():
    """Prints the size and both medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--folder")
    given = parser.parse_args()
    model = CycleGAN(Config())
    for pool in model.pools.values():
        pool.lend((pool.size, 256, 256, 3))
        pool.keep([np.zeros((1, 256, 256, 3), np.float32)] * pool.size)
    stalls, writes = [], []
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        writer = checkpoints.Writer(folder, keep=1)
        for step in range(1, given.repeats + 1):
            start = time.perf_counter()
            writer.save(model, Progress(step))
            copied = time.perf_counter()
            writer.wait()
            stalls.append(copied - start)
            writes.append(time.perf_counter() - copied)
        (name,) = os.listdir(folder)
        size = os.path.getsize(os.path.join(folder, name))
        writer.close()
    print(f"TensorFlow {tf.__version__}: {size / 1e6:.0f} MB; training stands still for "
          f"{statistics.median(stalls):.2f} s, writing takes {statistics.median(writes):.2f} s more "
          f"(medians of {given.repeats})")


if __name__ == "__main__":
    main()
