"""Figures of learning curves: all in one, and one for each strategy beside the baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..curves import LearningCurve, percent_band
from ..plots import BLUE, OKABE_ITO
from .drawing import (
    BLACK,
    NARROW,
    Layout,
    Picture,
    new_figure,
    plain_axes,
    shown_name,
    shown_names,
    single_axes,
    whole_ticks,
)
from .run import Run
from .statistics import difference_to, told

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["curves_figure", "side_by_side_figure"]

Float64 = npt.NDArray[np.float64]


_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)))
# Characters in a line of a name below the curves.
_BELOW = 40
# More bands than this hide each other: then only the baseline and the best have one.
_MOST_BANDS = 6
_NAMES = {"accuracy": "accuracy", "macro_auroc": "macro AUROC", "macro_f1": "macro F1"}
_AXIS_LABELS = {"accuracy": "test accuracy (%)", "macro_auroc": "macro AUROC (%)", "macro_f1": "macro F1 (%)"}


@dataclass(frozen=True)
class _Look:
    """Style of a strategy, the same in every figure."""

    color: str
    dash: Any
    width: float
    order: float


def curves_figure(run: Run, baseline: str, metric: str) -> Picture:
    """The curves of every strategy by one of the measures on the test rows."""
    curves, looks = [run.curve(strategy, metric) for strategy in run.started], _looks(run, baseline)
    banded = {baseline, run.compared[0]} if len(curves) > _MOST_BANDS else set(run.started)

    def draw(layout: Layout) -> Figure:
        narrow = layout is NARROW
        two_lines = any("\n" in name for name in shown_names(run.started, *((_BELOW, 2) if narrow else ())).values())
        line = (0.3 if two_lines else 0.2) if narrow else (0.36 if two_lines else 0.27)
        figure, axes = single_axes(layout, (3.1 if narrow else 1.2) + max(line * len(curves), 0.0 if narrow else 4.3))
        for curve in curves:
            _draw_curve(axes, curve, looks[curve.name], with_band=curve.name in banded)
        axes.set_xlabel("labels")
        axes.set_ylabel(_AXIS_LABELS[metric])
        whole_ticks(axes)
        axes.margins(x=0.01)
        (_list_below if narrow else _label_ends)(axes, curves, looks)
        return figure

    whose = "the reference and the strategy of largest area" if len(curves) > _MOST_BANDS else "every strategy"
    bands = f" The band is one standard error on either side, for {whose}." if run.has_errors else ""
    caption = f"Mean over the seeds; {baseline} is the reference, in black (in dark mode white).{bands}"
    courses = [f"{c.name} from {_percent(c.mean[0])} to {_percent(c.mean[-1])}" for c in _ranked(curves)]
    description = (
        f"Line plot of {_NAMES[metric]} from {min(c.n_labels[0] for c in curves)} to "
        f"{max(c.n_labels[-1] for c in curves)} labels, by the accuracy at the end: {told(courses)}."
    )
    return Picture(f"curves_{metric}", f"Learning curves: {_NAMES[metric]}", caption, description, draw)


def side_by_side_figure(run: Run, baseline: str) -> Picture:
    """One small plot for each strategy, with the baseline in all."""
    others = _others(run, baseline)
    gains = {}
    for strategy in others:
        gain = difference_to(run, strategy, baseline) if strategy in run.compared else None
        gains[strategy] = "" if gain is None else f"{100 * gain.mean:+.1f}"

    def draw(layout: Layout) -> Figure:
        columns = min(2 if layout is NARROW else 4, len(others))
        rows = math.ceil(len(others) / columns)
        shown = shown_names(others, *((18, 3) if layout is NARROW else (25, 2)))
        more_lines = max(name.count("\n") for name in shown.values())
        figure = new_figure(layout, ((1.5 if layout is NARROW else 1.9) + 0.15 * more_lines) * rows + 0.5)
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        reference = run.curve(baseline)
        for axes, strategy in zip(grid.flat, others, strict=False):
            _draw_curve(axes, reference, _Look(BLACK, "-", 1.3, 2), with_band=True)
            _draw_curve(axes, run.curve(strategy), _Look(BLUE, "-", 2.0, 3), with_band=True)
            axes.set_title(shown[strategy], fontsize=9, loc="left", color=BLUE)
            axes.text(0.98, 0.04, gains[strategy], transform=axes.transAxes, ha="right", va="bottom", fontsize=9)
            plain_axes(axes)
            whole_ticks(axes)
        for axes in grid.flat[len(others) :]:
            axes.set_visible(False)
        figure.supxlabel("labels", fontsize=10)
        figure.supylabel(_AXIS_LABELS["accuracy"], fontsize=10)
        return figure

    bands = "; bands of one standard error" if run.has_errors else ""
    caption = (
        f"Each strategy (blue) with the reference {baseline} (black, in dark mode white), by falling area{bands}. "
        "Numbers are the paired differences of the area in points."
    )
    listed = told([f"{strategy} {gains[strategy] or 'not compared'}" for strategy in others])
    description = (
        f"{len(others)} small line plots of test accuracy against labels, each with the reference {baseline}. Paired "
        f"differences of the area in points: {listed}."
    )
    title = f"Each strategy (blue) beside {shown_name(baseline)}"
    return Picture("curves_side_by_side", title.replace("\\$", "$"), caption, description, draw)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if math.isfinite(share) else "no value"


def _ranked(curves: Sequence[LearningCurve]) -> list[LearningCurve]:
    """The curves by falling end; those that have no value there come last."""
    ends = [-curve.mean[-1] for curve in curves]
    return [curves[i] for i in np.argsort(ends, kind="stable")]


def _looks(run: Run, baseline: str) -> dict[str, _Look]:
    """Black for the baseline; for the others six colours, then the same dashed, then dotted, by falling area."""
    colors = OKABE_ITO[:-1]
    looks = {
        strategy: _Look(colors[i % len(colors)], _DASHES[i // len(colors) % len(_DASHES)], 1.6, 3)
        for i, strategy in enumerate(_others(run, baseline))
    }
    looks[baseline] = _Look(BLACK, "-", 3.0, 5)
    return looks


def _others(run: Run, baseline: str) -> list[str]:
    """All started strategies but the baseline, by falling area; at the end those that cannot be compared."""
    unfinished = (strategy for strategy in run.started if strategy not in run.compared)
    return [strategy for strategy in (*run.compared, *unfinished) if strategy != baseline]


def _draw_curve(axes: Axes, curve: LearningCurve, look: _Look, *, with_band: bool) -> None:
    marker = "o" if curve.n_labels.size == 1 else None
    axes.plot(
        curve.n_labels,
        100 * curve.mean,
        color=look.color,
        linestyle=look.dash,
        linewidth=look.width,
        marker=marker,
        zorder=look.order,
        label=curve.name,
    )
    if with_band and curve.n_seeds > 1:
        axes.fill_between(curve.n_labels, *percent_band(curve), color=look.color, alpha=0.16, linewidth=0, zorder=1)


def _list_below(axes: Axes, curves: Sequence[LearningCurve], looks: dict[str, _Look]) -> None:
    """The name of each curve below the plot, in the order in which they end."""
    lines = dict(zip((curve.name for curve in curves), axes.get_lines(), strict=True))
    names = [curve.name for curve in _ranked(curves)]
    shown = shown_names(names, _BELOW, 2)
    legend = axes.figure.legend(
        [lines[name] for name in names],
        [shown[name] for name in names],
        loc="outside lower left",
        frameon=False,
        fontsize=9,
        handlelength=2.2,
        labelspacing=0.35,
        borderaxespad=0.0,
    )
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_fontweight("bold" if looks[name].color == BLACK else "normal")


def _label_ends(axes: Axes, curves: Sequence[LearningCurve], looks: dict[str, _Look]) -> None:
    """The name of each curve beside its end, moved up or down until none covers another."""
    shown = shown_names([curve.name for curve in curves])
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    ends = np.array([(100 * curve.mean[-1] - low) / (high - low) for curve in curves])
    # NaN where a measure has no value in the last round; its name goes to the foot.
    ends = np.where(np.isfinite(ends), ends, 0.0)
    height_inches = axes.get_figure().get_size_inches()[1] - 1.0  # type: ignore[union-attr]
    line = 0.32 if any("\n" in name for name in shown.values()) else 0.2
    places = _spread(ends, min(line / height_inches, 1.0 / max(len(curves) - 1, 1)))
    for curve, end, place in zip(curves, ends, places, strict=True):
        look = looks[curve.name]
        axes.annotate(
            shown[curve.name],
            (float(curve.n_labels[-1]), low + end * (high - low)),
            xytext=(1.07, place),
            textcoords="axes fraction",
            va="center",
            fontsize=10,
            linespacing=1.0,
            fontweight="bold" if look.color == BLACK else "normal",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": look.color,
                "linestyle": look.dash,
                "linewidth": 1.0,
                "shrinkA": 1,
                "shrinkB": 1,
                "relpos": (0.0, 0.5),
            },
        )


def _spread(wanted: Float64, gap: float) -> Float64:
    """The places in [0, 1], `gap` apart at least, nearest to the wanted ones (least squares).

    Less the gaps below them the places must not fall, which makes it an isotonic regression: neighbours that are out of
    order are pooled into blocks that share their mean.
    """
    order = np.argsort(wanted, kind="stable")
    gaps = gap * np.arange(wanted.size)
    blocks: list[tuple[float, int]] = []
    for value in wanted[order] - gaps:
        mean, size = float(value), 1
        while blocks and blocks[-1][0] > mean:
            other, count = blocks.pop()
            mean, size = (mean * size + other * count) / (size + count), size + count
        blocks.append((mean, size))
    flat = np.repeat([mean for mean, _ in blocks], [size for _, size in blocks])
    places = np.empty_like(wanted)
    places[order] = np.clip(flat, 0.0, 1.0 - gaps[-1]) + gaps
    return places
