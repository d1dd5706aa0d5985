"""Time to open a data set of volumes and to read its slices in training, compared with the same slices as PNG files.

  python experiments/benchmarks/slices.py [--volumes=20] [--slices=50] [--side=256]

Writes volumes of 12-bit values to the temporary folder in each format, then lists them as training does, and decodes
slices in random order to floats in [-1, 1], on one thread. Prints for each format the seconds to list the slices, the
milliseconds of CPU time for a slice (median of 3 passes), and the size on the disk. NIfTI needs nibabel.
"""

import dataclasses
import functools
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import harness
import numpy as np
import tifffile
from PIL import Image

from cyclegan_tf.config.value_ranges import ValueRange
from cyclegan_tf.data import folders, slices
from cyclegan_tf.images.stacks import StackOptions

RANGE = ValueRange(0, 4095)


def make_volume(rng: np.random.Generator, n_slices: int, side: int) -> np.ndarray:
    """A volume of smooth structures with noise, uint16 (n_slices, side, side)."""
    coarse = rng.uniform(0, 4000, (n_slices, 8, 8)).astype(np.float32)
    smooth = [np.asarray(Image.fromarray(each).resize((side, side), Image.Resampling.BICUBIC)) for each in coarse]
    return np.clip(np.stack(smooth) + rng.normal(0, 15, (n_slices, side, side)), 0, 4095).astype(np.uint16)


def write_png(path: Path, volume: np.ndarray) -> None:
    """Writes each slice as a PNG file of 16 bits."""
    for number, plane in enumerate(volume):
        Image.fromarray(plane).save(f"{path}-{number:04d}.png")


def write_tiff(path: Path, volume: np.ndarray, compression: str | None) -> None:
    """Writes a stack with a page for each slice."""
    tifffile.imwrite(f"{path}.tif", volume, photometric="minisblack", compression=compression)


def write_nifti(path: Path, volume: np.ndarray, suffix: str) -> None:
    """Writes a NIfTI volume."""
    import nibabel

    nibabel.Nifti1Image(volume.transpose(2, 1, 0).astype(np.int16), np.eye(4)).to_filename(f"{path}{suffix}")


def list_formats() -> dict[str, Callable[[Path, np.ndarray], None]]:
    """The function that writes a volume to PATH and a suffix, for each format."""
    formats: dict[str, Callable[[Path, np.ndarray], None]] = {
        "PNG": write_png, "TIFF": functools.partial(write_tiff, compression=None),
        "TIFF, Deflate": functools.partial(write_tiff, compression="zlib"),
        "TIFF, Zstandard": functools.partial(write_tiff, compression="zstd"),
    }
    if importlib.util.find_spec("nibabel"):
        formats["NIfTI"] = functools.partial(write_nifti, suffix=".nii")
        formats["NIfTI, gzip"] = functools.partial(write_nifti, suffix=".nii.gz")
    return formats


def main() -> None:
    """Prints a table."""
    parser = harness.make_parser(__doc__)
    parser.add_argument("--volumes", type=int, default=20, help="number of volumes")
    parser.add_argument("--slices", type=int, default=50, help="slices of a volume")
    parser.add_argument("--side", type=int, default=256, help="side of a slice in pixels")
    args = parser.parse_args()
    print(f"| {args.volumes} volumes of {args.slices} slices of {args.side} px | s to list | ms a slice | MB |")
    print("|---|---|---|---|")
    for name, write in list_formats().items():
        with tempfile.TemporaryDirectory() as folder:
            rng = np.random.default_rng(0)
            for number in range(args.volumes):
                write(Path(folder, f"{number:04d}"), make_volume(rng, args.slices, args.side))
            start = time.monotonic()
            files = dataclasses.replace(folders.list_folder(folder), channels=1, value_range=RANGE)
            found = slices.expand(files, StackOptions(channels=1, in_units=True))
            seconds = time.monotonic() - start
            order, passes = rng.permutation(len(found)).tolist(), []
            for _ in range(3):
                start = time.process_time()
                for index in order:
                    found.decode(index)
                passes.append(1000 * (time.process_time() - start) / len(order))
            size = sum(path.stat().st_size for path in Path(folder).iterdir()) / 1e6
            print(f"| {name} | {seconds:.2f} | {statistics.median(passes):.2f} | {size:.0f} |", flush=True)


if __name__ == "__main__":
    main()
