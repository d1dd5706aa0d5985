"""The parts that all commands share: help, one-line errors, exit statuses, entry points."""

import contextlib
import difflib
import errno
import functools
import logging
import os
import re
import runpy
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, NamedTuple, NoReturn

from absl import app, flags

from cyclegan_tf import console
from cyclegan_tf.errors import FULL_DISK, UserError

log = logging.getLogger("cyclegan_tf")

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

# --help shows a flag of `define_path` among the flags of the module that calls `define_path`.
flags.disclaim_key_flags()


def run(
    main: Callable[[list[str]], int | None], operands: bool = False,
    define_flags: Callable[[Sequence[str]], None] | None = None, common: Sequence[str] = (),
    groups: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Parses the flags, runs `main(argv)`, and exits the process with the status that `main` returns (None: 0).

    A wrong flag, a UserError, a file that cannot be read or written and exhausted memory become one line on stderr and
    exit status 2. Ctrl-C becomes exit status 130 and SIGTERM 143; both remove unfinished files. A closed stdout or
    stderr, or one that nobody reads, does not stop the command.

    Args:
      main: gets the command's name and its arguments that are not flags.
      operands: if False, arguments that are not flags are a UserError.
      define_flags: gets the arguments of the command, and defines the flags that depend on them.
      common: names of the flags that --help shows, in this order; default: all flags that are in no group.
      groups: for --helpfull, names of flags by the title of their group.
    """
    console.guard_streams()

    def run_guarded(argv: list[str]) -> int | None:
        console.log_to_stderr()
        try:
            if len(argv) > 1 and not operands:
                raise UserError(f"unexpected arguments: {' '.join(argv[1:])}; options start with -- (see --help)")
            with _exit_on_sigterm():
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

    app.define_help_flags()
    show_short, show_full = (functools.partial(_print_help, names, groups or {}) for names in (common, None))
    for flag in (
        _PrintFlag("help", "show the most important options", show_short, short_name="?"),
        _PrintFlag("h", "show the most important options", show_short),
        _PrintFlag("helpshort", "show the most important options", show_short),
        _PrintFlag("helpfull", "show all options", show_full),
        _PrintFlag("version", "show the version", print_version),
    ):
        flags.DEFINE_flag(flag, module_name=__name__)
    app.run(run_guarded, flags_parser=functools.partial(_parse_flags, define_flags))


@contextlib.contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """Makes SIGTERM raise SystemExit in the body, so that the body can remove its unfinished files."""
    previous = signal.getsignal(signal.SIGTERM)
    if previous is not signal.SIG_DFL:  # For example, a process under nohup may ignore the signal.
        yield
        return

    def exit_once(signum: int, frame: FrameType | None) -> None:
        signal.signal(signum, signal.SIG_IGN)  # A second signal must not interrupt the cleanup.
        sys.exit(128 + signum)

    signal.signal(signal.SIGTERM, exit_once)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


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
    is_full = isinstance(error, OSError) and error.errno in FULL_DISK
    remedy = "; free some space, then start again" if is_full else ""
    if isinstance(error, OSError) and isinstance(error.filename, str | bytes):
        path = os.fsdecode(error.filename2 or error.filename)
        return f"cannot read or write {path}: {error.strerror}{remedy}"
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:  # An error of an open file names no file.
        return f"cannot read or write a file: {error.strerror}{remedy}"
    if _is_out_of_memory(error):
        return "out of memory: close other programs, or use smaller images or batches"
    return None


def _is_out_of_memory(error: Exception) -> bool:
    if "tensorflow" not in sys.modules:
        return isinstance(error, MemoryError)
    from cyclegan_tf.ops import exhaustion

    return exhaustion.is_exhausted(error)


class _PrintFlag(flags.BooleanFlag):
    """A flag that prints something and exits; replaces a flag of the same name."""

    def __init__(self, name: str, text: str, show: Callable[[], None], short_name: str | None = None) -> None:
        super().__init__(name, False, text, short_name, allow_override=True)
        self._show = show

    def parse(self, argument: Any) -> None:
        del argument
        self._show()
        sys.exit(0)


def _print_help(common: Sequence[str] | None, groups: Mapping[str, Sequence[str]]) -> None:
    """Prints the docstring of the command and its flags.

    Args:
      common: names of the flags to print; if empty, all flags that are in no group; None: all flags, in groups.
      groups: names of flags by the title of their group.
    """
    own = [name for name in flags.FLAGS if _is_own(name)]
    others = [name for name in own if not any(name in names for names in groups.values())]
    shown = {"Options": others, **groups} if common is None else {"Options": common or others}
    print((sys.modules["__main__"].__doc__ or "").strip())
    for title, names in shown.items():
        print(f"\n{title}:")
        for name in names:
            print(_format_flag(flags.FLAGS[name]))
    print("\n--flagfile=FILE reads options from a file, one per line.")
    if hidden := len(own) - sum(map(len, shown.values())):
        print(f"--helpfull shows {hidden} more options.")


def list_given() -> list[str]:
    """The names of the command's flags that the command line or a flagfile sets."""
    return [name for name in flags.FLAGS if _is_own(name) and flags.FLAGS[name].present]


def require_given(*names: str, remedy: str = "see --help") -> None:
    """Raises a UserError if one of the flags `names` has no value; the message ends in `remedy`."""
    for name in names:
        if not flags.FLAGS[name].value:
            raise UserError(f"--{name} is missing; {remedy}")


def refuse_given(names: Iterable[str], reason: str) -> None:
    """Raises a UserError if the command line or a flagfile sets one of the flags `names`.

    Args:
      reason: continues the message after the name of the flag, such as "works only with --from_pytorch".
    """
    for name in names:
        if flags.FLAGS[name].present:
            raise UserError(f"--{name} {reason}; leave --{name} out")


class Subcommand(NamedTuple):
    """A subcommand of a command, such as `cyclegan datasets list`.

    Attributes:
      operands: names of the operands.
      options: names of the options that the subcommand reads.
      required: names of the options that must have a value.
    """

    operands: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    required: tuple[str, ...] = ()


def choose_subcommand(arguments: Sequence[str], subcommands: Mapping[str, Subcommand]) -> tuple[str, Sequence[str]]:
    """Returns the name of the subcommand that the first argument names, and its operands: the other arguments.

    Raises:
      UserError: there is no such subcommand, operands are missing or too many, an option is given that the subcommand
        does not read, or a required option has no value.
    """
    if not arguments:
        raise UserError(f"no command; expected one of {', '.join(subcommands)} (see --help)")
    name, *operands = arguments
    if name not in subcommands:
        raise UserError(f"unknown command {name}; {suggest(name, tuple(subcommands))}")
    subcommand = subcommands[name]
    if len(operands) != len(subcommand.operands):
        raise UserError(f"usage: {' '.join((name, *subcommand.operands))}; options start with -- (see --help)")
    unread = (option for option in list_given() if option not in subcommand.options)
    refuse_given(unread, f"is not an option of {name}")
    required = subcommand.required
    require_given(*required, remedy=f"{name} needs {', '.join(f'--{each}' for each in required)}")
    return name, operands


def _is_own(name: str) -> bool:
    """True for a flag of a command, False for a flag of absl and for a flag that prints something."""
    module = flags.FLAGS.find_module_defining_flag(name) or ""
    return module != __name__ and not module.startswith("absl.")


def _format_flag(flag: flags.Flag) -> str:
    default = (flag.default_as_str or "").strip("'")
    notes = [f"default: {default}"] if default else []
    if flag.parser.syntactic_help not in ("", "an integer", "a number"):
        notes.append(flag.parser.syntactic_help)
    text = f"--{'[no]' if flag.boolean else ''}{flag.name}: {flag.help}"
    return flags.text_wrap(f"{text} ({'; '.join(notes)})" if notes else text, indent=" " * 6, firstline_indent="  ")


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
    except flags.CantOpenFlagFileError as error:
        cause = error.__context__
        assert isinstance(cause, OSError)  # absl raises this error only while it handles an OSError.
        _exit_with_error(f"--flagfile={cause.filename} cannot be read: {cause.strerror}; give a file with one option in"
                         " each line")
    except (flags.Error, ValueError) as error:  # absl raises a ValueError for --noflip=1.
        message = " ".join(str(error).removeprefix("ERROR:: ").split())
        _exit_with_error(_explain_value(message) or f"{message}; see --help")


def _explain_value(message: str) -> str | None:
    """Rewords absl's message about a value that a flag does not take; None for other messages."""
    kinds = r"invalid literal|could not convert|\('Non-boolean|value should be one of <(.*)>$"
    match = re.match(rf"flag --(\w+)=(.*?): ({kinds})", message)
    if not match:
        return None
    name, value, _, choices = match.groups()
    syntax = flags.FLAGS[name].parser.syntactic_help or "true or false"
    expected = suggest(value, choices.split("|")) if choices else f"expected {syntax}"
    return f"--{name}={value}: {expected}"


def suggest(name: str, names: Sequence[str]) -> str:
    """A hint for a wrong name: the names that are similar to it, else all names."""
    similar = difflib.get_close_matches(name, names, cutoff=0.7)
    return f"did you mean {' or '.join(similar)}?" if similar else f"expected one of {', '.join(names)}"


def _exit_with_error(message: str) -> NoReturn:
    print(f"error: {console.escape(message)}", file=sys.stderr)
    sys.exit(2)


def run_module(module: str) -> None:
    """Runs a module like `python -m`.

    absl takes the text and the flags of --help from the module __main__.
    """
    runpy.run_module(module, run_name="__main__", alter_sys=True)


# The entry points of the console scripts cyclegan-train, cyclegan-translate ...
train = functools.partial(run_module, "cyclegan_tf.train")
translate = functools.partial(run_module, "cyclegan_tf.translate")
evaluate = functools.partial(run_module, "cyclegan_tf.evaluate")
export = functools.partial(run_module, "cyclegan_tf.export")
convert = functools.partial(run_module, "cyclegan_tf.convert")
datasets = functools.partial(run_module, "cyclegan_tf.datasets")
launch = functools.partial(run_module, "cyclegan_tf.launch")
gallery = functools.partial(run_module, "cyclegan_tf.gallery")
