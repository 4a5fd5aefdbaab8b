"""The report as one HTML page that needs nothing else: no network, no script, no second file."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from .drawing import Picture
from .tables import Table

__all__ = ["GENERATOR", "page"]

GENERATOR = "ccma_fast report"
"""The generator mark, near the beginning of every file of a report."""

_STYLE = """\
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #ffffff; --soft: #5c5c5c; --line: #d6d6d6; --mark: #eaf2fa; \
--warn: #fff3d6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #16181b; --soft: #a8adb3; --line: #3a3f45; \
--mark: #1f3347; --warn: #44371a; } }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem; background: var(--paper); color: var(--ink); \
font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 0.5rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 0.5rem; padding-top: 0.5rem; border-top: 1px solid var(--line); }
p { margin: 0.4rem 0 0.8rem; }
.note, figcaption { color: var(--soft); font-size: 0.92rem; max-width: 52rem; }
.warning { background: var(--warn); padding: 0.6rem 0.9rem; border-radius: 0.4rem; }
nav { display: flex; flex-wrap: wrap; gap: 0.2rem 1.2rem; font-size: 0.95rem; margin: 1rem 0; }
a { color: inherit; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.93rem; }
th, td { padding: 0.25rem 0.8rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
th:first-child { text-align: left; overflow-wrap: anywhere; white-space: normal; min-width: 9rem; }
tr.marked > * { background: var(--mark); font-weight: 600; }
.facts td { text-align: left; white-space: normal; }
figure { margin: 0.8rem 0; }
figure img { display: block; max-width: 100%; height: auto; background: #ffffff; border-radius: 0.4rem; \
padding: 0.4rem; box-sizing: border-box; }
summary { cursor: pointer; }
pre { background: var(--mark); padding: 0.7rem 0.9rem; border-radius: 0.4rem; overflow-x: auto; white-space: pre-wrap; }
"""


def page(
    record: Mapping[str, Any],
    tables: Sequence[Table],
    pictures: Sequence[tuple[Picture, bytes]],
    facts: Sequence[str],
) -> str:
    """The whole page.

    Parameters
    ----------
    record : mapping
        What was run, on what and with what; each key gets a collapsed section at the end.
    tables : sequence of Table
        One whose name is a picture's stands below that picture, any other after all of them.
    pictures : sequence of (Picture, bytes)
        With their PNG files.
    facts : sequence of str
        Sentences on what was run; the first is the summary, any other a warning.
    """
    sections = []
    for picture, png in pictures:
        below = [_table(table) for table in tables if table.name == picture.name]
        sections.append(_section(picture.name, picture.title, _figure(picture, png), *below))
    drawn = {picture.name for picture, _ in pictures}
    sections += [_section(table.name, table.title, _table(table)) for table in tables if table.name not in drawn]
    sections.append(_section("record", "How it was made", _record(record)))
    titles = [(picture.name, picture.title) for picture, _ in pictures]
    titles += [(table.name, table.title) for table in tables if table.name not in drawn]
    links = "\n".join(f'<a href="#{escape(name)}">{escape(title)}</a>' for name, title in titles)
    warnings = "".join(f'<p class="warning">{escape(fact)}</p>\n' for fact in facts[1:])
    body = "".join(sections)
    return f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="{GENERATOR}">
<meta name="color-scheme" content="light dark">
<title>Active learning report</title>
<link rel="icon" href="data:,">
<style>
{_STYLE}</style>
</head>
<body>
<h1>Active learning report</h1>
<p>{escape(facts[0])}</p>
{warnings}<nav>
{links}
<a href="#record">How it was made</a>
</nav>
{body}</body>
</html>
"""


def _section(name: str, title: str, *bodies: str) -> str:
    return f'<section id="{escape(name)}">\n<h2>{escape(title)}</h2>\n' + "\n".join(bodies) + "\n</section>\n"


def _figure(picture: Picture, png: bytes) -> str:
    data = base64.b64encode(png).decode()
    return (
        f'<figure>\n<img src="data:image/png;base64,{data}" alt="{escape(picture.title)}">\n'
        f"<figcaption>{escape(picture.caption)}</figcaption>\n</figure>"
    )


def _table(table: Table) -> str:
    rows = "".join(_row(row, marked=row[0] == table.marked) for row in table.rows)
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.header)
    return (
        f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n'
        f'<p class="note">{escape(table.note)}</p>'
    )


def _row(cells: Sequence[str], *, marked: bool) -> str:
    attribute = ' class="marked"' if marked else ""
    rest = "".join(f"<td>{escape(cell)}</td>" for cell in cells[1:])
    return f'<tr{attribute}><th scope="row">{escape(cells[0])}</th>{rest}</tr>\n'


def _record(record: Mapping[str, Any]) -> str:
    """Everything that is known of the run, a collapsed section for each part of its record."""
    sections = []
    for part, value in record.items():
        rows = "".join(
            f'<tr><th scope="row">{escape(name or part)}</th><td>{escape(text)}</td></tr>\n'
            for name, text in _flat("", value)
        )
        body = f'<div class="wide"><table class="facts">\n<tbody>\n{rows}</tbody>\n</table></div>'
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
