"""Starting weights for a new run: another run's, an export's, or the authors' .pth files."""

import logging
import os

from cyclegan_tf.config.direction import Direction
from cyclegan_tf.errors import UserError
from cyclegan_tf.networks import saved_model
from cyclegan_tf.networks.weights import named_weights
from cyclegan_tf.pytorch import files as torch_files
from cyclegan_tf.runs import checkpoints
from cyclegan_tf.storage import filesystem

log = logging.getLogger("cyclegan_tf")


def initialize(model, source):
    """Gives `model` the networks that `source` holds; its averages start from them, optimizers and pools stay fresh.

    Args:
      model: CycleGAN or Pix2Pix.
      source: a run directory (all networks of its newest checkpoint, not the averages); a SavedModel folder a2b or
        b2a, or one that holds both; a .pth file of the authors' code, or the folder of an experiment.

    Raises:
      UserError: `source` is none of these, or a network of it differs from the model's.
    """
    found = _from_run(source) or _from_saved_models(source) or _from_pytorch(source)
    if not found:
        raise UserError(f"--init_from={source} holds no networks: give a run directory with a checkpoint, a SavedModel "
                        "or a .pth file")
    for name, (weights, where) in found.items():
        if name in model.networks:
            checkpoints.assign(named_weights(model.networks[name]), weights, where)
    for name, average in model.averages.items():
        average.set_weights(model.networks[name].get_weights())
    fresh = sorted(set(model.networks) - set(found))
    log.info("networks from %s%s", source, f"; fresh: {', '.join(fresh)}" if fresh else "")


def _from_run(source):
    """{network: (weights by name, file)} of a run directory's newest checkpoint, empty if it is none."""
    newest = checkpoints.read_newest(os.path.join(source, "checkpoints"))
    if newest is None:
        return {}
    path, arrays = newest
    return {name: (weights, path) for name, weights in checkpoints.network_weights(arrays, averaged=False).items()}


def _from_saved_models(source):
    """The same of a SavedModel, or of the two in a folder."""
    folders = [os.path.join(source, direction) for direction in Direction]
    if filesystem.exists(os.path.join(source, "saved_model.pb")):
        folders = [source.rstrip("/") if filesystem.is_remote(source) else os.path.normpath(source)]
        if Direction.find_in_name(os.path.basename(folders[0])) is None:
            raise UserError(f"--init_from={source}: which direction is it? Name the folder a2b or b2a")
    found = {}
    for folder in filter(filesystem.isdir, folders):
        network = saved_model.open_saved_model(folder, f"--init_from={source}: {folder}")
        weights = {variable.name.removesuffix(":0"): variable.numpy() for variable in network.variables}
        found[Direction.find_in_name(os.path.basename(folder)).generator] = weights, folder
    return found


def _from_pytorch(source):
    """The same of .pth files: one whose name tells its network, or those in a folder."""
    if not source.endswith(".pth") and not _holds_pytorch(source):
        return {}
    found = {}
    for name, path in torch_files.match_networks([source]).items():
        found[name] = torch_files.read_network(path)[1], path
    return found


def _holds_pytorch(source):
    names = filesystem.listdir(source) if filesystem.isdir(source) else []
    return any(name.startswith("latest_net_") and name.endswith(".pth") for name in names)
