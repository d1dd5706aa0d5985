"""Half precision in training: the policy that networks are built under, and the loss scale that float16 needs.

Weights, optimizers, images, scores and losses stay in float32; what lies between a network's input and its output is
computed in the half precision (Micikevicius et al. 2018, section 3.1).
"""

import contextlib

import tensorflow as tf

keras = tf.keras


@contextlib.contextmanager
def use_policy(name):
    """Layers that are made inside compute in `name`: bfloat16, float16, or none, which is float32."""
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("float32" if name == "none" else f"mixed_{name}")
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def make_scaling(name):
    """How gradients are taken and applied in that precision: a `LossScale` for float16, whose smallest is 6e-8."""
    return LossScale() if name == "float16" else Unscaled()


class Unscaled:
    """Gradients as they are.

    Attributes:
      variables: state by name, which a checkpoint holds; none.
    """

    variables = {}

    def gradient(self, tape, loss, variables):
        """d loss / d `variables`, a list or nested lists, in float32."""
        return tape.gradient(loss, variables)

    def update(self, gradients, apply):
        """Calls `apply`, which updates the weights by `gradients`, {network: tensors}; returns scalars by name."""
        apply()
        return {f"grad_norm/{name}": tf.linalg.global_norm(tensors) for name, tensors in gradients.items()}


class LossScale(Unscaled):
    """Gradients of the loss times a scale, divided by it again; the scale follows what float16 can hold.

    Where a gradient is not finite, the update is left out and the scale halved; after `growth_steps` updates in a row
    that were made it is doubled (Micikevicius et al. 2018, section 3.2). It never falls below 1: gradients that are not
    finite then are no matter of scale.

    Args:
      initial: the first scale, a power of two, so that scaling rounds nothing.
      growth_steps: 2000 as in Keras.
    """

    def __init__(self, initial=2.0**15, growth_steps=2000):
        self.growth_steps = growth_steps
        self.scale = tf.Variable(initial, trainable=False, dtype=tf.float32, name="scale")
        self.good_steps = tf.Variable(0, trainable=False, dtype=tf.int64, name="good_steps")
        self.variables = {"scale": self.scale, "good_steps": self.good_steps}

    def gradient(self, tape, loss, variables):
        # The derivative of the scaled loss, begun with the scale in place of 1.
        scaled = tape.gradient(loss, variables, output_gradients=tf.convert_to_tensor(self.scale))
        return tf.nest.map_structure(lambda gradient: gradient / self.scale, scaled)

    def update(self, gradients, apply):
        """As of `Unscaled`; a norm is 0 where the update was left out and a smaller scale may help."""
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for tensors in gradients.values() for g in tensors])
        hopeless = self.scale <= 1.0
        tf.cond(finite, lambda: self._updated(apply), self._skipped)
        norms = Unscaled().update(gradients, apply=lambda: None)
        norms = {name: tf.where(finite | hopeless, norm, 0.0) for name, norm in norms.items()}
        return norms | {"precision/loss_scale": tf.convert_to_tensor(self.scale)}

    def _updated(self, apply):
        apply()
        good = self.good_steps + 1
        grows = good >= self.growth_steps
        self.scale.assign(tf.where(grows, tf.minimum(2.0 * self.scale, 2.0**60), self.scale))
        self.good_steps.assign(tf.where(grows, tf.zeros_like(good), good))
        return True

    def _skipped(self):
        self.scale.assign(tf.maximum(0.5 * self.scale, 1.0))
        self.good_steps.assign(0)
        return False
