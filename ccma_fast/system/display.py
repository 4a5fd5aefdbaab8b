"""How results are shown: in a line (``repr``), and in notebooks as HTML.

The HTML has no script and loads nothing; every text is escaped. It takes the colours of the page around it, and lines
and marks in those that JupyterLab, VS Code and Sphinx themes name, so that it is readable in light and in dark. Where a
viewer strips the style, plain tables are left.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from itertools import islice
from typing import Any

__all__ = [
    "SHOWN",
    "details",
    "facts",
    "few",
    "line",
    "notebook_html",
    "paragraph",
    "percent",
    "printable",
    "size",
    "table",
    "warnings_list",
]

SHOWN = 10
"""Rows of a table."""

# Entries of a list in a line of text.
_FEW = 3

# Characters of a cell, and of a line of text.
_CELL, _LINE = 100, 200

# Jupyter's and Sphinx's own styles of tables are less specific than two classes.
_STYLE = """\
.ccma-fast{--cf-line:var(--jp-border-color2,var(--vscode-editorWidget-border,var(--color-background-border,\
rgba(128,128,128,.45))));--cf-warn:var(--jp-warn-color1,var(--vscode-editorWarning-foreground,#d97706));\
color:inherit;font-size:.9rem;line-height:1.45;max-width:100%}
.ccma-fast .cf-title{font-weight:600;margin:.2em 0}
.ccma-fast .cf-title,.ccma-fast .cf-text{overflow-wrap:anywhere}
.ccma-fast .cf-scroll{max-width:100%;overflow-x:auto}
.ccma-fast table.cf-table{border-collapse:collapse;border:0;margin:.3em 0;font-size:inherit;color:inherit;width:auto;\
table-layout:auto;font-variant-numeric:tabular-nums}
.ccma-fast table.cf-table tr{background:none;border:0}
.ccma-fast table.cf-table th,.ccma-fast table.cf-table td{text-align:left;vertical-align:top;padding:.15em .8em;\
border:0;border-bottom:1px solid var(--cf-line);background:none;color:inherit;white-space:nowrap;max-width:none}
.ccma-fast table.cf-table th{font-weight:600}
.ccma-fast table.cf-table .cf-number{text-align:right}
.ccma-fast table.cf-facts.cf-table td{white-space:normal;overflow-wrap:anywhere;min-width:9em;max-width:45em}
.ccma-fast .cf-more{opacity:.75;margin:.2em 0 .4em}
.ccma-fast .cf-warning{border-left:.25em solid var(--cf-warn);padding:.1em .7em;margin:.4em 0}
.ccma-fast summary{cursor:pointer;display:list-item}
.ccma-fast details{margin:.2em 0}
.ccma-fast details>:not(summary){margin-left:1em}
"""


def line(name: str, *parts: str) -> str:
    """The ``repr`` of a result: its class and what matters of it, in one line."""
    text = " ".join(", ".join(part for part in parts if part).split())
    return f"{name}({text if len(text) <= _LINE else text[:_LINE] + '…'})"


def few(values: Iterable[Any], n: int, *, shown: int = _FEW, of: Callable[[Any], str] = str) -> str:
    """The first of `n` values, and how many more there are."""
    first = [_shortened(of(value), _CELL) for value in islice(values, shown)]
    return ", ".join(first) + (f", ... {n - len(first):,} more" if n > len(first) else "")


def size(n_bytes: float) -> str:
    """Bytes in a unit that leaves few digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(n_bytes) < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.4g} TB"


def percent(share: float) -> str:
    """A share in [0, 1] as text; a dash where there is none."""
    return "–" if share != share else f"{100 * share:.1f} %"


def printable(text: str) -> str:
    """Text of people as a terminal may show it: in one line, and with no character that controls the terminal."""
    return text if text.isprintable() else repr(text)[1:-1]


def notebook_html(title: str, *parts: str) -> str:
    """What a notebook shows of a result: a title and parts made by the functions below."""
    head = f'<style>{_STYLE}</style><div class="cf-title">{_text(title)}</div>'
    return f'<div class="ccma-fast">{head}{"".join(parts)}</div>'


def paragraph(text: str) -> str:
    """A sentence or more."""
    return f'<div class="cf-text">{escape(text)}</div>'


def warnings_list(texts: Iterable[str]) -> str:
    """Warnings, each marked as one."""
    return "".join(f'<div class="cf-warning cf-text"><b>Warning:</b> {escape(text)}</div>' for text in texts)


def facts(pairs: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> str:
    """Names and values, one pair in each row."""
    pairs = pairs.items() if isinstance(pairs, Mapping) else pairs
    rows = "".join(f"<tr><th>{_text(name)}</th>{_cell(value, 'td', plain=True)}</tr>" for name, value in pairs)
    return (
        f'<div class="cf-scroll"><table class="cf-table cf-facts"><tbody>{rows}</tbody></table></div>' if rows else ""
    )


def table(header: Sequence[str], rows: Iterable[Sequence[Any]], n_rows: int, *, shown: int = SHOWN) -> str:
    """The first rows of a table, and how many more there are; only those are made.

    Parameters
    ----------
    header : sequence of str
    rows : iterable of sequences
        Cells: numbers stand to the right, None and NaN are a dash.
    n_rows : int
        How many there are.
    shown : int
    """
    first = [*islice(rows, shown)]
    numeric = [
        any(_is_number(row[i]) for row in first) and all(_is_number(row[i]) or row[i] is None for row in first)
        for i in range(len(header))
    ]
    kinds = [' class="cf-number"' if is_number else "" for is_number in numeric]
    head = "".join(f"<th{kind}>{_text(name)}</th>" for name, kind in zip(header, kinds, strict=True))
    body = "".join("<tr>" + "".join(_cell(value, "td") for value in row) + "</tr>" for row in first)
    more = n_rows - len(first)
    rest = f'<div class="cf-more">… {more:,} more</div>' if more > 0 else ""
    return (
        f'<div class="cf-scroll"><table class="cf-table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        f"</div>{rest}"
    )


def details(summary: str, *parts: str) -> str:
    """Parts that are folded until they are asked for; nothing where there are none."""
    inside = "".join(parts)
    return f"<details><summary>{escape(summary)}</summary>{inside}</details>" if inside else ""


def _cell(value: Any, tag: str, *, plain: bool = False) -> str:
    kind = ' class="cf-number"' if _is_number(value) and not plain else ""
    return f"<{tag}{kind}>{_text(value)}</{tag}>"


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _text(value: Any) -> str:
    """A value as escaped text."""
    if value is None or (isinstance(value, numbers.Real) and value != value):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if _is_number(value) and not isinstance(value, numbers.Integral):
        return f"{float(value):.4g}"
    return escape(_shortened(str(value), _CELL))


def _shortened(text: str, length: int) -> str:
    """Text whose middle is left out where it is long: the ends of paths tell most."""
    half = length // 2
    return text if len(text) <= length else f"{text[:half]}…{text[-half:]}"
