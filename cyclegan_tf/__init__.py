"""CycleGAN for TensorFlow and Keras: numerically the authors' network.

The package imports TensorFlow only when something needs it, so that command-line help and configuration stay fast.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclegan_tf.inference.loading import LoadedTranslator

__version__ = "0.1.0"


def load(path: str, direction: str | None = None) -> "LoadedTranslator":
    """Loads a trained model: a run directory, a SavedModel folder, a .pth or .tflite file, or "demo_maps".

    cyclegan_tf.load("runs/horse2zebra").translate("horse.jpg") is a NumPy array; see `cyclegan_tf.inference.loading`.
    """
    from cyclegan_tf.ops import startup

    startup.import_tensorflow()
    from cyclegan_tf.inference import loading

    return loading.load(path, direction)
