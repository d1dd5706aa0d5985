"""The options of a run. This package imports no TensorFlow."""

from cyclegan_tf.config.config import Config

__all__ = ["Config"]
