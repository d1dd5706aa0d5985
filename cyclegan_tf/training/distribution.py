"""The replicas of a run, on one device or many machines, and how the replicas share the work.

A replica is a copy of all networks on one device, with its own batch of --batch_size images and its own image pools.
The losses of a step are means over the batch of a replica, so the mean of the replicas' gradients is the gradient of
one large batch: because instance norms work on single images, N replicas of batch b compute the same as one replica of
batch N b. Every replica applies the mean gradient to its own copy of the weights, so all copies stay equal.
"""

import abc
import concurrent.futures
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from cyclegan_tf.config import Config
from cyclegan_tf.errors import UserError
from cyclegan_tf.models import replicas
from cyclegan_tf.models.base import Model
from cyclegan_tf.ops import hardware
from cyclegan_tf.training import schedules, worker_faults
from cyclegan_tf.training.signals import SIGNALS, GetSignal
from cyclegan_tf.training.workers import Workers

# The batches of one replica: float32 (N, H, W, C) in [-1, 1] of domains A and B.
Batch = tuple[tf.Tensor, tf.Tensor]


class Replicas(abc.ABC):
    """The replicas of a run, as the training loop of one worker sees them.

    Attributes:
      count: number of replicas on all workers.
      local: range of the numbers of this worker's replicas.
      workers: the workers of the run.
    """

    count: int
    local: range
    workers: Workers

    def __init__(self) -> None:
        self._reader = concurrent.futures.ThreadPoolExecutor(max_workers=1)

    def _start_copy(self, tensor: tf.Tensor) -> Callable[[], np.ndarray]:
        """Starts to copy `tensor` from a GPU; returns a function that waits for the copy.

        A copy from a GPU waits for all operations that were queued before the copy. A copy that another thread queues
        now does not wait for the next step.
        """
        return self._reader.submit(tensor.numpy).result if hardware.has_gpu() else tensor.numpy

    @abc.abstractmethod
    def scope(self) -> contextlib.AbstractContextManager:
        """Returns the context in which the model must be built."""

    @abc.abstractmethod
    def describe(self, config: Config) -> str:
        """The replicas as the end of a log line; empty for one replica."""

    @abc.abstractmethod
    def require_stateless(self, networks: Mapping[str, tf.keras.Model]) -> None:
        """Raises a UserError if networks have non-trainable weights, which replicas would not keep equal."""

    @abc.abstractmethod
    def train_step(
        self, model: Model, batches: Sequence[Batch], get_signal: GetSignal
    ) -> Callable[[], dict[str, float]]:
        """Queues one training step and returns without waiting for its end.

        Args:
          model: built in `scope`.
          batches: the batch of each local replica.
          get_signal: called before the step, so that the step can tell all workers about a signal.

        Returns:
          A function that waits for the end of the step and returns its scalars, floats by name. Queue the next step
          before you call this function, so that the GPUs have work while the scalars are read.
        """

    @abc.abstractmethod
    def agree_on_signal(self, get_signal: GetSignal) -> int | None:
        """Returns the signal that ends the run, or None; all workers that have read the same step's scalars agree."""

    @abc.abstractmethod
    def pause_watchdog(self) -> None:
        """Lifts the time limit of the next step, because a worker does other work before it."""


class OneReplica(Replicas):
    """One replica, without a strategy."""

    count, local, workers = 1, range(1), Workers()

    def scope(self) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext()

    def describe(self, config: Config) -> str:
        return ""

    def require_stateless(self, networks: Mapping[str, tf.keras.Model]) -> None:
        pass

    def train_step(
        self, model: Model, batches: Sequence[Batch], get_signal: GetSignal
    ) -> Callable[[], dict[str, float]]:
        scalars = model.train_step(*batches[0])
        read = self._start_copy(tf.stack(list(scalars.values())))  # One copy instead of one for each scalar.
        return lambda: dict(zip(scalars, read().tolist(), strict=True))

    def agree_on_signal(self, get_signal: GetSignal) -> int | None:
        return get_signal()

    def pause_watchdog(self) -> None:
        pass


