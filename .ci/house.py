"""What ARCHITECTURE.md promises beyond the import contracts: short modules, short chains, a picture that is true.

``python .ci/house.py`` checks, ``python .ci/house.py --draw`` draws the picture anew; from the root of the repository.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import grimp

PACKAGE = Path("ccma_fast")
KERNELS = Path("kernels")
KERNELS_IMPORT = {"torch", "triton"}
USERS_OF_THE_CORE = ("backends/core.py", "backends/cpu/", "system/")
DOCUMENT = Path("ARCHITECTURE.md")
BEGIN, END = "<!-- drawn by .ci/house.py -->\n", "<!-- end -->\n"

LONGEST_CHAIN = 16
MOST_LINES = {ast.ClassDef: 200, ast.FunctionDef: 80, ast.AsyncFunctionDef: 80}
LONGEST_MODULE = 500
# The mathematics in one piece, to be read from top to bottom.
LONG_MODULES = {PACKAGE / "reference.py"}
# A longer class or function says why, in a comment on its first line or above it.
EXCUSE = re.compile(r"# long: \w")

# The wings, the highest first. What stands on one level knows nothing of each other.
LEVELS = (
    ("cli",),
    ("research", "campaign"),
    ("strategies",),
    ("query",),
    ("steps",),
    ("backends", "images"),
    ("reference",),
    ("pool",),
    ("config", "system", "version"),
    ("checks", "errors"),
)


def too_long() -> Iterator[str]:
    """Modules, classes and functions of more lines than they may have."""
    for file in sorted(PACKAGE.rglob("*.py")):
        text = file.read_text("utf-8")
        lines = text.splitlines()
        if len(lines) > LONGEST_MODULE and file not in LONG_MODULES:
            yield f"{file} has {len(lines)} lines, expected {LONGEST_MODULE} at most"
        for node in ast.walk(ast.parse(text)):
            most = MOST_LINES.get(type(node))
            if most is None:
                continue
            assert isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            n_lines = (node.end_lineno or 0) - node.lineno + 1
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if n_lines > most and not any(map(EXCUSE.search, lines[max(0, first - 2) : node.lineno])):
                yield f"{file}:{node.lineno} {node.name} has {n_lines} lines, expected {most}, or `# long:` and why"


def longest_chain(graph: grimp.ImportGraph) -> tuple[str, ...]:
    """The longest chain of modules of which each imports the next; the package's own ``__init__`` is not counted."""

    above: list[str] = []

    @cache
    def chain(module: str) -> tuple[str, ...]:
        if module in above:
            sys.exit(f"a circle of imports: {' -> '.join([*above[above.index(module) :], module])}")
        above.append(module)
        imported = graph.find_modules_directly_imported_by(module) - {str(PACKAGE)}
        longest: tuple[str, ...] = max(map(chain, sorted(imported)), key=len, default=())
        above.pop()
        return (module, *longest)

    return max(map(chain, sorted(graph.modules - {str(PACKAGE)})), key=len)


def of_the_root() -> Iterator[str]:
    """Imports of what the package's own ``__init__`` hands on, and of the compiled core other than by its users."""
    parts = {path.stem for path in PACKAGE.iterdir()} | {"_core", "kernels"}
    for file in sorted(PACKAGE.rglob("*.py")):
        name = file.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            found = set(_from_the_root(node, name.count("/") + 1))
            place = f"{file}:{getattr(node, 'lineno', 0)}"
            if "_core" in found and not name.startswith(USERS_OF_THE_CORE):
                yield f"{place} imports the compiled core, which is for {', '.join(USERS_OF_THE_CORE)}"
            if found - parts and name not in ("__init__.py", "__main__.py"):
                yield f"{place} imports {min(found - parts)} from the package's own __init__"


def _from_the_root(node: ast.AST, level: int) -> Iterator[str]:
    """What an import names directly below the package, of which the file lies so many levels below."""
    if isinstance(node, ast.ImportFrom) and node.level == level:
        yield from [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == str(PACKAGE):
        yield str(node.module)  # the package does not go by its absolute name
    elif isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.split(".")[0] == str(PACKAGE))


def of_the_kernels() -> Iterator[str]:
    """Imports of the kernels beside Python's own modules, those of ``KERNELS_IMPORT``, and each other."""
    for file in sorted(KERNELS.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level != 1:
                found = ["." * node.level + (node.module or "")]
            else:
                continue
            for name in found:
                if name.split(".")[0] not in sys.stdlib_module_names | KERNELS_IMPORT:
                    expected = " or ".join(sorted(KERNELS_IMPORT))
                    yield f"{file}:{node.lineno} imports {name}, expected {expected} or another kernel"


def picture(graph: grimp.ImportGraph) -> str:
    """Which wing imports which, as Mermaid."""
    lines = ["```mermaid", "flowchart TD"]
    wings = [wing for level in LEVELS for wing in level]
    for i, level in enumerate(LEVELS):
        inside = " ~~~ ".join(f'{wing}["{wing}"]' for wing in level)
        lines.append(f"  subgraph level{i}[ ]\n    {inside}\n  end")
    # An arrow to each wing that none of the wings between leads to already.
    arrows = {
        (a, b)
        for a in wings
        for b in wings
        if a != b and graph.direct_import_exists(importer=f"{PACKAGE}.{a}", imported=f"{PACKAGE}.{b}", as_packages=True)
    }
    lines += [
        f"  {a} --> {b}" for a, b in sorted(arrows) if not any((a, c) in arrows and (c, b) in arrows for c in wings)
    ]
    return "\n".join([*lines, "```", ""])


def main() -> int:
    """0 where all promises are kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draw", action="store_true", help=f"write the picture into {DOCUMENT}")
    draw = parser.parse_args().draw
    sys.path.insert(0, "")  # the source tree, whatever is installed
    graph = grimp.build_graph(str(PACKAGE))
    before, begin, rest = DOCUMENT.read_text("utf-8").partition(BEGIN)
    drawn, end, behind = rest.partition(END)
    if draw:
        DOCUMENT.write_text(before + begin + picture(graph) + end + behind, "utf-8")
        return 0
    broken = [*too_long(), *of_the_root(), *of_the_kernels()]
    chain = longest_chain(graph)
    if len(chain) > LONGEST_CHAIN:
        broken.append(f"a chain of {len(chain)} imports, expected {LONGEST_CHAIN} at most: {' -> '.join(chain)}")
    if drawn != picture(graph):
        broken.append(f"the picture in {DOCUMENT} is not that of the imports: run `python .ci/house.py --draw`")
    print("\n".join(broken) or f"{len(graph.modules)} modules, the longest chain of {len(chain)}: {' -> '.join(chain)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
