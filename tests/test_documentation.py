"""What the pages of the documentation promise: their Python runs, the reference has every public name, versions agree.

The Python blocks of a Markdown page run in their order as one program, in an empty folder. In the page, the comment
``<!-- not run: why -->`` right before a block leaves that block out, and ``<!-- needs: library -->`` skips the page
where the library is not installed.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast.research import digits

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"

_BLOCK = re.compile(
    r"^(?P<skip><!-- not run: [^\n]+ -->\n+)?"
    r"(?P<indent> *)(?P<fence>`{3,})(?:python|\{code-block\} python)\n(?P<code>.*?)^(?P=indent)(?P=fence)$",
    flags=re.M | re.S,
)
_NEEDS = re.compile(r"<!-- needs: ([\w., ]+) -->")


def _pages() -> list[Path]:
    """Pages that hold Python; none where the tests are unpacked without the documentation."""
    pages = (page for page in sorted(DOCS.rglob("*.md")) if not page.is_relative_to(DOCS / "_build"))
    return [page for page in pages if _BLOCK.search(page.read_text(encoding="utf-8"))]


def _program(text: str) -> str:
    """The blocks that run, each on the lines that it has in the page, so that an error names the right line."""
    lines = [""] * (text.count("\n") + 1)
    for block in _BLOCK.finditer(text):
        if block["skip"]:
            continue
        first = text.count("\n", 0, block.start("code"))
        code = re.sub(rf"^{block['indent']}", "", block["code"], flags=re.M)
        lines[first : first + code.count("\n")] = code.splitlines()
    return "\n".join(lines)


@functools.cache
def _prototypes(make: Callable[[], np.ndarray] = digits.class_prototypes) -> np.ndarray:
    """Made once for all pages: a second for each time."""
    return make()


@pytest.mark.parametrize("page", _pages(), ids=lambda page: page.relative_to(DOCS).as_posix())
def test_the_python_of_a_page_runs_as_one_program(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = page.read_text(encoding="utf-8")
    for libraries in _NEEDS.findall(text):
        for library in re.split(r"[, ]+", libraries):
            pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(digits, "class_prototypes", lambda: _prototypes().copy())
    exec(compile(_program(text), str(page), "exec"), {"__name__": "page"})


def test_a_block_is_left_out_only_by_a_comment_right_before_it() -> None:
    text = (
        "```python\na = 1\n```\n<!-- not run: a wish -->\n\n```python\na = 2\n```\ntext\n"
        "   ```{code-block} python\n   b = a\n   ```\n```sh\nls\n```\n"
    )
    names: dict[str, object] = {}
    exec(compile(_program(text), "page", "exec"), names)
    assert names["b"] == 1
    assert _program(text).splitlines()[10] == "b = a"


@pytest.mark.skipif(not DOCS.exists(), reason="the tests are unpacked without the documentation")
def test_the_reference_has_every_public_name() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.rst"))
    named = set(re.findall(r"^\.\. auto(?:function|class|exception|data|module):: (?:ccma_fast\.)?(\w+)$", text, re.M))
    assert set(cf.__all__) <= named


def test_the_table_of_strategies_is_that_of_the_registry() -> None:
    rows = re.findall(r"^``([\w-]+)``((?: [¹²])*) {2,}", cf.strategies.__doc__ or "", re.M)
    built_in = cf.strategies.registry.built_in
    assert [name for name, _ in rows] == sorted(built_in)
    assert {name for name, marks in rows if "²" in marks} == set(cf.strategies.names(needs_labels=False)) & set(
        built_in
    )


def test_the_changelog_and_the_citation_are_of_this_version() -> None:
    newest = re.search(
        r"^## (\S+)(?: \((unreleased|\d{4}-\d\d-\d\d)\))?$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M
    )
    assert newest
    assert newest[2], "the newest version has a date, or is said to be unreleased"
    assert newest[1] == cf.__version__.partition("+")[0]
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.M)
    assert cited
    assert cited[1] == newest[1]
