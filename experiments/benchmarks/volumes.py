"""Time and memory of training batches from many volumes, compared with the same slices as PNG files.

  python experiments/benchmarks/volumes.py [--volumes=200] [--side=160] [--slices=200]

Writes eight different volumes of --side^3 voxels of int16, as .nii and as .nii.gz, and a number of links to them, to a
temporary folder. Prints for each format the time until all slices are listed and the first batch is read, the time of a
slice in random order, and the memory of this process beside that before. The PNG files hold the slices with 16 bits.
"""

import itertools
import os
import tempfile
import time
from pathlib import Path

import harness
import nibabel
import numpy as np
import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.data import pipeline, sources
from cyclegan_tf.data.dataset import ImageList

DIFFERENT = 8


def make_volume(side: int, seed: int) -> np.ndarray:
    """A ball with noise in air, as int16."""
    axis = np.linspace(-1, 1, side, dtype=np.float32)
    distance = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2
    noise = np.random.default_rng(seed).normal(0, 40, (side, side, side)).astype(np.float32)
    return np.where(distance < 0.8, 1000 * (1 - distance) + noise, 0).astype(np.int16)


def write_sets(folder: Path, n_volumes: int, side: int, n_slices: int) -> None:
    """Writes a data set of each format: nii, nii.gz and png."""
    for kind in ("nii", "nii.gz", "png"):
        for part in ("trainA", "trainB"):
            (folder / kind / part).mkdir(parents=True)
    for number in range(DIFFERENT):
        array = make_volume(side, number)
        image = nibabel.Nifti1Image(array, np.eye(4))
        for kind in ("nii", "nii.gz"):
            first = folder / kind / "trainA" / f"{number:04d}.{kind}"
            nibabel.save(image, first)
            for other in range(number, n_volumes, DIFFERENT):
                for part in ("trainA", "trainB"):
                    path = folder / kind / part / f"{other:04d}.{kind}"
                    if path != first:
                        os.link(first, path)
        for index in np.linspace(side // 4, 3 * side // 4, n_slices // DIFFERENT, dtype=int):
            plane = np.clip(array[:, :, index].T[::-1, ::-1], 0, None).astype(np.uint16)
            data = tf.io.encode_png(np.ascontiguousarray(plane)[..., np.newaxis]).numpy()
            for part in ("trainA", "trainB"):
                (folder / "png" / part / f"{number}-{index}.png").write_bytes(data)


def measure(folder: Path, n_slices: int) -> str:
    """Lists the slices of a data set, reads the first batch, then slices in random order."""
    before, start = read_memory(), time.perf_counter()
    config = Config(
        dataset=str(folder), input_channels=1, output_channels=1, range_a="0,1200", range_b="0,1200", cache="off",
        pool_size=0,
    )
    dataset = sources.open_dataset(config)
    listed = time.perf_counter() - start
    stream, _ = pipeline.make_batches(dataset, config, 0, 1)
    next(iter(stream))
    first = time.perf_counter() - start
    read_slices(dataset.train_a, DIFFERENT)
    start = time.perf_counter()
    read_slices(dataset.train_a, n_slices)
    each = (time.perf_counter() - start) / n_slices
    return (f"{len(dataset.train_a)} slices listed in {listed:.1f} s, first batch after {first:.1f} s, "
            f"{1000 * each:.2f} ms a slice, {read_memory() - before} MiB")


def read_slices(image_list: ImageList, count: int) -> None:
    """Decodes images in random order."""
    order = np.random.default_rng(1).permutation(len(image_list))
    for index in itertools.islice(itertools.cycle(order), count):
        image_list.decode(int(index))


def read_memory() -> int:
    """The memory of this process in MiB, not counting memory-mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) // 1024


def main() -> None:
    """Parses the command line."""
    parser = harness.make_parser(__doc__)
    parser.add_argument("--volumes", type=int, default=200)
    parser.add_argument("--side", type=int, default=160)
    parser.add_argument("--slices", type=int, default=200)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        write_sets(Path(name), given.volumes, given.side, given.slices)
        for kind in ("png", "nii", "nii.gz"):
            print(f"{kind}: {measure(Path(name) / kind, given.slices)}", flush=True)


if __name__ == "__main__":
    main()
