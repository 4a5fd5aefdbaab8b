"""Plots of a few learning curves and of small images, and the colours of every figure.

Figures are built without pyplot: no window, no backend and no setting of the caller's session is touched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .curves import LearningCurve, percent_band

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["BLUE", "GREEN", "GREY", "OKABE_ITO", "VERMILION", "Panel", "plot_learning_curves", "plot_panels"]

# Okabe and Ito's colours, told apart under every common colour blindness.
BLUE, VERMILION = "#0072B2", "#D55E00"
GREEN = "#009E73"
OKABE_ITO = (BLUE, VERMILION, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#666666"
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


@dataclass(frozen=True, eq=False)
class Panel:
    """One image of :func:`plot_panels`.

    Parameters
    ----------
    image : ndarray, shape (H, W)
        Grey values, dark where large.
    title : str
        Stands above the image.
    lines : sequence of (str, bool or None)
        Stand below it. True and False mark a line as right (✓, blue) or wrong (✗, vermilion); None marks nothing.
    """

    image: npt.NDArray[np.float32]
    title: str
    lines: Sequence[tuple[str, bool | None]]


def plot_learning_curves(
    curves: Sequence[LearningCurve],
    *,
    title: str,
    targets: Sequence[float] = (),
    level: tuple[str, float] | None = None,
) -> Figure:
    """Mean accuracy against labels, with a band of one standard error on either side.

    Parameters
    ----------
    curves : sequence of LearningCurve
    title : str
    targets : sequence of float
        Accuracies in [0, 1] to mark on the axis.
    level : (str, float), optional
        An accuracy that needs no labels, drawn as a dotted line with its name.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 5.0), layout="constrained")
    axes = figure.add_subplot()
    for target in targets:
        axes.axhline(100 * target, color="#CCCCCC", linewidth=0.8, zorder=0)
        axes.annotate(
            f"{100 * target:g} %",
            (1.0, 100 * target),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=GREY,
        )
    if level is not None:
        axes.axhline(100 * level[1], color=GREY, linewidth=1.2, linestyle=":", label=level[0], zorder=1)
    for curve, (color, marker) in zip(curves, _styles(len(curves)), strict=True):
        axes.plot(
            curve.n_labels,
            100 * curve.mean,
            color=color,
            marker=marker,
            markersize=4.5,
            linewidth=1.8,
            label=curve.name,
        )
        if curve.n_seeds > 1:
            axes.fill_between(curve.n_labels, *percent_band(curve), color=color, alpha=0.18, linewidth=0)
    axes.set_title(title, fontsize=12, loc="left")
    axes.set_xlabel("labels", fontsize=11)
    axes.set_ylabel("test accuracy (%)", fontsize=11)
    axes.legend(loc="lower right", frameon=False, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.02)
    return figure


def plot_panels(panels: Sequence[Panel], *, title: str, columns: int = 5) -> Figure:
    """Small images in a grid, each with a title above and lines of text below.

    Parameters
    ----------
    panels : sequence of Panel
        At least one.
    title : str
    columns : int, default 5

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    n_lines = max(len(panel.lines) for panel in panels)
    size = (max(1.8 * columns, 6.0), (1.95 + 0.2 * n_lines) * rows + 0.6)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(h_pad=0.12))
    figure.suptitle(title, fontsize=12)
    colors = {True: BLUE, False: VERMILION, None: "black"}
    marks = {True: " ✓", False: " ✗", None: ""}
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, number + 1)
        axes.imshow(panel.image, cmap="gray_r", interpolation="nearest")
        axes.set_title(panel.title, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
        for line, (text, right) in enumerate(panel.lines):
            axes.annotate(
                text + marks[right],
                (0.5, 0.0),
                xycoords="axes fraction",
                xytext=(0, -5 - 13 * line),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=10,
                color=colors[right],
            )
    return figure


def _styles(n: int) -> list[tuple[str, str]]:
    return [(OKABE_ITO[i % len(OKABE_ITO)], _MARKERS[i % len(_MARKERS)]) for i in range(n)]
