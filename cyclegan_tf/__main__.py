"""The command `cyclegan`, also `python -m cyclegan_tf`: trains, translates, measures, exports.

  cyclegan train --preset=demo
  cyclegan translate --model=runs/demo --input=photos --output=oranges
  cyclegan train --help
"""

import ast
import sys
from collections.abc import Sequence
from importlib import resources

from cyclegan_tf import cli, console

COMMANDS = ("train", "translate", "evaluate", "export", "convert", "datasets", "launch", "gallery")


def main(arguments: Sequence[str]) -> int:
    """Runs the command that the first argument names, or prints all commands or the version; returns the exit status.

    A command is the module of its name: `cyclegan train ...` is `python -m cyclegan_tf.train ...`.
    """
    name = arguments[0] if arguments else "--help"
    if name in COMMANDS:
        sys.argv = [f"cyclegan {name}", *arguments[1:]]
        cli.run_module(f"cyclegan_tf.{name}")
    elif name == "--version":
        cli.print_version()
    elif name in ("-h", "-?", "--help", "--helpshort", "--helpfull"):
        _print_commands()
    else:
        print(console.escape(f"error: {_describe_mistake(name)}"), file=sys.stderr)
        return 2
    return 0


def run() -> None:
    """The entry point of the console script."""
    console.guard_streams()
    sys.exit(main(sys.argv[1:]))


def _print_commands() -> None:
    print((__doc__ or "").strip())
    print("\nCommands, each with --help:")
    for name in COMMANDS:
        print(f"  {name:10} {_summarize(name)}")
    print("\n--version shows the version. Exit status: 0; 1 if translate or datasets skipped files; 2 for a mistake\n"
          "in the options or the data; 75 if another worker was lost; 128 + the number of the signal that ended the\n"
          "command, 130 for Ctrl-C.")


def _summarize(name: str) -> str:
    # Without importing the module, which would define flags.
    text = resources.files("cyclegan_tf").joinpath(f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").splitlines()[0]


def _describe_mistake(name: str) -> str:
    if name.startswith("-"):
        return f"{name} before the command; give the command first, as in cyclegan {COMMANDS[0]} {name}"
    return f"unknown command {name}; {cli.suggest(name, COMMANDS)}"


if __name__ == "__main__":
    run()
