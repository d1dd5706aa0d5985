"""From one device to a cluster: the replicas of a run, what they share, and which part is whose.

A replica is a copy of all networks on a device, with a batch of --batch_size images and image pools of its own. The
losses of a step are means over a replica's batch, so the mean of the replicas' gradients is the gradient of one large
batch: N replicas of batch b compute what one replica of batch N b does, instance norms being per image. Every replica
applies that mean to its own copy, which stays equal to the others.

MirroredStrategy has the replicas of one process (the GPUs of a machine), MultiWorkerMirroredStrategy those of many.
With one replica neither is used, and nothing of this changes what is computed.
"""

import contextlib
import json
import logging
import os
import signal

import numpy as np
import tensorflow as tf

from cyclegan_tf.errors import UserError
from cyclegan_tf.models import replicas
from cyclegan_tf.training import schedules, worker_faults

log = logging.getLogger("cyclegan_tf")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SUM = tf.distribute.ReduceOp.SUM


def open_replicas(config):
    """The `OneReplica` or `Replicas` that --strategy asks for; for several processes waits until all are there.

    To be called before TensorFlow has done anything else in a process that is one of many.

    Raises:
      UserError: there is but one device to mirror to, or TF_CONFIG names no other worker.
    """
    tf.get_logger().setLevel(logging.WARNING)  # It tells of every all-reduce that it traces.
    task, n_workers = _cluster()
    chosen, gpus = config.strategy, len(tf.config.list_physical_devices("GPU"))
    if chosen == "auto":
        chosen = "multi_worker" if n_workers > 1 else "mirrored" if gpus > 1 else "one_device"
    if chosen == "multi_worker":
        if n_workers < 2:
            raise UserError("--strategy=multi_worker needs TF_CONFIG with more than one worker in the environment; "
                            "python -m cyclegan_tf.launch and the scripts in experiments/cluster set it")
        log.info("worker %d waits for all %d workers", task, n_workers)
        return Replicas(_multi_worker_strategy(), config, n_workers, task)
    if chosen == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        if len(devices) < 2:
            raise UserError("--strategy=mirrored needs more than one GPU, and there is "
                            f"{'one' if gpus else 'none'}; use --strategy=one_device")
        return Replicas(tf.distribute.MirroredStrategy([device.name for device in devices]), config)
    return OneReplica()


def _cluster():
    """(this worker's number, number of workers) by TF_CONFIG; a chief, where it is named, is worker 0."""
    text = os.environ.get("TF_CONFIG", "")
    try:
        described = json.loads(text or "{}")
        cluster, task = described.get("cluster", {}), described.get("task", {})
        n_chiefs = len(cluster.get("chief", []))
        first = n_chiefs if task.get("type") == "worker" else 0
        return first + int(task.get("index", 0)), n_chiefs + len(cluster.get("worker", []))
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f"TF_CONFIG={text} is not what TensorFlow documents ({error})") from error


def _multi_worker_strategy():
    communication = tf.distribute.experimental.CommunicationImplementation
    gpus = tf.config.list_physical_devices("GPU")
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=communication.NCCL if gpus else communication.RING
    )
    with worker_faults.reported():
        return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)


class OneReplica:
    """What `Replicas` is to several replicas, for one: no strategy at all.

    Attributes:
      count: number of replicas.
      local: range of the numbers of this process's replicas.
      is_chief: whether this process writes the run directory.
    """

    count, local, is_chief = 1, range(1), True

    def scope(self):
        """Context in which the model is to be built."""
        return contextlib.nullcontext()

    def described(self, config):
        """What the log says of the replicas: nothing of one."""
        del config
        return ""

    def require_no_state(self, networks):
        """Raises a UserError where networks have weights that are not trained, which replicas would not have alike."""

    def train_step(self, model, batches, asked_to_stop):
        """Queues one step: `batches` has the pair of batches of each local replica.

        Returns:
          A function that waits for the step and returns its floats by name. A GPU has something to do all the time
          where the next step is queued before this function is called.
        """
        del asked_to_stop
        scalars = model.train_step(*batches[0])
        values = tf.stack(list(scalars.values()))  # One copy from the GPU.
        return lambda: dict(zip(scalars, values.numpy().tolist(), strict=True))

    def stopping(self, asked_to_stop):
        """The signal that ends the run, or None; alike on all workers, once they have read the same step's floats."""
        return asked_to_stop()

    def patient(self):
        """The next step may take as long as it likes: a worker has other things to do before it."""

    def wait(self):
        """Waits until all workers have come here."""

    def from_chief(self, value):
        """The chief's float on all workers."""
        return value

    def collect(self, own):
        """Dicts of arrays of all replicas, of each local one's in the list `own`; empty where it is not the chief.

        Names and shapes are those of all replicas.
        """
        return own

    def require_equal(self, **values):
        """Raises a UserError unless all workers have the same integers."""


