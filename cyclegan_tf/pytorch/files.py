"""Reads and writes the .pth files of the authors' code: dicts of tensors, saved by torch.save.

Reading never executes code in a file. PyTorch is an optional extra; only this module imports it.
"""

import contextlib
import os
import pickletools
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from cyclegan_tf.errors import UserError, import_extra, is_outage
from cyclegan_tf.pytorch import weights
from cyclegan_tf.storage import atomic, filesystem, zip_files
from cyclegan_tf.storage.zip_files import DamagedFileError

if TYPE_CHECKING:
    import torch

_SAVE_AGAIN = "save it again from PyTorch with torch.save(network.state_dict(), PATH)"
# Network name in the authors' file names -> network name in this package: of models with two directions, and with one.
_TWO_WAY = {"G_A": "gen_ab", "G_B": "gen_ba", "D_A": "disc_b", "D_B": "disc_a"}
_ONE_WAY = {"G": "gen_ab", "D": "disc_b"}
NETWORKS = _TWO_WAY | _ONE_WAY
_PREFIX, _SUFFIX = "latest_net_", ".pth"  # Of the authors' file names.
_PTH_NAME = re.compile(rf"(?:.*_)?({'|'.join(NETWORKS)})\.pth")


def name_files(n_directions: int) -> dict[str, str]:
    """Maps each network (gen_ab ...) of a model with 1 or 2 directions to its file name in the authors' code."""
    return {name: _name_file(net) for net, name in (_ONE_WAY if n_directions == 1 else _TWO_WAY).items()}


def has_files(folder: str) -> bool:
    """True if `folder` is a folder that holds .pth files with names of the authors' code."""
    names = filesystem.listdir(folder) if filesystem.isdir(folder) else []
    return any(name.startswith(_PREFIX) and name.endswith(_SUFFIX) for name in names)


def match_networks(paths: Sequence[str], network: str | None = None) -> dict[str, str]:
    """Maps each network (gen_ab, disc_b ...) to its file, by the file names of the authors' code.

    Args:
      paths: files, or one folder, whose latest_net_{G_A,G_B,D_A,D_B,G,D}.pth are used.
      network: gen_ab, gen_ba, disc_a or disc_b: the network of a single file with any name.

    Raises:
      UserError: a file does not exist, its name names no network, or two files name the same network.
    """
    if len(paths) == 1 and filesystem.isdir(paths[0]):
        names = [_name_file(net) for net in NETWORKS]
        found = [path for name in names if filesystem.exists(path := os.path.join(paths[0], name))]
        if not found:
            raise UserError(f"{paths[0]} contains none of {', '.join(names)}; give the files by name")
        paths = found
    if network:
        if len(paths) != 1:
            raise UserError(f"--network={network} names the network of a single file, but there are {len(paths)} files")
        return {network: paths[0]}
    files: dict[str, str] = {}
    for path in paths:
        match = _PTH_NAME.fullmatch(os.path.basename(path))
        if not match:
            if not filesystem.exists(path):
                raise UserError(f"{path} does not exist; give .pth files, or one folder of the authors' code")
            suffixes = ", ".join(f"{net}.pth" for net in NETWORKS)
            raise UserError(f"{path}: the name does not say which network the file holds, because it ends in none of "
                            f"{suffixes}; add --network=gen_ab (A to B), gen_ba, disc_a or disc_b")
        name = NETWORKS[match[1]]
        if name in files:
            raise UserError(f"{files[name]} and {path} are both {name}; give only one of them")
        files[name] = path
    return files


