"""The interface of a command."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Command"]


@dataclass(frozen=True)
class Command:
    """A command of ``ccma-fast``, which its module holds as ``COMMAND``.

    Attributes
    ----------
    summary : str
        Its line in ``ccma-fast --help``.
    description, epilog : str
        What its own ``--help`` prints before and after the arguments.
    add_arguments : callable
        Adds its arguments to its parser.
    run : callable
        Runs it with the parsed arguments, and the words of the command line as ``words``; imports what only it needs,
        so that other commands start fast.
    prints_tables : bool
        Whether stdout is for people to read, so that a character which its encoding lacks may become a ``?``.
    results_only_on_stdout : callable
        Whether a closed stdout would lose the results of a call with these arguments.
    runs_on_ranks : bool
        Whether the processes that ``torchrun`` starts work on it together. Others would each do the same.
    """

    summary: str
    description: str
    epilog: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]
    prints_tables: bool = False
    results_only_on_stdout: Callable[[argparse.Namespace], bool] = lambda _: False
    runs_on_ranks: bool = False
