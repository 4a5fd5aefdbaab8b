"""The standard streams of a program, which its caller may have closed, and progress bars."""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import suppress
from typing import Any

__all__ = ["discard_stdout", "open_closed_streams", "progress_bar", "tell"]


def open_closed_streams() -> set[int]:
    """Open the standard descriptors that are closed on the null device, and give Python the streams that it lacks.

    Else the next file that is opened gets their number, and whatever is printed goes into it; and Python prints to
    stdout what was to go to a stderr that it does not have.

    Returns
    -------
    set of int
        Those of 0, 1 and 2 that were closed when the program began.
    """
    # The lowest free number is given: once it is above them, all three are taken.
    while (opened := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(opened, True)
    os.close(opened)
    closed = set()
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            closed.add(descriptor)
            # Not by the descriptor: something may have been opened under its number before.
            stream = open(os.devnull, "w" if descriptor else "r", encoding="utf-8")  # noqa: SIM115 - it stays open
            setattr(sys, name, stream)
    return closed


def discard_stdout() -> None:
    """Forget what could not be written to stdout; the interpreter would try again, and complain, at its end."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def tell(text: str) -> None:
    """Print to stderr, where that can be written to."""
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def progress_bar(total: int, done: int, unit: str, *, is_shown: bool, delay: float = 0.0) -> Any:
    """A ``tqdm`` bar, shown after `delay` seconds: a widget in a notebook, else text on stderr.

    A program without a console has no stderr, and sees none.
    """
    from tqdm import TqdmWarning, tqdm  # type: ignore[import-untyped]

    hidden = not is_shown or sys.stderr is None
    if not hidden:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TqdmWarning)  # a notebook without ipywidgets has text
            from tqdm.auto import tqdm  # type: ignore[import-untyped]
    return tqdm(total=total, initial=done, unit=unit, disable=hidden, file=sys.stderr, delay=delay)
