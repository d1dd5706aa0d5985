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
