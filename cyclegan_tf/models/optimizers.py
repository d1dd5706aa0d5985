"""Adam as PyTorch has it, in one operation a weight."""

import tensorflow as tf

keras = tf.keras

_KERAS_2 = not hasattr(keras, "ops")


class Adam(keras.optimizers.Adam):
    """Keras's Adam with epsilon in PyTorch's place, by TensorFlow's fused kernel.

    m <- m + (1 - beta_1) (g - m) and v <- v + (1 - beta_2) (g^2 - v); then, in step t,
    w <- w - rate m_hat / (sqrt(v_hat) + epsilon) with m_hat = m / (1 - beta_1^t) and v_hat = v / (1 - beta_2^t)
    (Kingma and Ba 2015, algorithm 1). Keras adds epsilon to sqrt(v) instead (their section 2, "epsilon hat"), which in
    the first step is 32 times as much. The kernel does that too, so it gets epsilon sqrt(1 - beta_2^t).

    One operation in place of some forty makes the training step's graph a quarter smaller, which is time before the
    first step, and goes through the weights once in place of ten times.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # Keras 2 would, on a GPU, compile `update_step` on its own, which then could not see the tensors below.
        self.jit_compile = False

    def apply_gradients(self, grads_and_vars, *args, **kwargs):
        # What all weights share, as tensors: once in the graph.
        step = tf.cast(self.iterations, tf.float32) + 1.0
        beta_1, beta_2 = tf.constant(self.beta_1), tf.constant(self.beta_2)
        power_1, power_2 = tf.pow(beta_1, step), tf.pow(beta_2, step)
        self._shared = {
            "beta1": beta_1, "beta2": beta_2, "beta1_power": power_1, "beta2_power": power_2,
            "lr": tf.convert_to_tensor(self.learning_rate), "epsilon": self.epsilon * tf.sqrt(1.0 - power_2),
        }
        if tf.distribute.get_replica_context().num_replicas_in_sync == 1:
            return super().apply_gradients(grads_and_vars, *args, **kwargs)
        # Keras would add up the gradients of all replicas; these are the mean already, and each replica has its copies.
        for gradient, variable in grads_and_vars:
            self.update_step(gradient, variable)
        tf.raw_ops.AssignAddVariableOp(resource=_handle(self.iterations), value=tf.constant(1, tf.int64))
        return None

    def update_step(self, gradient, variable, learning_rate=None):
        """Updates one weight; the rate is the optimizer's own (Keras 3 names it, Keras 2 does not)."""
        del learning_rate
        # Keras 2 and Keras 3 know their moments' places by these.
        index = self._index_dict[self._var_key(variable)] if _KERAS_2 else self._get_variable_index(variable)
        mean, square = self._momentums[index], self._velocities[index]
        tf.raw_ops.ResourceApplyAdam(
            var=_handle(variable), m=_handle(mean), v=_handle(square), grad=gradient, **self._shared
        )


def adam(config):
    """The optimizer of one network, with the authors' epsilon of 1e-8 (Keras's default is 1e-7)."""
    return Adam(config.learning_rate, beta_1=config.beta_1, beta_2=config.beta_2, epsilon=1e-8)


def assign_learning_rates(config, optimizers, value):
    """Sets the generators' learning rate to `value`, the discriminators' in proportion to --disc_learning_rate."""
    share = config.disc_learning_rate / config.learning_rate if config.disc_learning_rate else 1.0
    for name, optimizer in optimizers.items():
        optimizer.learning_rate.assign(value * share if name.startswith("disc_") else value)


def assign(variable, value):
    """Assigns to a weight inside of a step: to the copy of this replica, where there are several."""
    tf.raw_ops.AssignVariableOp(resource=_handle(variable), value=value)


def _handle(variable):
    # A Keras 3 variable holds TensorFlow's.
    return variable.handle if isinstance(variable, tf.Variable) else variable.value.handle
