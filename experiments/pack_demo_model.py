"""Makes a trained model in the package, cyclegan_tf/runs/demo_model or demo_maps_model, from a run.

  cyclegan train --flagfile=experiments/demo_maps_model.flags --workdir=runs/demo_maps_model
  python experiments/pack_demo_model.py runs/demo_maps_model cyclegan_tf/runs/demo_maps_model

The output is a run directory with a config.json and one checkpoint, which holds the generators' weights in float16:
their moving averages if the run has them. Without discriminators, optimizers and pools the run cannot be resumed, but
--init_from can start a new run from it.
"""

import argparse
import dataclasses
import os

import numpy as np

from cyclegan_tf.config import Config
from cyclegan_tf.runs import checkpoints, model_state


def pack(run: str, output: str) -> None:
    """Packs the newest checkpoint of `run` into the run directory `output`."""
    config = Config.load(run)
    step, weights = read_generators(run)
    folder = os.path.join(output, "checkpoints")
    os.makedirs(folder, exist_ok=True)
    # The packed networks are the averages, so the packed run has no averages of its own. The run that it started from
    # is not packed.
    dataclasses.replace(config, ema_decay=0.0, eval_every=0, eval_metrics="", init_from="").save(output)
    path = checkpoints.write(folder, model_state.make_network_state(weights, step), keep=1)
    count = sum(array.size for named in weights.values() for array in named.values())
    print(f"{path}: {os.path.getsize(path) / 1e6:.2f} MB, {count} weights")


def read_generators(run: str) -> tuple[int, dict[str, dict[str, np.ndarray]]]:
    """Returns the step of a run's newest checkpoint and the weights of its generators, by network and name, float16."""
    newest = checkpoints.read_newest(os.path.join(run, "checkpoints"))
    if not newest:
        raise SystemExit(f"{run} has no checkpoint")
    _, arrays = newest
    return int(arrays["step"]), {
        network: {name: array.astype(np.float16) for name, array in named.items()}
        for network, named in model_state.get_network_weights(arrays).items() if network.startswith("gen_")
    }


def main() -> None:
    """Parses the command line and packs the run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="run directory to read")
    parser.add_argument("output", metavar="OUTPUT", help="run directory to write")
    args = parser.parse_args()
    pack(args.run, args.output)


if __name__ == "__main__":
    main()
