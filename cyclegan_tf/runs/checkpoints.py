"""Checkpoints: everything the next step depends on, in one .npz file that is written beside and renamed.

A file holds arrays by path: network/gen_ab/stem_conv/kernel, average/gen_ab/..., optimizer/gen_ab/0 (Keras's own
order), scaling/NAME (float16's loss scale), pool/fake_a/images, pool/fake_a/random (of replica N from 1 on
pool/fake_a@N/...; then also their number, replicas), epoch/NAME, step, skipped, best, stale. Pools are kept in float32,
as they are in memory: half precision would save a tenth of a file and change what a resumed run computes. NumPy alone
reads it, and network weights go from either stack to the other. Each array has a checksum (the zip's CRC-32), so a
damaged file is noticed when it is read.
"""

import dataclasses
import logging
import os
import re
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cyclegan_tf.errors import UserError
from cyclegan_tf.networks.weights import named_weights
from cyclegan_tf.storage import atomic, filesystem

log = logging.getLogger("cyclegan_tf")

_NAME = re.compile(r"step-(\d{8})\.npz")
BEST = "best.npz"
_DAMAGES = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile)


@dataclasses.dataclass
class Progress:
    """Where a run is, its model aside.

    Attributes:
      step: steps done.
      skipped: batches that were passed over when the run went back to a checkpoint; they shift the data of all later
        steps.
      epoch_sums: sums of the epoch's values so far, by name.
      best: best value so far of the measure that --keep_best names, if any.
      stale: evaluations since then.
    """

    step: int = 0
    skipped: int = 0
    epoch_sums: dict = dataclasses.field(default_factory=dict)
    best: float | None = None
    stale: int = 0


def collect_pools(model):
    """Copies of the pools of each replica of this process: a list of {(pool, part): array}."""
    return [
        {(name, key): value for name, pool in pools.items() for key, value in pool.state().items()}
        for pools in model.replica_pools
    ]


def _pool_path(name, key, replica):
    return f"pool/{name}@{replica}/{key}" if replica else f"pool/{name}/{key}"


def collect_state(model, progress, pools=None):
    """Copies of everything that a checkpoint of `model` holds: arrays by name.

    Args:
      pools: the `collect_pools` of all replicas, where they are not all the model's.
    """
    pools = collect_pools(model) if pools is None else pools
    arrays = {"step": np.int64(progress.step), "skipped": np.int64(progress.skipped)}
    if progress.best is not None:
        arrays |= {"best": np.float64(progress.best), "stale": np.int64(progress.stale)}
    arrays |= {f"epoch/{name}": np.float64(value) for name, value in progress.epoch_sums.items()}
    for kind, networks in (("network", model.networks), ("average", model.averages)):
        for name, network in networks.items():
            for key, variable in named_weights(network).items():
                arrays[f"{kind}/{name}/{key}"] = np.array(variable)
    for name, optimizer in model.optimizers.items():
        for index, variable in enumerate(optimizer.variables):
            arrays[f"optimizer/{name}/{index}"] = np.array(variable)
    arrays |= {f"scaling/{name}": np.array(variable) for name, variable in model.scaling.variables.items()}
    if len(pools) > 1:
        arrays["replicas"] = np.int64(len(pools))
    for number, of_replica in enumerate(pools):
        arrays |= {_pool_path(name, key, number): value for (name, key), value in of_replica.items()}
    return arrays


def restore(model, arrays, where, local=range(1), n_replicas=1):
    """Puts the arrays of `collect_state` back into `model`, whose replicas are `local`; returns the `Progress`.

    Raises:
      UserError: the networks differ from the stored ones; names the first differences. Or the checkpoint is of another
        number of replicas, each of which has its pools and its part of the data.
    """
    if (count := int(arrays.get("replicas", 1))) != n_replicas:
        raise UserError(f"{where} is of a run with {count} replica{'s' * (count > 1)}, and here are {n_replicas}: go "
                        f"on with {count}, or start a new run from its networks with --init_from and another --workdir")
    variables = {}
    for kind, networks in (("network", model.networks), ("average", model.averages)):
        for name, network in networks.items():
            variables |= {f"{kind}/{name}/{key}": v for key, v in named_weights(network).items()}
    for name, optimizer in model.optimizers.items():
        variables |= {f"optimizer/{name}/{index}": v for index, v in enumerate(optimizer.variables)}
    variables |= {f"scaling/{name}": variable for name, variable in model.scaling.variables.items()}
    kinds = ("network/", "average/", "optimizer/", "scaling/")
    assign(variables, {name: array for name, array in arrays.items() if name.startswith(kinds)}, where)
    for number, pools in zip(local, model.replica_pools, strict=True):
        for name, pool in pools.items():
            pool.set_state({key: arrays[_pool_path(name, key, number)] for key in ("images", "random")})
    sums = {key.removeprefix("epoch/"): float(value) for key, value in arrays.items() if key.startswith("epoch/")}
    best = float(arrays["best"]) if "best" in arrays else None
    # Checkpoints from before there was a way back have skipped nothing.
    return Progress(int(arrays["step"]), int(arrays.get("skipped", 0)), sums, best, int(arrays.get("stale", 0)))


