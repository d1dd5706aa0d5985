"""The current machine: TensorFlow version, GPUs, memory, and whether the kernels of `ops` replace TensorFlow's."""

import contextlib
import functools
import re
import sys
from collections.abc import Iterator

import tensorflow as tf

from cyclegan_tf.ops.tracing import no_autograph

# TensorFlow 2.15 is the last version that tensorflow-addons can be imported with.
IS_TENSORFLOW_2_15 = tf.__version__.startswith("2.15.")
_portable_ops_forced = False


@no_autograph
def use_cpu_kernels(x: tf.Tensor) -> bool:
    """True if the optimized CPU kernels can process `x`.

    They need a static shape and a machine without a GPU, and are off inside `force_portable_ops`.
    """
    return not _portable_ops_forced and x.shape.is_fully_defined() and not has_gpu()


def has_gpu() -> bool:
    """True if TensorFlow computes on a GPU."""
    return bool(tf.config.list_logical_devices("GPU"))


def describe_gpus() -> str:
    """One line that names the GPUs that TensorFlow uses and how they multiply float32; "" without a GPU."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return ""
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    names = ", ".join(each.get("device_name", "unknown GPU") for each in details)
    # Tensor cores multiply in TF32 from compute capability 8.0 on.
    tf32 = tf.config.experimental.tensor_float_32_execution_enabled() and all(
        each.get("compute_capability", (0, 0)) >= (8, 0) for each in details
    )
    return f"training on {names}; float32 matrix products use {'TF32' if tf32 else 'full precision'}"


def measure_peak_memory() -> tuple[str, int] | None:
    """Peak memory of this process on all GPUs, or else on the CPU: (kind of memory, bytes); None if unknown."""
    gpus = tf.config.list_logical_devices("GPU")
    if gpus:
        names = [gpu.name.removeprefix("/device:") for gpu in gpus]
        return "GPU memory", sum(tf.config.experimental.get_memory_info(name)["peak"] for name in names)
    try:
        import resource  # Windows does not have it.
    except ImportError:
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return "memory", used if sys.platform == "darwin" else used * 1024  # Linux counts KiB.


@functools.cache
def use_bfloat16_kernels() -> bool:
    """True if the optimized CPU kernels pay off in bfloat16: the CPU has AVX512-BF16 but not AMX.

    Without AVX512-BF16, TensorFlow emulates bfloat16. With AMX, its matrix products are so fast that the additions and
    slices of the optimized kernels would dominate.
    """
    try:
        with open("/proc/cpuinfo") as file:
            features = re.search(r"^flags\s*:(.*)", file.read(), re.MULTILINE)
    except OSError:  # Only Linux has this file.
        return False
    return features is not None and {"avx512_bf16", "amx_bf16"} & set(features[1].split()) == {"avx512_bf16"}


def portable_ops_forced() -> bool:
    """True inside `force_portable_ops`."""
    return _portable_ops_forced


def is_compiled_for_gpu() -> bool:
    """True while a graph of portable ops is traced on a machine with a GPU, where XLA compiles training steps."""
    return _portable_ops_forced and has_gpu()


@contextlib.contextmanager
def use_exact_float32() -> Iterator[None]:
    """Context in which a GPU computes float32 products in full precision, not in TensorFloat-32."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


@contextlib.contextmanager
def force_portable_ops() -> Iterator[None]:
    """Context in which every op is TensorFlow's own, for graphs that XLA compiles or that other runtimes execute."""
    global _portable_ops_forced  # noqa: PLW0603 -- Keras layers, which pass no options on, call the functions that read it.
    before, _portable_ops_forced = _portable_ops_forced, True
    try:
        yield
    finally:
        _portable_ops_forced = before
