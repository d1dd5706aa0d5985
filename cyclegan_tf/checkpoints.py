"""Checkpoints: everything the next step depends on, in one .npz file that is written beside and renamed.

A file holds arrays by path: network/gen_ab/stem_conv/kernel, average/gen_ab/..., optimizer/gen_ab/0 (Keras's own
order), pool/fake_a/images, pool/fake_a/random, epoch/NAME, step. NumPy alone reads it, and network weights go from
either stack to the other. Each array has a checksum (the zip's CRC-32), so a damaged file is noticed when it is read.
"""

import os
import re
import zipfile

import numpy as np

from cyclegan_tf import models
from cyclegan_tf.errors import UserError

_NAME = re.compile(r"step-(\d{8})\.npz")


def state(model, step, epoch_sums):
    """The arrays that a checkpoint of `model` after `step` steps holds."""
    arrays = {"step": np.int64(step)}
    arrays |= {f"epoch/{name}": np.float64(value) for name, value in epoch_sums.items()}
    for kind, networks in (("network", model.networks), ("average", model.averages)):
        for name, network in networks.items():
            for key, variable in models.named_weights(network).items():
                arrays[f"{kind}/{name}/{key}"] = np.asarray(variable)
    for name, optimizer in model.optimizers.items():
        for index, variable in enumerate(optimizer.variables):
            arrays[f"optimizer/{name}/{index}"] = np.asarray(variable)
    for name, pool in model.pools.items():
        arrays |= {f"pool/{name}/{key}": value for key, value in pool.state().items()}
    return arrays


def restore(model, arrays, where):
    """Puts the arrays of `state` back into `model`; returns (step, epoch_sums).

    Raises:
      UserError: the networks differ from the stored ones; names the first differences.
    """
    variables = {}
    for kind, networks in (("network", model.networks), ("average", model.averages)):
        for name, network in networks.items():
            variables |= {f"{kind}/{name}/{key}": v for key, v in models.named_weights(network).items()}
    for name, optimizer in model.optimizers.items():
        variables |= {f"optimizer/{name}/{index}": v for index, v in enumerate(optimizer.variables)}
    assign(variables, {k: v for k, v in arrays.items() if k.startswith(("network/", "average/", "optimizer/"))}, where)
    for name, pool in model.pools.items():
        pool.set_state({key: arrays[f"pool/{name}/{key}"] for key in ("images", "random")})
    sums = {key.removeprefix("epoch/"): float(value) for key, value in arrays.items() if key.startswith("epoch/")}
    return int(arrays["step"]), sums


def initialize(model, workdir):
    """Gives `model` the networks of another run's newest checkpoint; averages start from them.

    Raises:
      UserError: the run has no checkpoint that can be read, or its networks differ.
    """
    found_one = newest(os.path.join(workdir, "checkpoints"))
    if found_one is None:
        raise UserError(f"--init_from={workdir} is no run directory with a checkpoint")
    path, arrays = found_one
    variables = {
        f"network/{name}/{key}": variable
        for name, network in model.networks.items()
        for key, variable in models.named_weights(network).items()
    }
    assign(variables, {name: array for name, array in arrays.items() if name.startswith("network/")}, path)
    for name, average in model.averages.items():
        average.set_weights(model.networks[name].get_weights())


def assign(variables, arrays, where):
    """Assigns arrays to the variables of the same names.

    Raises:
      UserError: the names or the shapes differ; nothing is assigned then.
    """
    wrong = [f"{name} is missing" for name in variables if name not in arrays]
    wrong += [f"{name} is not in the network" for name in arrays if name not in variables]
    wrong += [
        f"{name} has shape {arrays[name].shape}, the network {tuple(variable.shape)}"
        for name, variable in variables.items()
        if name in arrays and arrays[name].shape != tuple(variable.shape)
    ]
    if wrong:
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        raise UserError(f"{where} does not fit this configuration: {'; '.join(wrong[:3])}{more}")
    for name, variable in variables.items():
        variable.assign(arrays[name])


def save(folder, model, step, epoch_sums, keep):
    """Writes FOLDER/step-NNNNNNNN.npz and removes all but the `keep` newest; returns its path."""
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, f"step-{step:08d}.npz")
    temporary = path + ".tmp"
    with open(temporary, "wb") as file:
        np.savez(file, **state(model, step, epoch_sums))
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    for _, old in found(folder)[keep:]:
        os.remove(old)
    return path


def found(folder):
    """(step, path) of the checkpoints in a folder, newest first."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    steps = [(int(match[1]), os.path.join(folder, name)) for name in names if (match := _NAME.fullmatch(name))]
    return sorted(steps, reverse=True)


def newest(folder, report=print):
    """(path, arrays) of the newest checkpoint that can be read, or None where there is none at all.

    A damaged one is passed over for the one before, and `report` is called with a line that says so.

    Raises:
      UserError: there are checkpoints, and all are damaged.
    """
    candidates = found(folder)
    for _, path in candidates:
        try:
            return path, read(path)
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            report(f"checkpoint {path} is damaged ({error}); trying the one before")
    if candidates:
        raise UserError(f"all {len(candidates)} checkpoints in {folder} are damaged; move it away to start anew")
    return None


def read(path):
    """All arrays of a checkpoint file, by name; their checksums are verified."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    if "step" not in arrays:
        raise ValueError("it holds no step")
    return arrays
