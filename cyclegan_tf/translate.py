"""Translates images, folders of images and videos with a trained generator.

  python -m cyclegan_tf.translate --model=runs/horse2zebra --input=photos --output=zebras
  python -m cyclegan_tf.translate --model=runs/horse2zebra --direction=b2a --input='photos/**/*.jpg' --output=horses
  python -m cyclegan_tf.translate --model=latest_net_G_A.pth --input=large.png --output=results --tile=512
  python -m cyclegan_tf.translate --model=runs/horse2zebra --input=clip.mp4 --output=results

The model is a run directory, a SavedModel folder, a generator's .pth file of the authors' code, a .tflite file,
or demo: the trained model in the package, which makes maps of satellite images.
Images of any size and aspect are translated whole, at their own size, and written under their own names below --output,
in the format they came in where Pillow writes it without loss, or JPEG; else as .png. Gray stays gray, 16 bits stay 16
bits, the color profile, EXIF and the transparency are kept. An animation gives its first frame.

Files that cannot be read are named on stderr and left out. Exit status: 0, or 1 if there were such files, or 2 for a
mistake in the options, such as results that are there already; nothing is written then.
"""

import sys

from absl import flags

from cyclegan_tf import cli
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.errors import UserError


def main(argv):
    """Parses the flags and translates."""
    del argv
    given = flags.FLAGS
    for name in ("model", "input", "output"):
        if not given[name].value:
            raise UserError(f"--{name} is missing; see --help")

    # Import TensorFlow, which --help can do without.
    from tqdm import tqdm

    from cyclegan_tf.inference import batch, loading

    found = batch.find(given.input, given.output)
    model = loading.load(given.model, given.direction)
    jobs = batch.plan(found, given.output, model.output_channels, given.overwrite)
    bar_format = "{percentage:3.0f}%|{bar}| {n:.1f}/{total} [{elapsed}<{remaining}]"
    with tqdm(total=len(jobs), bar_format=bar_format, disable=not sys.stderr.isatty()) as bar:
        bad = batch.run(model, jobs, given.batch_size, given.tile, bar.update)
    for path, reason in bad.items():
        print(f"left out {path}: {reason}", file=sys.stderr)
    print(f"translated {len(jobs) - len(bad)} of {len(jobs)} files into {given.output}", file=sys.stderr)
    return 1 if bad else 0


def _define_flags():
    # When this is the command line, not at import: others have flags called model and output, too.
    flags.DEFINE_string("model", None, "run directory, SavedModel folder, .pth or .tflite file; or demo, a trained "
                        "model of satellite images to maps")
    flags.DEFINE_string("input", None, "image or video; folder, whose images are meant; or pattern, in quotes")
    flags.DEFINE_string("output", None, "folder for the results; for a single input also a file")
    flags.DEFINE_enum_class("direction", None, Direction, "which way, of a run; default a2b")
    flags.DEFINE_integer(
        "tile", 0, "side of the tiles, in pixels, that larger images are translated by, in bounded memory and with the "
        "same result; 0: whole images", lower_bound=0,
    )
    flags.DEFINE_integer(
        "batch_size", 4, "images of one size, of a megapixel together, or frames that are translated at once",
        lower_bound=1,
    )
    flags.DEFINE_bool("overwrite", False, "replace results that are there already")


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
