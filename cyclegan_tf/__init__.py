"""CycleGAN for TensorFlow and Keras: numerically the authors' network.

The package imports TensorFlow only when something needs it, so that command-line help and configuration stay fast.
"""

__version__ = "0.1.0"
