"""Plugins: modules that register networks, losses and models when they are imported."""

import contextlib
import importlib
import os
import re
import sys
import traceback

from cyclegan_tf.config.options import split_names
from cyclegan_tf.errors import UserError
from cyclegan_tf.ops import startup


def parse_names(option: str, text: str) -> list[str]:
    """Returns the module names in `text`, the value of `option`.

    Raises:
      UserError: a name is not the name of a module.
    """
    names = split_names(option, text)
    for name in names:
        if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", name):
            raise UserError(f"--{option}={text}: {name!r} is not the name of a module; give names as in import "
                            "statements, separated by commas: my_package.networks,my_losses")
    return names


def import_plugins(plugins: str) -> None:
    """Imports the modules in the value of --plugins; a module that is imported already is not imported again.

    Appends the current folder to sys.path, because Python omits the folder for a script in another folder and for a
    console script.

    Raises:
      UserError: a module is missing, or its import fails.
    """
    names = parse_names("plugins", plugins)
    if names:
        startup.import_tensorflow()  # A plugin would import TensorFlow without the environment that this package needs.
        with contextlib.suppress(FileNotFoundError):  # The current folder has been removed.
            if not {"", os.getcwd()}.intersection(sys.path):
                sys.path.append(os.getcwd())
    for name in names:
        try:
            importlib.import_module(name)
        except UserError as error:
            raise UserError(f"--plugins={plugins}: {name}: {error}") from error
        except ModuleNotFoundError as error:
            missing = error.name or str(error)
            if not f"{name}.".startswith(f"{missing}."):
                raise UserError(f"--plugins={plugins}: {name} imports {missing}, which is not installed") from error
            remedy = "install it, or start in the folder that contains it"
            if missing.endswith(".py"):
                remedy = f"give {missing.removesuffix('.py')}, as in an import statement"
            raise UserError(f"--plugins={plugins}: there is no module {missing} in the current folder or among the "
                            f"installed packages; {remedy}") from error
        except (Exception, SystemExit) as error:
            raise UserError(f"--plugins={plugins}: importing {name} fails: {_describe(error)}") from error


def _describe(error: BaseException) -> str:
    """The type, the message and the place of an error, on one line."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if isinstance(error, SyntaxError):  # The message names the place.
        return text
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{text} ({os.path.basename(place.filename)}, line {place.lineno})"
