"""CycleGAN for TensorFlow and Keras: numerically the authors' network.

The package imports TensorFlow only when something needs it, so that command-line help and configuration stay fast.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from cyclegan_tf.config import Config
from cyclegan_tf.config.registries import (
    AdversarialLoss,
    register_discriminator,
    register_generator,
    register_loss,
    register_model,
)
from cyclegan_tf.errors import Stopped, UserError
from cyclegan_tf.models import builtin as _models  # noqa: F401 - Registers the models and losses of this package,
from cyclegan_tf.networks import builtin as _networks  # noqa: F401 - and its networks.

if TYPE_CHECKING:
    import os

    import numpy as np
    import tensorflow as tf

    from cyclegan_tf.inference.loading import LoadedTranslator
    from cyclegan_tf.training.fitting import FitResult

    # Images (N, H, W, C), or a sequence of images (H, W, C).
    Images = np.ndarray | Sequence[np.ndarray]

__version__ = "0.1.0"

__all__ = [
    "AdversarialLoss", "Config", "Stopped", "UserError", "fit", "load", "register_discriminator", "register_generator",
    "register_loss", "register_model",
]


def fit(
    config: Config, workdir: "str | os.PathLike[str] | None" = None,
    dataset: "tuple[Images, Images] | tf.data.Dataset | None" = None,
    callbacks: Sequence[Callable[[int, Mapping[str, float]], None]] = (),
) -> "FitResult":
    """Trains a run to its end, as `cyclegan train` does; resumes if `workdir` holds a part of the run.

    fit(Config(dataset="photos", generator="tiny"), workdir="runs/tiny").measures are the final measures. Several runs
    can be trained in one process. Import TensorFlow after this call, or inside of functions: it reads its environment
    when it is imported and fixes its number of threads at its first operation, and another number rounds differently.

    Args:
      config: the options. The modules that registered the model and its networks are added to `config.plugins`.
      workdir: run directory; default: runs/ and the name of the data set.
      dataset: training images instead of `config.dataset`. Either a pair of arrays or lists: the images of A and the
        images of B, each (N, H, W, C) or a sequence of (H, W, C), uint8 or floats in [-1, 1]. Or a `tf.data.Dataset` of
        pairs (A, B) of single images of the same kind, which is repeated as often as necessary. In both cases images
        are resized, cropped and flipped as `config` says; preprocess="crop" and flip=False leave images of `crop_size`
        as they are. The images are not stored: a run resumes if it is given the same images again. A resumed run reads
        and drops the elements of a `tf.data.Dataset` that it has seen, and is exact only if the data set yields the
        same images in the same order again, as a new one in a new process does if `shuffle` and random maps have a
        fixed seed.
      callbacks: functions of a step and its scalars by name, called when a line is written to metrics.jsonl: with the
        losses, scores, gradient norms and the learning rate every `config.log_every` steps, with the measures after
        each evaluation and at the end. An exception in a callback ends the run, which resumes from its newest
        checkpoint. With several workers, only the chief calls them.

    Returns:
      The run directory, `workdir`, and the final `measures` of the held-out images, floats by name.

    Raises:
      UserError: a mistake in the options or the data; the message is the one that the command prints. Also an OSError
        of a callback, which is the cause of the UserError.
      KeyboardInterrupt: Ctrl-C, or "interrupt" in a notebook. The step is finished and the state is saved, so that the
        same call resumes. A second one raises at once, without saving.
      Stopped: the same for SIGTERM and SIGHUP.
    """
    from cyclegan_tf.ops import startup

    startup.import_tensorflow()
    from cyclegan_tf.training import fitting

    return fitting.fit(config, workdir, dataset, callbacks)


def load(path: str, direction: str | None = None) -> "LoadedTranslator":
    """Loads a trained model: a run directory, a SavedModel folder, a .pth or .tflite file, or "demo_maps".

    cyclegan_tf.load("runs/horse2zebra").translate("horse.jpg") is a NumPy array; see `cyclegan_tf.inference.loading`. A
    SavedModel is a program: loading one from a stranger runs it.
    """
    from cyclegan_tf.ops import startup

    startup.import_tensorflow()
    from cyclegan_tf.inference import loading

    return loading.load(path, direction)
