"""Images per second of the data pipeline beside PyTorch's DataLoader, on the same files with the same operations.

  python experiments/benchmarks/pipeline.py FOLDER [--images=2000] [--repeats=5]

FOLDER has trainA and trainB with JPEG files. Both sides decode with Pillow, resize to 286 x 286 (bicubic), crop
256 x 256 at random, mirror at random, and give float32 in [-1, 1] in batches of one A and one B. The torch side is the
transforms that the CycleGAN authors' code has of torchvision, written out with the same Pillow calls. Rows alternate
within one process, so that they see the same machine; torch's workers are processes. Start it under `taskset -c 0` for
the figures of one core. Needs PyTorch.
"""

import argparse
import os
import random
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import torch
from PIL import Image

from cyclegan_tf.config import Config
from cyclegan_tf.data import pipeline, sources

LOAD, CROP = 286, 256


class AuthorsDataset(torch.utils.data.Dataset):
    """Unpaired images with the authors' transforms: image i of A and a random one of B."""

    def __init__(self, folder):
        parts = [os.path.join(folder, part) for part in ("trainA", "trainB")]
        self.paths = [sorted(os.path.join(part, name) for name in os.listdir(part)) for part in parts]

    def __len__(self):
        return max(map(len, self.paths))

    def __getitem__(self, index):
        a, b = self.paths
        return self._transform(a[index % len(a)]), self._transform(b[random.randint(0, len(b) - 1)])

    @staticmethod
    def _transform(path):
        image = Image.open(path).convert("RGB").resize((LOAD, LOAD), Image.Resampling.BICUBIC)
        x, y = random.randint(0, LOAD - CROP), random.randint(0, LOAD - CROP)
        image = image.crop((x, y, x + CROP, y + CROP))
        if random.random() > 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        # torchvision's ToTensor and Normalize.
        tensor = torch.from_numpy(np.array(image, np.uint8, copy=True)).permute(2, 0, 1).contiguous()
        return tensor.to(torch.float32).div(255).sub_(0.5).div_(0.5)


def torch_batches(folder, workers):
    loader = torch.utils.data.DataLoader(
        AuthorsDataset(folder), batch_size=1, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    while True:
        for a, b in loader:
            yield a.numpy(), b.numpy()


def tf_batches(folder, cache):
    dataset = sources.open_folder(folder)
    stream, _ = pipeline.make_batches(dataset, Config(cache=cache), 0, 10**6)
    if cache == "memory":
        # The first epoch fills the cache; every later one is what is measured.
        batches = iter(stream)
        for _ in range(max(len(dataset.train_a), len(dataset.train_b))):
            next(batches)
        return batches
    return iter(stream)


def images_per_second(batches, steps):
    start = time.perf_counter()
    for _ in range(steps):
        a, b = next(batches)
        assert np.shape(a)[0] == np.shape(b)[0] == 1
    return 2 * steps / (time.perf_counter() - start)


def main():
    """Prints a table of medians."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--images", type=int, default=2000, help="images of each measurement")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    # As in a DataLoader's workers. More would only wait for each other where another program has a core.
    torch.set_num_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(cores)
    tf.config.threading.set_intra_op_parallelism_threads(cores)
    # The workers are forked before TensorFlow has threads.
    rows = {f"PyTorch DataLoader, {workers} workers": torch_batches(given.folder, workers)
            for workers in ((0, 1) if cores == 1 else (0, 1, cores))}
    for batches in rows.values():
        images_per_second(batches, 20)
    rows["cyclegan_tf, --cache=off"] = tf_batches(given.folder, "off")
    rows["cyclegan_tf, --cache=memory, after one epoch"] = tf_batches(given.folder, "memory")
    speeds = {name: [] for name in rows}
    for _ in range(given.repeats):
        for name, batches in rows.items():
            images_per_second(batches, 20)
            speeds[name].append(images_per_second(batches, given.images // 2))
    print(f"{cores} cores, TensorFlow {tf.__version__}, PyTorch {torch.__version__}, median of {given.repeats}")
    for name, values in speeds.items():
        print(f"{name:46} {statistics.median(values):7.0f} images/s  ({min(values):.0f} to {max(values):.0f})")


if __name__ == "__main__":
    main()
