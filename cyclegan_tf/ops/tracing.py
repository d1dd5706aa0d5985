"""Decorators that control how a function enters a TensorFlow graph."""

import tensorflow as tf

# Keras 2 converts every function that a layer calls with AutoGraph, which delays the start of each process by a second.
# Functions without Python control flow on tensors need no conversion.
no_autograph = tf.autograph.experimental.do_not_convert

# Each call adds one op to the caller's graph, and the function is traced once per signature. A training step has
# hundreds of calls; tracing each of them would slow down the first step.
single_op = tf.function(autograph=False, experimental_attributes={"_noinline": True})
