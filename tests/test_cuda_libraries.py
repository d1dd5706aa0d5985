"""CUDA libraries from pip, with stub libraries laid out as pip lays out the real ones."""

import shutil
import subprocess

import pytest
from conftest import run_python

from cyclegan_tf.errors import UserError
from cyclegan_tf.ops import cuda_libraries

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="stub libraries need a compiler")
FOLDERS = {
    "libcudart.so.12": "cuda_runtime", "libnvJitLink.so.12": "nvjitlink", "libcublasLt.so.12": "cublas",
    "libcublas.so.12": "cublas", "libcufft.so.11": "cufft", "libcusparse.so.12": "cusparse",
    "libcusolver.so.11": "cusolver", "libcudnn.so.9": "cudnn",
}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of packages with a stub of each library, on a machine that seems to have a GPU and its driver."""
    for name, folder in FOLDERS.items():
        build(tmp_path / "nvidia" / folder / "lib" / name)
    (tmp_path / "nvidia" / "__init__.py").touch()  # Hides the packages of a PyTorch that is installed.
    build(tmp_path / "libcuda.so.1")
    (tmp_path / "nvidia3").touch()  # A container may have any one of a machine's GPUs.
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(cuda_libraries, "_DEVICES", (str(tmp_path / "nvidia[0-9]*"), str(tmp_path / "dxg")))
    monkeypatch.setattr(cuda_libraries, "_DRIVER", str(tmp_path / "libcuda.so.1"))
    return tmp_path


def build(path, *needs):
    """Compiles an empty library with its file name as soname; the library links to `needs`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["gcc", "-shared", "-Wl,--no-as-needed", f"-Wl,-soname,{path.name}", "-x", "c", "/dev/null", "-o", path,
         *(option for need in needs for option in (f"-L{need.parent}", f"-l:{need.name}"))],
        check=True,
    )


def in_site(site, code):
    """Returns a program that runs `code` on the machine of the fixture `site`."""
    return f"""
import sys
from cyclegan_tf.ops import cuda_libraries
sys.path.insert(0, {str(site)!r})
cuda_libraries._DEVICES, cuda_libraries._DRIVER = [{str(site / "nvidia[0-9]*")!r}], {str(site / "libcuda.so.1")!r}
{code}
"""


def test_loaded_libraries_are_found_by_name(site):
    # In another process: what one test has loaded, the next would find. cuSOLVER needs nvJitLink, as the real one does.
    names = ("libcusolver.so.11", "libnvJitLink.so.12")
    solver, link = (site / "nvidia" / FOLDERS[name] / "lib" / name for name in names)
    build(solver, link)
    code = in_site(site, f"""
import ctypes
def opens(name):
    try:
        return bool(ctypes.CDLL(name))
    except OSError:
        return False
assert not any(opens(name) for name in {list(FOLDERS)!r})
cuda_libraries.load()
assert all(opens(name) for name in {list(FOLDERS)!r})
assert "tensorflow" not in sys.modules
""")
    result = run_python("-c", code)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(("name", "package"), [
    ("libcusolver.so.11", "nvidia-cusolver-cu12"), ("libcudnn.so.9", "nvidia-cudnn-cu12"),
])
def test_a_missing_library_is_named_with_its_package(site, name, package):
    (site / "nvidia" / FOLDERS[name] / "lib" / name).unlink()
    # In another process, which has not loaded a library of that name before.
    result = run_python("-c", in_site(site, "cuda_libraries.require_gpu_in_use(0)"))
    assert f"{name} cannot be loaded; install {package}, which pip install 'cyclegan_tf[gpu]' brings" in result.stderr


def test_libraries_of_cuda_12_and_13_in_one_environment_are_refused(site):
    for version in (12, 13):
        info = site / f"nvidia_cudnn_cu{version}-9.24.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: nvidia-cudnn-cu{version}\nVersion: 9.24.0\n")
    with pytest.raises(UserError, match=r"nvidia-cudnn-cu12 .* and nvidia-cudnn-cu13 .* two environments"):
        cuda_libraries.require_gpu_in_use(0)


def test_complete_libraries_leave_the_driver(site):
    # In another process, because PyTorch could not be imported where the stub of cuDNN is loaded.
    result = run_python("-c", in_site(site, "cuda_libraries.require_gpu_in_use(0)"))
    assert "the driver may be too old" in result.stderr


@pytest.mark.parametrize(("gpus_seen", "visible"), [(1, "0"), (0, "-1"), (0, "")])
def test_a_gpu_in_use_or_hidden_by_the_user_is_fine(site, monkeypatch, gpus_seen, visible):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    (site / "nvidia" / "cusolver" / "lib" / "libcusolver.so.11").unlink()
    cuda_libraries.require_gpu_in_use(gpus_seen)


def test_a_gpu_under_wsl_is_found(site):
    (site / "nvidia3").unlink()
    assert not cuda_libraries.has_nvidia_gpu()
    (site / "dxg").touch()  # The only device of WSL 2, for all GPUs.
    assert cuda_libraries.has_nvidia_gpu()


def test_a_machine_without_a_gpu_is_fine(monkeypatch):
    monkeypatch.setattr(cuda_libraries, "_DEVICES", ["/dev/no-such-device"])
    cuda_libraries.require_gpu_in_use(0)


def test_training_on_a_machine_whose_gpu_is_not_seen_is_an_error(site, tmp_path):
    (site / "nvidia" / "cusolver" / "lib" / "libcusolver.so.11").unlink()
    code = in_site(site, f"""
sys.argv = ["train", "--preset=tiny", "--workdir={tmp_path}/run"]
import runpy; runpy.run_module("cyclegan_tf.train", run_name="__main__", alter_sys=True)
""")
    result = run_python("-c", code)
    assert result.returncode == 2, result.stderr
    assert "error: TensorFlow does not see this machine's GPU: libcusolver.so.11 cannot be loaded" in result.stderr
    assert not (tmp_path / "run").exists()