class Replicas(OneReplica):
    """The replicas of a strategy: of this process, or of this and of other workers."""

    def __init__(self, strategy, config, n_workers=1, worker=0):
        if config.mixed_precision == "float16":
            raise UserError("--mixed_precision=float16 has a loss scale, which replicas do not share: use bfloat16")
        self._strategy, self._n_workers, self._worker = strategy, n_workers, worker
        self.count, n_local = strategy.num_replicas_in_sync, strategy.num_replicas_in_sync // n_workers
        self.local = range(worker * n_local, (worker + 1) * n_local)
        self.is_chief = worker == 0
        self._model = self._signals = None
        self._patient = True  # The first step is traced.
        self._watchdog = worker_faults.Watchdog(config.worker_timeout if n_workers > 1 else 0)
        # In one process an operation that fails is a fault of its own.
        self._reported = worker_faults.reported if n_workers > 1 else contextlib.nullcontext
        self._sum = tf.function(self._summed, autograph=False, reduce_retracing=True)

    @contextlib.contextmanager
    def scope(self):
        # Each variable takes the chief's initial value.
        with self._reported(), self._strategy.scope():
            yield

    def described(self, config):
        return (f"; {self.count} replicas (in {self._n_workers} worker{'s' * (self._n_workers > 1)}) x batch "
                f"{config.batch_size} = {self.count * config.batch_size} images of each domain in a step, learning "
                f"rates scaled by {schedules.replica_factor(config.scale_learning_rate, self.count):g}")

    def require_no_state(self, networks):
        for name, network in networks.items():
            if network.non_trainable_variables:
                raise UserError(f"{name} has statistics of batches or states of dropout, which would differ between "
                                "replicas: with several replicas use --norm=instance and --nodropout")

    def train_step(self, model, batches, asked_to_stop):
        if model is not self._model:
            self._model = model
            self._step = tf.function(self._traced(model.step), autograph=False)
        asked = asked_to_stop()
        flags = self._values(lambda index: np.array([float(asked == one) for one in _SIGNALS], np.float32))
        pair = [self._values(lambda index, of=of: batches[index][of]) for of in range(2)]
        past = model.lend_past(*(image.shape for image in batches[0]))
        past = tf.nest.map_structure(lambda *own: self._values(lambda index: own[index]), *past)
        with self._watching(), self._reported():
            scalars, flags, fakes = self._step(flags, *pair, past)
            model.keep_fakes(self._of_each(fakes))
            values = tf.stack([self._local(value) for value in scalars.values()])

        def read():
            with self._watching(), self._reported():
                self._signals = self._local(flags).numpy()
                floats = values.numpy().tolist()
            self._patient = False
            return dict(zip(scalars, floats, strict=True))

        return read

    def _watching(self):
        return contextlib.nullcontext() if self._patient else self._watchdog.watching()

    def _of_each(self, values):
        """The nested per-replica `values` as a list with those of each local replica."""
        local = self._strategy.experimental_local_results
        return [
            tf.nest.map_structure(lambda value, index=index: local(value)[index], values)
            for index in range(len(self.local))
        ]

    def stopping(self, asked_to_stop):
        # What comes after the step began is for the next one: all workers must see it in the same step.
        asked = [one for one, count in zip(_SIGNALS, self._signals, strict=True) if count > 0]
        return asked[0] if asked else None

    def patient(self):
        self._patient = True

    def wait(self):
        self.from_chief(0.0)

    def from_chief(self, value):
        return float(self._total(np.float64(value).tobytes(), own=self.is_chief).view(np.float64)[0])

    def collect(self, own):
        if self._n_workers == 1:
            return own
        collected = []
        for number in range(self.count):  # One at a time, so that the others need room for one only.
            arrays = own[number - self.local.start if number in self.local else 0]
            data = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays.values())
            total = self._total(data, own=number in self.local)
            if self.is_chief:
                collected.append(_split(total.tobytes(), arrays))
        return collected

    def require_equal(self, **values):
        own = np.array(list(values.values()), np.int64)
        for worker in range(self._n_workers):
            theirs = self._total(own.tobytes(), own=worker == self._worker)
            for name, mine, other in zip(values, own, theirs, strict=True):
                if mine != other:
                    raise UserError(f"the workers differ in {name.replace('_', ' ')}: {mine} in worker {self._worker}, "
                                    f"{other} in worker {worker}; give all the same options, images and run directory")

    def _traced(self, step):
        def replica_step(flags, *batch):
            scalars, fakes = step(*batch)
            # One all-reduce for the lot. A mean of flags above 0 is a request of some worker.
            *values, flags = replicas.mean([*scalars.values(), tf.identity(flags)])
            return dict(zip(scalars, values, strict=True)), flags, fakes

        return lambda *arguments: self._strategy.run(replica_step, args=arguments)

    def _summed(self, words):
        def replica_sum(words):
            return tf.distribute.get_replica_context().all_reduce(_SUM, tf.identity(words))

        return self._strategy.run(replica_sum, args=(words,))

    def _total(self, data, own):
        """Sum over workers of `data`, bytes, as int64 (exact for any bits); those that are not `own` count as zeros."""
        if not data:  # Nothing to sum, as the pools of pix2pix, crashes TensorFlow's ring.
            return np.zeros(0, np.int64)
        words = np.frombuffer(data + bytes(-len(data) % 8), np.int64)
        zeros = np.zeros_like(words)
        with self._reported():
            total = self._sum(self._values(lambda index: words if own and index == 0 else zeros))
            return self._local(total).numpy()

    def _values(self, function):
        """The values of function(0), function(1) ... for the local replicas."""
        first = self.local.start
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: tf.convert_to_tensor(function(int(context.replica_id_in_sync_group) - first))
        )

    def _local(self, value):
        return self._strategy.experimental_local_results(value)[0]


def _split(data, like):
    """The inverse of joining the bytes of `like`'s arrays."""
    arrays, start = {}, 0
    for name, array in like.items():
        arrays[name] = np.frombuffer(data, array.dtype, array.size, start).reshape(array.shape).copy()
        start += array.nbytes
    return arrays
