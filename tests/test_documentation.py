"""What the pages of the documentation promise: their Python runs, and the reference has every public name.

The Python blocks of a Markdown page run in their order as one program, in an empty folder. In the page, the comment
``<!-- not run: why -->`` right before a block leaves that block out, and ``<!-- needs: library -->`` skips the page
where the library is not installed.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("page", _pages(), ids=lambda page: page.relative_to(DOCS).as_posix())
def test_the_python_of_a_page_runs_as_one_program(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = page.read_text(encoding="utf-8")
    for libraries in _NEEDS.findall(text):
        for library in re.split(r"[, ]+", libraries):
            pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
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
