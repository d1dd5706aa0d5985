"""The authors' .pth files, as torch.save writes them: tensors by name, read without running what a file may hold.

PyTorch is an optional extra and imported only here.
"""

import os
import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping

import numpy as np

from cyclegan_tf.errors import UserError
from cyclegan_tf.pytorch import weights
from cyclegan_tf.storage import atomic, filesystem

_PTH_NAME = re.compile(r"(?:.*_)?(G_A|G_B|D_A|D_B|G)\.pth")
NETWORKS = {"G_A": "gen_ab", "G_B": "gen_ba", "D_A": "disc_b", "D_B": "disc_a", "G": "gen_ab"}


def match_networks(paths, network=None):
    """Which network is in which file, by the names that the authors' code gives: {gen_ab, disc_b ...: path}.

    Args:
      paths: files, or one folder, of which latest_net_{G_A,G_B,D_A,D_B,G}.pth are taken.
      network: gen_ab, gen_ba, disc_a or disc_b, for a single file whose name does not say it.

    Raises:
      UserError: a name that says nothing, or two files of one network.
    """
    if len(paths) == 1 and filesystem.isdir(paths[0]):
        names = [f"latest_net_{net}.pth" for net in NETWORKS]
        found = [path for name in names if filesystem.exists(path := os.path.join(paths[0], name))]
        if not found:
            raise UserError(f"{paths[0]} holds none of {', '.join(names)}")
        paths = found
    if network:
        if len(paths) != 1:
            raise UserError(f"--network={network} is for a single file, and there are {len(paths)}")
        return {network: paths[0]}
    files = {}
    for path in paths:
        match = _PTH_NAME.fullmatch(os.path.basename(path))
        if not match:
            raise UserError(f"which network is {path}? Its name ends in none of {', '.join(NETWORKS)} (.pth): "
                            "say it with --network=gen_ab (A to B), gen_ba, disc_a or disc_b")
        name = NETWORKS[match[1]]
        if name in files:
            raise UserError(f"{files[name]} and {path} are both {name}; give one of them")
        files[name] = path
    return files


def read(path):
    """The state_dict in a file, as {key: NumPy array}; floating-point tensors of any precision become float32.

    Both of PyTorch's file formats are read, the zip of today and the one from before 1.6.

    Raises:
      UserError: PyTorch or the file is missing, the file is damaged, or it holds anything but tensors by name.
    """
    torch = _import_torch()
    try:
        with filesystem.open_for_reading(path, "rb") as file:
            tensors = _load(torch, file, path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if not isinstance(tensors, Mapping) or not all(isinstance(key, str) for key in tensors):
        raise UserError(f"{path} holds a {type(tensors).__name__}, not tensors by name; give a saved state_dict")
    others = [key for key, value in tensors.items() if not isinstance(value, torch.Tensor)]
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise UserError(f"{path} holds more than tensors: {', '.join(others[:3])}{more}; give a saved state_dict")
    return {key: _array(torch, tensor.detach()) for key, tensor in tensors.items()}


def write(path, state_dict):
    """Writes {key: NumPy array} as the OrderedDict of tensors that the authors' code loads; beside, then renamed."""
    torch = _import_torch()
    tensors = OrderedDict((key, torch.from_numpy(np.array(array))) for key, array in state_dict.items())
    with atomic.open_for_writing(path, "wb") as file:
        torch.save(tensors, file)


def require_torch():
    """Raises UserError where PyTorch is not installed: before a long conversion, not after it."""
    _import_torch()


def _load(torch, file, path):
    try:
        with warnings.catch_warnings():
            # Of pickles that torch.save has not written; the error says more.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # A damaged file can raise anything, KeyError and OSError among them.
        refused = re.search(r"GLOBAL (\w+(\.\w+)+)", str(error))
        if refused:
            raise UserError(f"{path} holds more than tensors ({refused[1]}) and was not executed; save it again from "
                            "PyTorch as torch.save(network.state_dict(), PATH)") from error
        raise UserError(f"{path} is damaged or no file of PyTorch's; copy or download it again") from error


def _array(torch, tensor):
    return (tensor.to(torch.float32) if tensor.is_floating_point() else tensor).numpy()


def _import_torch():
    try:
        import torch
    except ImportError as error:
        raise UserError("reading .pth files needs PyTorch: pip install torch") from error
    return torch


def read_network(path):
    """The architecture of the network in a .pth file, as `pytorch.weights` describes it, and its weights by name.

    Raises:
      UserError: the file cannot be read, or holds no network that is known here.
    """
    state_dict = read(path)
    try:
        options = weights.infer_architecture(state_dict)
        return options, weights.to_keras(state_dict, options)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
