"""Figures that compare strategies: paired differences, labels to reach an accuracy, the effect of κ, and seconds."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from ..curves import LearningCurve, mean_and_error
from ..plots import BLUE, GREY, OKABE_ITO, VERMILION
from .drawing import (
    BLACK,
    FAINT,
    NARROW,
    Layout,
    Picture,
    label_rows,
    new_figure,
    plain_axes,
    row_height,
    shown_name,
    single_axes,
)
from .run import Run
from .statistics import CONFIDENCE, Reached, difference_to, labels_to_reach, seconds_per_round, told

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["differences_figure", "kappa_figure", "kappa_groups", "labels_figure", "seconds_figure"]


def differences_figure(run: Run, baseline: str) -> Picture:
    """The paired difference of every strategy to the baseline, with its interval."""
    others = [strategy for strategy in run.compared if strategy != baseline]
    gains = {strategy: difference_to(run, strategy, baseline) for strategy in others}

    def draw(layout: Layout) -> Figure:
        figure, axes = single_axes(layout, row_height(others, layout) * len(others) + 1.3)
        for place, strategy in zip(label_rows(axes, others, layout), others, strict=True):
            gain = gains[strategy]
            if gain is None:
                continue
            sure = gain.low > 0 or gain.high < 0
            color = BLUE if gain.mean > 0 else VERMILION
            mean, error = 100 * gain.mean, 100 * gain.error
            if gain.n_seeds > 1:
                axes.plot([100 * gain.low, 100 * gain.high], [place, place], color=color, linewidth=1.6, zorder=2)
                axes.plot([mean - error, mean + error], [place, place], color=color, linewidth=4.5)
            face = color if sure else "white"
            axes.plot(mean, place, "o", markersize=8, color=color, markerfacecolor=face, zorder=4)
        axes.axvline(0, color=BLACK, linewidth=2)
        label = f"area under the accuracy curve, less that of {shown_name(baseline)} (points)"
        axes.set_xlabel(textwrap.fill(label, 44 if layout is NARROW else 90))
        axes.grid(axis="x", color=FAINT, linewidth=0.6)
        return figure

    caption = "Mean of the differences seed by seed."
    if run.has_errors:
        caption += (
            f" Thick: one standard error; thin: {100 * CONFIDENCE:g} % t interval. Filled where the interval leaves "
            "out zero; with so many comparisons one or the other does so by chance."
        )
    listed = []
    for strategy, gain in gains.items():
        text = "no seed in common" if gain is None else f"{100 * gain.mean:+.1f}"
        if gain is not None and gain.n_seeds > 1:
            text += f" (interval {100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
        listed.append(f"{strategy} {text}")
    description = f"Dot plot of the area under the accuracy curve less that of {baseline}, in points: {told(listed)}."
    return Picture("paired_differences", f"Paired differences to {baseline}", caption, description, draw)


def labels_figure(run: Run, baseline: str, targets: Sequence[float]) -> Picture:
    """Bars of the labels to reach each accuracy."""
    curves = [run.compared_curve(strategy) for strategy in run.compared]
    found = {target: [labels_to_reach(curve, target) for curve in curves] for target in targets}

    def draw(layout: Layout) -> Figure:
        columns = 1 if layout is NARROW else min(3, len(targets))
        rows = math.ceil(len(targets) / columns)
        figure = new_figure(layout, (row_height(run.compared, layout) * len(curves) + 1.1) * rows)
        grid = figure.subplots(rows, columns, squeeze=False)
        for number, (axes, target) in enumerate(zip(grid.flat, targets, strict=False)):
            places = label_rows(axes, run.compared, layout, is_named=number % columns == 0)
            _draw_reached(axes, list(zip(places, curves, found[target], strict=True)), baseline, layout)
            axes.set_title(f"{100 * target:g} % accuracy", fontsize=11, loc="left")
            axes.set_xlabel("labels")
            plain_axes(axes)
        for axes in grid.flat[len(targets) :]:
            axes.set_visible(False)
        return figure

    caption = (
        "Labels at which each seed's curve first crosses the accuracy, a straight line between two rounds, and "
        "their mean over the seeds; fewer is better. Hatched: only a of b seeds got there (a/b), and the others count "
        "with their last number of labels, so that the bar is too short."
    )
    parts = []
    for target, of_all in found.items():
        named = [f"{curve.name} {reached}" for curve, reached in zip(curves, of_all, strict=True)]
        parts.append(f"{100 * target:g} %: {told(named)}")
    description = f"Bar charts of the labels that an accuracy takes. {'. '.join(parts)}."
    return Picture("labels_to_reach", "Labels to reach an accuracy", caption, description, draw)


def _draw_reached(
    axes: Axes, rows: Sequence[tuple[float, LearningCurve, Reached]], baseline: str, layout: Layout
) -> None:
    """A bar in each row, with its number at the end."""
    most = int(rows[0][1].n_labels[-1])
    height = 0.3 if layout is NARROW else 0.66
    for place, curve, reached in rows:
        color = BLACK if curve.name == baseline else BLUE
        if reached.n_reached == 0:
            axes.text(0.01 * most, place, "not reached", va="center", fontsize=9, color=GREY)
            continue
        whole = reached.n_reached == reached.n_seeds
        axes.barh(
            place,
            reached.mean,
            height=height,
            color=color if whole else "white",
            edgecolor=color,
            hatch=None if whole else "////",
            linewidth=0.8,
        )
        end = reached.mean
        if math.isfinite(reached.error):
            axes.errorbar(end, place, xerr=reached.error, color=GREY, linewidth=1.4, capsize=2.5)
            end += reached.error
        text = f"{reached.mean:.0f}" if whole else f"> {reached.mean:.0f}  ({reached.n_reached}/{reached.n_seeds})"
        axes.text(end + 0.025 * most, place, text, va="center", fontsize=9)
    axes.set_xlim(0, 1.35 * most)


def kappa_groups(run: Run) -> list[list[str]]:
    """Strategies that differ in κ alone, each group by rising κ: two values at least, and come as far as the horizon.

    Of two with the same κ the first of the run counts.
    """
    groups: dict[str, dict[int, str]] = {}
    for strategy in run.started:
        if strategy in run.compared:
            contender = run.results.record["contenders"][strategy]
            alike = repr({**contender, "config": {**contender["config"], "kappa": None}})
            groups.setdefault(alike, {}).setdefault(contender["config"]["kappa"], strategy)
    return [[alike[kappa] for kappa in sorted(alike)] for alike in groups.values() if len(alike) > 1]


def kappa_figure(run: Run, groups: list[list[str]]) -> Picture:
    """Area and final accuracy against κ, a line for each group of :func:`kappa_groups`."""
    measures = (("area under the accuracy curve", None), ("accuracy at the end", run.horizon))

    def values(group: list[str], last: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Means and standard errors in %."""
        curves = [run.compared_curve(strategy) for strategy in group]
        found = [mean_and_error(c.area if last is None else c.accuracy[:, last]) for c in curves]
        means, errors = zip(*found, strict=True)
        return 100 * np.array(means, dtype=np.float64), 100 * np.array(errors, dtype=np.float64)

    def draw(layout: Layout) -> Figure:
        rows, columns = (2, 1) if layout is NARROW else (1, 2)
        figure = new_figure(layout, 5.6 if layout is NARROW else 4.0)
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (title, last) in zip(grid, measures, strict=True):
            for group, color, marker in zip(groups, OKABE_ITO * len(groups), "os^DvPX" * len(groups), strict=False):
                means, errors = values(group, last)
                axes.errorbar(
                    [run.config(strategy)["kappa"] for strategy in group],
                    means,
                    yerr=None if np.isnan(errors).all() else errors,
                    color=color,
                    marker=marker,
                    linewidth=2,
                    capsize=3,
                    label=shown_name(group[0].partition(":")[0] if len(groups) == 1 else f"{group[0]} …"),
                )
            axes.set_xscale("log", base=2)
            ticks = sorted({run.config(strategy)["kappa"] for group in groups for strategy in group})
            axes.set_xticks(ticks, [f"{kappa:g}" for kappa in ticks])
            axes.minorticks_off()
            axes.set_xlabel("κ (candidates per pick)")
            axes.set_title(f"{title} (%)", fontsize=10.5, loc="left")
            plain_axes(axes)
        if len(groups) > 1:
            grid[0].legend(frameon=False, fontsize=9)
        return figure

    bars = "; bars are one standard error" if run.has_errors else ""
    caption = f"Strategies that differ in κ alone: mean over the seeds{bars}."
    listed = [
        f"κ = {run.config(strategy)['kappa']:g}: {area:.1f}"
        for group in groups
        for strategy, area in zip(group, values(group, None)[0], strict=True)
    ]
    description = f"Line plots against κ. Area under the accuracy curve in %: {', '.join(listed)}."
    return Picture("kappa", "Effect of κ", caption, description, draw)


