"""What the figures of a report share: their widths, the look of axes and names, and a figure with its captions.

Figures are built without pyplot: no window, no backend and no setting of the caller's session is touched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "BLACK",
    "FAINT",
    "NARROW",
    "WIDE",
    "Layout",
    "Picture",
    "label_rows",
    "new_figure",
    "plain_axes",
    "row_height",
    "shown_name",
    "shown_names",
    "single_axes",
    "whole_ticks",
]

BLACK = "#000000"
FAINT = "#D9D9D9"


@dataclass(frozen=True)
class Layout:
    """The room that a figure has.

    Attributes
    ----------
    name : str
    width : float
        Of the figure, in inches. A browser shows 96 pixels an inch.
    """

    name: str
    width: float


WIDE = Layout("wide", 9.5)
"""For files and large screens."""

NARROW = Layout("narrow", 3.6)
"""For the screen of a phone."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure that can be drawn in several layouts, with its title and captions.

    Attributes
    ----------
    name : str
        Its file without the suffix.
    title : str
    caption : str
        How to read it.
    description : str
        What it shows, in numbers, for those who cannot see it.
    draw : callable
        The figure, without the title, in a layout.
    """

    name: str
    title: str
    caption: str
    description: str
    draw: Callable[[Layout], Figure]


def new_figure(layout: Layout, height: float) -> Figure:
    """An empty figure; the height in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(layout.width, height), layout="constrained")


def single_axes(layout: Layout, height: float) -> tuple[Figure, Axes]:
    """A figure with one plot; the height in inches."""
    figure = new_figure(layout, height)
    axes = figure.add_subplot()
    plain_axes(axes)
    return figure, axes


def plain_axes(axes: Axes) -> None:
    """Leave out the frame at the top and on the right, and draw the grid below the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)


def whole_ticks(axes: Axes) -> None:
    """Put ticks at whole numbers alone."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))


# Where a long name is divided best: behind one of these.
_JOINTS = ":,-_ /"
# Characters in a line of a name, in front of a row and above it.
_BESIDE, _ABOVE = 28, 48


def shown_name(name: str, columns: int = _ABOVE, lines: int = 1) -> str:
    """A name as matplotlib draws it: short lines, and no dollar that would begin a formula.

    Parameters
    ----------
    name : str
    columns : int, default 48
        Most characters in a line.
    lines : int, default 1
        Most lines; of a longer name the middle is left out.
    """
    left = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    shown = []
    for _ in range(lines - 1):
        if len(left) <= columns:
            break
        joint = max(left.rfind(c, columns // 2, columns) for c in _JOINTS) + 1 or columns
        shown.append(left[:joint].rstrip())
        left = left[joint:].lstrip()
    if len(left) > columns:
        # Names of one run differ at either end: "ccma:…,kappa=5".
        left = f"{left[: columns // 2]}…{left[1 - columns // 2 :]}"
    return "\n".join([*shown, left]).replace("$", r"\$")


def shown_names(names: Sequence[str], columns: int = _BESIDE, lines: int = 2) -> dict[str, str]:
    """:func:`shown_name` of each, with a number behind those that would look alike."""
    shown = {name: shown_name(name, columns, lines) for name in names}
    count = Counter(shown.values())
    return {
        name: text if count[text] == 1 else f"{text} #{number}" for number, (name, text) in enumerate(shown.items(), 1)
    }


def row_height(names: Iterable[str], layout: Layout) -> float:
    """Inches of a row of :func:`label_rows`."""
    if layout is NARROW:
        return 0.42
    return 0.36 if any(len(name) > _BESIDE for name in names) else 0.3


def label_rows(
    axes: Axes, names: Sequence[str], layout: Layout, *, bold: str = "", is_named: bool = True
) -> npt.NDArray[np.float64]:
    """Name the rows of a plot from top to bottom, before the axis, or above each row where there is no room.

    Parameters
    ----------
    axes : Axes
    names : sequence of str
    layout : Layout
    bold : str
        One of the names, or none.
    is_named : bool, default True
        Whether the names are written; a plot to the left may have them.

    Returns
    -------
    ndarray, shape (n,)
        The height of each row's middle; a bar takes 0.35 above and below it at most, above names 0.16.
    """
    places = np.arange(len(names))[::-1].astype(np.float64)
    axes.set_yticks(places if is_named and layout is WIDE else [])
    axes.set_ylim(*((-0.4, len(names) - 0.2) if layout is NARROW else (-0.7, len(names) - 0.3)))
    if not is_named:
        return places
    weights = ["bold" if name == bold else "normal" for name in names]
    if layout is NARROW:
        shown = shown_names(names, _ABOVE, 1)
        box = {"facecolor": "white", "linewidth": 0, "pad": 0.5}  # lines behind a name do not cross it
        for place, name, weight in zip(places, names, weights, strict=True):
            axes.text(
                0.015,
                place + 0.26,
                shown[name],
                transform=axes.get_yaxis_transform(),
                fontsize=9,
                fontweight=weight,
                va="bottom",
                bbox=box,
                zorder=3,
            ).set_in_layout(False)
        return places
    shown = shown_names(names)
    axes.set_yticklabels([shown[name] for name in names], linespacing=1.0)
    for text, weight in zip(axes.get_yticklabels(), weights, strict=True):
        text.set_fontweight(weight)
    return places
