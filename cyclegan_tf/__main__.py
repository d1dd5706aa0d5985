"""Lists the commands of cyclegan_tf, each of which is a module of its own.

  python -m cyclegan_tf.train --flagfile=experiments/demo_maps.flags
  python -m cyclegan_tf.translate --help
"""

import ast
import sys
from importlib import resources

from cyclegan_tf import cli, console

COMMANDS = ("train", "translate", "evaluate", "export", "convert", "datasets", "launch", "gallery")


def main(arguments: list[str]) -> int:
    """Prints the commands, each with the first line of its help, or the version; returns the exit status."""
    if arguments == ["--version"]:
        cli.print_version()
        return 0
    if arguments not in ([], ["-h"], ["--help"]):
        example = arguments[0] if arguments[0] in COMMANDS else COMMANDS[0]
        print(console.escape(f"error: unexpected arguments: {' '.join(arguments)}; give the command with a dot, as in "
                             f"python -m cyclegan_tf.{example}"), file=sys.stderr)
        return 2
    print("Commands, each with --help:")
    for name in COMMANDS:
        print(f"  python -m cyclegan_tf.{name:10} {_summarize(name)}")
    return 0


def _summarize(name: str) -> str:
    # Without importing the module, which would define flags.
    text = resources.files("cyclegan_tf").joinpath(f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").splitlines()[0]


if __name__ == "__main__":
    console.guard_streams()
    sys.exit(main(sys.argv[1:]))
