"""Converts networks of the authors' PyTorch code to a run directory of this package, and back.

  cyclegan convert --from_pytorch=checkpoints/horse2zebra_cyclegan --output=runs/horse2zebra
  cyclegan convert --from_pytorch=latest_net_G.pth --network=gen_ba --output=runs/zebra2horse
  cyclegan convert --to_pytorch=checkpoints/mine --model=runs/mine

The name of a file shows which network it holds: G_A (or G alone) is gen_ab, G_B is gen_ba, D_A (or D alone) is disc_b
and D_B is disc_a, because the authors name a discriminator after the generator that it judges. G and D of pix2pix make
a pix2pix run. The new run has SavedModels of the given generators and a checkpoint of step 0, which holds only the
given networks. Start another run from these networks with --init_from. Install PyTorch first: pip install
'cyclegan_tf[pytorch]'
"""

from absl import flags

from cyclegan_tf import cli
from cyclegan_tf.config import field_flags
from cyclegan_tf.config import flags as config_flags
from cyclegan_tf.errors import UserError
from cyclegan_tf.exporters import pytorch_run
from cyclegan_tf.pytorch import files as torch_files

# Options that weights may not determine, each with a note for --help.
_OVERRIDABLE = {
    "padding": "a file does not show whether padding is reflect or replicate",
    "dropout": "a U-Net's file does not show dropout",
}
# The required and optional flags of each direction.
_OPTIONS = {"from_pytorch": ("output", "network", *_OVERRIDABLE), "to_pytorch": ("model",)}


def main(argv: list[str]) -> int:
    """Parses the flags and converts in one of the two directions; returns the exit status."""
    del argv
    given = flags.FLAGS
    if bool(given.from_pytorch) == bool(given.to_pytorch):
        raise UserError("give --from_pytorch=FILES and --output=DIR, or --to_pytorch=DIR and --model=RUN")
    for direction, names in _OPTIONS.items():
        if not given[direction].value:
            cli.refuse_given(names, f"works only with --{direction}")
    if given.to_pytorch:
        cli.require_given("model", remedy="give --model=RUN, the run directory that --to_pytorch converts")
        pytorch_run.convert_to_pytorch(given.model, given.to_pytorch)
        return 0
    cli.require_given("output", remedy="give --output=DIR, the run directory that --from_pytorch writes")
    overrides = config_flags.read_overrides(*_OVERRIDABLE)
    pytorch_run.convert_from_pytorch(given.from_pytorch, given.output, given.network, **overrides)
    return 0


def _define_flags() -> None:
    # Not at import, because other commands have flags of the same names.
    cli.define_paths("from_pytorch", None, ".pth files, separated by commas, or one folder of the authors' code")
    cli.define_path("output", None, "run directory that --from_pytorch writes")
    networks = sorted(set(torch_files.NETWORKS.values()))
    flags.DEFINE_enum("network", None, networks, "the network in a single file whose name does not show it")
    for name, note in _OVERRIDABLE.items():
        field_flags.define_override(name, note)
    cli.define_path("to_pytorch", None, "folder to write the .pth files of a run to")
    cli.define_path("model", None, "run directory that --to_pytorch converts, or one of its checkpoint files "
                    "(RUN/checkpoints/best.npz)")


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
