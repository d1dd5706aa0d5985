"""Exports a trained generator to another format, and runs the result in its own runtime to see that it is the same.

  python -m cyclegan_tf.export --model=runs/demo --format=tflite --output=exports
  python -m cyclegan_tf.export --model=runs/demo --format=web --output=page --direction=b2a

Formats: saved_model; keras, a .keras file that loads without this package; tflite, in four precisions; onnx; web, a
folder of static files that translates images and the camera in the browser. Each export ends with a line: size,
largest difference from the package's own images in units of the range [-1, 1], latency. One that differs by more than
the stated bound is an error and is not left. tflite, onnx and web need: pip install 'cyclegan_tf[export]'
"""

import re

from absl import flags

from cyclegan_tf import cli
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.errors import UserError
from cyclegan_tf.exporters import formats


def main(argv):
    """Parses the flags and exports."""
    del argv
    given = flags.FLAGS
    for name in ("model", "format", "output"):
        if not given[name].value:
            raise UserError("give --model=RUN, --format=" + "|".join(formats.FORMATS) + " and --output=DIR")
    unknown = [name for name in given.precision if name not in formats.PRECISIONS]
    if unknown or not given.precision:
        raise UserError(f"--precision={','.join(given.precision)}: choose from {', '.join(formats.PRECISIONS)}")
    if given.size and given.format not in ("tflite", "onnx"):
        raise UserError(f"--size is for tflite and onnx; --format={given.format} takes images of any size")
    formats.export(
        given.model, given.format, given.output, given.direction, given.precision, _size(given.size), given.max_side,
        given.runtime_dir, given.overwrite,
    )
    return 0


def _size(text):
    """(height, width) of "HEIGHTxWIDTH" or of one number; None of nothing."""
    if not text:
        return None
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if not match:
        raise UserError(f"--size={text} is not HEIGHTxWIDTH, as in --size=256x256")
    return int(match[1]), int(match[2] or match[1])


def _define_flags():
    # When this is the command line, not at import: others have flags called model and output, too.
    flags.DEFINE_string("model", None, "run directory, a checkpoint of it, or demo")
    flags.DEFINE_enum("format", None, formats.FORMATS, "what to write")
    flags.DEFINE_string("output", None, "folder to write into; files are named after the direction")
    flags.DEFINE_enum_class("direction", Direction.A2B, Direction, "which of the two generators")
    flags.DEFINE_list("precision", list(formats.PRECISIONS), "of tflite: " + ", ".join(formats.PRECISIONS))
    flags.DEFINE_string("size", None, "HEIGHTxWIDTH that a tflite or onnx file takes; default: any multiple of 4 "
                        "(ResNets), 2^n_downs (U-Net) or 16 (unet_book)")
    flags.DEFINE_integer("max_side", 512, "of web: longer side, in pixels, that the page at first scales larger images "
                         "to", lower_bound=16)
    flags.DEFINE_string("runtime_dir", None, "of web: unpacked npm package onnxruntime-web; default: npm gets it once")
    flags.DEFINE_bool("overwrite", False, "replace files of the same names in --output")


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
