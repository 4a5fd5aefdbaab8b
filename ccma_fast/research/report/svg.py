"""Figures as SVG elements of a page: text is text in the page's font, colours follow the page's mode.

matplotlib writes the SVG; what is left of it here has no colour, font or id that the page does not decide.
"""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ET
from html import escape
from typing import TYPE_CHECKING

from ..plots import BLUE, GREEN, GREY, OKABE_ITO, VERMILION
from .drawing import BLACK, FAINT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLORS", "StyleSheet", "inline_svg"]

COLORS = {
    BLACK: ("ink", BLACK, "#f2f2f2"),
    "#FFFFFF": ("paper", "#FFFFFF", "#16181b"),
    FAINT: ("faint", FAINT, "#454a50"),
    GREY: ("grey", GREY, "#a8adb3"),
    BLUE: ("blue", BLUE, "#4ba3e3"),
    VERMILION: ("vermilion", VERMILION, "#f07f3c"),
    GREEN: ("green", GREEN, "#2fbf95"),
    OKABE_ITO[3]: ("pink", OKABE_ITO[3], "#dd93bc"),
    OKABE_ITO[4]: ("orange", OKABE_ITO[4], "#f0b429"),
    OKABE_ITO[5]: ("sky", OKABE_ITO[5], "#a3dcff"),
    "#BBBBBB": ("silver", "#BBBBBB", "#7d848b"),
}
"""Colours of figures: the CSS variable that takes the place of each, and its value in light and in dark mode."""

# Of pixels in a figure; screens of phones have several to a CSS pixel.
_DOTS_PER_INCH = 144
_VARIABLES = {color.lower(): f"var(--{name})" for color, (name, _, _) in COLORS.items()}
_COLOR = re.compile(r"#[0-9a-fA-F]{6}\b")
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_REFERENCE = re.compile(r"(?<=url\(#)[^)]+")
_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
_LEFT_OUT = frozenset({f"{_SVG}metadata", f"{_SVG}style"})


class StyleSheet:
    """The declarations of all figures of a page, each under a class of its own, so that no element has any itself."""

    def __init__(self) -> None:
        self._classes: dict[str, str] = {}

    def name(self, declarations: str) -> str:
        """The class of some declarations."""
        return self._classes.setdefault(declarations, f"f{len(self._classes)}")

    def __str__(self) -> str:
        return "".join(f".{name}{{{declarations}}}\n" for declarations, name in self._classes.items())


def inline_svg(figure: Figure, styles: StyleSheet, *, name: str, title: str, description: str) -> str:
    """A figure as an ``svg`` element.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    styles : StyleSheet
        Takes the declarations; the page defines the variables of :data:`COLORS`.
    name : str
        Unique in the page; ids begin with it.
    title, description : str
        For assistive technology.
    """
    root = ET.fromstring(_drawn(figure, name))
    used = {found for element in root.iter() for found in _references(element)}
    ids = {old: f"{name}-{number}" for number, old in enumerate(sorted(used))}
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    inside = "".join(_element(child, styles, ids) for child in root)
    return (
        f'<svg viewBox="{root.attrib["viewBox"]}" width="{width}" height="{height}" role="img" '
        f'aria-labelledby="{name}-title" aria-describedby="{name}-text">\n<title id="{name}-title">{escape(title)}'
        f'</title>\n<desc id="{name}-text">{escape(description)}</desc>\n{inside}</svg>'
    )


def _drawn(figure: Figure, salt: str) -> str:
    """The SVG of matplotlib, the same for the same figure and salt."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    figure.set_dpi(_DOTS_PER_INCH)
    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}), warnings.catch_warnings():
        # A strategy may be named in letters that matplotlib's font lacks; the browser has others.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def _references(element: ET.Element) -> list[str]:
    """The ids that an element refers to."""
    found = [id for value in element.attrib.values() for id in _REFERENCE.findall(value)]
    link = element.get(f"{_XLINK}href", "")
    return [*found, link[1:]] if link.startswith("#") else found


def _element(element: ET.Element, styles: StyleSheet, ids: dict[str, str]) -> str:
    """An element with all that is inside."""
    if element.tag in _LEFT_OUT:
        return ""
    text = escape(element.text or "") if element.tag == f"{_SVG}text" else ""
    inside = text + "".join(_element(child, styles, ids) for child in element)
    attributes = _attributes(element, styles, ids)
    tag = element.tag.removeprefix(_SVG)
    if tag in ("g", "defs") and not inside:
        return ""
    if tag == "g" and not attributes:
        return inside
    start = "".join(f' {name}="{escape(value)}"' for name, value in attributes.items())
    return f"<{tag}{start}>{inside}</{tag}>\n" if inside else f"<{tag}{start}/>\n"


def _attributes(element: ET.Element, styles: StyleSheet, ids: dict[str, str]) -> dict[str, str]:
    """What is kept of an element's attributes; colours and other declarations are a class."""
    attributes, declared = {}, []
    for key, value in element.attrib.items():
        name = key.removeprefix(_XLINK)
        if name == "id":
            if value in ids:
                attributes["id"] = ids[value]
        elif name == "style":
            declared.append(value)
        elif name in ("fill", "stroke"):
            declared.append(f"{name}: {value}")
        elif name == "href":
            attributes[name] = f"#{ids[value[1:]]}" if value.startswith("#") else "".join(value.split())
        elif not value.startswith("rotate(-0 "):
            text = _REFERENCE.sub(lambda found: ids[found[0]], value)
            attributes[name] = " ".join(_NUMBER.sub(_shorter, text).split())
    if declarations := _declarations("; ".join(declared), ids):
        attributes["class"] = styles.name(declarations)
    return attributes


def _declarations(style: str, ids: dict[str, str]) -> str:
    """CSS of a style of matplotlib's, without the family of a font."""
    kept = []
    for declaration in filter(None, map(str.strip, style.split(";"))):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name == "font":  # of matplotlib before 3.11: style, weight, size and family in one
            words = value.partition("px")[0].split()
            kept += ["font-weight:700"] * bool({"bold", "700"} & set(words)) + [f"font-size:{words[-1]}px"]
        elif name != "font-family":
            value = _COLOR.sub(lambda found: _VARIABLES.get(found[0].lower(), found[0]), value)
            value = _REFERENCE.sub(lambda found: ids[found[0]], _NUMBER.sub(_shorter, value))
            kept.append(f"{name}:{value}")
    return ";".join(kept)


def _shorter(found: re.Match[str]) -> str:
    """A number with two decimals: a hundredth of a point."""
    text = f"{float(found[0]):.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
