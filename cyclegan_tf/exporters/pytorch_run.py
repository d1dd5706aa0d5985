"""Converts networks of the authors' PyTorch code to run directories and back."""

import dataclasses
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from cyclegan_tf.config import Config, architectures
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.config.idle_options import find_idle_options
from cyclegan_tf.config.run_options import CONVERTED_DATASET
from cyclegan_tf.errors import UserError
from cyclegan_tf.ops import startup
from cyclegan_tf.pytorch import files as torch_files
from cyclegan_tf.pytorch import weights as pytorch_weights
from cyclegan_tf.storage import filesystem, path_checks

log = logging.getLogger("cyclegan_tf")

_T = TypeVar("_T")
_Arrays = Mapping[str, np.ndarray]


def convert_from_pytorch(paths: Sequence[str], output: str, network: str | None = None, **overrides: Any) -> None:
    """Writes run directory `output` from .pth files; the run holds only the networks of these files.

    Args:
      paths: files, or one folder with files latest_net_{G_A,G_B,D_A,D_B,G,D}.pth. If the discriminator takes
        concatenated images of both domains, the run is a pix2pix run.
      output: folder that does not hold a run yet.
      network: gen_ab, gen_ba, disc_a or disc_b, for a single file whose name does not show which network it holds.
      **overrides: options of Config that the weights do not determine: padding, dropout.

    Raises:
      UserError: a file cannot be read or converted, the files do not belong to one run, or `output` is in use.
    """
    files = torch_files.match_networks(paths, network)
    path_checks.require_utf8("output", output)
    _require_unused(output)
    state_dicts = {name: torch_files.read(path) for name, path in files.items()}
    config = _infer_config(files, state_dicts, overrides)
    if overrides and not any(_get_kind(name) == "generator" for name in files):
        raise UserError(f"--{next(iter(overrides))} has no effect without a generator; leave the option out")
    for warning in find_idle_options(config):
        if warning.startswith(tuple(f"--{name}" for name in overrides)):
            raise UserError(f"{warning.partition(';')[0]}; leave the option out")
    arrays = {
        name: _call_for_file(files[name], pytorch_weights.to_keras, state_dict, _describe(config, name))
        for name, state_dict in state_dicts.items()
    }
    _write_run(config, arrays, output)
    log.info("wrote %s: %s", output, ", ".join(sorted(arrays)))


def convert_to_pytorch(workdir: str, output: str) -> None:
    """Writes the networks of a run as OUTPUT/latest_net_{G_A,G_B,D_A,D_B}.pth.

    A run of one direction gives latest_net_{G,D}.pth. If the run averages its generators, the files hold the averages.
    The authors' code loads the files into networks of the same options.

    Args:
      workdir: run directory, whose newest checkpoint is used, or one of its checkpoint files (.npz), or the name of a
        run in the package.
      output: folder for the files.

    Raises:
      UserError: `workdir` is not a run or has no checkpoint, the authors' code has no such network, or `output`
        contains one of the files already.
    """
    torch_files.require_torch_for_writing()
    startup.import_tensorflow()
    from cyclegan_tf.runs import checkpoints, model_state
    from cyclegan_tf.runs import directory as run_directory

    config = Config.load(run_directory.locate(workdir))
    checkpoint, arrays = checkpoints.require_run(workdir)
    weights = model_state.get_network_weights(arrays)
    names = torch_files.name_files(len(config.directions))
    # The runs in the package hold no discriminators, and a converted run holds the networks of its files.
    files = {os.path.join(output, file): name for name, file in names.items() if name in weights}
    for path in files:
        if filesystem.exists(path):
            raise UserError(f"{path} exists already; give another folder to --to_pytorch")
    if left_out := sorted(weights.keys() - names.keys()):
        log.warning("left out %s, because the authors' code of CycleGAN has no such network", ", ".join(left_out))
    # Convert all networks before writing the first file.
    state_dicts = {
        path: _call_for_file(checkpoint, pytorch_weights.to_pytorch, weights[name], _describe(config, name))
        for path, name in files.items()
    }
    filesystem.makedirs(output)
    for path, state_dict in state_dicts.items():
        torch_files.write(path, state_dict)
    log.info("wrote %s", ", ".join(files))


