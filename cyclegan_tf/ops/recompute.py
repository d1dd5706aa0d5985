"""What a gradient needs is not kept longer than it must be.

Maps that are cheap to compute are computed again for gradients, and not kept from the forward pass until then. Of norm,
ReLU, padding, convolution each would keep a map; so it is that of the norm alone. `convolution` asks for it where it
chooses the kernels: on a CPU, of numbers that it multiplies.
"""

import tensorflow as tf

# Operations of the graph that cost next to nothing beside a convolution -> the same for another input.
_CHEAP = {
    "GatherV2": lambda operation, x: tf.gather(x, operation.inputs[1], axis=operation.inputs[2]),
    "MirrorPad": lambda operation, x: tf.raw_ops.MirrorPad(
        input=x, paddings=operation.inputs[1], mode=operation.get_attr("mode")
    ),
    "Pad": lambda operation, x: tf.raw_ops.Pad(input=x, paddings=operation.inputs[1]),
    "Relu": lambda operation, x: relu(x),
}


def recompute(x, after):
    """`x`, computed once more when `after` is there, so that nobody need keep it until then; eagerly it is kept."""
    if tf.executing_eagerly() or x.graph is not tf.compat.v1.get_default_graph():
        return x
    # Without this dependency the graph's optimizer would find that it is the same, and keep it.
    with tf.control_dependencies([after]):
        return _again(x)


def wait_for(x, gradient):
    """`x`, once a weight's `gradient` is there.

    On the way to the first layer nothing waits for the gradients of weights: TensorFlow would take them at the end, and
    keep what they are made of until then.
    """
    with tf.control_dependencies([gradient]):
        return tf.identity(x)


def _again(x):
    made = x
    # What `tf.custom_gradient` puts behind and in front of its function.
    while made.op.type in ("Identity", "IdentityN"):
        made = made.op.inputs[made.value_index]
    if made.op.type not in _CHEAP:
        return x
    return _CHEAP[made.op.type](made.op, _again(made.op.inputs[0]))


@tf.custom_gradient
def relu(x):
    """max(x, 0) that keeps its input for the gradient, where TensorFlow's keeps its output."""
    return tf.nn.relu(x), lambda dy: tf.raw_ops.ReluGrad(gradients=dy, features=x)
