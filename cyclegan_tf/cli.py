"""Shared by all commands: help, one-line errors, exit statuses, entry points."""

import functools
import logging
import os
import runpy
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from absl import app, flags

from cyclegan_tf import console
from cyclegan_tf.errors import UserError

log = logging.getLogger("cyclegan_tf")

# --help shows a flag of `define_path` among the flags of the module that calls `define_path`.
flags.disclaim_key_flags()


def run(
    main: Callable[[list[str]], int | None], operands: bool = False,
    define_flags: Callable[[Sequence[str]], None] | None = None,
) -> None:
    """Parses the flags, runs `main(argv)`, and exits the process with the status that `main` returns (None: 0).

    A wrong flag, a UserError, a file that cannot be read or written and exhausted memory become one line on stderr and
    exit status 2, Ctrl-C becomes exit status 130. A closed stdout or stderr, or one that nobody reads, does not stop
    the command.

    Args:
      main: gets the command's name and its arguments that are not flags.
      operands: if False, arguments that are not flags are a UserError.
      define_flags: gets the arguments of the command, and defines the flags that depend on them.
    """
    console.guard_streams()

    def run_guarded(argv: list[str]) -> int | None:
        console.log_to_stderr()
        try:
            if len(argv) > 1 and not operands:
                raise UserError(f"unexpected arguments: {' '.join(argv[1:])}; options start with -- (see --help)")
            status = main(argv)
            if not status:
                console.require_complete_stdout()
            return status
        except KeyboardInterrupt:
            log.warning("interrupted")
            return 130
        except Exception as error:
            message = _explain(error)
            if message is None:
                raise
            log.error("%s", message)
            return 2

    for flag in (_HelpFlag(), _VersionFlag()):
        if flag.name not in flags.FLAGS:
            flags.DEFINE_flag(flag, module_name=__name__)
    app.run(run_guarded, flags_parser=functools.partial(_parse_flags, define_flags))


def define_path(name: str, default: str | None, text: str, flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines a flag whose value is a path.

    A ~ at the start of the path becomes the home folder, because shells do not expand --name=~/folder.
    """
    flags.DEFINE(_PathParser(), name, default, text, flag_values, flags.ArgumentSerializer())


def define_paths(name: str, default: list[str] | None, text: str) -> None:
    """Defines a flag whose value is a list of paths, separated by commas."""
    flags.DEFINE(_PathListParser(), name, default, text, flags.FLAGS, flags.CsvListSerializer(","))


class _PathParser(flags.ArgumentParser):
    def parse(self, argument: str) -> str:
        return os.path.expanduser(argument)


class _PathListParser(flags.ListParser):
    def parse(self, argument: str | list[str]) -> list[str]:
        return [os.path.expanduser(path) for path in super().parse(argument)]


def _explain(error: Exception) -> str | None:
    """The message for an error that the user can correct; None for an error that needs a traceback."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and isinstance(error.filename, str | bytes):
        # A new file is written under a temporary name and renamed.
        path = os.fsdecode(error.filename2 or error.filename).removesuffix(".tmp")
        return f"cannot read or write {path}: {error.strerror}"
    if _is_out_of_memory(error):
        return "the memory is exhausted: close other programs, or use smaller images or batches"
    return None


def _is_out_of_memory(error: Exception) -> bool:
    if "tensorflow" not in sys.modules:
        return isinstance(error, MemoryError)
    from cyclegan_tf.ops import exhaustion

    return exhaustion.is_exhausted(error)


class _HelpFlag(app.HelpFlag):
    NAME, SHORT_NAME = "h", None


class _VersionFlag(flags.BooleanFlag):
    """Prints the version of the package and exits."""

    def __init__(self) -> None:
        super().__init__("version", False, "show the version")

    def parse(self, argument: Any) -> None:
        del argument
        print_version()
        sys.exit(0)


def print_version() -> None:
    """Prints the name and the version of the package."""
    print(f"cyclegan_tf {sys.modules['cyclegan_tf'].__version__}")


def _parse_flags(define_flags: Callable[[Sequence[str]], None] | None, argv: Sequence[str]) -> list[str]:
    """Sets the flags from the command line and returns the other arguments, as `app.parse_flags_with_usage` does.

    Exits with status 0 after --help (absl: 1), and with status 2 and one line after a wrong flag (absl: 1, two lines).
    """
    try:
        if define_flags:
            define_flags(argv[1:])
        try:
            return flags.FLAGS(argv)
        except SystemExit:  # Raised by --help, -h, --helpfull, --version ... after their output.
            sys.exit(0)
    except flags.UnrecognizedFlagError as error:
        # absl's message ends in ". Did you mean: NAME, NAME ?" if some flag has a similar name.
        similar = str(error).partition("Did you mean: ")[2].removesuffix(" ?").split(", ")
        hint = f"did you mean {' or '.join(f'--{name}' for name in similar)}?" if similar[0] else "see --help"
        _exit_with_error(f"unknown option --{error.flagname}; {hint}")
    except UserError as error:
        _exit_with_error(str(error))
    except UnicodeDecodeError as error:
        _exit_with_error(f"the file of --flagfile is not text in UTF-8 ({error.reason}); see --help")
    except (flags.Error, ValueError) as error:  # absl raises a ValueError for --noflip=1.
        _exit_with_error(f"{' '.join(str(error).removeprefix('ERROR:: ').split())}; see --help")


def _exit_with_error(message: str) -> NoReturn:
    print(f"error: {console.escape(message)}", file=sys.stderr)
    sys.exit(2)


def _run_as_main(module: str) -> None:
    # Like `python -m`: absl takes the text and the flags of --help from the module __main__, and plugins may be in the
    # current folder.
    sys.path.append(os.getcwd())
    runpy.run_module(module, run_name="__main__", alter_sys=True)


# The entry points of the console scripts cyclegan-train, cyclegan-translate ...
train = functools.partial(_run_as_main, "cyclegan_tf.train")
translate = functools.partial(_run_as_main, "cyclegan_tf.translate")
evaluate = functools.partial(_run_as_main, "cyclegan_tf.evaluate")
export = functools.partial(_run_as_main, "cyclegan_tf.export")
convert = functools.partial(_run_as_main, "cyclegan_tf.convert")
datasets = functools.partial(_run_as_main, "cyclegan_tf.datasets")
launch = functools.partial(_run_as_main, "cyclegan_tf.launch")
gallery = functools.partial(_run_as_main, "cyclegan_tf.gallery")
