"""``llms.txt`` at the site's root, for language models: every page with its first sentence, as llmstxt.org has it.

``llms-full.txt`` beside it is their text: Markdown as it was written, signatures and docstrings of the API.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from api_reference import documented, takes_arguments
from docutils import nodes
from sphinx.application import Sphinx

_SUMMARY = """\
# ccma_fast

> A Python package that chooses which images to label: active learning on pools of thousands to millions of image
> embeddings, by Conformal Cross-Modal Acquisition, with a C++ core on CPUs and Triton kernels on NVIDIA GPUs.

Everything is imported as `import ccma_fast as cf`. `cf.select(features, budget)` chooses rows, `cf.ActiveLearner` and
`cf.Campaign` keep labels between rounds, `cf.auto_label` labels the rest with a bounded error, `cf.simulate` compares
strategies. The same from a shell is the program `ccma-fast`. `select` and `extract` run on several machines, under
`torchrun -m ccma_fast` or with `group=`, and give what one process gives.
"""
_OPTIONAL = ("benchmarks", "development")


def _pages(app: Sphinx, parent: str) -> Iterator[str]:
    """Pages below one, in the order of the navigation."""
    for page in app.env.toctree_includes.get(parent, []):
        yield page
        yield from _pages(app, page)


def _first_sentence(app: Sphinx, page: str) -> str:
    """That of the first paragraph which is prose; nothing where there is none."""
    for paragraph in app.env.get_doctree(page).findall(nodes.paragraph):
        if (
            isinstance(paragraph.parent, (nodes.section, nodes.document))
            or "desc_content" in type(paragraph.parent).__name__
        ):
            text = " ".join(paragraph.astext().split())
            return re.split(r"(?<=[.?!])\s", text, maxsplit=1)[0]
    return ""


def _text(source: Path) -> str:
    """What a page says: its source, and what its directives for the API stand for."""
    text = source.read_text("utf-8").strip()
    return "\n\n".join([text, *map(_described, documented(source))]) if source.suffix == ".rst" else text


def _described(name: str) -> str:
    thing = resolve_name(name if name.count(".") == 1 else f"{name.rpartition('.')[0]}:{name.rpartition('.')[2]}")
    if not callable(thing):
        return ""
    text = inspect.getdoc(thing) or ""
    signature = inspect.signature(thing) if takes_arguments(thing) else ""
    return f"### {name}{signature}\n\n{text}"


def _write(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    root = app.config.root_doc
    lines, optional, texts = [_SUMMARY], ["## Optional", ""], []
    for section in app.env.toctree_includes.get(root, []):
        is_optional = section.split("/")[0] in _OPTIONAL
        listed = optional if is_optional else lines
        if not is_optional:
            listed += [f"## {app.env.titles[section].astext()}", ""]
        for page in (section, *_pages(app, section)):
            told = _first_sentence(app, page)
            link = f"- [{app.env.titles[page].astext()}]({app.builder.get_target_uri(page)})"
            listed.append(f"{link}: {told}" if told else link)
            if not is_optional:
                texts.append(f"<!-- {app.builder.get_target_uri(page)} -->\n\n{_text(Path(app.env.doc2path(page)))}\n")
        if not is_optional:
            listed.append("")
    out = Path(app.outdir)
    (out / "llms.txt").write_text("\n".join([*lines, *optional, ""]), "utf-8")
    (out / "llms-full.txt").write_text("\n".join([_SUMMARY, *texts]), "utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Both are written when the pages are."""
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True}
