"""Images per second of cyclegan_tf.translate beside the authors' test loop in PyTorch, on one machine in one run.

  python experiments/benchmarks/translate.py --images=FOLDER [--count=16] [--repeats=3]

Both run the paper's ResNet-9 generator with 64 filters, on the CPU, over the same photographs at 256 x 256 pixels,
from the file that is read to the PNG file that is written. PyTorch's side does what the authors' test.py does: one
image at a time, decoded and resized by Pillow, the network without gradients, the result and nothing else saved. The
sides alternate; medians are printed. Each side is warmed up by one pass, and both use all cores.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # As cyclegan_tf's command lines do.

import numpy as np
import tensorflow as tf
import torch
import torch_twin
from PIL import Image

from cyclegan_tf.config import Config
from cyclegan_tf.inference import batch as batch_lib
from cyclegan_tf.inference import loading
from cyclegan_tf.inference import translator as translator_lib
from cyclegan_tf.networks import registry


def torch_pass(network, paths, output):
    """The authors' test loop over the files."""
    with torch.no_grad():
        for path in paths:
            image = Image.open(path).convert("RGB").resize((256, 256), Image.Resampling.BICUBIC)
            pixels = torch.from_numpy(np.asarray(image).transpose(2, 0, 1).astype(np.float32) / 127.5 - 1)
            result = network(pixels[None])[0]
            array = ((result.numpy().transpose(1, 2, 0) + 1) * 127.5).astype(np.uint8)
            Image.fromarray(array).save(os.path.join(output, f"{Path(path).stem}.png"))


def main():
    """Prints images per second of both sides."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True)
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[1, 4])
    given = parser.parse_args()
    sources = sorted(path for path in Path(given.images).rglob("*") if path.suffix.lower() in (".jpg", ".png"))
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for index, path in enumerate(sources[: given.count]):
            paths.append(f"{folder}/in/{index:04d}.png")
            os.makedirs(f"{folder}/in", exist_ok=True)
            os.makedirs(f"{folder}/torch", exist_ok=True)
            Image.open(path).convert("RGB").resize((256, 256), Image.Resampling.BICUBIC).save(paths[-1])
        translator = translator_lib.translator(Config(), registry.build_generator(Config(), "gen_ab"))
        model = loading.Model(lambda batch: translator.float_images(batch)["images"], 3, 3, translator)
        network = torch_twin.generator().eval()
        jobs = [batch_lib.Job(path, f"{folder}/tensorflow/{Path(path).name}") for path in paths]
        sides = {"PyTorch, test loop": lambda: torch_pass(network, paths, f"{folder}/torch")}
        for size in given.batch_sizes:
            sides[f"translate, batch {size}"] = lambda size=size: batch_lib.run(model, jobs, size)
        seconds = {name: [] for name in sides}
        for repeat in range(given.repeats + 1):
            for name, side in sides.items():
                start = time.perf_counter()
                side()
                if repeat:
                    seconds[name].append(time.perf_counter() - start)
    print(f"TensorFlow {tf.__version__}, PyTorch {torch.__version__}, {torch.get_num_threads()} threads, "
          f"{len(paths)} images of 256 x 256, {given.repeats} repeats")
    for name, values in seconds.items():
        speeds = sorted(len(paths) / value for value in values)
        print(f"{name}: {statistics.median(speeds):.3f} images/s (from {speeds[0]:.3f} to {speeds[-1]:.3f})")


if __name__ == "__main__":
    main()