def _require_unused(output: str) -> None:
    if any(filesystem.exists(os.path.join(output, name)) for name in ("config.json", "checkpoints", "export")):
        raise UserError(f"--output={output} holds a run, or a part of one; give another folder")


def _infer_config(files: Mapping[str, str], state_dicts: Mapping[str, _Arrays], overrides: Mapping[str, Any]) -> Config:
    """Returns the Config of the architecture on which all files agree, with the `overrides`."""
    inferred: dict[str, Any] = {}
    origin: dict[str, str] = {}  # Option -> the first file that shows it.
    found = {name: _infer_options(files[name], name, state_dict) for name, state_dict in state_dicts.items()}
    for name, options in sorted(found.items(), key=lambda item: item[1]["kind"], reverse=True):  # Generators first.
        path = files[name]
        implied = {option: options[option] for option in architectures.list_options(name) if option in options}
        if options["kind"] == "discriminator" and inferred.get("antialias") == "down":
            implied.pop("antialias", None)  # A discriminator with blurs does not show how the generator upsamples.
        if name == "disc_b" and _judges_pairs(found):
            implied["model"] = "pix2pix"
        else:
            implied |= _infer_channels(name, options)
        for option, value in implied.items():
            if inferred.setdefault(option, value) != value:
                raise UserError(
                    f"{origin[option]} and {path} do not belong together: {option} is {inferred[option]} in the first "
                    f"and {value} in the second; convert each to a run of its own"
                )
            origin.setdefault(option, path)
    if inferred.get("input_channels", 3) != inferred.get("output_channels", 3):
        inferred["lambda_identity"] = 0.0  # The identity loss needs domains of equal channels.
    return Config(**{"dataset": CONVERTED_DATASET, **inferred, **overrides})


def _judges_pairs(found: Mapping[str, Mapping[str, Any]]) -> bool:
    """True if the discriminator takes the images of both domains of the generator, concatenated, as in pix2pix."""
    generator, discriminator = found.get("gen_ab"), found["disc_b"]
    channels = generator["input_channels"] + generator["output_channels"] if generator else None
    return discriminator["input_channels"] == channels


def _infer_channels(name: str, options: Mapping[str, Any]) -> dict[str, int]:
    """The options input_channels (of A) and output_channels (of B) that network `name` of a run implies."""
    sides = ["input_channels", "output_channels"]
    channels = [options[side] for side in sides if side in options]  # A discriminator has no output_channels.
    if name in ("gen_ba", "disc_b"):
        sides.reverse()
    return dict(zip(sides, channels, strict=False))


def _infer_options(path: str, name: str, state_dict: _Arrays) -> dict[str, Any]:
    """Infers the architecture of a file that must hold network `name`; raises a UserError for the other kind."""
    options, kind = _call_for_file(path, pytorch_weights.infer_architecture, state_dict), _get_kind(name)
    if options["kind"] != kind:
        raise UserError(f"{path} holds a {options['kind']}, but {name} is a {kind}; give the right --network")
    return options


def _get_kind(name: str) -> str:
    return "generator" if name.startswith("gen") else "discriminator"


def _describe(config: Config, name: str) -> dict[str, Any]:
    """Describes network `name` of a run for `pytorch.weights`."""
    inputs, outputs = architectures.get_network_channels(config, name)
    kind = _get_kind(name)
    return {**dataclasses.asdict(config), "kind": kind, "input_channels": inputs, "output_channels": outputs}


def _call_for_file(path: str, function: Callable[..., _T], *arguments: Any) -> _T:
    """Returns function(*arguments), and adds the file's path to the message of a UserError."""
    try:
        return function(*arguments)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _write_run(config: Config, arrays: Mapping[str, _Arrays], output: str) -> None:
    """Writes a checkpoint of step 0 with these networks, SavedModels of the generators, and at the end config.json."""
    startup.import_tensorflow()
    from cyclegan_tf.exporters import saved_model
    from cyclegan_tf.inference import translator
    from cyclegan_tf.runs import checkpoints, model_state

    translators = {
        direction: translator.build(config, direction, arrays[direction.generator], direction.generator)
        for direction in Direction
        if direction.generator in arrays
    }
    folder = os.path.join(output, "checkpoints")
    filesystem.makedirs(folder)
    checkpoints.write(folder, model_state.make_network_state(arrays), config.keep_checkpoints)
    saved_model.export(translators, os.path.join(output, "export"))
    config.save(output)
