"""Every option of a run; imports no TensorFlow."""

from cyclegan_tf.config.config import Config

__all__ = ["Config"]
