"""What computes, as far as it decides which of TensorFlow's operations are the fast ones."""

import contextlib
import functools
import re

import tensorflow as tf

_portable = False


# As in `convolution`.
@tf.autograph.experimental.do_not_convert
def use_cpu_kernels(x):
    """Whether the operations on a map like `x` are chosen for the CPU: its sizes are known, and there is no GPU."""
    return not _portable and x.shape.is_fully_defined() and not has_gpu()


def portable_ops_forced():
    """True inside of `portable`."""
    return _portable


def has_gpu():
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
    return f"training on {names}; float32 products {'use TF32' if tf32 else 'are exact to float32'}"


@functools.cache
def use_bfloat16_kernels():
    """Whether the CPU has products of bfloat16 vectors but not of matrices, beside which all else would be slow."""
    try:
        with open("/proc/cpuinfo") as file:
            features = re.search(r"^flags\s*:(.*)", file.read(), re.MULTILINE)
    except OSError:  # Another system.
        return False
    return features is not None and {"avx512_bf16", "amx_bf16"} & set(features[1].split()) == {"avx512_bf16"}


@contextlib.contextmanager
def force_portable_ops():
    """Context in which nothing is chosen: for graphs that XLA compiles or that run in other runtimes."""
    global _portable  # noqa: PLW0603 -- what is traced cannot be told it otherwise.
    before, _portable = _portable, True
    try:
        yield
    finally:
        _portable = before
