"""The API reference: its index, the texts of the strategies, and what signatures and links show."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from ccma_fast.strategies import registry

_ENTRY = re.compile(
    r"^\.\. (?:(?:current|auto)?module:: (?P<module>\S+)|auto(?:function|class|exception|data):: (?P<name>\S+))", re.M
)


def documented(page: Path) -> list[str]:
    """Full names of what the autodoc directives of a page document, in their order."""
    module, names = "", []
    for entry in _ENTRY.finditer(page.read_text("utf-8")):
        if entry["module"]:
            module = entry["module"]
        else:
            names.append(entry["name"] if entry["name"].startswith("ccma_fast.") else f"{module}.{entry['name']}")
    return names


def takes_arguments(thing: Any) -> bool:
    """Whether users call it: a function, or a class whose docstring has parameters."""
    return not inspect.isclass(thing) or "Parameters\n---" in (inspect.getdoc(thing) or "")


class PublicNames(SphinxDirective):
    """Every page of the reference with the names that it documents and their first sentences."""

    def run(self) -> list[nodes.Node]:
        folder = Path(self.env.doc2path(self.env.docname)).parent
        index = (folder / "index.rst").read_text("utf-8")
        lines = []
        for name in re.findall(r"^   ([\w-]+)$", index.partition("toctree::")[2], re.M):
            page = folder / f"{name}.rst"
            self.env.note_dependency(str(page))
            names = documented(page)
            if names:
                lines += [f".. rubric:: :doc:`{name}`", "", ".. autosummary::", "   :nosignatures:", ""]
                lines += [*(f"   ~{full}" for full in names), ""]
        return self.parse_text_to_nodes("\n".join(lines))


class Strategies(SphinxDirective):
    """The docstring of every built-in strategy, each in a section under its name."""

    def run(self) -> list[nodes.Node]:
        found: list[nodes.Node] = []
        for name, strategy in sorted(registry.built_in.items()):
            label = f"strategy-{name}"
            section = nodes.section(ids=[label], names=[label])
            section += nodes.title(name, name)
            lines = (inspect.getdoc(strategy) or "").splitlines()
            _escape_bars(self.env.app, "function", name, strategy, None, lines)
            text = re.sub(r"\n(\w+)\n-+\n", r"\n.. rubric:: \1\n\n", "\n".join(lines))
            self.env.ref_context["py:module"] = strategy.__module__
            section += self.parse_text_to_nodes(text)
            self.state.document.note_explicit_target(section)
            found.append(section)
        return found


def _hide_constructor(app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str, returns: str) -> Any:
    """No signature of a class that users do not make."""
    return ("", None) if what == "class" and not takes_arguments(obj) else None


def _escape_bars(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """|x| is a length or a number of classes, and no substitution of reStructuredText."""
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            lines[i] = "``".join(p if j % 2 else p.replace("|", r"\|") for j, p in enumerate(line.split("``")))


def _show_internal(app: Sphinx, env: Any, node: Any, content: nodes.Node) -> nodes.Node | None:
    """A reference to what exists in the package but has no entry in its reference: text without a link."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"].lstrip(".")
    written = re.search(r"docstring of ([\w.]+)", node.source or "")
    place = written[1] if written else node.get("py:module") or "ccma_fast"
    within = [f"{place}.", *(f"{place[: dot.start()]}." for dot in re.finditer(r"\.", place)), ""]
    return content if any(_exists(prefix + target) for prefix in within) else None


def _exists(name: str) -> bool:
    """Whether the package has a module, or something in one, of this full name; fields of a record included."""
    parts = name.split(".")
    if parts[0] != "ccma_fast":
        return False
    for cut in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for part in parts[cut:]:
            is_field = part in inspect.get_annotations(found) if inspect.isclass(found) else False
            found = getattr(found, part, is_field or None)
        return found is not None
    return False


def setup(app: Sphinx) -> dict[str, Any]:
    """The directives ``public-names`` and ``strategies``, and what autodoc and references ask."""
    app.add_directive("public-names", PublicNames)
    app.add_directive("strategies", Strategies)
    app.connect("autodoc-process-signature", _hide_constructor)
    app.connect("autodoc-process-docstring", _escape_bars, priority=400)
    app.connect("missing-reference", _show_internal)
    return {"parallel_read_safe": True}
