"""Lists, prepares and inspects data sets.

  python -m cyclegan_tf.datasets list
  python -m cyclegan_tf.datasets prepare horse2zebra --data_dir=FOLDER
  python -m cyclegan_tf.datasets inspect PATH --output=preview.png
  python -m cyclegan_tf.datasets preview --flagfile=experiments/demo.flags --output=batch.png
  python -m cyclegan_tf.datasets prepare-cityscapes --left_img=leftImg8bit_trainvaltest.zip \\
      --gt_fine=gtFine_trainvaltest.zip --output=cityscapes
  python -m cyclegan_tf.datasets shard SOURCE OUTPUT

list: the data sets that --dataset knows by name, and Cityscapes: images in each part, size, licence, content.
prepare NAME: downloads one of them through tensorflow-datasets, checks it and prepares it for training. A NAME.zip in
  --data_dir takes the place of the download; what is prepared or downloaded already is not fetched again.
inspect PATH: reads every image of a data set (a name, a folder, a .zip, or any folder of images), prints counts, kinds,
  sizes and bad files, and writes a grid of some to --output. Exit status 1 if there are bad files.
preview: writes the first images that training sees, resized, cropped and mirrored, A beside B, to --output; takes the
  options of cyclegan_tf.train.
prepare-cityscapes: makes the authors' 256 x 256 Cityscapes set (photographs A, labels B) of the two official archives,
  which are had at cityscapes-dataset.com after registration, in folder --output.
shard SOURCE OUTPUT: packs a data set (a name, a folder, a .zip) into TFRecord files of --shard_mb and an index, for
  sets that are too large for one folder or lie on a remote file system. --dataset=OUTPUT trains on them as on SOURCE.
  Exit status 1 if there are images that cannot be read; they stay, empty, and are named.
"""

import os

from absl import flags

from cyclegan_tf import cli
from cyclegan_tf.config import flags as config_flags
from cyclegan_tf.config.config import TFDS_NAMES
from cyclegan_tf.errors import UserError
from cyclegan_tf.storage import atomic


def _list(given):
    from cyclegan_tf.data import catalog

    del given
    print(catalog.table())
    return 0


def _prepare(given, name):
    if name not in TFDS_NAMES:
        raise UserError(f"prepare {name}: not one of {', '.join(TFDS_NAMES)}")
    from cyclegan_tf.data import sources  # Imports TensorFlow, which --help can do without.

    dataset = sources.open_source(name, given.data_dir)
    counts = ", ".join(f"{len(part)} in {part.where.split()[-1]}" for part in vars(dataset).values())
    print(f"{name} is prepared: {counts} images. Train with: python -m cyclegan_tf.train --dataset={name}"
          + (f" --data_dir={given.data_dir}" if given.data_dir else ""))
    return 0


def _inspect(given, path):
    from cyclegan_tf.data import preview, sources

    parts, bad = sources.open_parts(path, given.data_dir)
    summaries = preview.inspect(parts)
    print(preview.report(summaries, bad.reasons))
    grid = preview.preview(summaries)
    if grid is not None:
        name = os.path.splitext(os.path.basename(os.path.normpath(path)))[0]
        _write_grid(grid, given.output or f"{name}-preview.png")
    return 1 if bad else 0


def _write_grid(grid, path):
    from cyclegan_tf.images import codec

    with atomic.writing(path, "wb") as file:
        file.write(codec.encode_png(grid))
    print(f"preview: {path}")


def _preview(given):
    config = config_flags.from_flags(given)

    from cyclegan_tf.data import preview, sources

    dataset = sources.open_dataset(config)
    if config.paired:
        dataset.require_training_pairs()
    _write_grid(preview.training_images(dataset, config), given.output or "training-preview.png")
    return 0


def _prepare_cityscapes(given):
    for name in ("left_img", "gt_fine", "output"):
        if not given[name].value:
            raise UserError(f"prepare-cityscapes needs --left_img, --gt_fine and --output; --{name} is missing")
    from cyclegan_tf.data import cityscapes

    counts = cityscapes.prepare(given.left_img, given.gt_fine, given.output)
    print(f"{counts['train']} training and {counts['test']} test pairs. Train with: python -m cyclegan_tf.train "
          f"--dataset={given.output}")
    return 0


def _shard(given, source, output):
    from cyclegan_tf.data import shards, sources

    folders = sources.open_source(source, given.data_dir).folders
    counts, n_unreadable = shards.write(folders, output, given.shard_mb * 2**20)
    print(f"{', '.join(f'{count} in {part}' for part, count in counts.items())} images"
          + (f", {n_unreadable} of them unreadable" if n_unreadable else "")
          + f". Train with: python -m cyclegan_tf.train --dataset={output}")
    return 1 if n_unreadable else 0


# Name -> (function of the flags and the operands, what the operands are).
COMMANDS = {
    "list": (_list, ()),
    "prepare": (_prepare, ("NAME",)),
    "inspect": (_inspect, ("PATH",)),
    "preview": (_preview, ()),
    "prepare-cityscapes": (_prepare_cityscapes, ()),
    "shard": (_shard, ("SOURCE", "OUTPUT")),
}


def main(argv):
    """Runs the command that the first operand names."""
    if len(argv) < 2 or argv[1] not in COMMANDS:
        wrong = f"unknown command {argv[1]!r}" if len(argv) > 1 else "no command"
        raise UserError(f"{wrong}; give one of: {', '.join(COMMANDS)} (see --help)")
    function, operands = COMMANDS[argv[1]]
    if len(argv) - 2 != len(operands):
        raise UserError(f"usage: {' '.join((argv[1], *operands))}; options start with -- (see --help)")
    return function(flags.FLAGS, *argv[2:])


def _define_flags():
    # When this is the command line, not at import: others have flags of these names, too.
    flags.DEFINE_string("data_dir", "", "folder of downloaded and prepared sets; default ~/tensorflow_datasets")
    flags.DEFINE_string("output", "", "inspect: PNG file of the grid, default NAME-preview.png; preview: the same, "
                        "default training-preview.png; prepare-cityscapes: folder that gets trainA, trainB, testA and "
                        "testB")
    flags.DEFINE_string("left_img", "", "prepare-cityscapes: leftImg8bit_trainvaltest.zip, or its unpacked folder")
    flags.DEFINE_string("gt_fine", "", "prepare-cityscapes: gtFine_trainvaltest.zip, or its unpacked folder")
    flags.DEFINE_integer("shard_mb", 256, "shard: MiB of a file", lower_bound=1)
    config_flags.define_flags()  # For preview.


if __name__ == "__main__":
    _define_flags()
    cli.run(main, operands=True)
