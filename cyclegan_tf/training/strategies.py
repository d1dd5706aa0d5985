"""Opens the replicas that --strategy asks for: on one device, on the GPUs of one machine, or on several workers.

`MirroredStrategy` runs the replicas of one process, on the GPUs of one machine. `MultiWorkerMirroredStrategy` runs the
replicas of several processes, called workers, which TF_CONFIG lists; the chief is worker 0. A run of one replica uses
neither strategy.
"""

import functools
import json
import logging
import os

import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.errors import UserError
from cyclegan_tf.training import worker_faults
from cyclegan_tf.training.distribution import OneReplica, Replicas, StrategyReplicas
from cyclegan_tf.training.workers import StrategyWorkers, Workers

log = logging.getLogger("cyclegan_tf")


def open_replicas(config: Config) -> Replicas:
    """Opens the replicas that --strategy asks for; with several workers, waits until all of them have started.

    A process that is one of several workers must call this function before it does anything else with TensorFlow.

    Raises:
      UserError: --strategy=mirrored finds only one device, or TF_CONFIG is malformed, does not list this
        worker, or names no other worker.
    """
    tf.get_logger().setLevel(logging.WARNING)  # TensorFlow logs every all-reduce that it traces.
    if os.environ.get("TF_CONFIG") == "":
        del os.environ["TF_CONFIG"]  # MirroredStrategy would parse the empty text as JSON.
    task, n_workers = _read_cluster()
    strategy, n_gpus = config.strategy, len(tf.config.list_physical_devices("GPU"))
    if strategy == "auto":
        strategy = "multi_worker" if n_workers > 1 else "mirrored" if n_gpus > 1 else "one_device"
    if strategy == "multi_worker":
        if n_workers < 2:
            raise UserError("--strategy=multi_worker needs TF_CONFIG with more than one worker in the environment; "
                            "cyclegan launch and the scripts in experiments/cluster set TF_CONFIG")
        if task < 0:
            raise UserError(f"TF_CONFIG={os.environ['TF_CONFIG']} does not list its own task in its cluster; give the "
                            "task the type worker or chief, and an index below the number of such addresses")
        log.info("worker %d waits for all %d workers", task, n_workers)
        opened = _open_multi_worker_strategy()
        return StrategyReplicas(opened, config, StrategyWorkers(opened, n_workers, task))
    if strategy == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        if len(devices) < 2:
            raise UserError("--strategy=mirrored needs more than one GPU, but this machine has "
                            f"{'one' if n_gpus else 'none'}; use --strategy=one_device")
        return StrategyReplicas(_open_mirrored_strategy(tuple(device.name for device in devices)), config, Workers())
    return OneReplica()


def _read_cluster() -> tuple[int, int]:
    """Returns (number of this worker, number of workers) from TF_CONFIG; a "chief", if there is one, is worker 0.

    A worker that its own cluster does not list has the number -1.
    """
    text = os.environ.get("TF_CONFIG", "")
    try:
        settings = json.loads(text or "{}")
        cluster, task = settings.get("cluster", {}), settings.get("task", {})
        chiefs, workers = (cluster.get(kind, []) for kind in ("chief", "worker"))
        if not isinstance(chiefs, list) or not isinstance(workers, list):
            raise TypeError("the addresses of a cluster must be a list")
        kind, index, n_workers = task.get("type"), int(task.get("index", -1)), len(chiefs) + len(workers)
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f"TF_CONFIG={text} does not have the format that TensorFlow documents: {error}") from error
    is_listed = 0 <= index < len({"chief": chiefs, "worker": workers}.get(str(kind), []))
    first = len(chiefs) if kind == "worker" else 0
    return first + index if is_listed else -1, n_workers


@functools.cache
def _open_mirrored_strategy(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    """Returns the strategy for the replicas on `devices`, which all runs of a process share.

    Each strategy numbers its all-reduces from 100, and TensorFlow expects one shape and dtype for each number in a
    process. With a strategy of its own, a second run with other networks would fail.
    """
    return tf.distribute.MirroredStrategy(devices)


def _open_multi_worker_strategy() -> tf.distribute.Strategy:
    communication = tf.distribute.experimental.CommunicationImplementation
    gpus = tf.config.list_physical_devices("GPU")
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=communication.NCCL if gpus else communication.RING
    )
    with worker_faults.exit_on_lost_worker():
        return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
