"""The figure of the pool in the plane, with the picks of two strategies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..plots import OKABE_ITO
from .drawing import FAINT, Picture, new_figure, shown_name
from .run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["map_figure"]


def map_figure(run: Run, pool: Mapping[str, npt.NDArray[Any]], baseline: str) -> Picture:
    """The pool by class, and where two strategies picked, by round."""
    from matplotlib.ticker import MaxNLocator

    others = [strategy for strategy in run.compared if strategy != baseline]
    shown = [baseline, *others[:1]]
    seed = run.shown_seeds(baseline)[0]
    figure = new_figure(4.6 * (len(shown) + 1), 5.0)
    grid = figure.subplots(1, len(shown) + 1, sharex=True, sharey=True)
    x, y = pool["coordinates"].T
    _draw_classes(grid[0], pool)
    position = {int(row): place for place, row in enumerate(pool["rows"])}
    for axes, strategy in zip(grid[1:], shown, strict=True):
        axes.scatter(x, y, s=5, color=FAINT, linewidth=0, rasterized=True)
        own = (run.results.picks["strategy"] == strategy) & (run.results.picks["seed"] == seed)
        rounds, rows = run.results.picks["round"][own], run.results.picks["row"][own]
        known = np.array([int(row) in position for row in rows], dtype=bool)
        places = np.array([position[int(row)] for row in rows[known]], dtype=np.int64)
        points = axes.scatter(
            x[places],
            y[places],
            c=rounds[known],
            cmap="viridis_r",
            vmin=0,
            vmax=max(run.n_rounds, 1),
            s=26,
            edgecolor="black",
            linewidth=0.5,
        )
        axes.set_title(f"picks of {shown_name(strategy)}", fontsize=11, loc="left")
    figure.colorbar(
        points,
        ax=list(grid[1:]),
        label="round",
        location="bottom",
        shrink=0.5,
        aspect=40,
        ticks=MaxNLocator(integer=True),
    )
    for axes in grid:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_color(FAINT)
    caption = (
        f"{len(position)} rows of the pool on the first two principal components of the student's features (what "
        f"two dimensions leave of them), and what was labelled for seed {seed}: yellow first, dark last."
    )
    return Picture("map", "Pool and picks", caption, figure)


def _draw_classes(axes: Axes, pool: Mapping[str, npt.NDArray[Any]]) -> None:
    classes = np.unique(pool["classes"])
    looks = [(color, marker) for marker in "o^s" for color in OKABE_ITO]
    for number, c in enumerate(classes):
        color, marker = looks[number % len(looks)]
        x, y = pool["coordinates"][pool["classes"] == c].T
        axes.scatter(x, y, s=9, color=color, marker=marker, linewidth=0, alpha=0.8, label=str(c), rasterized=True)
    few = classes.size <= len(looks)
    axes.set_title(f"{classes.size} classes" + ("" if few else ", looks repeat"), fontsize=11, loc="left")
    if few:
        axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.02),
            ncols=7,
            frameon=False,
            fontsize=9,
            markerscale=2.2,
            handletextpad=0.1,
            columnspacing=1.0,
        )
