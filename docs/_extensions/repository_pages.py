"""Pages that show files of the repository: links in them lead to the pages of this site or to the repository."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docutils import nodes
from files import write_pages
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

_REPOSITORY = "https://github.com/ccma-fast/ccma_fast/blob/main/"
_PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "development/architecture.md",
    "CONTRIBUTING.md": "development/contributing.md",
    "CHANGELOG.md": "development/changelog.md",
}
"""Files of the repository, and the page that shows each."""

_RESULTS, _RESULT_PAGES = "bench/results", "benchmarks/results"
_LINK = re.compile(r"(!?\[[^\]]*\])\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def _with_links(text: str, file: str, page: str) -> str:
    """The text of a file of the repository, with its relative links as they must be in a page."""

    def of_page(link: re.Match[str]) -> str:
        label, target, anchor = link[1], os.path.normpath(Path(file).parent / link[2]), link[3] or ""
        shown = target.removeprefix("docs/") if target.startswith("docs/") else _PAGES.get(target)
        if Path(target).parent.as_posix() == _RESULTS:
            shown = f"{_RESULT_PAGES}/{Path(target).name}"
        if shown is None:
            return f"{label}({_REPOSITORY}{target}{anchor})"
        return f"{label}({os.path.relpath(shown, Path(page).parent)}{anchor})"

    return _LINK.sub(of_page, text)


def _rewrite_included(app: Sphinx, relative: Path, page: str, content: list[str]) -> None:
    file = os.path.relpath(Path(app.srcdir, relative), Path(app.srcdir).parent)
    if file in _PAGES:
        content[0] = _with_links(content[0], file, _PAGES[file])


@dataclass(frozen=True)
class _Result:
    """A file of results: what its name and text tell of date, title and processor."""

    file: Path

    @property
    def text(self) -> str:
        return self.file.read_text("utf-8")

    @property
    def date(self) -> str:
        return self.file.name[:10]

    @property
    def title(self) -> str:
        heading = self.text.partition("\n")[0].removeprefix("# ")
        return re.sub(rf"(, | of | \()?{self.date}\)?", "", heading)

    @property
    def on_processor(self) -> str:
        return f" ({self.processor})" if self.processor else ""

    @property
    def processor(self) -> str:
        """Empty where the file does not say."""
        machine = re.search(r"^- Machine: ([^,]+), (\d+) processors", self.text, re.M)
        runs = re.search(r"backend of ccma_fast: cpu \((\w+)", self.text)
        if machine:
            name = re.sub(r"\(R\)|\s*\(x86_64\)| Processor", "", machine[1])
            return f"{name}, {machine[2]} cores" + (f", {_instructions(runs[1])}" if runs else "")
        named = re.search(r"(AMD EPYC|Intel \w+) with ([\w-]+(?:\s+and\s+VNNI)?)", self.text)
        if named:
            return f"{named[1]}, {' '.join(named[2].split())}"
        level = re.search(r"\bAVX2\b|\bAVX-512\b", self.text[:600])
        return f"x86-64, {level[0]}" if level else ""


def _instructions(level: str) -> str:
    return {"avx2": "AVX2", "avx512": "AVX-512", "avx512_bf16": "AVX-512 BF16", "avx512_vnni": "AVX-512 VNNI"}.get(
        level, level
    )


def _results(app: Sphinx) -> list[_Result]:
    """The newest first; of one day by name."""
    files = sorted((Path(app.srcdir).parent / _RESULTS).glob("2*.md"))
    return sorted(map(_Result, files), key=lambda result: result.date, reverse=True)


def _write_results(app: Sphinx) -> None:
    root = Path(app.srcdir).parent
    pages = {}
    for file in [*(result.file for result in _results(app)), root / _RESULTS / "NOTES.md"]:
        text = _with_links(file.read_text("utf-8"), f"{_RESULTS}/{file.name}", f"{_RESULT_PAGES}/{file.name}")
        pages[file.name] = text
    write_pages(Path(app.srcdir, _RESULT_PAGES), pages)
    for picture in (root / _RESULTS).glob("*.png"):
        shutil.copyfile(picture, Path(app.srcdir, _RESULT_PAGES, picture.name))


class BenchmarkResults(SphinxDirective):
    """A table of all results, and their place in the navigation."""

    def run(self) -> list[nodes.Node]:
        results = _results(self.env.app)
        rows = [f"| {r.date} | [{r.title}](results/{r.file.name}) | {r.processor or 'not recorded'} |" for r in results]
        entries = [f"{r.date}: {r.title}{r.on_processor} <results/{r.file.stem}>" for r in results]
        lines = ["| date | measured | processor |", "| --- | --- | --- |", *rows, ""]
        lines += ["```{toctree}", ":hidden:", "", *entries, "Notes on speed <results/NOTES>", "```"]
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> dict[str, Any]:
    """Pages are written before any is read, links rewritten as files are included."""
    app.connect("builder-inited", _write_results)
    app.connect("include-read", _rewrite_included)
    app.add_directive("benchmark-results", BenchmarkResults)
    return {"parallel_read_safe": True}
