"""Imports TensorFlow with the environment that this package needs, and without TensorFlow's messages at each start."""

import contextlib
import faulthandler
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata

from cyclegan_tf.ops import cuda_libraries

# TensorFlow reads these variables when it is imported. The first hides its notes on CPU features and missing GPUs.
# oneDNN's convolutions are faster on every x86 CPU, but TensorFlow uses them by default on the newest CPUs only.
# On a GPU, TensorFlow should allocate memory as needed and leave the rest to other processes.
ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "1", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}

# XLA's flags for a GPU, by the version of TensorFlow: a flag that a version does not know ends the process. The first
# flag makes CUDA graphs of two or more kernels in a row, not only of five or more. The second flag lets one thread at a
# time run programs, so that XLA updates the graphs less often. Both make the host queue a training step faster
# (experiments/benchmarks/README.md).
_XLA_FLAGS = {"2.21": "--xla_gpu_graph_min_graph_size=2 --xla_gpu_require_exclusive_lock=true"}


def import_tensorflow() -> None:
    """Imports TensorFlow and lists its GPUs; does nothing if TensorFlow is imported already.

    No variable silences all messages that TensorFlow writes to stderr meanwhile, so this function discards them. It
    prints them if the import fails, if TensorFlow does not see a GPU of this machine, or if TF_CPP_MIN_LOG_LEVEL is 0
    or 1. (It is 2 in the processes that a command or a notebook with this package starts.)
    """
    if "tensorflow" in sys.modules:
        return
    wanted = os.environ.get("TF_CPP_MIN_LOG_LEVEL") in ("0", "1")
    hold = contextlib.nullcontext(lambda: None) if wanted else hold_stderr()
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if cuda_libraries.has_nvidia_gpu():
        cuda_libraries.load()
        _set_xla_flags()
    with hold as show:
        import tensorflow as tf

        if cuda_libraries.is_gpu_missing(len(tf.config.list_physical_devices("GPU"))):
            show()


def _set_xla_flags() -> None:
    """Adds `_XLA_FLAGS` to the environment; flags that the user has set take precedence."""
    try:
        release = ".".join(metadata.version("tensorflow").split(".")[:2])
    except metadata.PackageNotFoundError:  # TensorFlow has another name, such as tf-nightly.
        return
    own, present = _XLA_FLAGS.get(release, ""), os.environ.get("XLA_FLAGS", "").strip()
    if own in present or (present and not present.startswith("-")):  # The name of a file with flags.
        return
    os.environ["XLA_FLAGS"] = f"{own} {present}".strip()  # If a flag is there twice, XLA takes the last.


@contextlib.contextmanager
def hold_stderr() -> Iterator[Callable[[], None]]:
    """Discards everything that the body writes to stderr, from Python or C++, unless the body fails.

    If the body raises an exception other than KeyboardInterrupt, or calls the function that this context yields, the
    text is printed at the end of the body.
    """
    _flush()
    try:
        held = tempfile.TemporaryFile()  # noqa: SIM115 -- closed below.
        stderr = os.dup(2)
    except OSError:  # There is no folder for temporary files, or stderr is closed.
        yield lambda: None
        return
    wanted: list[bool] = []
    crash_reports = faulthandler.is_enabled()
    with held:
        os.dup2(held.fileno(), 2)
        faulthandler.enable(stderr)  # If C++ aborts the process, nothing else reaches the user.
        try:
            yield lambda: wanted.append(True)
        except KeyboardInterrupt:  # The text would not explain Ctrl-C.
            raise
        except BaseException:
            wanted.append(True)
            raise
        finally:
            _flush()
            os.dup2(stderr, 2)
            faulthandler.enable(2) if crash_reports else faulthandler.disable()
            os.close(stderr)
            if wanted:
                held.seek(0)
                with contextlib.suppress(OSError), open(2, "wb", closefd=False) as file:
                    file.write(held.read())


def _flush() -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):  # Stderr may be closed.
            sys.stderr.flush()
