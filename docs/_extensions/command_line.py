"""Pages of the command line, made from the parsers: one for each command and each action of a campaign."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from files import write_pages
from sphinx.application import Sphinx

from ccma_fast.cli.program import whole_parser

_FOLDER = "reference/commands"


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and, below it, those of its commands and their actions."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _parsers(below)


def _page(parser: argparse.ArgumentParser) -> str:
    commands = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    title = parser.prog if len(parser.prog.split()) > 1 else "Command line"
    lines = [title, "=" * len(title), "", f".. program:: {parser.prog}", ""]
    lines += _text(parser.description)
    lines += ["Usage", "-----", "", *_literal(_usage(parser), "text")]
    for action in commands:
        lines += [(action.container.title or "commands").capitalize(), "-" * 40, "", ".. list-table::", ""]
        for choice in action._choices_actions:
            page = _name(action.choices[choice.dest])
            lines += [f"   * - :doc:`{choice.dest} <{page}>`", f"     - {_inline(choice.help or '')}"]
        lines += ["", ".. toctree::", "   :hidden:", ""]
        lines += [f"   {below.prog} <{_name(below)}>" for below in action.choices.values()] + [""]
    for group in parser._action_groups:
        hidden = (argparse._SubParsersAction, argparse._HelpAction)
        shown = [a for a in group._group_actions if not isinstance(a, hidden) and a.help != argparse.SUPPRESS]
        if shown:
            lines += [(group.title or "options").capitalize(), "-" * 40, "", *_text(group.description)]
        for action in shown:
            lines += [f".. option:: {_invocation(action)}", "", *(f"   {line}" for line in _help(parser, action)), ""]
    return "\n".join([*lines, *_text(parser.epilog)]) + "\n"


def _name(parser: argparse.ArgumentParser) -> str:
    return "-".join(parser.prog.split()[1:]) or "index"


def _usage(parser: argparse.ArgumentParser) -> str:
    """The usage, its further lines only a little indented."""
    head, *rest = parser.format_usage().removeprefix("usage: ").splitlines()
    return "\n".join([head, *(f"    {line.strip()}" for line in rest)])


def _invocation(action: argparse.Action) -> str:
    """How an argument is written: names of an option and its value, or the name of a positional argument."""
    formatter = argparse.HelpFormatter("")
    if not action.option_strings:
        return str(action.metavar or action.dest)
    if action.nargs == 0:
        return ", ".join(action.option_strings)
    value = formatter._format_args(action, formatter._get_default_metavar_for_optional(action))
    return ", ".join(f"{option} {value}" for option in action.option_strings)


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> list[str]:
    formatter = argparse.HelpFormatter(parser.prog)
    text = formatter._expand_help(action) if action.help else ""
    return [_inline(" ".join(text.split()))]


def _text(text: str | None) -> list[str]:
    """Paragraphs of a help text; those that are laid out by hand stay as they are."""
    lines = []
    for paragraph in re.split(r"\n\s*\n", (text or "").strip("\n")):
        head, _, rest = paragraph.partition("\n")
        laid_out = [bool(re.match(r"\s|.*\S {2,}\S", line)) for line in paragraph.splitlines()]
        if head.endswith(":") and rest and all(laid_out[1:]):
            lines += [_inline(head), "", *_literal(rest, "sh" if "ccma-fast" in rest else "text")]
        elif any(laid_out):
            lines += _literal(paragraph, "text")
        else:
            lines += [_inline(" ".join(paragraph.split())), ""]
    return lines


def _literal(text: str, language: str) -> list[str]:
    indents = [len(line) - len(line.lstrip()) for line in text.splitlines() if line.strip()]
    return [
        f".. code-block:: {language}",
        "",
        *(f"   {line[min(indents, default=0) :]}".rstrip() for line in text.rstrip().splitlines()),
        "",
    ]


def _inline(text: str) -> str:
    """Text as reStructuredText: options and what stands in backticks as code, nothing else marked up."""
    parts = re.split(r"(`[^`]+`|(?<![\w-])--[a-z][\w-]*)", text)
    shown = [
        f"``{part.strip('`')}``" if i % 2 else re.sub(r"([\\*|_`])", r"\\\1", part) for i, part in enumerate(parts)
    ]
    for i in range(1, len(parts), 2):  # markup must end at a word's end
        if shown[i + 1][:1].isalnum():
            shown[i] += r"\ "
    return "".join(shown)


def _write(app: Sphinx) -> None:
    columns, os.environ["COLUMNS"] = os.environ.get("COLUMNS"), "92"
    try:
        pages = {f"{_name(parser)}.rst": _page(parser) for parser in _parsers(whole_parser())}
    finally:
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns
    write_pages(Path(app.srcdir) / _FOLDER, pages)


def setup(app: Sphinx) -> dict[str, Any]:
    """Pages are written before any is read."""
    app.connect("builder-inited", _write)
    return {"parallel_read_safe": True}
