"""What the figures of a report share: the look of axes and names, and a figure with its caption.

Figures are built without pyplot: no window, no backend and no setting of the caller's session is touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "BLACK",
    "FAINT",
    "Picture",
    "new_figure",
    "plain_axes",
    "shown_name",
    "single_axes",
    "whole_ticks",
]

BLACK = "#000000"
FAINT = "#D9D9D9"
_LONGEST_NAME = 28


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure with its title and caption.

    Attributes
    ----------
    name : str
        Its file without the suffix.
    title : str
    caption : str
        How to read it.
    figure : matplotlib.figure.Figure
    """

    name: str
    title: str
    caption: str
    figure: Figure

    def __post_init__(self) -> None:
        self.figure.suptitle(self.title, x=0.01, ha="left", fontsize=13, fontweight="bold")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure; inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def single_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure with one plot; inches."""
    figure = new_figure(width, height)
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


def shown_name(name: str) -> str:
    """A name as matplotlib draws it: one short line, and no dollar that would begin a formula."""
    line = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    if len(line) > _LONGEST_NAME:
        # Names of one run differ at either end: "ccma:…,kappa=5".
        line = f"{line[: _LONGEST_NAME // 2]}…{line[1 - _LONGEST_NAME // 2 :]}"
    return line.replace("$", r"\$")
