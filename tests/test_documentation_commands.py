"""What the documentation shows of the command line exists: the real parsers take its lines and know its options."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccma_fast.cli.program import whole_parser

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"

_WRITTEN = ("*.md", "guide/*.md", "method/*.md")

_SHELL_BLOCK = re.compile(
    r"^(?P<indent> *)```(?:sh|bash|shell|console)\n(?P<lines>.*?)^(?P=indent)```$", flags=re.M | re.S
)
_CODE = re.compile(r"``([^`]+)``|`([^`\n]+)`")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")

# Options of other programs that the pages name: pytest, scripts of this repository, torchrun and Slurm.
_OF_OTHERS = frozenset(
    {
        *("--benchmark-json", "--benchmark-only", "--digits", "--dry-run", "--picture"),
        *("--max-restarts", "--nproc-per-node", "--rdzv-endpoint"),
        *("--cpus-per-task", "--kill-on-bad-exit", "--nodes", "--ntasks-per-node"),
    }
)


def _pages() -> list[Path]:
    """The README, and of the documentation what is written by hand; builds make other pages."""
    written = (page for pattern in _WRITTEN for page in sorted(DOCS.glob(pattern)))
    return [ROOT / "README.md", *written]


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The options of a parser and of all below it."""
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _options(below)


def _commands(text: str) -> Iterator[list[str]]:
    """The words after ``ccma-fast``, or after ``-m ccma_fast``, of each command in shell blocks."""
    for block in _SHELL_BLOCK.finditer(text):
        for line in block["lines"].replace("\\\n", " ").splitlines():
            for command in re.split(r"\s(?:&&|\|)\s", line):
                words = shlex.split(command.partition(" > ")[0], comments=True)
                for before, word in enumerate(words):
                    if Path(word).name == "ccma-fast" or words[max(0, before - 1) : before + 1] == ["-m", "ccma_fast"]:
                        yield words[before + 1 :]
                        break


def _error(parser: argparse.ArgumentParser, words: list[str]) -> bool:
    try:
        parser.parse_args(words)
    except SystemExit as stop:  # argparse has printed the help or the error
        return bool(stop.code)
    return False


@pytest.mark.parametrize("page", _pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_are_parsed(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = whole_parser()
    for words in _commands(page.read_text(encoding="utf-8")):
        assert not _error(parser, words), f"{page.name}: ccma-fast {shlex.join(words)}\n{capsys.readouterr().err}"


@pytest.mark.parametrize("page", _pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_options_in_the_text_exist(page: Path) -> None:
    known = {*_options(whole_parser()), *_OF_OTHERS}
    prose = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    named = {option for code in _CODE.finditer(prose) for option in _OPTION.findall(code.group())}
    assert named <= known, f"{page.name} names options that no command has: {sorted(named - known)}"


def test_a_command_is_found_behind_other_words() -> None:
    text = (
        "```sh\npip install x && .venv/bin/ccma-fast demo  # a remark\nccma-fast report run \\\n  --out x\n"
        "srun torchrun --nnodes 2 \\\n  -m ccma_fast select -q\n```\n"
    )
    assert list(_commands(text)) == [["demo"], ["report", "run", "--out", "x"], ["select", "-q"]]
