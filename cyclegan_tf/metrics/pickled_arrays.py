"""Arrays out of pickles, PyTorch's and NumPy's, without PyTorch and without running what a pickle may ask for.

A pickle is a program that may call any function by name. Here the names are a short list of harmless ones, tensors are
put together from the raw numbers that lie beside the pickle, and classes of TorchScript become plain containers.
"""

import collections
import io
import pickle
import zipfile

import numpy as np

_DTYPES = {"FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8",
           "IntStorage": "<i4", "ByteStorage": "u1"}
# What torch.save wrote before version 1.6 begins with these: a number, the protocol, the sizes of the machine's types.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def read(data):
    """The arrays in a pickle, by their path in it, parts joined with dots.

    Args:
      data: content of a file of torch.save (of any version) or torch.jit.save, or a pickle of nested dicts of arrays.

    Returns:
      dict of name to array; of anything that is no array in such a file nothing is kept.

    Raises:
      ValueError: it is damaged, or it asks for anything but arrays and containers.
    """
    try:
        return dict(_flat(_read(data), ()))
    except pickle.UnpicklingError as error:
        raise ValueError(str(error)) from error
    except (EOFError, KeyError, IndexError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"damaged ({error})") from error


def _read(data):
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
    """The numbers that tensors are views of; read after the pickle that names them."""

    def __init__(self, dtype):
        self.dtype, self.numbers = np.dtype(dtype), None

    def fill(self, data):
        self.numbers = np.frombuffer(data, self.dtype)


class _Tensor:
    def __init__(self, storage, offset, shape, strides, *_):
        self._storage, self._offset, self._shape, self._strides = storage, offset, shape, strides

    def array(self):
        numbers = self._storage.numbers[self._offset :]
        # Views that reach beyond the storage are for as_strided what pointers are for C.
        last = sum((length - 1) * stride for length, stride in zip(self._shape, self._strides, strict=True))
        if min((0, *self._shape, *self._strides)) < 0 or (0 not in self._shape and last >= len(numbers)):
            raise ValueError("damaged (a tensor is larger than its storage)")
        strides = [stride * numbers.itemsize for stride in self._strides]
        return np.lib.stride_tricks.as_strided(numbers, self._shape, strides).copy()


class _Module:
    """Stands for any class of a TorchScript file; its attributes are those of the pickle."""


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

    def __init__(self, file):
        super().__init__(file)
        self.storages = {}

    def find_class(self, module, name):
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if module.startswith("__torch__."):
            return _Module
        try:
            return self._ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"asks for {module}.{name} and was not executed") from None

    def persistent_load(self, identity):
        kind, dtype, key, *_ = identity
        if kind != "storage":
            raise pickle.UnpicklingError(f"holds a {kind}")
        return self.storages.setdefault(key, _Storage(dtype))


def _flat(tree, path):
    if isinstance(tree, np.ndarray | _Tensor):
        array = tree.array() if isinstance(tree, _Tensor) else tree
        if array.dtype.hasobject:
            raise ValueError(f"{'.'.join(path)} is no array of numbers")
        yield ".".join(path), array
        return
    children = tree if isinstance(tree, dict) else vars(tree) if isinstance(tree, _Module) else {}
    for name, child in children.items():
        yield from _flat(child, (*path, str(name)))
