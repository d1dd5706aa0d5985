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

__version__ = "0.2.0.dev0"

__all__ = [
    "AdversarialLoss", "Config", "Stopped", "UserError", "fit", "load", "register_discriminator", "register_generator",
    "register_loss", "register_model",
]


def fit(
    config: Config, workdir: "str | os.PathLike[str] | None" = None,
    dataset: "tuple[Images, Images] | tf.data.Dataset | None" = None,
    callbacks: Sequence[Callable[[int, Mapping[str, float]], None]] = (),
) -> "FitResult":
    """Trains a run to its end, as `cyclegan train` does; resumes the run if `workdir` holds an unfinished one.

    `fit(Config(dataset="photos"), workdir="runs/photos").measures` has the final measures. One process can train
    several runs. Import TensorFlow only after the first call, or inside functions: TensorFlow reads environment
    variables when it is imported and fixes its number of threads at its first operation, and results with another
    number of threads are rounded differently.

    Args:
      config: the options. config.json also records the modules that registered the model and its networks, as
        `plugins`.
      workdir: run directory; default: "runs/" and the name of the data set, or runs/given_to_fit with a `dataset`.
      dataset: training images in place of `config.dataset`. Either a pair (images of A, images of B), each an array
        (N, H, W, C) or a sequence of arrays (H, W, C), uint8 or floats in [-1, 1]; in a domain of one channel, images
        may also be (H, W), unless W is 1. Or a `tf.data.Dataset` of pairs (A, B) of single images, which `fit` repeats
        as often as necessary. `fit` resizes, crops and flips the images as `config` says; with preprocess="crop" and
        flip=False, images of `crop_size` stay as they are. The run directory does not hold these images: to resume,
        pass the same images again. In a `tf.data.Dataset`, a resumed run skips the elements that it has seen; the run
        is exact only if the data set yields the same images in the same order. Create the data set anew before each
        call of `fit`, with a fixed seed for `shuffle` and random maps, because each pass over the same
        `tf.data.Dataset` shuffles differently.
      callbacks: functions `callback(step, scalars)`, called every `config.log_every` steps with the losses, scores,
        gradient norms and the learning rate, and after each evaluation and at the end with the measures; `scalars` maps
        names to floats. An exception in a callback ends the run, which can resume from its newest checkpoint. If there
        are several workers, only the chief calls the callbacks, which must return within `config.worker_timeout`,
        because the others wait.

    Returns:
      A `FitResult` with the run directory, `workdir`, and the final `measures` of the held-out images, or of the
      training images of a domain without held-out images: floats by name.

    Raises:
      UserError: the options or the data are wrong; the message is the same as the command's. An OSError in a callback
        also becomes a UserError, with the OSError as its cause.
      KeyboardInterrupt: Ctrl-C, or "interrupt" in a notebook. `fit` finishes the step and saves the run first; the same
        call resumes it. A second Ctrl-C raises at once, without saving.
      Stopped: SIGTERM or SIGHUP; `fit` finishes the step and saves the run first.
    """
    from cyclegan_tf.ops import startup

    startup.import_tensorflow()
    from cyclegan_tf.training import fitting

    return fitting.fit(config, workdir, dataset, callbacks)


def load(path: "str | os.PathLike[str]", direction: str | None = None) -> "LoadedTranslator":
    """Loads a trained generator from a run directory, a SavedModel folder, a .pth file or a .tflite file.

    `cyclegan_tf.load("runs/horse2zebra").translate("horse.jpg")` returns a NumPy array. A SavedModel is a program:
    loading a SavedModel from a stranger runs it.

    Args:
      path: path of the run, folder or file, or one of a run's checkpoint files; or "demo" or "demo_maps", trained runs
        in the package.
      direction: "a2b" or "b2a", for a run; default: "a2b", or the run's only direction. Each of the other kinds holds
        only one direction.

    Returns:
      An `inference.loading.LoadedTranslator`; its method `translate` takes an image file or an array and returns an
      array, and `translate_files` translates files and folders to files.

    Raises:
      UserError: `path` does not exist, is damaged, or is of another kind.
    """
    from cyclegan_tf.ops import startup

    startup.import_tensorflow()
    from cyclegan_tf.inference import loading

    return loading.load(path, direction)
