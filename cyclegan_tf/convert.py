"""Converts networks of the authors' PyTorch code to a run directory of this package, and back.

  python -m cyclegan_tf.convert --from_pytorch=checkpoints/horse2zebra_cyclegan --output=runs/horse2zebra
  python -m cyclegan_tf.convert --from_pytorch=latest_net_G.pth --network=gen_ba --output=runs/zebra2horse
  python -m cyclegan_tf.convert --to_pytorch=checkpoints/mine --model=runs/mine

Networks are told from the files' names: G_A (or G alone) is gen_ab, G_B is gen_ba, D_A is disc_b, because the authors
name a discriminator after the generator that it judges, and D_B is disc_a. The new run holds a checkpoint of step 0,
in which networks that were not given are fresh, and SavedModels of the generators that were; train on from it with
--init_from. Needs PyTorch: pip install torch.
"""

import dataclasses

from absl import flags

from cyclegan_tf import cli
from cyclegan_tf.config import Config, options
from cyclegan_tf.errors import UserError
from cyclegan_tf.exporters import pytorch_run
from cyclegan_tf.pytorch import files as torch_files

# Not seen in the weights, or not always.
_OVERRIDABLE = ("padding", "dropout")


def main(argv):
    """Parses the flags and converts one way or the other."""
    del argv
    given = flags.FLAGS
    if bool(given.from_pytorch) == bool(given.to_pytorch):
        raise UserError("give --from_pytorch=FILES and --output=DIR, or --to_pytorch=DIR and --model=RUN")
    if given.to_pytorch:
        if not given.model:
            raise UserError("--to_pytorch needs --model=RUN, the run directory to convert")
        pytorch_run.to_pytorch(given.model, given.to_pytorch)
        return 0
    if not given.output:
        raise UserError("--from_pytorch needs --output=DIR, the run directory to write")
    overrides = {name: given[name].value for name in _OVERRIDABLE if given[name].present}
    pytorch_run.from_pytorch(given.from_pytorch, given.output, given.network, **overrides)
    return 0


def _define_flags():
    # When this is the command line, not at import: others have flags called model and output, too.
    fields = {field.name: field for field in dataclasses.fields(Config)}
    flags.DEFINE_list("from_pytorch", None, ".pth files, separated by commas, or one folder of the authors' code")
    flags.DEFINE_string("output", None, "run directory that --from_pytorch writes")
    networks = sorted(set(torch_files.NETWORKS.values()))
    flags.DEFINE_enum("network", None, networks, "the network in a single file whose name does not tell")
    padding = fields["padding"]
    flags.DEFINE_enum("padding", None, options.get_choices(padding),
                      f"{padding.metadata['help']}: replicate looks like reflect in a file")
    flags.DEFINE_bool("dropout", None, f"{fields['dropout'].metadata['help']}: a U-Net's file does not tell")
    flags.DEFINE_string("to_pytorch", None, "folder that gets the .pth files of a run")
    flags.DEFINE_string("model", None, "run directory that --to_pytorch converts")


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
