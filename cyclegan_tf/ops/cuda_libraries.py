"""CUDA libraries installed by pip: loads them where TensorFlow finds them, and names the ones that are missing.

TensorFlow opens its CUDA libraries by file name when it is imported, and silently uses the CPU if it cannot open one of
them. TensorFlow 2.21's search path does not contain the folder of cuSOLVER; a library that the process has
already loaded is found all the same. Nothing here imports TensorFlow.
"""

import ctypes
import glob
import os
from importlib import metadata, util
from pathlib import Path

from cyclegan_tf.errors import UserError

# File that TensorFlow opens (a pattern: TensorFlow 2.15 takes cuDNN 8, TensorFlow 2.21 cuDNN 9) -> pip package. Each
# library comes after the libraries that it needs.
_LIBRARIES = {
    "libcudart.so.12": "nvidia-cuda-runtime-cu12",
    "libnvJitLink.so.12": "nvidia-nvjitlink-cu12",
    "libcublasLt.so.12": "nvidia-cublas-cu12",
    "libcublas.so.12": "nvidia-cublas-cu12",
    "libcufft.so.11": "nvidia-cufft-cu12",
    "libcusparse.so.12": "nvidia-cusparse-cu12",
    "libcusolver.so.11": "nvidia-cusolver-cu12",
    "libcudnn.so.[89]": "nvidia-cudnn-cu12",
}
# A container may have any one of a machine's GPUs. Under WSL 2, all GPUs share the device dxg.
_DEVICES = ("/dev/nvidia[0-9]*", "/dev/dxg")
_DRIVER = "libcuda.so.1"


def has_nvidia_gpu() -> bool:
    """True if this machine has an NVIDIA GPU and its driver, whether or not TensorFlow sees the GPU."""
    return any(map(glob.glob, _DEVICES)) and _open(_DRIVER)


def load() -> None:
    """Loads the CUDA libraries of pip's nvidia packages; call before TensorFlow is imported."""
    for pattern in _LIBRARIES:
        for path in _find(pattern):
            _open(str(path))


def is_gpu_missing(gpus_seen: int) -> bool:
    """True if this machine has a GPU that TensorFlow does not see.

    Args:
      gpus_seen: the number of GPUs that TensorFlow lists.

    Returns:
      False also if CUDA_VISIBLE_DEVICES is -1 or empty, which asks for the CPU.
    """
    return not gpus_seen and os.environ.get("CUDA_VISIBLE_DEVICES") not in ("", "-1") and has_nvidia_gpu()


def require_gpu_in_use(gpus_seen: int) -> None:
    """Raises an error if `is_gpu_missing`.

    Raises:
      UserError: names the missing library and the package that contains it.
    """
    if not is_gpu_missing(gpus_seen):
        return
    on_cpu = "to compute on the CPU, set CUDA_VISIBLE_DEVICES=-1"
    if all(_is_installed(f"nvidia-cudnn-cu{version}") for version in (12, 13)):
        raise UserError(
            "TensorFlow does not see this machine's GPU: nvidia-cudnn-cu12 (for TensorFlow) and nvidia-cudnn-cu13 (for "
            "PyTorch) are both installed, and each has overwritten files of the other; install TensorFlow and PyTorch "
            f"into two environments, or {on_cpu}"
        )
    for pattern, package in _LIBRARIES.items():
        names = [pattern.replace("[89]", version) for version in "98"] if "[" in pattern else [pattern]
        if not any(_open(str(found)) for found in _find(pattern)) and not any(_open(name) for name in names):
            raise UserError(
                f"TensorFlow does not see this machine's GPU: {names[0]} cannot be loaded; install {package}, which "
                f"pip install 'cyclegan_tf[gpu]' brings, or {on_cpu}"
            )
    raise UserError(
        "TensorFlow does not see this machine's GPU although all CUDA libraries load: the driver may be too old for "
        f"CUDA 12 (see nvidia-smi), or this TensorFlow may be built without CUDA; update the driver, or {on_cpu}"
    )


def _find(pattern: str) -> list[Path]:
    """Files that match `pattern` in the lib folders of pip's nvidia packages."""
    spec = util.find_spec("nvidia")
    roots = list(spec.submodule_search_locations or ()) if spec else []
    return [path for root in roots for path in sorted(Path(root).glob(f"*/lib/{pattern}"))]


def _open(name: str) -> bool:
    try:
        ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