def read(path: str) -> dict[str, np.ndarray]:
    """Reads a state_dict as {key: array}; floating-point tensors of every precision become float32.

    Reads both of PyTorch's file formats: zip files, and the format used before version 1.6.

    Raises:
      UserError: PyTorch or the file is missing, the file is damaged, or it holds anything but a dict of tensors.
    """
    torch = _import_torch("reading")
    try:
        with filesystem.open_for_reading(path) as file:
            tensors = _load(torch, file, path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if not isinstance(tensors, Mapping) or not all(isinstance(key, str) for key in tensors):
        raise UserError(f"{path} holds a {type(tensors).__name__} instead of named tensors; {_SAVE_AGAIN}")
    others = [key for key, value in tensors.items() if not isinstance(value, torch.Tensor)]
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise UserError(f"{path} holds more than tensors ({', '.join(others[:3])}{more}); {_SAVE_AGAIN}")
    return {key: _to_array(torch, key, tensor.detach(), path) for key, tensor in tensors.items()}


def read_network(path: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Reads a network: the options that describe it (see `pytorch.weights`), and its weights under Keras names.

    Raises:
      UserError: the file cannot be read, or does not hold one of the authors' networks.
    """
    state_dict = read(path)
    try:
        options = weights.infer_architecture(state_dict)
        return options, weights.to_keras(state_dict, options)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def write(path: filesystem.PathLike, state_dict: Mapping[str, np.ndarray]) -> None:
    """Writes {key: array} atomically as the OrderedDict of tensors that the authors' code loads."""
    torch = _import_torch("writing")
    tensors = OrderedDict((key, torch.from_numpy(np.array(array))) for key, array in state_dict.items())
    with atomic.open_for_writing(path, "wb") as file:
        torch.save(tensors, file)


def require_torch_for_writing() -> None:
    """Raises UserError if PyTorch is not installed; for a check before a long conversion."""
    _import_torch("writing")


def _name_file(net: str) -> str:
    return f"{_PREFIX}{net}{_SUFFIX}"


def _load(torch: ModuleType, file: IO[bytes], path: str) -> Any:
    try:
        _verify_checksums(file)
        with warnings.catch_warnings():
            # PyTorch warns about pickles from other programs; the error below says more.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # A damaged file can raise any exception, such as KeyError or OSError without a number.
        if is_outage(error) or isinstance(error, MemoryError):
            raise
        refused = re.search(r"GLOBAL (\w+(\.\w+)*)", str(error))
        name = refused[1] if refused else _find_code(file)
        if name:
            raise UserError(f"{path} holds more than tensors ({name}) and was not executed, because such a file can be "
                            f"malicious; if you trust its author, {_SAVE_AGAIN}") from error
        raise UserError(f"{path} is damaged or not a PyTorch file; copy or download it again") from error


def _verify_checksums(file: IO[bytes]) -> None:
    """Verifies the CRC-32 of each member of a zip file, which PyTorch does not."""
    if file.read(4) == b"PK\3\4":
        with zip_files.open_zip(file) as archive:
            if damaged := archive.testzip():
                raise DamagedFileError(f"the checksum of {damaged} is wrong")
    file.seek(0)


def _find_code(file: IO[bytes]) -> str | None:
    """The first name of code that is not PyTorch's in the pickles of a .pth file, or None.

    PyTorch refuses most pickles of other programs as damaged, before it sees such a name.
    """
    with contextlib.suppress(Exception):  # The file may be damaged.
        file.seek(0)
        if zipfile.is_zipfile(file):
            archive = zipfile.ZipFile(file)
            file = archive.open(next(name for name in archive.namelist() if name.endswith("data.pkl")))
        file.seek(0)
        texts: list[str] = []
        while True:  # The format from before version 1.6 is a sequence of pickles.
            for opcode, argument, _ in pickletools.genops(file):
                if isinstance(argument, str):
                    texts.append(argument)
                if opcode.name in ("GLOBAL", "INST", "STACK_GLOBAL"):
                    name = ".".join(texts[-2:]) if opcode.name == "STACK_GLOBAL" else texts[-1].replace(" ", ".")
                    if not name.startswith(("torch.", "collections.")):
                        return name
    return None


def _to_array(torch: ModuleType, key: str, tensor: "torch.Tensor", path: str) -> np.ndarray:
    kinds = {
        "nested": tensor.is_nested, "meta": tensor.is_meta, "quantized": tensor.is_quantized,
        "sparse": tensor.layout != torch.strided, "complex": tensor.is_complex(),
    }
    kind = next((kind for kind, applies in kinds.items() if applies), None)
    # A tensor of strides 0 could fill all memory.
    if kind is None and tensor.nbytes > tensor.untyped_storage().nbytes():
        kind = "expanded"
    if kind:
        raise UserError(f"{path} holds a tensor of an unsupported kind ({key} is {kind}); save a network of ordinary "
                        "tensors with torch.save(network.state_dict(), PATH)")
    return (tensor.to(torch.float32) if tensor.is_floating_point() else tensor).numpy()


def _import_torch(purpose: str) -> ModuleType:
    return import_extra("torch", f"{purpose} .pth files needs PyTorch", "pytorch")
