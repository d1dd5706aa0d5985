"""Makes the model that the package contains of a run: cyclegan_tf/runs/demo_model, the generators' weights in float16.

  python -m cyclegan_tf.train --flagfile=experiments/demo_model.flags --workdir=runs/demo_model
  python experiments/pack_demo_model.py runs/demo_model cyclegan_tf/runs/demo_model

The output is a run directory: a config.json, and one checkpoint with the moving averages as the networks. It holds no
discriminators, optimizers and pools, so a run cannot go on from it, but --init_from takes it.
"""

import dataclasses
import os
import sys

import numpy as np

from cyclegan_tf.config import Config
from cyclegan_tf.runs import checkpoints


def main(run, output):
    """Packs the newest checkpoint of `run` into `output`."""
    config = Config.load(run)
    _, arrays = checkpoints.read_newest(os.path.join(run, "checkpoints"))
    weights = {
        f"network/{network}/{name}": array.astype(np.float16)
        for network, arrays_of_network in checkpoints.network_weights(arrays).items() if network.startswith("gen_")
        for name, array in arrays_of_network.items()
    }
    folder = os.path.join(output, "checkpoints")
    os.makedirs(folder, exist_ok=True)
    # The averages are the networks now.
    dataclasses.replace(config, ema_decay=0.0, eval_every=0, eval_metrics="").save(output)
    path = checkpoints.write(folder, {"step": arrays["step"], **weights}, keep=1)
    print(f"{path}: {os.path.getsize(path) / 1e6:.2f} MB, {sum(array.size for array in weights.values())} weights")


if __name__ == "__main__":
    main(*sys.argv[1:])
