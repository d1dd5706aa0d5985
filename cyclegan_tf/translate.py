"""Translates images, folders of images and videos with a trained generator.

  cyclegan translate --model=demo --input=apple.jpg --output=orange.jpg --max_side=256
  cyclegan translate --model=runs/horse2zebra --input=photos --output=zebras
  cyclegan translate --model=runs/horse2zebra --direction=b2a --input='photos/**/*.jpg' --output=horses
  cyclegan translate --model=latest_net_G_A.pth --input=large.png --output=results --tile=512
  cyclegan translate --model=runs/horse2zebra --input=clip.mp4 --output=results

The model is a run directory, one of its checkpoint files, a SavedModel folder, a generator's .pth file of the authors'
code, a .tflite file, or one of the trained models in the package: demo turns apples into oranges, and demo_maps turns
satellite images into maps. A SavedModel is a program: loading one from a stranger runs it.

Each image is translated whole, at its own size unless --max_side is given, and written to --output under its own name.
JPEG, PNG, WebP, BMP, TIFF, DICOM, NIfTI and .npy files keep their format; other images, such as a GIF, become .png.
Unless the input is TIFF, DICOM, NIfTI or .npy, a result in a unit (--range_a, --range_b) is a .png or .tif, and a
result that is neither gray nor RGB is a .npy. Gray images stay gray and 16-bit images stay 16-bit; color profile, EXIF
and transparency are kept. All pages of a TIFF file come back as one file, and so do all slices of a DICOM file or NIfTI
volume (docs/medical.md). Only the first frame of an animation is translated; a warning names each file that has several
frames.

Files that cannot be read, translated or written are named on stderr and skipped. Exit status: 0; 1 if files were
skipped; 2, with nothing written, for a mistake in the options, such as results that exist already.
"""

from absl import flags

from cyclegan_tf import cli
from cyclegan_tf.config import field_flags
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.ops import startup
from cyclegan_tf.storage import path_checks


def main(argv: list[str]) -> int:
    """Parses the flags and translates; returns the exit status."""
    del argv
    given = flags.FLAGS
    cli.require_given("model", "input", "output")
    path_checks.require_creatable("output", given.output)

    # --help does not need TensorFlow.
    startup.import_tensorflow()
    from cyclegan_tf.inference import jobs, loading

    jobs.require_input(given.input)  # Before the network is loaded, which takes a while.
    skipped = loading.load(given.model, given.direction).translate_files(
        given.input, given.output, overwrite=given.overwrite, batch_size=given.batch_size, tile=given.tile,
        max_side=given.max_side, slice_axis=given.slice_axis, volume=given.volume,
        keep_patient_data=given.keep_patient_data,
    )
    return 1 if skipped else 0


def _define_flags() -> None:
    # Not at import, because other commands have flags of the same names.
    cli.define_path("model", None, "run directory, one of its checkpoint files, SavedModel folder, .pth or .tflite "
                        "file; or a trained model in the package: demo or demo_maps")
    cli.define_path("input", None, "image, video, folder of images, or pattern in quotes")
    cli.define_path("output", None, "folder for the results, or the result file of a single input")
    flags.DEFINE_enum_class("direction", None, Direction, "direction of a run; default: a2b, or its only direction")
    flags.DEFINE_integer(
        "max_side", 0, "longer side, in pixels, to which larger images are shrunk before their translation; not for "
        "videos, files of slices, files with a geometry, and images in a unit; 0: images keep their size",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "tile", 0, "side of the tiles, in pixels, in which larger images are translated, with bounded memory and the "
        "same result; 0: whole images", lower_bound=0,
    )
    flags.DEFINE_integer(
        "batch_size", 4, "images of one size (at most a megapixel in all), or frames of a video, that are translated "
        "at once", lower_bound=1,
    )
    field_flags.define_override("slice_axis", "default: as in the run, or axial")
    field_flags.define_override("volume", "default: as in the run, or 0")
    flags.DEFINE_bool(
        "keep_patient_data", False, "keep the patient's data and all other attributes of DICOM files that do not "
        "describe their pixels; by default, only geometry and acquisition",
    )
    flags.DEFINE_bool("overwrite", False, "replace results that exist already")


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
