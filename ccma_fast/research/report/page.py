"""The report as one HTML page that needs nothing else: no network, no script, no second file."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from .drawing import Picture
from .svg import COLORS, StyleSheet
from .tables import Table

__all__ = ["GENERATOR", "page"]

GENERATOR = "ccma_fast report"
"""The generator mark, near the beginning of every file of a report."""

_STYLE = """\
:root { color-scheme: light; %(light)s --soft: #5c5c5c; --line: #d6d6d6; --mark: #eaf2fa; --warn: #fff3d6; }
@media screen and (prefers-color-scheme: dark) { :root { color-scheme: dark; %(dark)s --soft: #a8adb3; \
--line: #3a3f45; --mark: #1f3347; --warn: #44371a; } }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem; background: var(--paper); color: var(--ink); \
font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 0.5rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 0.5rem; padding-top: 0.5rem; border-top: 1px solid var(--line); }
p { margin: 0.4rem 0 0.8rem; }
.note, figcaption { color: var(--soft); font-size: 0.92rem; max-width: 52rem; }
.warning { background: var(--warn); padding: 0.6rem 0.9rem; border-radius: 0.4rem; }
nav { display: flex; flex-wrap: wrap; gap: 0.4rem 1.2rem; font-size: 0.95rem; margin: 1rem 0; }
a { color: inherit; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.93rem; }
caption { text-align: left; font-weight: 600; padding: 0.25rem 0; }
th, td { padding: 0.25rem 0.8rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
th[scope="row"] { font-weight: 400; }
th:first-child { text-align: left; overflow-wrap: anywhere; white-space: normal; min-width: 9rem; }
tr.marked > * { background: var(--mark); font-weight: 600; }
.facts td { text-align: left; white-space: normal; }
figure { margin: 0.8rem 0; }
svg { display: block; max-width: 100%%; height: auto; fill: var(--ink); }
:where(svg *) { stroke-linejoin: round; stroke-linecap: butt; }
.narrow { display: none; }
@media screen and (max-width: 50rem) {
body { padding: 1rem; }
.wide { display: none; }
.narrow { display: block; }
.narrow svg { width: 100%%; max-width: 28rem; }
th, td { padding: 0.25rem 0.5rem; }
}
summary { cursor: pointer; padding: 0.2rem 0; }
"""


def page(
    record: Mapping[str, Any],
    tables: Sequence[Table],
    pictures: Sequence[tuple[Picture, Mapping[str, str]]],
    styles: StyleSheet,
    facts: Sequence[str],
) -> str:
    """The whole page.

    Parameters
    ----------
    record : mapping
        What was run, on what and with what; each key gets a collapsed section at the end.
    tables : sequence of Table
        One whose name is a picture's stands below that picture, any other after all of them.
    pictures : sequence of (Picture, mapping)
        With an ``svg`` element for each layout, by its name.
    styles : StyleSheet
        Of these elements.
    facts : sequence of str
        Sentences on what was run; the first is the summary, any other a warning.
    """
    sections = []
    for picture, drawings in pictures:
        below = [_table(table) for table in tables if table.name == picture.name]
        sections.append(_section(picture.name, picture.title, _figure(picture, drawings), *below))
    drawn = {picture.name for picture, _ in pictures}
    sections += [_section(table.name, table.title, _table(table)) for table in tables if table.name not in drawn]
    sections.append(_section("record", "How it was made", _record(record)))
    titles = [(picture.name, picture.title) for picture, _ in pictures]
    titles += [(table.name, table.title) for table in tables if table.name not in drawn]
    links = "\n".join(f'<a href="#{escape(name)}">{_breakable(title)}</a>' for name, title in titles)
    warnings = "".join(f'<p class="warning">{_breakable(fact)}</p>\n' for fact in facts[1:])
    body, style = "".join(sections), f"{_page_style()}{styles}"
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    return f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="{GENERATOR}">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="color-scheme" content="light dark">
<title>Active learning report</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<header>
<h1>Active learning report</h1>
<p>{escape(facts[0])}</p>
{warnings}</header>
<nav aria-label="Sections">
{links}
<a href="#record">How it was made</a>
</nav>
<main>
{body}</main>
</body>
</html>
"""


def _page_style() -> str:
    """The style of all pages, with the colours of both modes."""
    light = " ".join(f"--{name}: {value};" for name, value, _ in COLORS.values())
    dark = " ".join(f"--{name}: {value};" for name, _, value in COLORS.values())
    return _STYLE % {"light": light, "dark": dark}


def _section(name: str, title: str, *bodies: str) -> str:
    return f'<section id="{escape(name)}">\n<h2>{_breakable(title)}</h2>\n' + "\n".join(bodies) + "\n</section>\n"


def _figure(picture: Picture, drawings: Mapping[str, str]) -> str:
    """A figure in all its layouts, of which the style shows one."""
    drawn = "".join(f'<div class="{escape(layout)}">{svg}</div>\n' for layout, svg in drawings.items())
    return f"<figure>\n{drawn}<figcaption>{_breakable(picture.caption)}</figcaption>\n</figure>"


def _table(table: Table) -> str:
    rows = "".join(_row(row, marked=row[0] == table.marked) for row in table.rows)
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.header)
    return (
        f"{_scroll(table.title)}<table>\n<caption>{_breakable(table.title)}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f'<tbody>\n{rows}</tbody>\n</table></div>\n<p class="note">{escape(table.note)}</p>'
    )


def _scroll(label: str) -> str:
    """The start of a box that scrolls sideways where what is inside has no room, also by keyboard."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}">'


def _breakable(text: str) -> str:
    """A text with names, in which lines may break behind the signs that divide these."""
    return "<wbr>".join(map(escape, re.split(r"(?<=[:,])(?=\S)", text)))


def _row(cells: Sequence[str], *, marked: bool) -> str:
    attribute = ' class="marked"' if marked else ""
    rest = "".join(f"<td>{escape(cell)}</td>" for cell in cells[1:])
    return f'<tr{attribute}><th scope="row">{_breakable(cells[0])}</th>{rest}</tr>\n'


def _record(record: Mapping[str, Any]) -> str:
    """Everything that is known of the run, a collapsed section for each part of its record."""
    sections = []
    for part, value in record.items():
        rows = "".join(
            f'<tr><th scope="row">{escape(name or part)}</th><td>{escape(text)}</td></tr>\n'
            for name, text in _flat("", value)
        )
        body = f'<table class="facts" aria-label="{escape(part)}">\n<tbody>\n{rows}</tbody>\n</table>'
        sections.append(f"<details>\n<summary>{escape(part)}</summary>\n{body}\n</details>")
    return "\n".join(sections)


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Names and values of nested mappings, joined by dots."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}" if name else str(key), inner)
    elif isinstance(value, (list, tuple)):
        yield name, ", ".join(map(str, value))
    else:
        yield name, str(value)
