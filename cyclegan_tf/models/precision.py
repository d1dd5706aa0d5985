"""Half precision in training: the Keras policy of the networks, and the loss scale that float16 needs.

Weights, optimizers, scores, losses, and the images that enter and leave a network remain in float32. A network computes
everything between its input and its output in half precision (Micikevicius et al. 2018, section 3.1). Image pools store
images in half precision, to which a discriminator rounds its input.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf

keras = tf.keras


def get_dtype(name: str) -> tf.DType:
    """Returns the type in which networks compute in the precision `name`: bfloat16, float16, or none for float32."""
    return tf.as_dtype("float32" if name == "none" else name)


@contextlib.contextmanager
def use_policy(name: str) -> Iterator[None]:
    """Makes new layers in the body compute in the precision `name`; see `get_dtype`."""
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("float32" if name == "none" else f"mixed_{name}")
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def make_scaling(name: str) -> "Unscaled":
    """Returns a `LossScale` for float16, whose smallest number is 6e-8, and `Unscaled` for other precisions."""
    return LossScale() if name == "float16" else Unscaled()


class Unscaled:
    """Takes and applies gradients without a loss scale.

    Attributes:
      variables: state that belongs to a checkpoint, by name; empty here.
    """

    def __init__(self) -> None:
        self.variables: dict[str, tf.Variable] = {}

    def gradient(self, tape: tf.GradientTape, loss: tf.Tensor, variables: Any) -> Any:
        """Returns d loss / d variables in float32, with the structure of the (nested) list `variables`."""
        return tape.gradient(loss, variables)

    def update(self, gradients: Mapping[str, list[tf.Tensor]], apply: Callable[[], None]) -> dict[str, tf.Tensor]:
        """Updates weights.

        Args:
          gradients: the gradients of each network.
          apply: function that updates the weights by these gradients.

        Returns:
          The norm of each network's gradient, and the state of the scale if there is one: scalars by name.
        """
        apply()
        return _compute_norms(gradients)


class LossScale(Unscaled):
    """Multiplies the loss by a scale, and divides the gradients by it, so that float16 can hold small gradients.

    If a gradient is not finite, the update is skipped and the scale is halved. After `growth_steps` updates in a row
    the scale is doubled (Micikevicius et al. 2018, section 3.2). The scale never falls below 1. At scale 1, a gradient
    that is not finite has other causes, so `update` returns its norm unchanged.

    Args:
      initial: the first scale; a power of two, so that scaling does not round.
      growth_steps: 2000 is Keras's value.
    """

    def __init__(self, initial: float = 2.0**15, growth_steps: int = 2000) -> None:
        super().__init__()
        self.growth_steps = growth_steps
        self.scale = tf.Variable(initial, trainable=False, dtype=tf.float32, name="scale")
        self.good_steps = tf.Variable(0, trainable=False, dtype=tf.int64, name="good_steps")
        self.variables = {"scale": self.scale, "good_steps": self.good_steps}

    def gradient(self, tape: tf.GradientTape, loss: tf.Tensor, variables: Any) -> Any:
        # Backpropagation starts with the scale instead of 1, which is the gradient of the scaled loss.
        scaled = tape.gradient(loss, variables, output_gradients=tf.convert_to_tensor(self.scale))
        return tf.nest.map_structure(lambda gradient: gradient / self.scale, scaled)

    def update(self, gradients: Mapping[str, list[tf.Tensor]], apply: Callable[[], None]) -> dict[str, tf.Tensor]:
        """Updates weights as `Unscaled` does; norms are 0 if the update was skipped and a smaller scale may help."""
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for tensors in gradients.values() for g in tensors])
        scale_is_smallest = self.scale <= 1.0
        tf.cond(finite, lambda: self._count_update(apply), self._skip_update)
        norms = _compute_norms(gradients)
        norms = {name: tf.where(finite | scale_is_smallest, norm, 0.0) for name, norm in norms.items()}
        return norms | {"precision/loss_scale": tf.convert_to_tensor(self.scale)}

    def _count_update(self, apply: Callable[[], None]) -> bool:
        apply()
        good = self.good_steps + 1
        grows = good >= self.growth_steps
        self.scale.assign(tf.where(grows, tf.minimum(2.0 * self.scale, 2.0**60), self.scale))
        self.good_steps.assign(tf.where(grows, tf.zeros_like(good), good))
        return True

    def _skip_update(self) -> bool:
        self.scale.assign(tf.maximum(0.5 * self.scale, 1.0))
        self.good_steps.assign(0)
        return False


def _compute_norms(gradients: Mapping[str, list[tf.Tensor]]) -> dict[str, tf.Tensor]:
    return {f"grad_norm/{name}": tf.linalg.global_norm(tensors) for name, tensors in gradients.items()}