def network_weights(arrays: Mapping[str, np.ndarray], averaged: bool = True) -> dict[str, dict[str, np.ndarray]]:
    """The weights of each network in a checkpoint: {"gen_ab": {"stem_conv/kernel": array, ...}, ...}.

    Args:
      arrays: the arrays of a checkpoint, as `read` returns them.
      averaged: take the moving averages instead of the trained weights for the generators that have averages.
    """
    weights: dict[str, dict[str, np.ndarray]] = {}
    # Averages come second, so that they replace the trained weights.
    for wanted in ("network", "average") if averaged else ("network",):
        found: dict[str, dict[str, np.ndarray]] = {}
        for path, array in arrays.items():
            kind, _, rest = path.partition("/")
            if kind == wanted:
                network, _, weight = rest.partition("/")
                found.setdefault(network, {})[weight] = array
        weights |= found
    return weights


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


class Writer:
    """Writes the checkpoints of a folder in a thread of its own, one at a time, while training goes on.

    Args:
      folder: made if it is missing; what an earlier process left half-written is removed.
      keep: number of checkpoints kept, the newest ones.
    """

    def __init__(self, folder, keep):
        self._folder, self._keep = folder, keep
        filesystem.makedirs(folder)
        for name in filesystem.listdir(folder):
            if name.endswith(".npz.tmp"):
                filesystem.remove(os.path.join(folder, name))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing = None

    def save(self, model, progress, file_name=None, pools=None):
        """Copies the state now and writes the copy in the background; `file_name` is as in `write`."""
        self.wait()
        arrays = collect_state(model, progress, pools)
        self._writing = self._thread.submit(write, self._folder, arrays, self._keep, file_name)

    def check(self):
        """Raises the OSError of a checkpoint that could not be written, as soon as that is known."""
        if self._writing and self._writing.done():
            self.wait()

    def wait(self):
        """Waits until everything is written; raises the OSError that prevented it."""
        writing, self._writing = self._writing, None
        if writing:
            writing.result()

    def close(self):
        """Waits as `wait` does, and ends the thread."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()


def save(folder, model, progress, keep):
    """Writes a checkpoint of `model` now, in this thread; returns its path."""
    filesystem.makedirs(folder)
    return write(folder, collect_state(model, progress), keep)


def write(folder, arrays, keep, file_name=None):
    """Writes FOLDER/step-NNNNNNNN.npz, beside and renamed, and removes all but the `keep` newest; returns its path.

    Under another `file_name` it is none of those that a run goes on from, and stays.
    """
    path = os.path.join(folder, file_name or f"step-{arrays['step']:08d}.npz")
    # As np.savez does, which after an error leaves the archive to the garbage collector and its complaints.
    with atomic.open_for_writing(path, "wb", durable=True) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)
    for _, old in list_files(folder)[keep:]:
        filesystem.remove(old)
    return path


def list_files(folder):
    """(step, path) of the checkpoints in a folder, newest first."""
    names = filesystem.listdir(folder) if filesystem.isdir(folder) else []
    steps = [(int(match[1]), os.path.join(folder, name)) for name in names if (match := _NAME.fullmatch(name))]
    return sorted(steps, reverse=True)


def read_newest(folder, report=log.warning):
    """(path, arrays) of the newest checkpoint that can be read, or None where there is none at all.

    A damaged one is passed over for the one before, and `report` is called with a line that says so.

    Raises:
      UserError: there are checkpoints, and all are damaged.
    """
    candidates = list_files(folder)
    for _, path in candidates:
        try:
            return path, read(path)
        except _DAMAGES as error:
            report(f"checkpoint {path} is damaged ({error}); trying the one before")
    if candidates:
        raise UserError(f"all {len(candidates)} checkpoints in {folder} are damaged; move it away to start anew")
    return None


def read_user_file(path):
    """As `read`, of a file that a user names; raises a UserError where it is missing or damaged."""
    try:
        return read(path)
    except FileNotFoundError as error:
        raise UserError(f"there is no checkpoint {path}") from error
    except _DAMAGES as error:
        raise UserError(f"checkpoint {path} is damaged ({error}); take another one of the run") from error


def read(path):
    """All arrays of a checkpoint file, by name; their checksums are verified."""
    with filesystem.open_for_reading(path, "rb") as file, np.load(file, allow_pickle=False) as entries:
        arrays = {name: entries[name] for name in entries.files}
    if "step" not in arrays:
        raise ValueError("it holds no step")
    return arrays
