"""Lists, prepares and inspects data sets.

  cyclegan datasets list
  cyclegan datasets prepare horse2zebra --data_dir=FOLDER
  cyclegan datasets inspect PATH --output=preview.png
  cyclegan datasets preview --preset=demo --output=batch.png
  cyclegan datasets prepare-cityscapes --left_img=leftImg8bit_trainvaltest.zip \\
      --gt_fine=gtFine_trainvaltest.zip --output=cityscapes
  cyclegan datasets shard SOURCE OUTPUT

list: prints the data sets that --dataset knows by name, and Cityscapes: images in each part, size, license, content.
prepare NAME: downloads a known data set with tensorflow-datasets, checks it and prepares it for training. A NAME.zip in
  --data_dir replaces the download; a set that is already prepared or downloaded is not downloaded again.
inspect PATH: reads every image of a data set (a name, a folder, a .zip, or any folder of images), prints counts, kinds,
  sizes, values, distances between pixels, bad files and animations, and writes a grid of images to --output. Takes
  --slice_axis and --volume for NIfTI files. Exit status 1 if there are bad files.
preview: writes the first images that training sees, resized, cropped and mirrored, A beside B, to --output; takes the
  options of cyclegan train.
prepare-cityscapes: makes the authors' 256 x 256 Cityscapes set (photographs A, labels B) from the two official
  archives, which cityscapes-dataset.com offers after registration, and writes it to folder --output.
shard SOURCE OUTPUT: packs a data set (a name, a folder, a .zip) into TFRecord files of --shard_mb and an index, for
  sets that are too large for one folder or lie on a remote file system. --dataset=OUTPUT trains on the same images as
  --dataset=SOURCE. Images that cannot be read or decoded are listed and packed as they are, so that the other images
  keep their numbers; the exit status is then 1.

With --on_bad_image=error, inspect, preview and shard stop at the first bad file, with exit status 2.
"""

import itertools
from collections.abc import Sequence

from absl import flags

from cyclegan_tf import cli
from cyclegan_tf.config import flags as config_flags
from cyclegan_tf.data import catalog
from cyclegan_tf.ops import startup

_CITYSCAPES_OPTIONS = ("left_img", "gt_fine", "output")
_SUBCOMMANDS = {
    "list": cli.Subcommand(),
    "prepare": cli.Subcommand(("NAME",), ("data_dir",)),
    "inspect": cli.Subcommand(("PATH",), ("data_dir", "output", "on_bad_image", "slice_axis", "volume")),
    "preview": cli.Subcommand((), ("output", "preset", *itertools.chain(*config_flags.group_options().values()))),
    "prepare-cityscapes": cli.Subcommand((), _CITYSCAPES_OPTIONS, _CITYSCAPES_OPTIONS),
    "shard": cli.Subcommand(("SOURCE", "OUTPUT"), ("data_dir", "shard_mb", "on_bad_image")),
}


def main(argv: list[str]) -> int:
    """Runs the command that the first operand names; returns the exit status."""
    name, operands = cli.choose_subcommand(argv[1:], _SUBCOMMANDS)
    if name == "list":
        print(catalog.format_table())
        return 0

    startup.import_tensorflow()
    from cyclegan_tf.data import commands

    given = flags.FLAGS
    if name == "preview":
        return commands.preview_training(config_flags.from_flags(given), given.output)
    # The function has the name of the command, and its arguments have the names of the options.
    run = getattr(commands, name.replace("-", "_"))
    return run(*operands, **{option: given[option].value for option in _SUBCOMMANDS[name].options})


def _define_flags(arguments: Sequence[str]) -> None:
    # Not at import, because other commands have flags of the same names.
    cli.define_path("data_dir", "", "folder of downloaded and prepared sets; default: ~/tensorflow_datasets")
    cli.define_path("output", "", "inspect: PNG file of the grid, default NAME-preview.png; preview: PNG file, "
                        "default training-preview.png; prepare-cityscapes: folder for trainA, trainB, testA and testB")
    cli.define_path("left_img", "", "prepare-cityscapes: leftImg8bit_trainvaltest.zip, or its unpacked folder")
    cli.define_path("gt_fine", "", "prepare-cityscapes: gtFine_trainvaltest.zip, or its unpacked folder")
    flags.DEFINE_integer("shard_mb", 256, "shard: size of a file in MiB", lower_bound=1)
    config_flags.define_flags(arguments)  # For preview.


if __name__ == "__main__":
    common = ("data_dir", "output", "left_img", "gt_fine", "shard_mb", "on_bad_image", "preset")
    cli.run(main, operands=True, define_flags=_define_flags, common=common, groups=config_flags.group_options())