class StrategyReplicas(Replicas):
    """The replicas of a TensorFlow strategy, on this worker and possibly on others.

    Args:
      strategy: a `MirroredStrategy`, or a `MultiWorkerMirroredStrategy` whose workers have equally many replicas.
      workers: the workers of the strategy.

    Raises:
      UserError: the config asks for float16.
    """

    def __init__(self, strategy: tf.distribute.Strategy, config: Config, workers: Workers) -> None:
        if config.mixed_precision == "float16":
            raise UserError("--mixed_precision=float16 does not work with several replicas, because they do not share "
                            "the loss scale; use --mixed_precision=bfloat16")
        super().__init__()
        self._strategy, self.workers = strategy, workers
        self.count, n_local = strategy.num_replicas_in_sync, strategy.num_replicas_in_sync // workers.count
        self.local = range(workers.number * n_local, (workers.number + 1) * n_local)
        self._model: Model | None = None
        # One flag for each of `SIGNALS`. A flag is > 0 if at least one worker had received the signal before the step
        # whose scalars were read last.
        self._signal_flags = np.zeros(len(SIGNALS))
        self._watchdog_paused = True  # The first step takes long, because it is traced.
        self._watchdog = worker_faults.Watchdog(config.worker_timeout if workers.count > 1 else 0)
        # In a single process a failed operation is a fault of this process, not of another worker.
        self._exit_on_lost_worker: Callable[[], contextlib.AbstractContextManager] = (
            worker_faults.exit_on_lost_worker if workers.count > 1 else contextlib.nullcontext
        )

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        # The strategy gives each variable the chief's initial value.
        with self._exit_on_lost_worker(), self._strategy.scope():
            yield

    def describe(self, config: Config) -> str:
        return (f"; {self.count} replicas (in {self.workers.count} worker{'s' * (self.workers.count > 1)}) x batch "
                f"{config.batch_size} = {self.count * config.batch_size} images of each domain in a step, learning "
                f"rates scaled by {schedules.compute_replica_factor(config.scale_learning_rate, self.count):g}")

    def require_stateless(self, networks: Mapping[str, tf.keras.Model]) -> None:
        for name, network in networks.items():
            if network.non_trainable_variables:
                raise UserError(f"{name} has running statistics of batch norms, or other variables without gradients, "
                                "which would differ between replicas; with several replicas use --norm=instance")

    def train_step(
        self, model: Model, batches: Sequence[Batch], get_signal: GetSignal
    ) -> Callable[[], dict[str, float]]:
        if model is not self._model:
            self._model = model
            self._step = tf.function(self._wrap_step(model.seeded_step), autograph=False, reduce_retracing=True)
        received = get_signal()
        flags = self._distribute(lambda index: np.array([float(received == one) for one in SIGNALS], np.float32))
        real_a = self._distribute(lambda index: batches[index][0])
        real_b = self._distribute(lambda index: batches[index][1])
        past = model.draw_past(*(image.shape for image in batches[0]))
        past = tf.nest.map_structure(lambda *own: self._distribute(lambda index: own[index]), *past)
        with self._guard():
            scalars, flags, fakes = self._step(flags, real_a, real_b, past)
            model.store_fakes(self._split_by_replica(fakes))
            read = self._start_copy(tf.stack([self._get_local(value) for value in scalars.values()]))
            read_flags = self._start_copy(self._get_local(flags))

        def read_scalars() -> dict[str, float]:
            with self._guard():
                self._signal_flags, floats = read_flags(), read().tolist()
            self._watchdog_paused = False
            return dict(zip(scalars, floats, strict=True))

        return read_scalars

    def agree_on_signal(self, get_signal: GetSignal) -> int | None:
        # A signal that arrives during a step counts for the next step, as all workers must stop after the same step.
        received = [one for one, flag in zip(SIGNALS, self._signal_flags, strict=True) if flag > 0]
        return received[0] if received else None

    def pause_watchdog(self) -> None:
        self._watchdog_paused = True

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        """Ends the process if the operations of a step, in the body, fail or hang because of another worker."""
        watch = contextlib.nullcontext() if self._watchdog_paused else self._watchdog.watch()
        with watch, self._exit_on_lost_worker():
            yield

    def _wrap_step(self, step: Callable) -> Callable:
        """Wraps a model's `step` to run on every replica and to return mean scalars, mean flags and the fakes."""
        def replica_step(flags: tf.Tensor, *batch: Any) -> tuple[dict[str, tf.Tensor], tf.Tensor, Any]:
            scalars, fakes = step(*batch)
            # One all-reduce for everything.
            *values, flags = replicas.average([*scalars.values(), tf.identity(flags)])
            return dict(zip(scalars, values, strict=True)), flags, fakes

        return lambda *arguments: self._strategy.run(replica_step, args=arguments)

    def _distribute(self, function: Callable[[int], Any]) -> Any:
        """Makes one per-replica value from function(0), function(1) ... for the local replicas."""
        first = self.local.start
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: tf.convert_to_tensor(function(int(context.replica_id_in_sync_group) - first))
        )

    def _get_local(self, value: Any) -> tf.Tensor:
        """Returns the tensor of the first local replica."""
        return self._strategy.experimental_local_results(value)[0]

    def _split_by_replica(self, values: Any) -> list[Any]:
        """Converts nested per-replica `values` to a list of nested tensors, one for each local replica."""
        get_results = self._strategy.experimental_local_results
        return [
            tf.nest.map_structure(lambda value, index=index: get_results(value)[index], values)
            for index in range(len(self.local))
        ]
