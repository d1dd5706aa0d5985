"""The state of a run as arrays by path: everything that the next training step depends on, from a model and back.

  network/gen_ab/stem_conv/kernel   weights of a network, float32
  average/gen_ab/stem_conv/kernel   moving average of a generator's weights
  optimizer/gen_ab/0                optimizer variables: the number of updates, then the moments of each weight
  scaling/NAME                      dynamic loss scale of float16 training
  pool/fake_a/images, .../random    image pool and its random state; replica N > 0 uses pool/fake_a@N/
  replicas                          number of replicas, if more than one
  epoch/NAME                        sums of the current epoch's losses
  images/a/count, .../digest        `Fingerprint` of the training images of a domain
  step, skipped, best, stale        the fields of `Progress`

Keras 2 and Keras 3 can resume each other's runs. Image pools are float32 whatever their type in memory is, because
NumPy does not know bfloat16.
"""

import dataclasses
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from cyclegan_tf.errors import UserError
from cyclegan_tf.networks.weights import assign_arrays, name_weights

if TYPE_CHECKING:
    import tensorflow as tf

    from cyclegan_tf.models.base import Model

_T = TypeVar("_T")
Arrays = Mapping[str, np.ndarray]
# Image pools of one replica: {(pool, part): array}, such as ("fake_a", "images").
Pools = Mapping[tuple[str, str], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """Identifies the training images of a domain by their number and a SHA-256 of names and, for arrays, pixels."""

    count: int
    digest: bytes


@dataclasses.dataclass
class Progress:
    """How far a run has come, apart from the model's own state.

    Attributes:
      step: number of completed steps.
      skipped: number of batches that rollbacks have skipped; they shift the data of all later steps.
      epoch_sums: sums of the current epoch's values so far, by name.
      best: best value so far of the measure that --keep_best names; None before the first measurement.
      stale: number of evaluations since `best` last improved.
      images: fingerprint of the training images of domains "a" and "b"; empty in checkpoints of older versions.
    """

    step: int = 0
    skipped: int = 0
    epoch_sums: dict[str, float] = dataclasses.field(default_factory=dict)
    best: float | None = None
    stale: int = 0
    images: dict[str, Fingerprint] = dataclasses.field(default_factory=dict)


def collect_pools(model: "Model") -> list[Pools]:
    """Copies the image pools of this process's replicas, one item per replica."""
    return [
        {(name, part): array for name, pool in pools.items() for part, array in pool.get_state().items()}
        for pools in model.replica_pools
    ]


def _pool_path(name: str, part: str, replica: int) -> str:
    return f"pool/{name}@{replica}/{part}" if replica else f"pool/{name}/{part}"


def collect_state(
    model: "Model", progress: Progress, pools: Sequence[Pools] | None = None
) -> dict[str, np.ndarray]:
    """Copies everything that a checkpoint of `model` holds: arrays by path.

    Args:
      pools: the pools of all replicas of the run; by default the pools of this process.
    """
    pools = collect_pools(model) if pools is None else pools
    arrays: dict[str, np.ndarray] = {
        "step": np.array(progress.step, np.int64), "skipped": np.array(progress.skipped, np.int64)
    }
    if progress.best is not None:
        arrays |= {"best": np.array(progress.best, np.float64), "stale": np.array(progress.stale, np.int64)}
    arrays |= {f"epoch/{name}": np.array(value, np.float64) for name, value in progress.epoch_sums.items()}
    for domain, found in progress.images.items():
        arrays |= {f"images/{domain}/count": np.array(found.count, np.int64)}
        arrays |= {f"images/{domain}/digest": np.frombuffer(found.digest, np.uint8)}
    arrays |= {path: np.array(variable) for path, variable in _collect_variables(model).items()}
    if len(pools) > 1:
        arrays["replicas"] = np.array(len(pools), np.int64)
    for replica, parts in enumerate(pools):
        arrays |= {_pool_path(name, part, replica): array for (name, part), array in parts.items()}
    return arrays


def _collect_variables(model: "Model") -> dict[str, "tf.Variable"]:
    """Returns the TensorFlow variables of `model` by their path in a checkpoint."""
    variables: dict[str, tf.Variable] = {}
    for kind, networks in (("network", model.networks), ("average", model.averages)):
        variables |= _join_paths(kind, {name: name_weights(network) for name, network in networks.items()})
    for name, optimizer in model.optimizers.items():
        variables |= {f"optimizer/{name}/{index}": variable for index, variable in enumerate(optimizer.variables)}
    variables |= {f"scaling/{name}": variable for name, variable in model.scaling.variables.items()}
    return variables


def measure_variables(model: "Model") -> int:
    """Counts the bytes of all variables in a checkpoint of `model`, without the image pools."""
    from tensorflow import as_dtype

    return sum(int(np.prod(each.shape)) * as_dtype(each.dtype).size for each in _collect_variables(model).values())


def compute_checksum(model: "Model") -> int:
    """Computes the CRC-32 of all variables in a checkpoint of `model`, without the image pools."""
    checksum = 0
    for variable in _collect_variables(model).values():
        checksum = zlib.crc32(np.array(variable).tobytes(), checksum)
    return checksum


def restore(
    model: "Model", arrays: Arrays, where: str, local: Iterable[int] = range(1), n_replicas: int = 1
) -> Progress:
    """Loads the arrays of a checkpoint into `model` and returns the run's progress.

    Args:
      model: receives the arrays; its networks must have the architecture of the networks in the checkpoint.
      arrays: as `checkpoints.read` returns them.
      where: path of the checkpoint, for error messages.
      local: numbers of the replicas that this process trains.
      n_replicas: number of replicas of the whole run.

    Raises:
      UserError: the architecture or the number of replicas differs from the checkpoint's, or an image pool is missing.
        For the architecture, the message lists the first differences. The number of replicas must not change, because
        each replica has its own image pools and its own share of the data.
    """
    if (count := int(arrays.get("replicas", 1))) != n_replicas:
        raise UserError(f"{where} needs {count} replica{'s' * (count > 1)}, but this run has {n_replicas}: resume it "
                        f"with {count}, or start a new run from its networks with --init_from and another --workdir")
    kinds = ("network/", "average/", "optimizer/", "scaling/")
    stored = {path: array for path, array in arrays.items() if path.startswith(kinds)}
    _remove_learning_rates(stored, model)
    assign_arrays(_collect_variables(model), stored, where)
    for replica, pools in zip(local, model.replica_pools, strict=True):
        for name, pool in pools.items():
            paths = {part: _pool_path(name, part, replica) for part in ("images", "random")}
            if missing := [path for path in paths.values() if path not in arrays]:
                raise UserError(f"{where} does not fit this configuration: {missing[0]} is missing")
            pool.set_state({part: arrays[path] for part, path in paths.items()})
    sums = {path.removeprefix("epoch/"): float(value) for path, value in arrays.items() if path.startswith("epoch/")}
    best = float(arrays["best"]) if "best" in arrays else None
    images = {
        domain: Fingerprint(int(arrays[f"images/{domain}/count"]), arrays[f"images/{domain}/digest"].tobytes())
        for domain in ("a", "b") if f"images/{domain}/count" in arrays
    }
    # Old checkpoints lack "skipped": they were written before rollbacks existed.
    return Progress(
        int(arrays["step"]), int(arrays.get("skipped", 0)), sums, best, int(arrays.get("stale", 0)), images
    )


def _remove_learning_rates(arrays: dict[str, np.ndarray], model: "Model") -> None:
    """Removes the learning rate of each optimizer from the arrays of an older checkpoint of Keras 3.

    In such a checkpoint, variable 1 of an optimizer is the learning rate, and the moments follow.
    """
    for name, optimizer in model.optimizers.items():
        paths = [f"optimizer/{name}/{index}" for index in range(len(optimizer.variables) + 1)]
        if all(path in arrays for path in paths):
            values = [arrays.pop(path) for path in paths]
            arrays |= dict(zip(paths[:-1], values[:1] + values[2:], strict=True))


def get_network_weights(arrays: Arrays, averaged: bool = True) -> dict[str, dict[str, np.ndarray]]:
    """Returns the weights of each network in a checkpoint: {"gen_ab": {"stem_conv/kernel": array, ...}, ...}.

    Args:
      arrays: the arrays of a checkpoint, as `checkpoints.read` returns them.
      averaged: use the moving average in place of the trained weights for each generator that has one.
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


def make_network_state(weights: Mapping[str, Mapping[str, np.ndarray]], step: int = 0) -> dict[str, np.ndarray]:
    """Returns the arrays of a checkpoint that holds only these weights and the step; undoes `get_network_weights`."""
    return {"step": np.array(step, np.int64), **_join_paths("network", weights)}


def _join_paths(kind: str, weights: Mapping[str, Mapping[str, _T]]) -> dict[str, _T]:
    """Returns the weights of each network by their path in a checkpoint."""
    return {f"{kind}/{name}/{key}": weight for name, named in weights.items() for key, weight in named.items()}
