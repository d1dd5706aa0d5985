"""Run directories of networks of the authors' PyTorch code, and back."""

import dataclasses
import logging
import os

from cyclegan_tf.config import Config
from cyclegan_tf.errors import UserError
from cyclegan_tf.pytorch import files as torch_files
from cyclegan_tf.pytorch import weights as pytorch_weights
from cyclegan_tf.storage import filesystem

log = logging.getLogger("cyclegan_tf")

_ONE_DIRECTION_NETWORKS = {"G": "gen_ab", "D": "disc_b"}
_ARCHITECTURE = (
    "generator", "discriminator", "ngf", "ndf", "n_blocks", "n_downs", "n_layers", "norm", "padding", "dropout",
    "antialias",
)


def convert_from_pytorch(paths, output, network=None, **overrides):
    """Writes run directory `output` from .pth files.

    Args:
      paths: files, or one folder, of which latest_net_{G_A,G_B,D_A,D_B,G}.pth are taken.
      output: folder that holds no run yet.
      network: gen_ab, gen_ba, disc_a or disc_b, for a single file whose name does not say it.
      **overrides: options of Config that weights do not tell: padding, dropout.

    Raises:
      UserError: a file that cannot be used, files that belong to different runs, or an `output` that is in use.
    """
    files = torch_files.match_networks(paths, network)
    _require_unused(output)
    state_dicts = {name: torch_files.read(path) for name, path in files.items()}
    config = _config(files, state_dicts, overrides)
    arrays = {
        name: _located(files[name], pytorch_weights.to_keras, state_dict, _description(config, name))
        for name, state_dict in state_dicts.items()
    }
    _write_run(config, arrays, output)
    fresh = sorted(set(torch_files.NETWORKS.values()) - set(arrays))
    log.info("wrote %s: %s%s", output, ", ".join(sorted(arrays)), f"; fresh: {', '.join(fresh)}" if fresh else "")


def convert_to_pytorch(workdir, output):
    """Writes the networks of a run's newest checkpoint as OUTPUT/latest_net_{G_A,G_B,D_A,D_B}.pth.

    Of a run with averaged generators these are taken. A run of one direction gives latest_net_{G,D}.pth. The authors'
    code loads the files into networks of the same options.

    Raises:
      UserError: there is no such run, PyTorch has no such network, or `output` holds one of the files already.
    """
    torch_files.require_torch()
    from cyclegan_tf.runs import checkpoints

    config = Config.load(workdir)
    found = checkpoints.read_newest(os.path.join(workdir, "checkpoints"))
    if found is None:
        raise UserError(f"{workdir} has no checkpoint yet")
    networks = {net: name for net, name in torch_files.NETWORKS.items() if net != "G"}
    if len(config.directions) == 1:
        networks = _ONE_DIRECTION_NETWORKS
    files = {os.path.join(output, f"latest_net_{net}.pth"): name for net, name in networks.items()}
    for path in files:
        if filesystem.exists(path):
            raise UserError(f"{path} exists already; give another folder to --to_pytorch")
    weights = checkpoints.network_weights(found[1])
    # All are converted before the first is written.
    state_dicts = {
        path: _located(found[0], pytorch_weights.to_pytorch, weights[name], _description(config, name))
        for path, name in files.items()
    }
    filesystem.makedirs(output)
    for path, state_dict in state_dicts.items():
        torch_files.write(path, state_dict)
    log.info("wrote %s", ", ".join(files))


def _require_unused(output):
    if filesystem.exists(os.path.join(output, "config.json")) or filesystem.isdir(os.path.join(output, "checkpoints")):
        raise UserError(f"--output={output} holds a run, or a part of one; give another folder")


def _config(files, state_dicts, overrides):
    """The Config of the architecture that all files have, with the `overrides`."""
    inferred, origin = {}, {}
    for name, state_dict in state_dicts.items():
        path = files[name]
        options = _located(path, pytorch_weights.infer_architecture, state_dict)
        _require_kind(path, name, options)
        for option in (option for option in _ARCHITECTURE if option in options):
            if inferred.setdefault(option, options[option]) != options[option]:
                raise UserError(
                    f"{origin[option]} and {path} do not belong together: {option} is {inferred[option]} in the first "
                    f"and {options[option]} in the second; convert them to a run each"
                )
            origin.setdefault(option, path)
    return Config(**{**inferred, **overrides})


def _require_kind(path, name, options):
    kind = "generator" if name.startswith("gen") else "discriminator"
    if options["kind"] != kind:
        raise UserError(f"{path} holds a {options['kind']}, and {name} is a {kind}; give its --network")
    channels = {option: options[option] for option in ("input_channels", "output_channels") if option in options}
    if set(channels.values()) != {3}:
        text = ", ".join(f"{option}={number}" for option, number in channels.items())
        raise UserError(f"{path} is a network for other images ({text}); this command handles 3 channels only")


def _description(config, name):
    """Network `name` of a run, as `pytorch.weights` describes networks."""
    from cyclegan_tf.config import architectures

    kind = "generator" if name.startswith("gen") else "discriminator"
    inputs, outputs = architectures.channels(config, name)
    return {**dataclasses.asdict(config), "kind": kind, "input_channels": inputs, "output_channels": outputs}


def _located(path, function, *arguments):
    """function(*arguments), whose UserErrors do not know the file that they are about."""
    try:
        return function(*arguments)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _write_run(config, arrays, output):
    """Writes a checkpoint of step 0, the SavedModels of the converted generators, and config.json last."""
    import tensorflow as tf

    from cyclegan_tf.exporters import saved_model
    from cyclegan_tf.inference import translator
    from cyclegan_tf.models.cyclegan import CycleGAN
    from cyclegan_tf.networks.weights import named_weights
    from cyclegan_tf.runs import checkpoints

    tf.keras.utils.set_random_seed(config.seed)
    model = CycleGAN(config)
    for name, weights in arrays.items():
        checkpoints.assign(named_weights(model.networks[name]), weights, name)
    checkpoints.save(os.path.join(output, "checkpoints"), model, checkpoints.Progress(), config.keep_checkpoints)
    translators = translator.make_translators(config, {n: g for n, g in model.generators.items() if n in arrays})
    saved_model.export(translators, os.path.join(output, "export"))
    config.save(output)
