"""Initial weights for a new run: from another run, from SavedModels, or from the authors' .pth files."""

import json
import logging
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from cyclegan_tf.config import Config, architectures, registries
from cyclegan_tf.config.direction import Direction
from cyclegan_tf.errors import UserError, describe_error
from cyclegan_tf.models.base import Model
from cyclegan_tf.networks import saved_model
from cyclegan_tf.networks import weights as weights_lib
from cyclegan_tf.pytorch import files as torch_files
from cyclegan_tf.runs import checkpoints, model_state
from cyclegan_tf.runs import directory as run_directory
from cyclegan_tf.storage import filesystem

log = logging.getLogger("cyclegan_tf")

# {network: ({weight: array}, the source file or folder, the known options of the network)}
_Found = dict[str, tuple[dict[str, np.ndarray], str, Mapping[str, Any]]]


def initialize(model: Model, source: str) -> None:
    """Loads the weights of the networks in `source` into `model`; optimizers and image pools stay fresh.

    The moving averages of the model start from the loaded weights. Logs a warning if the weights fit but an option of
    the network differs, such as padding.

    Args:
      source: a run directory (all networks of its newest checkpoint, not the averages), one of its checkpoint files, or
        the name of a run in the package; a SavedModel folder a2b or b2a, or a folder that holds one or both; a .pth
        file of the authors' code, or the folder of an experiment.

    Raises:
      UserError: `source` holds no network of the model, or a network in it differs from the model's network.
    """
    found = _read_run(source) or _read_saved_models(source) or _read_pytorch(source)
    if not found:
        problem = "holds no networks" if filesystem.exists(run_directory.locate(source)) else "does not exist"
        raise UserError(f"--init_from={source} {problem}; give a run directory with a checkpoint, one of its "
                        "checkpoint files, a SavedModel or a .pth file")
    if not found.keys() & model.networks.keys():
        raise UserError(f"--init_from={source} holds only {', '.join(found)}, but --model={model.config.model} has only"
                        f" {', '.join(model.networks)}; give a source with one of these networks")
    differences: dict[str, None] = {}  # As a set that keeps the order.
    for name, (weights, path, options) in found.items():
        if name in model.networks:
            try:
                weights_lib.load(model.networks[name], weights, path)
            except UserError as error:
                raise UserError(f"{error}; {_advise(model.config, source, name, options)}") from error
            differences |= dict.fromkeys(
                f"{option}: {options[option]} -> {getattr(model.config, option)}"
                for option in _find_differences(model.config, name, options)
                if option not in architectures.SHAPE_OPTIONS
            )
    if differences:
        log.warning("--init_from=%s: the weights were trained with other options (%s), so the translations differ",
                    source, ", ".join(differences))
    for name, average in model.averages.items():
        average.set_weights(model.networks[name].get_weights())
    fresh = sorted(set(model.networks) - set(found))
    log.info("networks from %s%s", source, f"; fresh: {', '.join(fresh)}" if fresh else "")


def _find_differences(config: Config, name: str, options: Mapping[str, Any]) -> list[str]:
    """Lists the options of network `name` whose values in `options` and `config` differ.

    Leaves out options that the network does not read, if its registration names the options that it reads.
    """
    is_generator = name.startswith("gen")
    read = (
        registries.GENERATORS[config.generator].options if is_generator
        else registries.DISCRIMINATORS[config.discriminator].options
    )
    known = (
        option for option in architectures.list_options(name)
        if option in options and (read is None or option in (*read, "generator", "discriminator"))
    )
    return [option for option in known if options[option] != getattr(config, option)]


def _advise(config: Config, source: str, name: str, options: Mapping[str, Any]) -> str:
    """Returns advice for weights of network `name` that do not fit the network of `config`."""
    model = options.get("model", config.model)
    differing = [
        f"--{option}={options[option]}" for option in ("plugins", "input_channels", "output_channels")
        if options.get(option) and options[option] != getattr(config, option)
    ]
    differing += [f"--{option}={options[option]}" for option in _find_differences(config, name, options)]
    if name.startswith("disc") and model != config.model and not differing:
        folder = os.path.join(run_directory.locate(source), "export")
        return (f"--model={model} has other discriminators than --model={config.model}; give {folder}, which holds the "
                "generators alone")
    known = f": {' '.join(differing)}" if differing else ", such as --generator and --ngf"
    return f"give the options that {source} was trained with{known}"


def _read_run(source: str) -> _Found:
    """Reads the networks in a checkpoint file or in a run's newest checkpoint; empty if there is no checkpoint."""
    checkpoint = checkpoints.read_run(source)
    if checkpoint is None:
        return {}
    path, arrays = checkpoint
    options = _read_options(os.path.join(run_directory.locate(source), "config.json"))
    networks = model_state.get_network_weights(arrays, averaged=False)
    return {name: (weights, path, options) for name, weights in networks.items()}


def _read_options(path: str) -> Mapping[str, Any]:
    """Reads a config.json without importing its plugins; empty if it is missing or, with a warning, unreadable."""
    if not filesystem.exists(path):
        return {}
    try:
        options = json.loads(filesystem.read_bytes(path))
    except (OSError, ValueError, RecursionError) as error:
        log.warning("%s cannot be read (%s), so its options are not compared", path, describe_error(error))
        return {}
    return options if isinstance(options, dict) else {}


def _read_saved_models(source: str) -> _Found:
    """Reads the generators in a SavedModel folder, or in the SavedModel folders a2b and b2a in `source`."""
    folders = {direction: os.path.join(source, direction) for direction in Direction}
    if filesystem.exists(os.path.join(source, "saved_model.pb")):
        folder = source.rstrip("/") if filesystem.is_remote(source) else os.path.normpath(source)
        name = os.path.basename(folder)
        if name not in list(Direction):
            raise UserError(f"--init_from={source}: the name of the folder does not show the direction; rename the "
                            "folder to a2b or b2a")
        folders = {Direction(name): folder}
    found: _Found = {}
    for direction, folder in folders.items():
        if filesystem.isdir(folder):
            network = saved_model.open_saved_model(folder, f"--init_from={source}: {folder}")
            weights = {variable.name.removesuffix(":0"): variable.numpy() for variable in network.variables}
            found[direction.generator] = weights, folder, {}
    return found


def _read_pytorch(source: str) -> _Found:
    """Reads the networks in a .pth file, whose name must show which network it holds, or in a folder of such files."""
    if not source.endswith(".pth") and not torch_files.has_files(source):
        return {}
    found: _Found = {}
    for name, path in torch_files.match_networks([source]).items():
        options, weights = torch_files.read_network(path)  # A file without blurs has no option antialias.
        found[name] = weights, path, {"antialias": "none", **options}
    return found
