"""Initial weights for a new run: from another run, from SavedModels, or from the authors' .pth files."""

import logging
import os

import numpy as np

from cyclegan_tf.config.direction import Direction
from cyclegan_tf.errors import UserError
from cyclegan_tf.models.base import Model
from cyclegan_tf.networks import saved_model
from cyclegan_tf.networks import weights as weights_lib
from cyclegan_tf.pytorch import files as torch_files
from cyclegan_tf.runs import checkpoints, model_state
from cyclegan_tf.storage import filesystem

log = logging.getLogger("cyclegan_tf")

# {network: ({weight: array}, the file or folder that holds them)}
_Found = dict[str, tuple[dict[str, np.ndarray], str]]


def initialize(model: Model, source: str) -> None:
    """Loads the weights of the networks in `source` into `model`; optimizers and image pools stay fresh.

    The moving averages of the model start from the loaded weights.

    Args:
      source: a run directory (all networks of its newest checkpoint, not the averages), one of its checkpoint files, or
        the name of a run in the package; a SavedModel folder a2b or b2a, or a folder that holds one or both; a .pth
        file of the authors' code, or the folder of an experiment.

    Raises:
      UserError: `source` holds no network of the model, or a network in it differs from the model's network.
    """
    found = _read_run(source) or _read_saved_models(source) or _read_pytorch(source)
    if not found:
        raise UserError(f"--init_from={source} holds no networks; give a run directory with a checkpoint, one of its "
                        "checkpoint files, a SavedModel or a .pth file")
    if not found.keys() & model.networks.keys():
        raise UserError(f"--init_from={source} holds only {', '.join(found)}, but --model={model.config.model} has only"
                        f" {', '.join(model.networks)}; give a source with one of these networks")
    for name, (weights, path) in found.items():
        if name in model.networks:
            try:
                weights_lib.load(model.networks[name], weights, path)
            except UserError as error:
                raise UserError(f"{error}; give the options that {source} was trained with, such as --generator and "
                                "--ngf") from error
    for name, average in model.averages.items():
        average.set_weights(model.networks[name].get_weights())
    fresh = sorted(set(model.networks) - set(found))
    log.info("networks from %s%s", source, f"; fresh: {', '.join(fresh)}" if fresh else "")


def _read_run(source: str) -> _Found:
    """Reads the networks in a checkpoint file or in a run's newest checkpoint; empty if there is no checkpoint."""
    checkpoint = checkpoints.read_run(source)
    if checkpoint is None:
        return {}
    path, arrays = checkpoint
    return {name: (weights, path) for name, weights in model_state.get_network_weights(arrays, averaged=False).items()}


def _read_saved_models(source: str) -> _Found:
    """Reads the generators in a SavedModel folder, or in the SavedModel folders a2b and b2a in `source`."""
    folders = {direction: os.path.join(source, direction) for direction in Direction}
    if filesystem.exists(os.path.join(source, "saved_model.pb")):
        folder = source.rstrip("/") if filesystem.is_remote(source) else os.path.normpath(source)
        name = os.path.basename(folder)
        if name not in list(Direction):
            raise UserError(f"--init_from={source}: the name does not show the direction; rename the folder to a2b "
                            "or b2a")
        folders = {Direction(name): folder}
    found = {}
    for direction, folder in folders.items():
        if filesystem.isdir(folder):
            network = saved_model.open_saved_model(folder, f"--init_from={source}: {folder}")
            weights = {variable.name.removesuffix(":0"): variable.numpy() for variable in network.variables}
            found[direction.generator] = weights, folder
    return found


def _read_pytorch(source: str) -> _Found:
    """Reads the networks in a .pth file, whose name must show which network it holds, or in a folder of such files."""
    if not source.endswith(".pth") and not torch_files.has_files(source):
        return {}
    paths = torch_files.match_networks([source])
    return {name: (torch_files.read_network(path)[1], path) for name, path in paths.items()}
