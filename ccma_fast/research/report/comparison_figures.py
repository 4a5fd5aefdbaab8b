"""Figures that compare strategies: paired differences, labels to reach an accuracy, the effect of κ, and seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle

import numpy as np

from ..curves import mean_and_error
from ..plots import BLUE, GREY, OKABE_ITO, VERMILION
from .drawing import BLACK, FAINT, Picture, new_figure, plain_axes, shown_name, single_axes
from .run import Run
from .statistics import CONFIDENCE, difference_to, labels_to_reach, seconds_per_round

__all__ = ["differences_figure", "kappa_figure", "kappa_groups", "labels_figure", "seconds_figure"]


def differences_figure(run: Run, baseline: str) -> Picture:
    """The paired difference of every strategy to the baseline, with its interval."""
    others = [strategy for strategy in run.compared if strategy != baseline]
    figure, axes = single_axes(8.5, 0.3 * len(others) + 1.6)
    places = np.arange(len(others))[::-1]
    for place, strategy in zip(places, others, strict=True):
        gain = difference_to(run, strategy, baseline)
        if gain is None:
            continue
        sure = gain.low > 0 or gain.high < 0
        color = BLUE if gain.mean > 0 else VERMILION
        if gain.n_seeds > 1:
            axes.plot([100 * gain.low, 100 * gain.high], [place, place], color=color, linewidth=1.6, zorder=2)
            error = 100 * gain.error
            axes.plot([100 * gain.mean - error, 100 * gain.mean + error], [place, place], color=color, linewidth=4.5)
        axes.plot(
            100 * gain.mean, place, "o", markersize=8, color=color, markerfacecolor=color if sure else "white", zorder=4
        )
    axes.axvline(0, color=BLACK, linewidth=2)
    axes.set_yticks(places, [shown_name(strategy) for strategy in others])
    axes.set_ylim(-0.7, len(others) - 0.3)
    axes.set_xlabel(f"area under the accuracy curve, less that of {shown_name(baseline)} (points)")
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    caption = "Mean of the differences seed by seed."
    if run.has_errors:
        caption += (
            f" Thick: one standard error; thin: {100 * CONFIDENCE:g} % t interval. Filled where the interval leaves "
            "out zero; with so many comparisons one or the other does so by chance."
        )
    return Picture("paired_differences", f"Paired differences to {shown_name(baseline)}", caption, figure)


def labels_figure(run: Run, baseline: str, targets: Sequence[float]) -> Picture:
    """Bars of the labels to reach each accuracy."""
    curves = [run.compared_curve(strategy) for strategy in run.compared]
    figure = new_figure(max(3.3 * len(targets), 4.0) + 1.8, 0.3 * len(curves) + 1.5)
    grid = figure.subplots(1, len(targets), sharey=True, squeeze=False)[0]
    places = np.arange(len(curves))[::-1]
    most = int(curves[0].n_labels[-1])
    for axes, target in zip(grid, targets, strict=True):
        for place, curve in zip(places, curves, strict=True):
            reached = labels_to_reach(curve, target)
            color = BLACK if curve.name == baseline else BLUE
            if reached.n_reached == 0:
                axes.text(0.01 * most, place, "not reached", va="center", fontsize=9, color=GREY)
                continue
            whole = reached.n_reached == reached.n_seeds
            axes.barh(
                place,
                reached.mean,
                height=0.72,
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
            axes.text(end + 0.015 * most, place, text, va="center", fontsize=9)
        axes.set_xlim(0, 1.25 * most)
        axes.set_title(f"{100 * target:g} % accuracy", fontsize=11, loc="left")
        axes.set_xlabel("labels")
        plain_axes(axes)
    grid[0].set_yticks(places, [shown_name(curve.name) for curve in curves])
    grid[0].set_ylim(-0.6, len(curves) - 0.4)
    caption = (
        "Labels at which each seed's curve first crosses the accuracy, a straight line between two rounds, and "
        "their mean over the seeds; fewer is better. Hatched: only a of b seeds got there (a/b), and the others count "
        "with their last number of labels, so that the bar is too short."
    )
    return Picture("labels_to_reach", "Labels to reach an accuracy", caption, figure)


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
    figure = new_figure(8.5, 4.0)
    grid = figure.subplots(1, 2)
    for axes, (title, last) in zip(
        grid, (("area under the accuracy curve", None), ("accuracy at the end", run.horizon)), strict=True
    ):
        for group, color, marker in zip(groups, OKABE_ITO * len(groups), "os^DvPX" * len(groups), strict=False):
            kappas = [run.config(strategy)["kappa"] for strategy in group]
            curves = [run.compared_curve(strategy) for strategy in group]
            found = [mean_and_error(c.area if last is None else c.accuracy[:, last]) for c in curves]
            means, errors = (100 * np.array(values, dtype=np.float64) for values in zip(*found, strict=True))
            axes.errorbar(
                kappas,
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
    bars = "; bars are one standard error" if run.has_errors else ""
    caption = f"Strategies that differ in κ alone: mean over the seeds{bars}."
    return Picture("kappa", "Effect of κ", caption, figure)


def seconds_figure(run: Run, baseline: str) -> Picture:
    """Stacked bars of the seconds of each stage, the fastest strategy first."""
    seconds = {strategy: seconds_per_round(run, strategy) for strategy in run.started}
    order = sorted(seconds, key=lambda strategy: sum(seconds[strategy].values()))
    stages = list(dict.fromkeys(stage for strategy in run.started for stage in seconds[strategy]))
    figure, axes = single_axes(8.5, 0.3 * len(order) + 1.6)
    places = np.arange(len(order))[::-1]
    ends = np.zeros(len(order))
    for stage, color in zip(stages, cycle((VERMILION, BLUE, "#56B4E9", "#BBBBBB")), strict=False):
        widths = np.array([seconds[strategy].get(stage, 0.0) for strategy in order])
        axes.barh(places, widths, left=ends, height=0.72, color=color, label=stage, edgecolor="white", linewidth=0.5)
        ends += widths
    for place, end in zip(places, ends, strict=True):
        axes.annotate(f"{end:.3g} s", (end, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(places, [shown_name(strategy) for strategy in order])
    for text, strategy in zip(axes.get_yticklabels(), order, strict=True):
        text.set_fontweight("bold" if strategy == baseline else "normal")
    axes.set_xlim(0, 1.12 * float(ends.max()) or 1.0)
    axes.set_xlabel("seconds per round")
    figure.legend(loc="outside lower center", ncols=len(stages), frameon=False, fontsize=10)
    caption = "Mean wall time of each stage of a round, over all seeds and rounds in which the stage ran."
    return Picture("seconds", "Time per stage", caption, figure)
