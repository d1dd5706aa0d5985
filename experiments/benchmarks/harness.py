"""Environment, command line and memory readings that the benchmarks share. Import this before TensorFlow."""

import argparse
import os
import resource

# TensorFlow reads these when it is imported. The second is also set by cyclegan_tf's commands.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def make_parser(description: str) -> argparse.ArgumentParser:
    """Returns a parser that prints `description`, a module's docstring, with its line breaks."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def peak_memory() -> float:
    """Returns the peak resident memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def count_cores() -> int:
    """Returns the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))