def seconds_figure(run: Run, baseline: str) -> Picture:
    """Stacked bars of the seconds of each stage, the fastest strategy first."""
    seconds = {strategy: seconds_per_round(run, strategy) for strategy in run.started}
    order = sorted(seconds, key=lambda strategy: sum(seconds[strategy].values()))
    stages = list(dict.fromkeys(stage for strategy in run.started for stage in seconds[strategy]))

    def draw(layout: Layout) -> Figure:
        figure, axes = single_axes(layout, row_height(order, layout) * len(order) + 1.3)
        places = label_rows(axes, order, layout, bold=baseline)
        ends = np.zeros(len(order))
        height = 0.3 if layout is NARROW else 0.66
        for stage, color in zip(stages, cycle((VERMILION, BLUE, "#56B4E9", "#BBBBBB")), strict=False):
            widths = np.array([seconds[strategy].get(stage, 0.0) for strategy in order])
            bars = axes.barh(places, widths, left=ends, height=height, color=color, label=stage)
            for bar in bars:
                bar.set(edgecolor="white", linewidth=0.5)
            ends += widths
        for place, end in zip(places, ends, strict=True):
            axes.annotate(
                f"{end:.3g} s", (end, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9
            )
        axes.set_xlim(0, 1.2 * float(ends.max()) or 1.0)
        axes.set_xlabel("seconds per round")
        columns = 2 if layout is NARROW and len(stages) > 3 else len(stages)
        figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=10)
        return figure

    caption = "Mean wall time of each stage of a round, over all seeds and rounds in which the stage ran."
    totals = told([f"{strategy} {sum(seconds[strategy].values()):.3g}" for strategy in order])
    description = f"Stacked bars of the seconds of a round, by {', '.join(stages)}. In all: {totals}."
    return Picture("seconds", "Time per stage", caption, description, draw)
