"""Seconds that training pauses for a checkpoint of the paper's networks at 256 pixels, and that writing it takes.

  python experiments/benchmarks/checkpoint.py [--repeats=7] [--folder=DIR]

The pools are full: 50 float32 images each. Training pauses while the state is copied; a separate thread then writes the
copy to `--folder` (default: the system's temporary folder).
"""

import os
import statistics
import tempfile
import time

import harness
import numpy as np
import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.models.cyclegan import CycleGAN
from cyclegan_tf.runs import checkpoints
from cyclegan_tf.runs.model_state import Progress


def main() -> None:
    """Prints the size of a checkpoint and the medians of pause and writing time."""
    parser = harness.make_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=7, help="checkpoints to write")
    parser.add_argument("--folder", help="folder for the checkpoints")
    args = parser.parse_args()
    model = CycleGAN(Config())
    for pool in model.pools.values():
        pool.draw((pool.size, 256, 256, 3))
        pool.store([np.zeros((1, 256, 256, 3), np.float32)] * pool.size)
    pauses, writes = [], []
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        writer = checkpoints.Writer(folder, keep=1)
        for step in range(1, args.repeats + 1):
            start = time.perf_counter()
            writer.save(model, Progress(step))
            copied = time.perf_counter()
            writer.wait()
            pauses.append(copied - start)
            writes.append(time.perf_counter() - copied)
        (name,) = os.listdir(folder)
        size = os.path.getsize(os.path.join(folder, name))
        writer.close()
    print(f"TensorFlow {tf.__version__}: {size / 1e6:.0f} MB; training pauses for {statistics.median(pauses):.2f} s, "
          f"writing takes {statistics.median(writes):.2f} s more (medians of {args.repeats})")


if __name__ == "__main__":
    main()
