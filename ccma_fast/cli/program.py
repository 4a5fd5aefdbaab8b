"""The program ``ccma-fast``: its commands, its standard streams and its exit codes.

A command is a module of this package that holds a :class:`Command` as ``COMMAND``, and a line in :data:`COMMANDS`.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from ..errors import RankError
from ..system.streams import discard_stdout, open_closed_streams, tell
from ..version import __version__
from .command import Command
from .help_formatter import HelpFormatter
from .ranks import check_runs_alone, is_told_here

__all__ = ["COMMANDS", "main", "whole_parser"]

COMMANDS = (
    "demo",
    "extract",
    "select",
    "campaign",
    "label",
    "predict",
    "autolabel",
    "simulate",
    "report",
    "completion",
)
"""Modules of this package, in the order of the help."""

# Exit codes, which `main` decides on; those above 128 are what shells report for SIGINT and SIGPIPE.
SUCCESS, ERROR, INTERRUPTED, BROKEN_PIPE = 0, 2, 130, 141

_DESCRIPTION = "Choose which images to label, by Conformal Cross-Modal Acquisition (arXiv 2603.23159)."

_EPILOG = """\
examples:
  ccma-fast demo                                    the whole loop on real images, nothing to download
  ccma-fast extract photos --out pool               embeddings of the images in a folder, by DINOv2
  ccma-fast select --features x.npy --budget 100    100 rows of x.npy that cover it
  ccma-fast select --help                           with labels and a vision-language teacher
  ccma-fast campaign --help                         labels from people, over days
  ccma-fast predict --help                          the class of every row, by what the labels teach
  ccma-fast autolabel --help                        labels for the rest, with an error that an audit bounds
  ccma-fast simulate --help                         strategies compared where all labels are known
  ccma-fast completion --help                       how a shell completes commands and options
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``ccma-fast``. An output file is written whole or not at all.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the program's name; those of the process by default.

    Returns
    -------
    int
        The exit code: 0, 2 (bad input, or a stdout that cannot take the results; one line on stderr says which), 130
        (Ctrl-C) or 141 (the reader of stdout has gone).
    """
    closed = open_closed_streams()
    program = "ccma-fast"
    try:
        try:
            words = sys.argv[1:] if argv is None else list(argv)
            arguments = whole_parser().parse_args(words)
        except SystemExit as stop:  # argparse has printed the help or the error
            code = stop.code if isinstance(stop.code, int) else SUCCESS
        else:
            program = f"ccma-fast {arguments.command}"
            arguments.words = ["ccma-fast", *words]
            command = _load(arguments.command)
            if not command.runs_on_ranks:
                check_runs_alone(arguments.command)
            _run(command, arguments, stdout_is_closed=1 in closed)
            code = SUCCESS
    except KeyboardInterrupt:
        code = _fail(program, "interrupted", INTERRUPTED)
    except BrokenPipeError:
        code = BROKEN_PIPE
    except RankError as error:
        code = _fail(program, f"error: {error}", ERROR) if is_told_here(error) else ERROR
    except (ValueError, TypeError, OSError, ImportError) as error:
        code = _fail(program, f"error: {error}", ERROR)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = BROKEN_PIPE
    except OSError as error:  # no space left, say; not repeated where it was the error above
        code = code or _fail(program, f"error: cannot write to stdout: {error}", ERROR)
    else:
        return code
    discard_stdout()
    return code


def _load(name: str) -> Command:
    command: Command = import_module(f".{name}", __package__).COMMAND
    return command


def _run(command: Command, arguments: argparse.Namespace, *, stdout_is_closed: bool) -> None:
    if stdout_is_closed and command.results_only_on_stdout(arguments):
        raise OSError("stdout is closed, and the results would be lost; expected --out, or an open stdout")
    if command.prints_tables and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an encoding without ± is no reason to lose a table
    command.run(arguments)


def _fail(program: str, message: str, code: int) -> int:
    """Print one line to stderr, and return the exit code."""
    tell(f"{program}: {' '.join(message.split())}")
    return code


class _StoreOnce(argparse.Action):
    """Stores a value; a second one is an error."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        given = namespace.__dict__.setdefault("_given", set())
        if self.dest in given:
            raise argparse.ArgumentError(self, "must be given once")
        given.add(self.dest)
        setattr(namespace, self.dest, values)


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=HelpFormatter, **kwargs)
        for action in (None, "store"):
            self.register("action", action, _StoreOnce)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        # Here and not in the outer parser's parse_args, so that the error names the command.
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown

    def error(self, message: str) -> NoReturn:
        self.exit(ERROR, f"{self.prog}: error: {' '.join(message.split())} (see {self.prog} --help)\n")


def whole_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(prog="ccma-fast", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=f"ccma-fast {__version__}")
    of_commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        command = _load(name)
        command.add_arguments(
            of_commands.add_parser(name, help=command.summary, description=command.description, epilog=command.epilog)
        )
    return parser
