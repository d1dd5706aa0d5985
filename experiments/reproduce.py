"""Checks that systems train again as recorded, from their flagfiles alone.

  python experiments/reproduce.py experiments/recorded/*.json
  python experiments/reproduce.py --record=experiments/recorded/NAME.json -- --flagfile=experiments/cpu/NAME.flags

A record holds the flags and, for each stack (Keras 2 and Keras 3, whose random numbers differ) and each size of the L1
data cache, every loss of the first three steps and a digest of the weights after them. The steps equal the
steps of `cyclegan_tf.train` with the same flags, but run eagerly, in one thread, and with AVX2 instructions only.

Adam turns even rounding errors in a gradient into a full first update, so all sums must be added up in the same order.
Eigen, which multiplies TensorFlow's matrices, splits sums into parts that fit into the L1 data cache: 32 KiB in most
CPUs, 48 KiB in Intel's since Ice Lake and in AMD's since Zen 5. A CPU is compared with the record of the nearest size.
The losses must agree to one part in a thousand; the output says whether the bits agree too. The exit status is 1 if a
record is not reproduced.
"""

import argparse
import contextlib
import hashlib
import json
import math
import os
import pathlib
import sys
from collections.abc import Iterable, Sequence
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if __name__ == "__main__":  # TensorFlow reads these when it is imported.
    os.environ |= {"TF_ENABLE_ONEDNN_OPTS": "0", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}

import tensorflow as tf

from cyclegan_tf.config import flags as config_flags
from cyclegan_tf.data import pipeline, sources
from cyclegan_tf.models.registry import build_model
from cyclegan_tf.networks.weights import name_weights

STEPS = 3
TOLERANCE = 1e-3
STACK = "Keras 3" if hasattr(tf.keras, "ops") else "Keras 2"

Losses = dict[str, list[float]]


def train_first_steps(arguments: Sequence[str]) -> dict[str, Any]:
    """Trains the first steps of a run with the flags `arguments`, at the full learning rate, as all schedules do.

    Returns:
      {"losses": {name: [value in each step]}, "weights": SHA-256 of all weights after the steps}.
    """
    config = config_flags.from_arguments(arguments)
    dataset = sources.open_dataset(config)
    tf.keras.utils.set_random_seed(config.seed)
    model = build_model(config)
    stream, loaders = pipeline.make_batches(dataset, config, 0, STEPS)
    model.compiled_step = model.seeded_step  # Tracing takes longer than three eager steps.
    with contextlib.closing(pipeline.read_batches(stream, loaders)) as batches:
        steps = [model.train_step(*batch) for batch in batches]
    losses = {name: [float(step[name]) for step in steps] for name in steps[0] if name.startswith("loss/")}
    digest = hashlib.sha256()
    for network in model.networks.values():
        for weight in name_weights(network).values():
            digest.update(weight.numpy().tobytes())
    return {"losses": losses, "weights": digest.hexdigest()}


def read_cache_size() -> int:
    """Returns the size of the L1 data cache in KiB, or 32 if the system does not say."""
    try:
        text = pathlib.Path("/sys/devices/system/cpu/cpu0/cache/index0/size").read_text(encoding="utf-8")
    except OSError:  # Only Linux has this file.
        return 32
    return int(text.strip().removesuffix("K"))


def choose_size(recorded: Iterable[str], size: int) -> str:
    """Returns the recorded cache size ("32 KiB") that is nearest to `size` KiB."""
    return min(recorded, key=lambda text: abs(int(text.removesuffix(" KiB")) - size))


def find_differences(recorded: Losses, computed: Losses) -> list[str]:
    """Returns a line for each loss that is missing, new, or off by more than the tolerance."""
    lines = [f"{name}: only in the record" for name in sorted(recorded.keys() - computed.keys())]
    lines += [f"{name}: not in the record" for name in sorted(computed.keys() - recorded.keys())]
    for name in sorted(recorded.keys() & computed.keys()):
        pairs = list(zip(recorded[name], computed[name], strict=True))
        if not all(math.isclose(old, new, rel_tol=TOLERANCE, abs_tol=1e-6) for old, new in pairs):
            lines.append(f"{name}: {recorded[name]} recorded, {computed[name]} now")
    return lines


def write_record(path: str, arguments: Sequence[str]) -> None:
    """Writes the record of the flags `arguments`, or adds the results of this stack and cache size to it."""
    known = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            known = json.load(file)
    stacks = known["stacks"] if known.get("arguments") == arguments else {}
    results = stacks.get(STACK, {}) | {f"{read_cache_size()} KiB": train_first_steps(arguments)}
    stacks[STACK] = dict(sorted(results.items()))
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"arguments": arguments, "stacks": dict(sorted(stacks.items()))}, file, indent=1)
        file.write("\n")
    print(f"{path}: recorded with {STACK}")


def check_record(path: str) -> bool:
    """Trains the steps of a record again and prints the outcome; returns True if the record is reproduced."""
    with open(path, encoding="utf-8") as file:
        record = json.load(file)
    results = record["stacks"][STACK]
    recorded, computed = results[choose_size(results, read_cache_size())], train_first_steps(record["arguments"])
    lines = find_differences(recorded["losses"], computed["losses"])
    same = "the same bits" if computed["weights"] == recorded["weights"] else f"losses within {TOLERANCE:g}"
    print(f"{path}: " + ("; ".join(lines) or same))
    return not lines


def main() -> int:
    """Parses the command line, checks or writes records, and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", metavar="FILE", help="write this record")
    parser.add_argument("arguments", nargs="+", help="records to check; with --record, the run's flags after --")
    args = parser.parse_args()
    if args.record:
        write_record(args.record, args.arguments)
        return 0
    results = [check_record(path) for path in args.arguments]  # Check all records, even after one fails.
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
