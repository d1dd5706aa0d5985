"""Peak memory and time to the first batch of the data pipeline, for folders with many images.

  python experiments/benchmarks/scale.py FOLDER COUNT [--steps=200]

FOLDER has trainA and trainB. A temporary folder gets COUNT links in all to their files: trainA/0000000.jpg and so on.
"""

import itertools
import os
import tempfile
import time

import harness

from cyclegan_tf.config import Config
from cyclegan_tf.data import pipeline, sources


def make_links(folder: str, count: int, target: str) -> None:
    """Makes target/trainA and target/trainB, with `count` links in all to the files of `folder`."""
    for part in ("trainA", "trainB"):
        os.makedirs(os.path.join(target, part))
        files = sorted(os.path.abspath(os.path.join(folder, part, name)) for name in os.listdir(f"{folder}/{part}"))
        for index, file in zip(range(count // 2), itertools.cycle(files), strict=False):
            os.symlink(file, os.path.join(target, part, f"{index:07d}{os.path.splitext(file)[1]}"))


def main() -> None:
    """Prints seconds and peak MiB."""
    parser = harness.make_parser(__doc__)
    parser.add_argument("folder", metavar="FOLDER", help="has trainA and trainB")
    parser.add_argument("count", metavar="COUNT", type=int, help="images in all")
    parser.add_argument("--steps", type=int, default=200, help="batches to take")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as target:
        make_links(args.folder, args.count, target)
        start = time.perf_counter()
        dataset = sources.open_dataset(Config(dataset=target))
        listed = time.perf_counter() - start
        batches = iter(pipeline.make_batches(dataset, Config(), 0, args.steps)[0])
        next(batches)
        first = time.perf_counter() - start
        for _ in range(args.steps - 1):
            next(batches)
        peak = harness.peak_memory()
    print(f"{args.count} images: listed in {listed:.2f} s, first batch after {first:.2f} s, peak {peak:.0f} MiB")


if __name__ == "__main__":
    main()
