"""What the documentation shows of the command line exists: its lines are parsed by the real parsers, its options known."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccma_fast.cli import program

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"

_SHELL_BLOCK = re.compile(r"^(?P<indent> *)```(?:sh|bash|shell|console)\n(?P<lines>.*?)^(?P=indent)```$", flags=re.M | re.S)
_CODE = re.compile(r"``([^`]+)``|`([^`\n]+)`")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")

# Options of other programs that the pages name: pytest and scripts of this repository.
_OF_OTHERS = frozenset({"--benchmark-json", "--benchmark-only", "--digits", "--dry-run", "--picture"})


def _pages() -> list[Path]:
    """README and the Markdown pages; what builds write is none of them."""
    built = (DOCS / "_build", DOCS / "auto_gallery")
    pages = [page for page in sorted(DOCS.rglob("*.md")) if not any(page.is_relative_to(folder) for folder in built)]
    return [page for page in (ROOT / "README.md", *pages) if page.exists()]


def _parser() -> argparse.ArgumentParser:
    return program._parser({name: program._load(name) for name in program.COMMANDS})


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The options of a parser and of all below it."""
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _options(below)


def _commands(text: str) -> Iterator[list[str]]:
    """The words after ``ccma-fast`` of each of its lines in shell blocks."""
    for block in _SHELL_BLOCK.finditer(text):
        for line in block["lines"].replace("\\\n", " ").splitlines():
            for command in re.split(r"\s(?:&&|\|)\s", line):
                words = shlex.split(command, comments=True)
                if words and Path(words[0]).name == "ccma-fast":
                    yield words[1:]


@pytest.mark.parametrize("page", _pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_are_parsed(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = _parser()
    for words in _commands(page.read_text(encoding="utf-8")):
        try:
            parser.parse_args(words)
        except SystemExit as stop:
            if stop.code:
                pytest.fail(f"{page.name}: ccma-fast {shlex.join(words)}\n{capsys.readouterr().err}")


@pytest.mark.parametrize("page", _pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_options_in_the_text_exist(page: Path) -> None:
    known = {*_options(_parser()), *_OF_OTHERS}
    prose = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    named = {option for code in _CODE.finditer(prose) for option in _OPTION.findall(code.group())}
    if page.is_relative_to(DOCS / "development"):  # about other programs
        return
    assert named <= known, f"{page.name} names options that no command has: {sorted(named - known)}"


def test_a_command_is_found_behind_other_words() -> None:
    text = "```sh\npip install '.[demo]' && .venv/bin/ccma-fast demo  # a remark\nccma-fast report run \\\n  --out x\n```\n"
    assert list(_commands(text)) == [["demo"], ["report", "run", "--out", "x"]]
