"""Does a system train again, from its flagfile alone, as it was recorded?

  python experiments/reproduce.py experiments/recorded/*.json
  python experiments/reproduce.py --record=experiments/recorded/NAME.json -- --flagfile=experiments/cpu/NAME.flags

A record holds the flags, and for each stack (Keras 2, Keras 3, whose random numbers differ) every loss of the first
three steps and a digest of the weights after them. The steps are those of `cyclegan_tf.train`, from the seed in the
flags, but run operation by operation, in one thread, and with the instructions of AVX2: other CPUs round otherwise,
and Adam's first update is as large where a gradient is rounding as anywhere. The losses must agree to one part in a
thousand; whether the bits agree too is told. Exit status 1 if a record is not reproduced.
"""

import argparse
import hashlib
import json
import math
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if __name__ == "__main__":  # TensorFlow reads these when it is imported.
    os.environ |= {"TF_ENABLE_ONEDNN_OPTS": "0", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}

import tensorflow as tf

from cyclegan_tf.config import flags as config_flags
from cyclegan_tf.data import pipeline, sources
from cyclegan_tf.networks.weights import named_weights
from cyclegan_tf.training import trainer

STEPS = 3
TOLERANCE = 1e-3
STACK = "Keras 3" if hasattr(tf.keras, "ops") else "Keras 2"


def first_steps(arguments):
    """{"losses": {name: [its value in each step]}, "weights": digest} of a run with the flags `arguments`.

    All schedules of the learning rate begin with its full value, which the optimizers have.
    """
    config = config_flags.from_arguments(arguments)
    dataset = sources.open_dataset(config)
    tf.keras.utils.set_random_seed(config.seed)
    model = trainer.MODELS[config.model](config)
    stream, _ = pipeline.make_batches(dataset, config, 0, STEPS)
    model.compiled_step = model.step  # Tracing takes longer than three steps.
    steps = [model.train_step(*batch) for batch in stream]
    losses = {name: [float(step[name]) for step in steps] for name in steps[0] if name.startswith("loss/")}
    digest = hashlib.sha256()
    for network in model.networks.values():
        for weight in named_weights(network).values():
            digest.update(weight.numpy().tobytes())
    return {"losses": losses, "weights": digest.hexdigest()}


def differences(recorded, found):
    """Lines that name each loss that is missing, new, or off by more than the tolerance."""
    lines = [f"{name}: only in one" for name in sorted(recorded.keys() ^ found.keys())]
    for name in sorted(recorded.keys() & found.keys()):
        pairs = list(zip(recorded[name], found[name], strict=True))
        if not all(math.isclose(old, new, rel_tol=TOLERANCE, abs_tol=1e-6) for old, new in pairs):
            lines.append(f"{name}: {recorded[name]} recorded, {found[name]} now")
    return lines


def record(path, arguments):
    """Writes or completes the record of the flags `arguments` with this stack's numbers."""
    known = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            known = json.load(file)
    stacks = known["stacks"] if known.get("arguments") == arguments else {}
    stacks[STACK] = first_steps(arguments)
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"arguments": arguments, "stacks": dict(sorted(stacks.items()))}, file, indent=1)
        file.write("\n")
    print(f"{path}: recorded with {STACK}")


def check(path):
    """Whether the record at `path` is reproduced; prints what was found."""
    with open(path, encoding="utf-8") as file:
        recorded = json.load(file)
    wanted, found = recorded["stacks"][STACK], first_steps(recorded["arguments"])
    lines = differences(wanted["losses"], found["losses"])
    same = "the same bits" if found["weights"] == wanted["weights"] else f"losses within {TOLERANCE:g}"
    print(f"{path}: " + ("; ".join(lines) or same))
    return not lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", help="write this record")
    parser.add_argument("arguments", nargs="+", help="records; with --record the flags of the run, after --")
    given = parser.parse_args()
    if given.record:
        record(given.record, given.arguments)
        return 0
    results = [check(path) for path in given.arguments]  # All of them, whatever the first says.
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
