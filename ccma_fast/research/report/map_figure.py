"""The figure of the pool in the plane, with the picks of two strategies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..plots import OKABE_ITO
from .drawing import BLACK, FAINT, NARROW, Layout, Picture, new_figure, shown_name
from .run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["map_figure"]

# Seen on white and on black: what is drawn as pixels has one colour in both modes of a page.
_MIDDLE_GREY = "#808080"
# Colour and marker of each class, as far as there are so many.
_LOOKS = [(color, marker) for marker in "o^s" for color in (*OKABE_ITO[:-1], _MIDDLE_GREY)]
# Characters of a name in the legend, of a marker with its spaces, and of a line.
_LONGEST_NAME, _MARKER, _LONGEST_LINE = 15, 4, 38
# Inches of a line of the legend; the figure has room for so many.
_LEGEND_LINE, _FREE_LINES = 0.19, 3
# More picks than this are drawn as pixels, for each would be an element of the page.
_MOST_ELEMENTS = 1_000


def map_figure(run: Run, pool: Mapping[str, npt.NDArray[Any]], baseline: str) -> Picture:
    """The pool by class, and where two strategies picked, by round."""
    shown = [baseline, *(strategy for strategy in run.compared if strategy != baseline)][:2]
    seed = run.shown_seeds(baseline)[0]
    picks = {strategy: _picks(run, pool, strategy, seed) for strategy in shown}
    n_classes = np.unique(pool["classes"]).size
    names = _legend_names(run, pool)

    def draw(layout: Layout) -> Figure:
        from matplotlib.ticker import MaxNLocator

        columns = 1 if layout is NARROW else len(shown) + 1
        rows = -(-(len(shown) + 1) // columns)
        beside = 6 if layout is NARROW else 7
        beside = min(beside, max(1, _LONGEST_LINE // (_MARKER + max(map(len, names), default=0))))
        below = _LEGEND_LINE * max(0, -(-len(names) // beside) - _FREE_LINES)
        figure = new_figure(layout, below + (4.4 if rows == 1 else 3.0 * rows + 1.2))
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        _draw_classes(grid[0], pool, names, beside)
        for axes, strategy in zip(grid[1:], shown, strict=True):
            axes.scatter(*pool["coordinates"].T, s=5, color=_MIDDLE_GREY, alpha=0.35, linewidth=0, rasterized=True)
            rounds, places = picks[strategy]
            points = axes.scatter(
                *pool["coordinates"][places].T,
                c=rounds,
                cmap="viridis_r",
                vmin=0,
                vmax=max(run.n_rounds, 1),
                s=26,
                edgecolor=BLACK if rounds.size <= _MOST_ELEMENTS else _MIDDLE_GREY,
                linewidth=0.8,
                rasterized=rounds.size > _MOST_ELEMENTS,
            )
            axes.set_title(f"picks of {shown_name(strategy, 28, 2)}", fontsize=10, loc="left")
        bar = figure.colorbar(
            points,
            ax=list(grid[1:]),
            label="round",
            location="bottom",
            shrink=0.5 if rows == 1 else 0.9,
            aspect=40,
            ticks=MaxNLocator(integer=True),
        )
        if bar.solids is not None:  # one element for each of its colours
            bar.solids.set_rasterized(True)
        for axes in grid:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_color(FAINT)
        return figure

    plane = (
        f"{pool['rows'].size} rows of the pool on the first two principal components of the student's features (what "
        f"two dimensions leave of them), and what was labelled for seed {seed}"
    )
    counted = ", ".join(f"{rounds.size} picks of {strategy}" for strategy, (rounds, _) in picks.items())
    return Picture(
        "map",
        "Pool and picks",
        f"{plane}: yellow first, dark last.",
        f"Scatter plots of {plane}: {n_classes} classes; {counted}, coloured by round 0 to {run.n_rounds}.",
        draw,
    )


def _picks(
    run: Run, pool: Mapping[str, npt.NDArray[Any]], strategy: str, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Round of each pick that is on the map, and its place there."""
    own = (run.results.picks["strategy"] == strategy) & (run.results.picks["seed"] == seed)
    rounds, rows = run.results.picks["round"][own], run.results.picks["row"][own]
    position = {int(row): place for place, row in enumerate(pool["rows"])}
    known = np.array([int(row) in position for row in rows], dtype=bool)
    return rounds[known], np.array([position[int(row)] for row in rows[known]], dtype=np.int64)


def _draw_classes(axes: Axes, pool: Mapping[str, npt.NDArray[Any]], names: list[str], columns: int) -> None:
    """Every class in a look of its own, as far as there are some, and by its name then."""
    classes = np.unique(pool["classes"])
    for number, (color, marker) in enumerate(_LOOKS[: classes.size]):
        own = np.isin(pool["classes"], classes[number :: len(_LOOKS)])
        x, y = pool["coordinates"][own].T
        label = names[number] if names else None
        axes.scatter(x, y, s=9, color=color, marker=marker, linewidth=0, alpha=0.8, label=label, rasterized=True)
    axes.set_title(f"{classes.size} classes" + ("" if names else ", looks repeat"), fontsize=10, loc="left")
    if names:
        axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.02),
            ncols=columns,
            frameon=False,
            fontsize=9,
            markerscale=2.2,
            handletextpad=0.1,
            columnspacing=1.0,
        )


def _legend_names(run: Run, pool: Mapping[str, npt.NDArray[Any]]) -> list[str]:
    """What the classes of the map are called beside their looks; empty where these repeat."""
    classes = np.unique(pool["classes"]).tolist()
    if len(classes) > len(_LOOKS):
        return []
    names = run.class_names
    shown = [str(c) if names is None else shown_name(names[c], _LONGEST_NAME) for c in classes]
    return [f" {name}" if name.startswith("_") else name for name in shown]  # which matplotlib would leave out
