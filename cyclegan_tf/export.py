"""Exports a trained generator to another format, and verifies the result in the runtime of that format.

  cyclegan export --model=runs/demo --format=tflite --output=exports
  cyclegan export --model=runs/demo --format=web --output=page

Formats: saved_model; keras, a .keras file that loads without this package; tflite, in four precisions; onnx; web, a
folder of static files that translates images and the camera's picture in a browser. Each export prints one line: size,
largest difference from the images of this package in units of the range [-1, 1], and latency. An export that differs by
more than the stated bound is an error and is removed. tflite, onnx and web need: pip install 'cyclegan_tf[export]'
"""

import itertools
import re

from absl import flags

from cyclegan_tf import cli
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.config.options import require_names
from cyclegan_tf.errors import UserError
from cyclegan_tf.exporters import formats


def main(argv: list[str]) -> int:
    """Parses the flags and exports; returns the exit status."""
    del argv
    given = flags.FLAGS
    cli.require_given(
        "model", "format", "output", remedy=f"give --model=RUN, --format={'|'.join(formats.FORMATS)} and --output=DIR"
    )
    cli.require_given("precision", remedy=f"give some of {', '.join(formats.PRECISIONS)}")
    precisions = require_names("precision", ",".join(given.precision), formats.PRECISIONS)
    for option in itertools.chain.from_iterable(format_.options for format_ in formats.FORMATS.values()):
        users = [name for name, format_ in formats.FORMATS.items() if option in format_.options]
        if given.format not in users:
            cli.refuse_given([option], f"is for {' and '.join(users)}, not for --format={given.format}")
    formats.export(
        given.model, given.format, given.output, given.direction, precisions, _parse_size(given.size),
        given.max_side, given.runtime_dir, given.overwrite,
    )
    return 0


def _parse_size(text: str | None) -> tuple[int, int] | None:
    """(height, width) from "HEIGHTxWIDTH" or from the side of a square; None from no text."""
    if not text:
        return None
    match = re.fullmatch(r"([0-9]{1,5})(?:x([0-9]{1,5}))?", text)
    if not match:
        raise UserError(f"--size={text} is not HEIGHTxWIDTH in pixels, as in --size=256x256")
    return int(match[1]), int(match[2] or match[1])


def _define_flags() -> None:
    # Not at import, because other commands have flags of the same names.
    cli.define_path("model", None, "run directory, one of its checkpoint files, demo or demo_maps")
    flags.DEFINE_enum("format", None, list(formats.FORMATS), "format of the export")
    cli.define_path("output", None, "folder to write to; the files are named after the direction")
    flags.DEFINE_enum_class("direction", None, Direction, "direction of the generator; default: all directions of the "
                            "run for web; a2b, or the run's only direction, for other formats")
    flags.DEFINE_list("precision", list(formats.PRECISIONS),
                      f"precisions of tflite files: {', '.join(formats.PRECISIONS)}")
    flags.DEFINE_string("size", None, "HEIGHTxWIDTH of the images that a tflite or onnx file takes; default: any "
                        "multiple of 4 (ResNets), 2^n_downs (U-Net) or 16 (unet_book)")
    flags.DEFINE_integer("max_side", 512, "longer side, in pixels, to which a web page scales larger images unless its "
                         "user changes it", lower_bound=16, upper_bound=2**16)
    cli.define_path("runtime_dir", None, "folder of the unpacked npm package onnxruntime-web, for web; default: "
                        "npm downloads the package once")
    flags.DEFINE_bool("overwrite", False, "replace files of the same names in --output")


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
