"""Reading .pth files: allowed content, refused content, and errors for damaged files."""

import contextlib
import errno
import importlib
import io
import os
import pickle
import zipfile

import golden
import pytest

from cyclegan_tf.errors import UserError
from cyclegan_tf.exporters import pytorch_run
from cyclegan_tf.pytorch import files as torch_files
from cyclegan_tf.storage import filesystem

torch = pytest.importorskip("torch", reason="PyTorch reads and writes .pth files")


class Malice:
    """Creates a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


class Call:
    """Calls a function when it is unpickled."""

    def __init__(self, function):
        self.function = function

    def __reduce__(self):
        return self.function, ("1 + 1",)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_file_with_code_is_refused(tmp_path, form):
    path, made = tmp_path / "latest_net_G_A.pth", tmp_path / "made"
    content = {"model.1.weight": torch.ones(2), "model.1.bias": Malice(made)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content["model.1.bias"], protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(UserError, match=r"G_A\.pth holds more than tensors \(\w+\.mkdir\) and was not executed"):
        pytorch_run.convert_from_pytorch([str(path)], str(tmp_path / "run"))
    assert os.listdir(tmp_path) == ["latest_net_G_A.pth"]
    # Without the check, the code runs.
    if form == "pickle":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert made.exists()


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("code", ["eval", "exec", "getattr", "os.system", "functools.partial"])
def test_code_is_called_code_in_every_protocol_of_pickle(tmp_path, code, protocol):
    path = tmp_path / "latest_net_G_A.pth"
    module, _, name = f"builtins.{code}".rpartition(".") if "." not in code else code.rpartition(".")
    path.write_bytes(pickle.dumps(Call(getattr(importlib.import_module(module), name)), protocol=protocol))
    refusal = rf"^{path} holds more than tensors \((\w+\.)?{name}\) and was not executed, because .* can be malicious; "
    with pytest.raises(UserError, match=refusal):
        torch_files.read(str(path))


@pytest.mark.parametrize("data", [
    b"(S'1+1'\ni__builtin__\neval\n.", b"(c__builtin__\neval\nS'1+1'\no.",
    b"\x80\x02c__builtin__\neval\nU\x031+1\x85R.",
], ids=["INST", "OBJ", "REDUCE"])
def test_code_in_an_archive_is_called_code_for_every_opcode(tmp_path, data):
    path = tmp_path / "latest_net_G_A.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", data)
        archive.writestr("net/version", "3\n")
    with pytest.raises(UserError, match=r"tensors \((__builtin__\.)?eval\) and was not executed, .* malicious"):
        torch_files.read(str(path))


@pytest.mark.parametrize(("make", "kind"), [
    (lambda: torch.eye(3).to_sparse(), "sparse"),
    (lambda: torch.eye(3).to_sparse_csr(), "sparse"),
    (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "quantized"),
    (lambda: torch.ones(3, device="meta"), "meta"),
    (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "nested"),
    (lambda: torch.ones(3, dtype=torch.complex64), "complex"),
    (lambda: torch.ones(1).expand(2**40), "expanded"),
], ids=["sparse", "sparse csr", "quantized", "meta", "nested", "complex", "expanded"])
@pytest.mark.filterwarnings("ignore")  # PyTorch warns about prototypes.
def test_tensor_without_a_plain_array_is_named_in_one_line(tmp_path, make, kind):
    path = tmp_path / "latest_net_G_A.pth"
    torch.save({"model.1.bias": torch.ones(1), "model.1.weight": make()}, path)
    with pytest.raises(UserError, match=rf"kind \(model\.1\.weight is {kind}\); save a network of ordinary") as caught:
        torch_files.read(str(path))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_flipped_bits_are_damage_or_change_nothing(tmp_path):
    path = tmp_path / "x.pth"
    numbers = torch.arange(16, dtype=torch.float32)
    torch.save({"a": numbers}, path)
    whole = path.read_bytes()
    with open(path, "r+b", buffering=0) as file:
        for position, byte in enumerate(whole):
            os.pwrite(file.fileno(), bytes([byte ^ 1 << position % 8]), position)
            with contextlib.suppress(UserError):
                assert {key: array.tolist() for key, array in torch_files.read(path).items()} == {"a": numbers.tolist()}
            os.pwrite(file.fileno(), whole[position : position + 1], position)


def damaged(path):
    torch_files.write(path, golden.state_dict())
    path.write_bytes(path.read_bytes()[:10_000])


@pytest.mark.parametrize(("make", "message"), [
    (lambda path: None, r"cannot read .*G_A\.pth: No such file or directory$"),
    (lambda path: path.write_bytes(b""), r"G_A\.pth is damaged or not a PyTorch file; copy or download"),
    (lambda path: path.write_text("hello there"), r"G_A\.pth is damaged or not a PyTorch file"),
    (lambda path: path.write_text("<!DOCTYPE html>"), r"G_A\.pth is damaged or not a PyTorch file"),
    (lambda path: path.write_bytes(pickle.dumps({"a": 1}, protocol=4)), r"G_A\.pth is damaged or not a PyTorch file"),
    (damaged, r"G_A\.pth is damaged or not a PyTorch file"),
    (
        lambda path: torch.save([torch.ones(1)], path),
        r"G_A\.pth holds a list instead of named tensors; save it again from PyTorch",
    ),
    (lambda path: torch.save({1: torch.ones(1)}, path), r"G_A\.pth holds a dict instead of named tensors"),
    (
        lambda path: torch.save({"epoch": 1, "model": {"a": torch.ones(1)}}, path),
        r"G_A\.pth holds more than tensors \(epoch, model\); save it again from PyTorch with torch\.save",
    ),
    (
        lambda path: torch.save(torch.nn.Linear(1, 1), path),
        r"G_A\.pth holds more than tensors \(torch\.nn\.modules\.linear\.Linear\) and was not executed",
    ),
    (
        lambda path: torch.save({"fc.weight": torch.ones(1, 1)}, path),
        r"G_A\.pth: the weights belong to no known network .*; keys: fc\.weight$",
    ),
    (
        lambda path: torch_files.write(path, golden.state_dict("discriminators/nlayer_n2_instance.npz")),
        r"G_A\.pth holds a discriminator, but gen_ab is a generator; give the right --network$",
    ),
])
def test_unusable_file_is_named_in_one_line(tmp_path, make, message):
    path = tmp_path / "latest_net_G_A.pth"
    make(path)
    with pytest.raises(UserError, match=message) as caught:
        pytorch_run.convert_from_pytorch([str(path)], str(tmp_path / "run"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_failing_disk_is_not_called_damage(tmp_path, monkeypatch):
    class File(io.BytesIO):
        def read(self, size=-1):
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(filesystem, "open_for_reading", lambda path: File())
    with pytest.raises(UserError, match=r"^cannot read .*G_A\.pth: Input/output error$"):
        torch_files.read(str(tmp_path / "latest_net_G_A.pth"))


def test_floats_of_every_precision_become_float32(tmp_path):
    tensors = {"half": torch.ones(2, dtype=torch.bfloat16), "double": torch.ones((), dtype=torch.float64)}
    torch.save({**tensors, "count": torch.tensor(3)}, tmp_path / "x.pth")
    arrays = torch_files.read(tmp_path / "x.pth")
    assert {key: array.dtype.name for key, array in arrays.items()} == {
        "half": "float32", "double": "float32", "count": "int64",
    }
    assert (arrays["half"].tolist(), arrays["double"].item(), arrays["count"].item()) == ([1, 1], 1, 3)
