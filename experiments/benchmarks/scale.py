"""Peak memory and time to the first batch of the data pipeline on folders of many images, links to one set of files.

  python experiments/benchmarks/scale.py FOLDER COUNT [--steps=200]

FOLDER has trainA and trainB. Links trainA/0000000.jpg ... to their files are made in a temporary folder, COUNT in all.
"""

import argparse
import itertools
import os
import resource
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from cyclegan_tf.config import Config
from cyclegan_tf.data import pipeline, sources


def link(folder, count, target):
    """Makes target/trainA and target/trainB with `count` links in all."""
    for part in ("trainA", "trainB"):
        os.makedirs(os.path.join(target, part))
        files = sorted(os.path.abspath(os.path.join(folder, part, name)) for name in os.listdir(f"{folder}/{part}"))
        for index, file in zip(range(count // 2), itertools.cycle(files), strict=False):
            os.symlink(file, os.path.join(target, part, f"{index:07d}{os.path.splitext(file)[1]}"))


def main():
    """Prints seconds and MiB."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("count", type=int)
    parser.add_argument("--steps", type=int, default=200)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as target:
        link(given.folder, given.count, target)
        start = time.perf_counter()
        dataset = sources.open_dataset(Config(dataset=target))
        listed = time.perf_counter() - start
        batches = iter(pipeline.make_batches(dataset, Config(), 0, given.steps)[0])
        next(batches)
        first = time.perf_counter() - start
        for _ in range(given.steps - 1):
            next(batches)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{given.count} images: listed in {listed:.2f} s, first batch after {first:.2f} s, peak {peak:.0f} MiB")


if __name__ == "__main__":
    main()
