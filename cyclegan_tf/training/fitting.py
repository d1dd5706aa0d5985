"""Training from Python: `cyclegan_tf.fit`."""

import contextlib
import dataclasses
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from cyclegan_tf import console
from cyclegan_tf.config import Config, registries
from cyclegan_tf.config import plugins as plugin_modules
from cyclegan_tf.config.run_options import GIVEN_DATASET
from cyclegan_tf.errors import Stopped, UserError
from cyclegan_tf.models import compilation
from cyclegan_tf.runs import directory as run_directory
from cyclegan_tf.training import trainer
from cyclegan_tf.training.outputs import Callback

log = logging.getLogger("cyclegan_tf")

_NO_PLUGINS = {"__main__", "cyclegan_tf", "keras", "tensorflow", "tf_keras", *sys.stdlib_module_names}


@dataclasses.dataclass(frozen=True)
class FitResult:
    """A finished run.

    Attributes:
      workdir: the run directory; `cyclegan_tf.load(result.workdir)` translates with the trained generator.
      measures: the final measures, of the held-out images or, if there are none, of training images; floats by name:
        psnr_ab, cycle_a ...
    """

    workdir: str
    measures: dict[str, float]


def fit(
    config: Config, workdir: str | os.PathLike[str] | None = None, dataset: Any = None,
    callbacks: Sequence[Callback] = (),
) -> FitResult:
    """Trains the run of `config`; `cyclegan_tf.fit` describes the arguments."""
    if not isinstance(callbacks, Sequence) or not all(map(callable, callbacks)):
        raise UserError(f"callbacks={callbacks!r:.80}: expected a list of functions (step, scalars)")
    if dataset is not None:
        config = dataclasses.replace(config, dataset=GIVEN_DATASET)
    config = add_plugins(config)
    workdir = os.fspath(workdir or run_directory.choose_default(config))
    compilation.set_threads(config)
    with _show_log():
        try:
            measures = trainer.train(config, workdir, given=dataset, callbacks=tuple(callbacks))
        except Stopped as stopped:
            if stopped.signum == signal.SIGINT:  # Only an uncaught KeyboardInterrupt, not a subclass, exits by SIGINT.
                raise KeyboardInterrupt(str(stopped)) from stopped
            raise
    return FitResult(workdir, measures)


def add_plugins(config: Config) -> Config:
    """Adds the modules that define and register the networks, model and loss of `config` to its plugins.

    Commands import the plugins. Modules of cyclegan_tf, Keras, TensorFlow and Python's library register nothing by
    themselves. A module __main__ cannot be a plugin; the log warns about it.
    """
    chosen = (
        registries.MODELS[config.model], registries.GENERATORS[config.generator],
        registries.DISCRIMINATORS[config.discriminator], registries.LOSSES[config.gan_mode],
    )
    modules = dict.fromkeys(plugin_modules.parse_names("plugins", config.plugins))
    for entry in chosen:
        if "__main__" in entry.modules:
            log.warning("%s is registered in __main__, so only a process that registers it again can use the run; move "
                        "the registration into a module for the commands", entry.build.__qualname__)
        modules |= dict.fromkeys(name for name in entry.modules if name.split(".")[0] not in _NO_PLUGINS)
    return dataclasses.replace(config, plugins=",".join(modules))


@contextlib.contextmanager
def _show_log() -> Iterator[None]:
    """Shows the log of the package on stderr in the body, unless the process handles log records itself."""
    if log.hasHandlers():
        yield
        return
    # Without a handler of the root logger, libraries that log through it would add one, which prints lines twice.
    handlers = {log: logging.StreamHandler(sys.stderr), logging.getLogger(): logging.NullHandler()}
    handlers[log].setFormatter(console.Formatter())
    level = log.level
    log.setLevel(logging.INFO)
    for logger, handler in handlers.items():
        logger.addHandler(handler)
    try:
        yield
    finally:
        log.setLevel(level)
        for logger, handler in handlers.items():
            logger.removeHandler(handler)
