"""The picture of the wings: a Mermaid flowchart of levels, drawn as SVG at build time.

Only what ``.ci/house.py`` writes is understood: subgraphs, one a level, whose boxes stand in a line joined by ``~~~``,
and arrows ``a --> b``. GitHub draws the same text by Mermaid itself.
"""

from __future__ import annotations

import re
from html import escape
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

_WIDTH, _BOX, _HEIGHT, _STEP, _CHARACTER = 560, 34, 30, 66, 8.2


class Layers(SphinxDirective):
    """``mermaid``, for flowcharts of levels."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        levels: list[list[tuple[str, str]]] = []
        arrows: list[tuple[str, str]] = []
        for line in self.content:
            boxes = re.findall(r'(\w+)\["([^"]+)"\]', line)
            arrow = re.fullmatch(r"\s*(\w+) --> (\w+)", line)
            if boxes:
                levels.append(boxes)
            elif arrow:
                arrows.append((arrow[1], arrow[2]))
            elif not re.fullmatch(r"flowchart TD|\s*subgraph \w+\[ \]|\s*end|\s*", line):
                raise self.error(f"cannot draw the line {line!r} of a flowchart; expected levels of boxes and arrows")
        return [nodes.raw("", _svg(levels, arrows), format="html")]


def _svg(levels: list[list[tuple[str, str]]], arrows: list[tuple[str, str]]) -> str:
    places: dict[str, tuple[float, float, float, int]] = {}
    parts = []
    for depth, boxes in enumerate(levels):
        for i, (name, text) in enumerate(boxes):
            # Levels of one box stand a little aside in turn, so that a long arrow passes beside them.
            x = _WIDTH * (i + 1) / (len(boxes) + 1) + (0 if len(boxes) > 1 else (-80, 80)[depth % 2])
            y = 20 + depth * _STEP
            places[name] = x, y, len(text) * _CHARACTER + _BOX, depth
    for above, below in arrows:
        (x0, y0, _, depth0), (x1, y1, _, depth1) = places[above], places[below]
        y0, y1 = y0 + _HEIGHT, y1 - 2
        bend = (y1 - y0) / 2
        side = 0.0 if depth1 - depth0 == 1 else (150.0 if x0 + x1 >= _WIDTH else -150.0)
        path = f"M{x0:.0f},{y0} C{x0 + side:.0f},{y0 + bend:.0f} {x1 + side:.0f},{y1 - bend:.0f} {x1:.0f},{y1}"
        parts.append(f'<path d="{path}"><title>{escape(above)} imports {escape(below)}</title></path>')
    for boxes in levels:
        for name, text in boxes:
            x, y, width, _ = places[name]
            parts.append(f'<rect x="{x - width / 2:.0f}" y="{y}" width="{width:.0f}" height="{_HEIGHT}" rx="4"/>')
            parts.append(f'<text x="{x:.0f}" y="{y + 20}">{escape(text)}</text>')
    told = escape("; ".join(f"{above} imports {below}" for above, below in arrows))
    height = 20 + len(levels) * _STEP - (_STEP - _HEIGHT) + 10
    return (
        f'<svg class="layers" role="img" aria-label="{told}" viewBox="0 0 {_WIDTH} {height}">'
        '<defs><marker id="layers-head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0,0 L8,4 L0,8 z"/></marker></defs>' + "".join(parts) + "</svg>"
    )


def setup(app: Sphinx) -> dict[str, Any]:
    """The directive ``mermaid``."""
    app.add_directive("mermaid", Layers)
    return {"parallel_read_safe": True}
