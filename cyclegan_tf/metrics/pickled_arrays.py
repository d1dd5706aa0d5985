"""Reads arrays from pickles of PyTorch and NumPy, without PyTorch and without executing the pickle's code.

A pickle is a program that can call any function by name. This reader allows only a short list of harmless names. It
builds tensors from the raw numbers stored beside the pickle and replaces TorchScript classes with plain containers.
"""

import collections
import io
import math
import pickle
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

_DTYPES = {"FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8",
           "IntStorage": "<i4", "ByteStorage": "u1"}
# First pickle in a file of torch.save before version 1.6. Two more follow: the protocol and the sizes of the C types.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def read(data: bytes) -> dict[str, np.ndarray]:
    """Reads the arrays in a pickle by path, such as "layer1.conv.weight"; ignores all other objects.

    Args:
      data: contents of a file of torch.save (any version) or torch.jit.save, or a pickle of nested dicts of arrays.

    Raises:
      ValueError: the data are damaged, or refer to code other than arrays and containers.
    """
    try:
        return dict(_flatten(_read(data), ()))
    except pickle.UnpicklingError as error:
        raise ValueError(str(error)) from error
    except Exception as error:  # Damaged data can raise any exception, such as MemoryError and RecursionError.
        raise ValueError(f"damaged ({error})") from error


def _read(data: bytes) -> Any:
    if data[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            (path,) = (name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1)
            folder = path.removesuffix("data.pkl")
            unpickler = _Unpickler(io.BytesIO(archive.read(path)))
            tree = unpickler.load()
            for key, storage in unpickler.storages.items():
                storage.fill(archive.read(f"{folder}data/{key}"))
        return tree
    file = io.BytesIO(data)
    first = _Unpickler(file).load()
    if first != _LEGACY_MAGIC:
        return first
    for _ in range(2):
        _Unpickler(file).load()
    unpickler = _Unpickler(file)
    tree = unpickler.load()
    for key in _Unpickler(file).load():
        storage = unpickler.storages[key]
        count = int.from_bytes(file.read(8), "little")
        storage.fill(file.read(count * storage.dtype.itemsize))
    return tree


class _Storage:
    """The numbers that tensors are views of; `fill` sets them later, because they follow the pickle in the file."""

    def __init__(self, dtype: str) -> None:
        self.dtype = np.dtype(dtype)
        self.numbers = np.zeros(0, self.dtype)

    def fill(self, data: bytes) -> None:
        self.numbers = np.frombuffer(data, self.dtype)


class _Tensor:
    """Takes the place of torch._utils._rebuild_tensor_v2 in a pickle."""

    def __init__(
        self, storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
    ) -> None:
        self._storage, self._offset, self._shape, self._strides = storage, offset, shape, strides

    def array(self) -> np.ndarray:
        numbers = self._storage.numbers[self._offset :]
        # as_strided does not check bounds, so a view beyond the storage would read foreign memory. A view with strides
        # of 0 can be larger than its storage, so its copy could exhaust the memory.
        last = sum((length - 1) * stride for length, stride in zip(self._shape, self._strides, strict=True))
        is_larger = last >= len(numbers) or math.prod(self._shape) > len(numbers)
        if min((0, *self._shape, *self._strides)) < 0 or (0 not in self._shape and is_larger):
            raise pickle.UnpicklingError("damaged (a tensor is larger than its storage)")
        strides = [stride * numbers.itemsize for stride in self._strides]
        return np.lib.stride_tricks.as_strided(numbers, self._shape, strides).copy()


class _Module:
    """Takes the place of every class in a TorchScript file; has the attributes that the pickle sets."""


class _Unpickler(pickle.Unpickler):
    _ALLOWED = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
        ("torch.jit._pickle", "build_intlist"): list,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
    }

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if module.startswith("__torch__."):
            return _Module
        try:
            return self._ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"needs {module}.{name}, which is not allowed and was not executed") from None

    def persistent_load(self, identity: tuple) -> _Storage:
        kind, dtype, key, *_ = identity
        if kind != "storage":
            raise pickle.UnpicklingError(f"refers to a {kind} outside the pickle; only storages are supported")
        return self.storages.setdefault(key, _Storage(dtype))


def _flatten(tree: object, path: tuple[str, ...]) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(tree, np.ndarray | _Tensor):
        array = tree.array() if isinstance(tree, _Tensor) else tree
        if array.dtype.hasobject:
            raise pickle.UnpicklingError(f"{'.'.join(path)} is not an array of numbers")
        yield ".".join(path), array
        return
    children = tree if isinstance(tree, dict) else vars(tree) if isinstance(tree, _Module) else {}
    for name, child in children.items():
        yield from _flatten(child, (*path, str(name)))
