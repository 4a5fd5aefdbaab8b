"""The help of a command, wrapped at the width of the terminal."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Iterator

__all__ = ["HelpFormatter"]

# A term, and behind two spaces or more what is said of it.
_TERM = re.compile(r"(\s+\S(?:.*?\S)?)(\s{2,})(\S.*)")

# Stands for a space at which a line is not broken.
_GLUE = "\N{NO-BREAK SPACE}"

_COMMAND = re.compile(r"\s+ccma-fast ")

# Of the width, the most that an indent may take.
_MOST_INDENT = 0.5


class HelpFormatter(argparse.HelpFormatter):
    """Wraps what stands before and behind the options: paragraphs, lists of terms, and commands.

    Lines that begin with a space are on their own. A term is followed by two spaces or more, and what is said of it
    goes on below. A command begins with ``ccma-fast`` and goes on behind a backslash.
    """

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):  # whose names argparse indents, and forgets to count that
            self._action_max_length += self._indent_increment

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(f"{indent}{line}" for line in _wrapped(text, max(width - len(indent), 11)))


def _wrapped(text: str, width: int) -> Iterator[str]:
    for block in _blocks(text.rstrip().split("\n")):
        first = block[0]
        begin = first[: len(first) - len(first.lstrip())]
        term = _TERM.fullmatch(first)
        if term:
            yield from _listed(term, block[1:], width)
        elif _COMMAND.match(first):
            command = " ".join(line.rstrip("\\").strip() for line in block)
            command = re.sub(" (?!-)", _GLUE, command)  # lines begin with options, which keep their values
            *lines, last = _filled(command.lstrip(), width - 2, begin, f"{begin}    ")
            yield from (f"{line} \\".replace(_GLUE, " ") for line in lines)
            yield last.replace(_GLUE, " ")
        else:
            yield from _filled(" ".join(map(str.strip, block)), width, begin, begin)


def _listed(term: re.Match[str], others: list[str], width: int) -> Iterator[str]:
    """A term, and what is said of it."""
    begin, said = term[1] + term[2], " ".join([term[3], *map(str.strip, others)])
    if len(begin) > _MOST_INDENT * width:  # the term has lines of its own
        yield from _wrapped(term[1], width)
        begin = " " * (len(term[1]) - len(term[1].lstrip()) + 4)
    yield from _filled(said, width, begin, " " * len(begin))


def _filled(text: str, width: int, begin: str, indent: str) -> list[str]:
    if len(indent) > _MOST_INDENT * width:
        begin = indent = "    "
    return textwrap.wrap(
        text,
        width,
        initial_indent=begin,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    ) or [""]


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    """Lines that are wrapped together."""
    block: list[str] = []
    for line in lines:
        if block and not _belongs(line, block):
            yield block
            block = []
        block.append(line)
    yield block


def _belongs(line: str, block: list[str]) -> bool:
    """Whether a line goes on with a block."""
    first, last = block[0], block[-1]
    if not line.strip() or not first.strip():
        return False
    term = _TERM.fullmatch(first)
    if term:
        column = len(term[1] + term[2])
        return not line[:column].strip() and not line[column : column + 1].isspace()
    if first.startswith(" "):
        return last.endswith("\\")
    return not line.startswith(" ") and not last.endswith(":")  # as a heading does
