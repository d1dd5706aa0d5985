"""The replicas that a training step runs on, as seen from inside the step."""

import tensorflow as tf

_MEAN = tf.distribute.ReduceOp.MEAN


def average(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    """Averages float tensors over the replicas, with one all-reduce for all tensors."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return tensors
    flat = context.all_reduce(_MEAN, tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], axis=0))
    parts = tf.split(flat, [tensor.shape.num_elements() for tensor in tensors])
    return [tf.reshape(part, tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


def average_gradients(gradients: dict[str, list[tf.Tensor]]) -> dict[str, list[tf.Tensor]]:
    """Averages the gradients of networks, by name, over the replicas, with one all-reduce for all networks."""
    means = iter(average([tensor for gradient in gradients.values() for tensor in gradient]))
    return {name: [next(means) for _ in gradient] for name, gradient in gradients.items()}


def get_count() -> int:
    """Returns the number of replicas."""
    return tf.distribute.get_replica_context().num_replicas_in_sync


def get_replica() -> tuple[int, int]:
    """Returns the number of the replica whose step is being traced, and the count of replicas."""
    n_replicas = get_count()
    if n_replicas == 1:
        return 0, 1
    return int(tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group)), n_replicas
