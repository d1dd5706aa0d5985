"""Memory, time and disk of a large translation by tiles, and its difference from the untiled one.

  python experiments/benchmarks/tiles.py --size=6000x4000 [--tile=512] [--whole]

Width by height. The paper's ResNet-9 with 64 filters and random weights, on a random image of 8 bits; each side runs in
a process of its own, so that peak memory is its own. `--whole` also translates without tiles, and compares; then the
image is float32, so that nothing is rounded away.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # As cyclegan_tf's command lines do.

import numpy as np


def translate(width, height, tile, output, kind):
    """Translates one image; writes it as .npy and prints seconds and peak MiB."""
    import tensorflow as tf

    from cyclegan_tf.config import Config
    from cyclegan_tf.images import ranges
    from cyclegan_tf.inference import translator as translator_lib
    from cyclegan_tf.networks import registry

    tf.keras.utils.set_random_seed(0)
    translator = translator_lib.translator(Config(), registry.build_generator(Config(), "gen_ab"))
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    image = image if kind == "uint8" else ranges.to_float(image)
    start = time.perf_counter()
    if tile:
        result = translator.tiled(image, tile, folder=os.path.dirname(output))
    else:
        result = translator.float_images(image[np.newaxis])["images"][0].numpy()
    seconds = time.perf_counter() - start
    np.save(output, result)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{width} x {height}, {f'tiles of {tile}' if tile else 'whole'}: {seconds:.0f} s, peak {peak:.0f} MiB")


def main():
    """Prints a line for each side, and their largest difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1500x1000")
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--output", help=argparse.SUPPRESS)
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    given = parser.parse_args()
    width, height = map(int, given.size.split("x"))
    if given.output:
        translate(width, height, given.tile, given.output, given.kind)
        return
    with tempfile.TemporaryDirectory() as folder:
        sides = {given.tile: f"{folder}/tiled.npy"} | ({0: f"{folder}/whole.npy"} if given.whole else {})
        for tile, path in sides.items():
            command = [sys.executable, __file__, f"--size={given.size}", f"--tile={tile}", f"--output={path}",
                       f"--kind={'float32' if given.whole else 'uint8'}"]
            subprocess.run(command, check=True)
        if given.whole:
            tiled, whole = (np.load(path) for path in sides.values())
            print(f"largest difference: {np.abs(tiled - whole).max():.1e} in [-1, 1]")


if __name__ == "__main__":
    main()
