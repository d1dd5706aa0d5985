"""The workers of a run, which are its processes, and the values that they exchange between training steps.

A worker trains one or more replicas; `training.distribution` describes the replicas.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from cyclegan_tf.errors import UserError
from cyclegan_tf.training import worker_faults

_SUM = tf.distribute.ReduceOp.SUM


class Workers:
    """The workers of a run, as one worker sees them; this class is for a run of a single worker.

    All workers must call the same methods in the same order.

    Attributes:
      count: number of workers.
      number: number of this worker, from 0.
    """

    count, number = 1, 0

    @property
    def is_chief(self) -> bool:
        """True for worker 0, which writes the run directory."""
        return self.number == 0

    def barrier(self) -> None:
        """Waits until all workers have called this method."""
        self.broadcast(0.0)

    def broadcast(self, value: float) -> float:
        """Returns the chief's `value` on all workers; waits until all workers have called this method."""
        return value

    def gather(self, own: list[Mapping[Any, np.ndarray]]) -> list[Mapping[Any, np.ndarray]]:
        """Returns the arrays of all replicas on the chief, and an empty list on the other workers.

        Args:
          own: named arrays of each replica of this worker, with the same names and dtypes on all replicas; shapes may
            differ, but not their numbers of dimensions.
        """
        return own

    def require_equal(self, values: Mapping[str, int]) -> None:
        """Raises a UserError with the name of the first of `values` that differs between the workers."""


class StrategyWorkers(Workers):
    """The workers of a TensorFlow strategy.

    Ends the process if the exchange with another worker fails.

    Args:
      strategy: a `MultiWorkerMirroredStrategy` whose workers have equally many replicas.
      count: number of workers.
      number: number of this worker, from 0.
    """

    def __init__(self, strategy: tf.distribute.Strategy, count: int, number: int) -> None:
        self._strategy, self.count, self.number = strategy, count, number
        self._sum_over_replicas = tf.function(self._sum, autograph=False, reduce_retracing=True)

    def broadcast(self, value: float) -> float:
        return float(self._sum_bytes(np.float64(value).tobytes(), own=self.is_chief).view(np.float64)[0])

    def gather(self, own: list[Mapping[Any, np.ndarray]]) -> list[Mapping[Any, np.ndarray]]:
        gathered: list[Mapping[Any, np.ndarray]] = []
        for number in range(self.count):
            is_own = number == self.number
            for arrays in own:  # One by one, so that a worker holds the arrays of a single replica in memory.
                blank = self._make_blank(arrays, is_own)
                total = self._sum_bytes(_join_bytes((arrays if is_own else blank).values()), is_own)
                if self.is_chief:
                    gathered.append(_split_bytes(total.tobytes(), blank))
        return gathered

    def _make_blank(self, arrays: Mapping[Any, np.ndarray], own: bool) -> dict[Any, np.ndarray]:
        """Returns zeros with the shapes of the sender's arrays; `own` is True on the worker that sends its shapes."""
        lengths = iter(self._sum_bytes(_join_bytes(np.array(a.shape, np.int64) for a in arrays.values()), own).tolist())
        return {name: np.zeros([next(lengths) for _ in array.shape], array.dtype) for name, array in arrays.items()}

    def require_equal(self, values: Mapping[str, int]) -> None:
        own = np.array(list(values.values()), np.int64)
        # Exchange all values before the first error, because the other workers would wait for a worker that has left.
        exchanged = [self._sum_bytes(own.tobytes(), own=number == self.number) for number in range(self.count)]
        for number, theirs in enumerate(exchanged):
            for name, mine, other in zip(values, own, theirs, strict=True):
                if mine != other:
                    raise UserError(f"worker {number} and worker {self.number} differ in {name}; give all workers the "
                                    "same options, images and run directory")

    def _sum_bytes(self, data: bytes, own: bool) -> np.ndarray:
        """Sums `data` over the workers as int64 words; the last word is padded with zero bytes.

        A worker whose `own` is False adds zeros. If only one worker has a true `own`, the sum is exactly its data.

        Args:
          data: bytes of the same length on all workers.
        """
        if not data:  # TensorFlow's ring crashes on empty tensors, such as the pools of pix2pix.
            return np.zeros(0, np.int64)
        words = np.frombuffer(data + bytes(-len(data) % 8), np.int64)
        zeros, strategy = np.zeros_like(words), self._strategy
        first = self.number * strategy.num_replicas_in_sync // self.count  # The replica that adds this worker's data.
        with worker_faults.exit_on_lost_worker():
            added = strategy.experimental_distribute_values_from_function(lambda context: tf.convert_to_tensor(
                words if own and int(context.replica_id_in_sync_group) == first else zeros
            ))
            return strategy.experimental_local_results(self._sum_over_replicas(added))[0].numpy()

    def _sum(self, words: tf.Tensor) -> tf.Tensor:
        def replica_sum(words: tf.Tensor) -> tf.Tensor:
            return tf.distribute.get_replica_context().all_reduce(_SUM, tf.identity(words))

        return self._strategy.run(replica_sum, args=(words,))


def _join_bytes(arrays: Iterable[np.ndarray]) -> bytes:
    return b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)


def _split_bytes(data: bytes, like: Mapping[Any, np.ndarray]) -> dict[Any, np.ndarray]:
    """Splits `data`, the joined bytes of arrays, into arrays with the names, types and shapes of `like`."""
    arrays, start = {}, 0
    for name, array in like.items():
        arrays[name] = np.frombuffer(data, array.dtype, array.size, start).reshape(array.shape).copy()
        start += array.nbytes
    return arrays
