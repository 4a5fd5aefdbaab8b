"""The pictures of a report.

Figures are built without pyplot: no window, no backend and no setting of the caller's session is touched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..curves import LearningCurve, mean_and_error
from ..plots import BLUE, GREY, OKABE_ITO, VERMILION
from .run import Run
from .tables import CONFIDENCE, difference_to, labels_to_reach, seconds_per_round, t_quantile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Picture", "kappa_groups", "pictures"]

Float64 = npt.NDArray[np.float64]

_BLACK = "#000000"
_FAINT = "#D9D9D9"
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)))
_LONGEST_NAME = 28
# More bands than this hide each other: then only the baseline and the best have one.
_MOST_BANDS = 6
_METRICS = {"accuracy": "test accuracy (%)", "macro_auroc": "macro AUROC (%)", "macro_f1": "macro F1 (%)"}


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure and what is said of it.

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


@dataclass(frozen=True)
class _Look:
    """How a strategy is drawn, in every picture."""

    color: str
    dash: Any
    width: float
    order: float


def pictures(run: Run, baseline: str, targets: Sequence[float]) -> list[Picture]:
    """Every picture that the run has numbers for, the most telling first.

    Parameters
    ----------
    run : Run
        With at least one finished round.
    baseline : str
        One of `run.compared`; it is drawn in black in every picture.
    targets : sequence of float
        Accuracies in (0, 1].
    """
    looks = _looks(run, baseline)
    found = [_curves(run, baseline, metric, looks) for metric in _METRICS if run.has(metric, run.started)]
    if len(run.compared) > 1:
        found.insert(1, _differences(run, baseline))
    if len(run.started) > 2:
        found.insert(2, _side_by_side(run, baseline, looks))
    found.append(_labels(run, baseline, targets))
    found.append(_diagnostics(run, baseline))
    groups = kappa_groups(run)
    if groups:
        found.append(_kappa(run, groups))
    if run.results.timings["seconds"].size:
        found.append(_seconds(run, baseline))
    if run.pool_map is not None:
        found.append(_map(run, run.pool_map, baseline))
    return found


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


def _looks(run: Run, baseline: str) -> dict[str, _Look]:
    """Black for the baseline; for the others six colours, then the same dashed, then dotted, by falling area."""
    others = [s for s in (*run.compared, *(s for s in run.started if s not in run.compared)) if s != baseline]
    colors = OKABE_ITO[:-1]
    looks = {
        strategy: _Look(colors[i % len(colors)], _DASHES[i // len(colors) % len(_DASHES)], 1.6, 3)
        for i, strategy in enumerate(others)
    }
    looks[baseline] = _Look(_BLACK, "-", 3.0, 5)
    return looks


def _curves(run: Run, baseline: str, metric: str, looks: dict[str, _Look]) -> Picture:
    curves = [run.curve(strategy, metric) for strategy in run.started]
    banded = {baseline, run.compared[0]} if len(curves) > _MOST_BANDS else set(run.started)
    figure, axes = _single(9.5, max(5.5, 0.27 * len(curves) + 1.2))
    for curve in curves:
        _draw_curve(axes, curve, looks[curve.name], band=curve.name in banded)
    axes.set_xlabel("labels")
    axes.set_ylabel(_METRICS[metric])
    _whole_ticks(axes)
    axes.margins(x=0.01)
    _label_ends(axes, curves, looks)
    whose = "the reference and the strategy of largest area" if len(curves) > _MOST_BANDS else "every strategy"
    bands = f" The band is one standard error on either side, for {whose}." if _has_errors(run) else ""
    names = {"accuracy": "accuracy", "macro_auroc": "macro AUROC", "macro_f1": "macro F1"}
    caption = f"Mean over the seeds; {baseline} is the reference, in black.{bands}"
    return Picture(f"curves_{metric}", f"Learning curves: {names[metric]}", caption, figure)


def _side_by_side(run: Run, baseline: str, looks: dict[str, _Look]) -> Picture:
    """One small plot for each strategy, with the baseline in all."""
    others = [s for s in (*run.compared, *(s for s in run.started if s not in run.compared)) if s != baseline]
    columns = min(4, len(others))
    rows = math.ceil(len(others) / columns)
    figure = _figure(2.6 * columns + 0.6, 2.1 * rows + 0.5)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    reference = run.curve(baseline)
    for axes, strategy in zip(grid.flat, others, strict=False):
        _draw_curve(axes, reference, _Look(_BLACK, "-", 1.3, 2), band=True)
        _draw_curve(axes, run.curve(strategy), _Look(BLUE, "-", 2.0, 3), band=True)
        gain = difference_to(run, strategy, baseline) if strategy in run.compared else None
        text = "" if gain is None else f"  {100 * gain.mean:+.1f}"
        axes.set_title(_shown(strategy) + text, fontsize=10, loc="left", color=BLUE)
        _plain_axes(axes)
    for axes in grid.flat[len(others) :]:
        axes.set_visible(False)
    figure.supxlabel("labels", fontsize=11)
    figure.supylabel(_METRICS["accuracy"], fontsize=11)
    bands = "; bands of one standard error" if _has_errors(run) else ""
    caption = (
        f"Each strategy (blue) with the reference {baseline} (black), by falling area{bands}. Numbers are the "
        "paired differences of the area in points."
    )
    return Picture("curves_side_by_side", f"Each strategy (blue) beside {_shown(baseline)} (black)", caption, figure)


def _differences(run: Run, baseline: str) -> Picture:
    others = [strategy for strategy in run.compared if strategy != baseline]
    figure, axes = _single(8.5, 0.3 * len(others) + 1.6)
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
    axes.axvline(0, color=_BLACK, linewidth=2)
    axes.set_yticks(places, [_shown(strategy) for strategy in others])
    axes.set_ylim(-0.7, len(others) - 0.3)
    axes.set_xlabel(f"area under the accuracy curve, less that of {_shown(baseline)} (points)")
    axes.grid(axis="x", color=_FAINT, linewidth=0.6)
    caption = "Mean of the differences seed by seed."
    if _has_errors(run):
        caption += (
            f" Thick: one standard error; thin: {100 * CONFIDENCE:g} % t interval. Filled where the interval leaves "
            "out zero; with so many comparisons one or the other does so by chance."
        )
    return Picture("paired_differences", f"Paired differences to {_shown(baseline)}", caption, figure)


def _labels(run: Run, baseline: str, targets: Sequence[float]) -> Picture:
    curves = [run.compared_curve(strategy) for strategy in run.compared]
    figure = _figure(max(3.3 * len(targets), 4.0) + 1.8, 0.3 * len(curves) + 1.5)
    grid = figure.subplots(1, len(targets), sharey=True, squeeze=False)[0]
    places = np.arange(len(curves))[::-1]
    most = int(curves[0].n_labels[-1])
    for axes, target in zip(grid, targets, strict=True):
        for place, curve in zip(places, curves, strict=True):
            reached = labels_to_reach(curve, target)
            color = _BLACK if curve.name == baseline else BLUE
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
        _plain_axes(axes)
    grid[0].set_yticks(places, [_shown(curve.name) for curve in curves])
    grid[0].set_ylim(-0.6, len(curves) - 0.4)
    caption = (
        "Labels at which each seed's curve first crosses the accuracy, a straight line between two rounds, and "
        "their mean over the seeds; fewer is better. Hatched: only a of b seeds got there (a/b), and the others count "
        "with their last number of labels, so that the bar is too short."
    )
    return Picture("labels_to_reach", "Labels to reach an accuracy", caption, figure)


def _diagnostics(run: Run, baseline: str) -> Picture:
    ccma = [strategy for strategy in run.started if strategy.partition(":")[0] == "ccma"]
    strategy = baseline if baseline in ccma or not ccma else ccma[0]
    student, teacher = ("student", BLUE, "-"), ("teacher", VERMILION, (0, (5, 1.5)))
    both, wide = (None, "#009E73", "-"), 100.0
    panels: list[tuple[str, float, list[tuple[str, tuple[str | None, str, Any]]]]] = [
        ("mean set size (classes)", 1.0, [("student_set_size", student), ("teacher_set_size", teacher)]),
        ("mean overlap (classes)", 1.0, [("overlap", both)]),
        ("top-1 disagreement (%)", wide, [("top1_disagreement", both)]),
        ("empirical coverage (%)", wide, [("student_coverage", student), ("teacher_coverage", teacher)]),
        ("threshold q (nats)", 1.0, [("q_student", student), ("q_teacher", teacher)]),
    ]
    drawn = []
    for title, scale, series in panels:
        known = [(metric, look) for metric, look in series if run.has(metric, [strategy])]
        if known:
            drawn.append((title, scale, known))
    columns = min(3, max(1, len(drawn)))
    rows = max(1, math.ceil(len(drawn) / columns))
    figure = _figure(3.5 * columns, 2.7 * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, (title, scale, known) in zip(grid.flat, drawn, strict=False):
        for metric, (name, color, dash) in known:
            curve = run.curve(strategy, metric)
            rounds, mean = np.arange(curve.n_labels.size), scale * curve.mean
            axes.plot(rounds, mean, color=color, linestyle=dash, linewidth=2, label=name)
            if curve.n_seeds > 1:
                is_share = "coverage" in metric
                wider = t_quantile(CONFIDENCE, curve.n_seeds - 1) if is_share else 1.0
                reach = scale * wider * curve.standard_error
                high = np.minimum(mean + reach, scale) if is_share else mean + reach  # no share exceeds 1
                axes.fill_between(rounds, mean - reach, high, color=color, alpha=0.2, linewidth=0)
        if title.startswith("empirical coverage"):
            _draw_nominal_coverage(axes, run, strategy)
        axes.set_title(title, fontsize=10.5, loc="left")
        axes.set_xlabel("round")
        _whole_ticks(axes)
        if len(axes.get_lines()) > 1:
            axes.legend(frameon=False, fontsize=9)
        _plain_axes(axes)
    for axes in grid.flat[len(drawn) :]:
        axes.set_visible(False)
    bands = ""
    if _has_errors(run):
        bands = (
            " Bands: one standard error over the seeds; around the coverage the two-sided "
            f"{100 * CONFIDENCE:g} % t interval of its mean over the seeds."
        )
    caption = (
        f"Of {strategy}, over all unlabelled rows of each round: mean |Γ| of student and teacher, mean "
        "|Γ of the student ∩ Γ of the teacher|, share of the rows whose two most probable classes differ, share whose "
        f"true class is in the set, and the thresholds.{bands} Rows that active learning has left over are not "
        "exchangeable with those that it has labelled: no coverage is guaranteed here."
    )
    return Picture("diagnostics", "Conformal sets over the rounds", caption, figure)


def _draw_nominal_coverage(axes: Axes, run: Run, strategy: str) -> None:
    config = run.config(strategy)
    if config["calibration"] == "coverage":
        axes.axhline(100 * (1 - config["alpha"]), color=GREY, linewidth=1.2, linestyle=":", label="1 − α")


def _kappa(run: Run, groups: list[list[str]]) -> Picture:
    figure = _figure(8.5, 4.0)
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
                label=_shown(group[0].partition(":")[0] if len(groups) == 1 else f"{group[0]} …"),
            )
        axes.set_xscale("log", base=2)
        ticks = sorted({run.config(strategy)["kappa"] for group in groups for strategy in group})
        axes.set_xticks(ticks, [f"{kappa:g}" for kappa in ticks])
        axes.minorticks_off()
        axes.set_xlabel("κ (candidates per pick)")
        axes.set_title(f"{title} (%)", fontsize=10.5, loc="left")
        _plain_axes(axes)
    if len(groups) > 1:
        grid[0].legend(frameon=False, fontsize=9)
    bars = "; bars are one standard error" if _has_errors(run) else ""
    caption = f"Strategies that differ in κ alone: mean over the seeds{bars}."
    return Picture("kappa", "Effect of κ", caption, figure)


def _seconds(run: Run, baseline: str) -> Picture:
    seconds = {strategy: seconds_per_round(run, strategy) for strategy in run.started}
    order = sorted(seconds, key=lambda strategy: sum(seconds[strategy].values()))
    stages = list(dict.fromkeys(stage for strategy in run.started for stage in seconds[strategy]))
    figure, axes = _single(8.5, 0.3 * len(order) + 1.6)
    places = np.arange(len(order))[::-1]
    ends = np.zeros(len(order))
    for stage, color in zip(stages, cycle((VERMILION, BLUE, "#56B4E9", "#BBBBBB")), strict=False):
        widths = np.array([seconds[strategy].get(stage, 0.0) for strategy in order])
        axes.barh(places, widths, left=ends, height=0.72, color=color, label=stage, edgecolor="white", linewidth=0.5)
        ends += widths
    for place, end in zip(places, ends, strict=True):
        axes.annotate(f"{end:.3g} s", (end, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(places, [_shown(strategy) for strategy in order])
    for text, strategy in zip(axes.get_yticklabels(), order, strict=True):
        text.set_fontweight("bold" if strategy == baseline else "normal")
    axes.set_xlim(0, 1.12 * float(ends.max()) or 1.0)
    axes.set_xlabel("seconds per round")
    figure.legend(loc="outside lower center", ncols=len(stages), frameon=False, fontsize=10)
    caption = "Mean wall time of each stage of a round, over all seeds and rounds in which the stage ran."
    return Picture("seconds", "Time per stage", caption, figure)


def _map(run: Run, pool: Mapping[str, npt.NDArray[Any]], baseline: str) -> Picture:
    """The pool by class, and where two strategies picked, by round."""
    from matplotlib.ticker import MaxNLocator

    others = [strategy for strategy in run.compared if strategy != baseline]
    shown = [baseline, *others[:1]]
    seed = run.shown_seeds(baseline)[0]
    figure = _figure(4.6 * (len(shown) + 1), 5.0)
    grid = figure.subplots(1, len(shown) + 1, sharex=True, sharey=True)
    x, y = pool["coordinates"].T
    _draw_classes(grid[0], pool)
    position = {int(row): place for place, row in enumerate(pool["rows"])}
    for axes, strategy in zip(grid[1:], shown, strict=True):
        axes.scatter(x, y, s=5, color=_FAINT, linewidth=0, rasterized=True)
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
        axes.set_title(f"picks of {_shown(strategy)}", fontsize=11, loc="left")
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
        axes.spines[:].set_color(_FAINT)
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


def _draw_curve(axes: Axes, curve: LearningCurve, look: _Look, *, band: bool) -> None:
    mean, error = 100 * curve.mean, 100 * curve.standard_error
    marker = "o" if curve.n_labels.size == 1 else None
    axes.plot(
        curve.n_labels,
        mean,
        color=look.color,
        linestyle=look.dash,
        linewidth=look.width,
        marker=marker,
        zorder=look.order,
    )
    if band and curve.n_seeds > 1:
        axes.fill_between(
            curve.n_labels, mean - error, mean + error, color=look.color, alpha=0.16, linewidth=0, zorder=1
        )


def _label_ends(axes: Axes, curves: Sequence[LearningCurve], looks: dict[str, _Look]) -> None:
    """The name of each curve beside its end, moved up or down until none covers another."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    ends = np.array([(100 * curve.mean[-1] - low) / (high - low) for curve in curves])
    # NaN where a measure has no value in the last round; its name goes to the foot.
    ends = np.where(np.isfinite(ends), ends, 0.0)
    height_inches = axes.get_figure().get_size_inches()[1] - 1.0  # type: ignore[union-attr]
    places = _spread(ends, min(0.2 / height_inches, 1.0 / max(len(curves) - 1, 1)))
    for curve, end, place in zip(curves, ends, places, strict=True):
        look = looks[curve.name]
        axes.annotate(
            _shown(curve.name),
            (float(curve.n_labels[-1]), low + end * (high - low)),
            xytext=(1.07, place),
            textcoords="axes fraction",
            va="center",
            fontsize=10,
            fontweight="bold" if look.color == _BLACK else "normal",
            color=look.color,
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


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _single(width: float, height: float) -> tuple[Figure, Axes]:
    figure = _figure(width, height)
    axes = figure.add_subplot()
    _plain_axes(axes)
    return figure, axes


def _plain_axes(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)


def _whole_ticks(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))


def _has_errors(run: Run) -> bool:
    """Some shown strategy has more than one seed."""
    return any(len(run.shown_seeds(strategy)) > 1 for strategy in run.started)


def _shown(name: str) -> str:
    """A name as matplotlib draws it: one short line, and no dollar that would begin a formula."""
    line = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    if len(line) > _LONGEST_NAME:
        # Names of one run differ at either end: "ccma:…,kappa=5".
        line = f"{line[: _LONGEST_NAME // 2]}…{line[1 - _LONGEST_NAME // 2 :]}"
    return line.replace("$", r"\$")
