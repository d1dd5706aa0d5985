"""Recomputes cheap feature maps in the backward pass instead of keeping them in memory.

In a chain of norm, ReLU, padding and convolution, the gradient of each would keep a feature map from the forward pass.
Only the norm's output is kept; ReLU and padding are recomputed in the backward pass. `convolution` calls `recompute`
where it uses its own kernels.
"""

from collections.abc import Callable

import tensorflow as tf


@tf.custom_gradient
def relu(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """max(x, 0), whose gradient keeps the input where TensorFlow's keeps the output."""
    return tf.nn.relu(x), lambda dy: tf.raw_ops.ReluGrad(gradients=dy, features=x)


# Type of an op that costs next to nothing beside a convolution -> function that applies the same op to another input.
_CHEAP: dict[str, Callable[[tf.Operation, tf.Tensor], tf.Tensor]] = {
    "GatherV2": lambda op, x: tf.gather(x, op.inputs[1], axis=op.inputs[2], batch_dims=op.get_attr("batch_dims")),
    "MirrorPad": lambda op, x: tf.raw_ops.MirrorPad(input=x, paddings=op.inputs[1], mode=op.get_attr("mode")),
    "Pad": lambda op, x: tf.raw_ops.Pad(input=x, paddings=op.inputs[1]),
    "Relu": lambda op, x: relu(x),
}


def recompute(x: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
    """Computes `x` a second time once `after` exists, so that `x` need not be kept until then.

    Repeats the chain of ReLUs, paddings and gathers that ends in `x`. Returns `x` itself in eager mode, or if another
    op computes `x`.
    """
    if tf.executing_eagerly() or x.graph is not tf.compat.v1.get_default_graph():
        return x
    # Without this dependency the graph optimizer would find the two computations equal and keep the first.
    with tf.control_dependencies([after]):
        return _recompute(x)


def wait_for(x: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """Returns `x`, but only after a weight's `gradient` is computed.

    Nothing on the way back to the first layer needs the gradients of the weights. TensorFlow would compute them last
    and keep their inputs until then.
    """
    with tf.control_dependencies([gradient]):
        return tf.identity(x)


def _recompute(x: tf.Tensor) -> tf.Tensor:
    source = x
    # tf.custom_gradient wraps the inputs and outputs of its function in identities.
    while source.op.type in ("Identity", "IdentityN"):
        source = source.op.inputs[source.value_index]
    if source.op.type not in _CHEAP:
        return x
    return _CHEAP[source.op.type](source.op, _recompute(source.op.inputs[0]))
