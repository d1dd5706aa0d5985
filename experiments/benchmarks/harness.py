"""Environment, command line, memory readings and formats that the benchmarks share. Import this before TensorFlow."""

import argparse
import os
import resource
import statistics
from collections.abc import Sequence
from typing import Any

from cyclegan_tf.config import Config

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


def make_config(pixels: int, n_blocks: int, filters: int, batch: int = 1, **options: Any) -> Config:
    """Returns a Config for square images of `pixels` pixels a side, with equally many filters in all networks."""
    return Config(n_blocks=n_blocks, ngf=filters, ndf=filters, batch_size=batch, crop_size=pixels, load_size=pixels,
                  **options)


def format_spread(values: Sequence[float], unit: str, digits: int) -> str:
    """Formats the median with its unit, and the smallest and the largest value."""
    median, lowest, highest = (f"{each:.{digits}f}" for each in (statistics.median(values), min(values), max(values)))
    return f"{median} {unit} (from {lowest} to {highest})"
