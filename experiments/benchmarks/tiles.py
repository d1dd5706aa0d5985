"""Memory, time and disk space of translating a large image by tiles, and the difference from translating it whole.

  python experiments/benchmarks/tiles.py --size=6000x4000 [--tile=512] [--whole]

A size is width x height. The network is the paper's ResNet-9 with 64 filters and random weights; the image is random,
with 8 bits. Each side runs in a separate process, which has its own peak memory. `--whole` also translates without
tiles and compares the results; the image is then float32, so that no difference is rounded away.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time

import harness
import numpy as np


def translate(width: int, height: int, tile: int, output: str, kind: str) -> None:
    """Translates one image, writes the result to `output` (.npy), and prints seconds and peak MiB.

    Args:
      tile: side of the tiles in pixels; 0 translates the image whole.
      kind: type of the image, "uint8" or "float32".
    """
    import tensorflow as tf

    from cyclegan_tf.config import Config
    from cyclegan_tf.images import ranges
    from cyclegan_tf.inference import translator as translator_lib
    from cyclegan_tf.networks import registry

    tf.keras.utils.set_random_seed(0)
    translator = translator_lib.make_translator(Config(), registry.build_generator(Config(), "gen_ab"))
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    image = image if kind == "uint8" else ranges.to_float(image)
    start = time.perf_counter()
    result = translator.translate_pixels(image, tile, folder=os.path.dirname(output))
    seconds = time.perf_counter() - start
    np.save(output, result)
    print(f"{width} x {height}, {f'tiles of {tile}' if tile else 'whole'}: {seconds:.0f} s, "
          f"peak {harness.peak_memory():.0f} MiB")


def main() -> None:
    """Prints a line for each side and the largest difference between them."""
    parser = harness.make_parser(__doc__)
    parser.add_argument("--size", default="1500x1000", metavar="WIDTHxHEIGHT")
    parser.add_argument("--tile", type=int, default=512, help="side of the tiles in pixels")
    parser.add_argument("--whole", action="store_true", help="also translate without tiles, and compare")
    parser.add_argument("--output", help=argparse.SUPPRESS)
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    if args.output:
        translate(width, height, args.tile, args.output, args.kind)
        return
    with tempfile.TemporaryDirectory() as folder:
        sides = {args.tile: f"{folder}/tiled.npy"} | ({0: f"{folder}/whole.npy"} if args.whole else {})
        for tile, path in sides.items():
            command = [sys.executable, __file__, f"--size={args.size}", f"--tile={tile}", f"--output={path}",
                       f"--kind={'float32' if args.whole else 'uint8'}"]
            subprocess.run(command, check=True)
        if args.whole:
            tiled, whole = (np.load(path) for path in sides.values())
            print(f"largest difference: {np.abs(tiled - whole).max():.1e} in [-1, 1]")


if __name__ == "__main__":
    main()
