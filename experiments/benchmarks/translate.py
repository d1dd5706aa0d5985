"""Images per second of cyclegan_tf.translate and of the authors' test loop in PyTorch, measured in turns.

  python experiments/benchmarks/translate.py --images=FOLDER [--count=16] [--repeats=3]

Both sides run the paper's ResNet-9 generator with 64 filters on the CPU, on the same photographs at 256 x 256 pixels,
from reading a file to writing a PNG file. The PyTorch side does the same as the authors' test.py: one image at a time,
decoded and resized with Pillow, the network without gradients, and only the result saved. Each side has one pass of
warm-up, both use all cores, and the printed figures are medians. Needs PyTorch.
"""

import functools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import harness
import numpy as np
import torch
import torch_twin  # Before TensorFlow; the module says why.
from PIL import Image

import tensorflow as tf  # isort: skip

from cyclegan_tf.config import Config
from cyclegan_tf.images.stacks import StackOptions
from cyclegan_tf.inference import batch as batch_lib
from cyclegan_tf.inference import loading
from cyclegan_tf.inference import translator as translator_lib
from cyclegan_tf.inference.jobs import Job
from cyclegan_tf.networks import registry


def translate_with_torch(network: torch.nn.Module, paths: list[str], output: str) -> None:
    """Runs the authors' test loop over the files."""
    with torch.no_grad():
        for path in paths:
            image = Image.open(path).convert("RGB").resize((256, 256), Image.Resampling.BICUBIC)
            pixels = torch.from_numpy(np.asarray(image).transpose(2, 0, 1).astype(np.float32) / 127.5 - 1)
            result = network(pixels[None])[0]
            array = ((result.numpy().transpose(1, 2, 0) + 1) * 127.5).astype(np.uint8)
            Image.fromarray(array).save(os.path.join(output, f"{Path(path).stem}.png"))


def main() -> None:
    """Prints the images per second of both sides."""
    parser = harness.make_parser(__doc__)
    parser.add_argument("--images", required=True, help="folder of .jpg and .png files")
    parser.add_argument("--count", type=int, default=16, help="images of a pass")
    parser.add_argument("--repeats", type=int, default=3, help="measured passes of each side")
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[1, 4], help="batch sizes of translate")
    args = parser.parse_args()
    sources = sorted(path for path in Path(args.images).rglob("*") if path.suffix.lower() in (".jpg", ".png"))
    with tempfile.TemporaryDirectory() as folder:
        os.makedirs(f"{folder}/in")
        os.makedirs(f"{folder}/torch")
        paths = []
        for index, path in enumerate(sources[: args.count]):
            paths.append(f"{folder}/in/{index:04d}.png")
            Image.open(path).convert("RGB").resize((256, 256), Image.Resampling.BICUBIC).save(paths[-1])
        translator = translator_lib.make_translator(Config(), registry.build_generator(Config(), "gen_ab"))
        model = loading.LoadedTranslator(translator, StackOptions())
        network = torch_twin.generator().eval()
        jobs = [Job(path, f"{folder}/tensorflow/{Path(path).name}") for path in paths]
        sides: dict[str, Callable[[], object]] = {
            "PyTorch, test loop": functools.partial(translate_with_torch, network, paths, f"{folder}/torch")
        }
        for size in args.batch_sizes:
            sides[f"translate, batch {size}"] = functools.partial(batch_lib.run, model, jobs, size)
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for repeat in range(args.repeats + 1):
            for name, side in sides.items():
                start = time.perf_counter()
                side()
                if repeat:
                    seconds[name].append(time.perf_counter() - start)
    print(f"TensorFlow {tf.__version__}, PyTorch {torch.__version__}, {torch.get_num_threads()} threads, "
          f"{len(paths)} images of 256 x 256, {args.repeats} repeats")
    for name, values in seconds.items():
        print(f"{name}: {harness.format_spread([len(paths) / value for value in values], 'images/s', 3)}")


if __name__ == "__main__":
    main()
