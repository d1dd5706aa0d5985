"""CycleGAN for TensorFlow and Keras: numerically the authors' network.

The package imports TensorFlow only when something needs it, so that command-line help and configuration stay fast.
"""

from typing import TYPE_CHECKING

from cyclegan_tf.config import Config
from cyclegan_tf.config.registries import (
    AdversarialLoss,
    register_discriminator,
    register_generator,
    register_loss,
    register_model,
)
from cyclegan_tf.errors import UserError
from cyclegan_tf.models import builtin as _models  # noqa: F401 - Registers the models and losses of this package,
from cyclegan_tf.networks import builtin as _networks  # noqa: F401 - and its networks.

if TYPE_CHECKING:
    from cyclegan_tf.inference.loading import LoadedTranslator

__version__ = "0.1.0"

__all__ = [
    "AdversarialLoss", "Config", "UserError", "load", "register_discriminator", "register_generator", "register_loss",
    "register_model",
]


def load(path: str, direction: str | None = None) -> "LoadedTranslator":
    """Loads a trained model: a run directory, a SavedModel folder, a .pth or .tflite file, or "demo_maps".

    cyclegan_tf.load("runs/horse2zebra").translate("horse.jpg") is a NumPy array; see `cyclegan_tf.inference.loading`.
    """
    from cyclegan_tf.ops import startup

    startup.import_tensorflow()
    from cyclegan_tf.inference import loading

    return loading.load(path, direction)
