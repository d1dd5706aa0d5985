"""Commands start without TensorFlow's messages, unless something is wrong."""

import os
import sys
import tempfile

import pytest
from conftest import run_python
from PIL import Image

from cyclegan_tf.ops import startup


def write(text):
    os.write(2, text.encode())


def test_what_the_body_writes_to_stderr_is_discarded(capfd):
    with startup.hold_stderr():
        write("Could not find cuda drivers\n")
    write("after\n")
    assert capfd.readouterr().err == "after\n"


def test_nothing_is_held_without_a_folder_for_temporary_files(capfd, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:  # pytest needs the folder for temporary files again after the test.
        patch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
        with startup.hold_stderr():
            write("shown\n")
    assert capfd.readouterr().err == "shown\n"


def test_held_text_is_printed_if_the_body_fails(capfd):
    with pytest.raises(ImportError, match="no such library"), startup.hold_stderr():
        write("libcublas is missing\n")
        raise ImportError("no such library")
    assert capfd.readouterr().err == "libcublas is missing\n"


def test_held_text_is_discarded_after_ctrl_c(capfd):
    with pytest.raises(KeyboardInterrupt), startup.hold_stderr():
        write("failed call to cuInit\n")
        raise KeyboardInterrupt
    assert capfd.readouterr().err == ""


def test_held_text_is_printed_on_request(capfd):
    with startup.hold_stderr() as show:
        write("failed call to cuInit\n")
        show()
        write("and more\n")
    assert capfd.readouterr().err == "failed call to cuInit\nand more\n"


STAND_IN = """
import os
os.write(2, b"failed call to cuInit\\n")
print(*[os.environ[name] for name in ("TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS", "TF_FORCE_GPU_ALLOW_GROWTH")])
class config:
    list_physical_devices = staticmethod(lambda kind: [])
"""


@pytest.mark.parametrize(("gpu", "environment", "printed"), [
    pytest.param(False, {}, ("2 1 true\n", ""), id="no_gpu"),
    pytest.param(True, {}, ("2 1 true\n", "failed call to cuInit\n"), id="gpu_not_seen"),
    pytest.param(False, {"TF_CPP_MIN_LOG_LEVEL": "0", "TF_ENABLE_ONEDNN_OPTS": "0"},
                 ("0 0 true\n", "failed call to cuInit\n"), id="user_wants_messages"),
    pytest.param(False, startup.ENVIRONMENT, ("2 1 true\n", ""), id="started_by_a_command"),
])
def test_messages_and_environment(tmp_path, monkeypatch, gpu, environment, printed):
    # A stand-in for TensorFlow, because the result must not depend on this machine's devices.
    (tmp_path / "tensorflow.py").write_text(STAND_IN)
    for name in startup.ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    code = f"from cyclegan_tf.ops import cuda_libraries, startup; cuda_libraries.is_gpu_missing = lambda seen: {gpu}; "
    path = os.pathsep.join([str(tmp_path), *sys.path])
    result = run_python("-c", code + "startup.import_tensorflow()", PYTHONPATH=path, **environment)
    assert (result.stdout, result.stderr) == printed


OWN = "--xla_gpu_graph_min_graph_size=2 --xla_gpu_require_exclusive_lock=true"


@pytest.mark.parametrize(("version", "present", "expected"), [
    ("2.21.3", None, OWN),
    ("2.21.3", "--xla_gpu_graph_min_graph_size=9", f"{OWN} --xla_gpu_graph_min_graph_size=9"),
    ("2.21.3", f"{OWN} --xla_gpu_ftz=true", f"{OWN} --xla_gpu_ftz=true"),  # In a process that a command has started.
    ("2.21.3", " --xla_gpu_ftz=true", f"{OWN} --xla_gpu_ftz=true"),
    ("2.21.3", "flags.txt", "flags.txt"),  # XLA reads flags from a file.
    ("2.15.1", None, None),
    ("2.210.0", None, None),
])
def test_xla_flags_of_a_gpu(monkeypatch, version, present, expected):
    monkeypatch.setattr(os, "environ", {"XLA_FLAGS": present} if present else {})
    monkeypatch.setattr(startup.metadata, "version", lambda package: version)
    startup._set_xla_flags()
    assert os.environ.get("XLA_FLAGS") == expected


def test_xla_knows_its_flags():
    result = run_python("-c", """
from cyclegan_tf.ops import cuda_libraries, startup
cuda_libraries.has_nvidia_gpu, cuda_libraries.is_gpu_missing = lambda: True, lambda seen: False
startup.import_tensorflow()
import tensorflow as tf
print(int(tf.function(lambda: 6 * tf.constant(7), jit_compile=True)()))
""")
    assert (result.returncode, result.stdout) == (0, "42\n"), result.stderr


def test_translate_prints_only_its_own_line(tmp_path, monkeypatch):
    # The model of the package is a U-Net, for which TensorFlow's graph optimizer once printed an error.
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    Image.new("RGB", (16, 16)).save(tmp_path / "one.png")
    result = run_python("-m", "cyclegan_tf.translate", "--model=demo_maps", f"--input={tmp_path}/one.png",
                        f"--output={tmp_path}/results")
    assert (result.returncode, result.stderr) == (0, f"translated 1 of 1 files into {tmp_path}/results\n")
