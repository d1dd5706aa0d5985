"""Images per second of the data pipeline and of PyTorch's DataLoader, for the same files and the same operations.

  python experiments/benchmarks/pipeline.py FOLDER [--images=2000] [--repeats=5]

FOLDER has trainA and trainB with JPEG files. Both sides decode with Pillow, resize to 286 x 286 (bicubic), crop 256 x
256 at random, mirror at random, and return float32 in [-1, 1] in batches of one A and one B. The PyTorch side applies
the torchvision transforms of the CycleGAN authors' code, written out as the same Pillow calls. The sides take turns in
one process, so they see the same load on the machine; the DataLoader's workers are separate processes. Run the script
under `taskset -c 0` for the figures of one core. Needs PyTorch.
"""

import os
import random
import time
from collections.abc import Iterator
from typing import Literal

import harness
import numpy as np
import tensorflow as tf
import torch
from PIL import Image

from cyclegan_tf.config import Config
from cyclegan_tf.data import pipeline, sources

LOAD_SIZE, CROP_SIZE = 286, 256
Batch = tuple[np.ndarray, np.ndarray]


class AuthorsDataset(torch.utils.data.Dataset):
    """Unpaired images with the authors' transforms: image i of A and a random image of B."""

    def __init__(self, folder: str) -> None:
        parts = [os.path.join(folder, part) for part in ("trainA", "trainB")]
        self.paths = [sorted(os.path.join(part, name) for name in os.listdir(part)) for part in parts]

    def __len__(self) -> int:
        return max(map(len, self.paths))

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = self.paths
        return self._transform(a[index % len(a)]), self._transform(b[random.randint(0, len(b) - 1)])

    @staticmethod
    def _transform(path: str) -> torch.Tensor:
        image = Image.open(path).convert("RGB").resize((LOAD_SIZE, LOAD_SIZE), Image.Resampling.BICUBIC)
        x, y = random.randint(0, LOAD_SIZE - CROP_SIZE), random.randint(0, LOAD_SIZE - CROP_SIZE)
        image = image.crop((x, y, x + CROP_SIZE, y + CROP_SIZE))
        if random.random() > 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        # torchvision's ToTensor and Normalize.
        tensor = torch.from_numpy(np.array(image, np.uint8, copy=True)).permute(2, 0, 1).contiguous()
        return tensor.to(torch.float32).div(255).sub_(0.5).div_(0.5)


def load_with_torch(folder: str, workers: int) -> Iterator[Batch]:
    """Yields batches of the DataLoader, epoch after epoch."""
    loader = torch.utils.data.DataLoader(
        AuthorsDataset(folder), batch_size=1, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    while True:
        for a, b in loader:
            yield a.numpy(), b.numpy()


def load_with_tensorflow(folder: str, cache: Literal["off", "memory"]) -> Iterator[Batch]:
    """Returns an iterator over this package's batches, after the first epoch if `cache` is "memory"."""
    dataset = sources.open_folder(folder)
    stream, _ = pipeline.make_batches(dataset, Config(cache=cache), 0, 10**6)
    batches = iter(stream)
    if cache == "memory":
        # The first epoch fills the cache; the benchmark measures later epochs.
        for _ in range(max(len(dataset.train_a), len(dataset.train_b))):
            next(batches)
    return batches


def measure_images_per_second(batches: Iterator[Batch], steps: int) -> float:
    """Takes `steps` batches; returns images per second."""
    start = time.perf_counter()
    for _ in range(steps):
        a, b = next(batches)
        assert np.shape(a)[0] == np.shape(b)[0] == 1
    return 2 * steps / (time.perf_counter() - start)


def main() -> None:
    """Prints the median images per second of each loader."""
    parser = harness.make_parser(__doc__)
    parser.add_argument("folder", metavar="FOLDER", help="has trainA and trainB with JPEG files")
    parser.add_argument("--images", type=int, default=2000, help="images of each measurement")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each loader")
    args = parser.parse_args()
    cores = harness.count_cores()
    # One thread, as in a DataLoader's workers; more threads would compete for the cores.
    torch.set_num_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(cores)
    tf.config.threading.set_intra_op_parallelism_threads(cores)
    # The workers must be forked before TensorFlow starts threads.
    loaders = {f"PyTorch DataLoader, {workers} workers": load_with_torch(args.folder, workers)
               for workers in ((0, 1) if cores == 1 else (0, 1, cores))}
    for batches in loaders.values():
        measure_images_per_second(batches, 20)
    loaders["cyclegan_tf, --cache=off"] = load_with_tensorflow(args.folder, "off")
    loaders["cyclegan_tf, --cache=memory, after one epoch"] = load_with_tensorflow(args.folder, "memory")
    speeds: dict[str, list[float]] = {name: [] for name in loaders}
    for _ in range(args.repeats):
        for name, batches in loaders.items():
            measure_images_per_second(batches, 20)
            speeds[name].append(measure_images_per_second(batches, args.images // 2))
    print(f"{cores} cores, TensorFlow {tf.__version__}, PyTorch {torch.__version__}, median of {args.repeats}")
    for name, values in speeds.items():
        print(f"{name:46} {harness.format_spread(values, 'images/s', 0)}")


if __name__ == "__main__":
    main()
