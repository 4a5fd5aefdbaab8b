"""The figure of the prediction sets over the rounds: sizes, overlap, disagreement, coverage and thresholds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..plots import BLUE, GREEN, GREY, VERMILION
from .drawing import NARROW, Layout, Picture, new_figure, plain_axes, whole_ticks
from .run import Run
from .statistics import CONFIDENCE, t_quantile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["sets_figure"]

_STUDENT, _TEACHER = ("student", BLUE, "-"), ("teacher", VERMILION, (0, (5, 1.5)))
_BOTH = (None, GREEN, "-")
_PERCENT = 100.0

# Title, scale, and the columns with their looks; columns of shares are those of a scale of 100.
_PANELS: tuple[tuple[str, float, tuple[tuple[str, tuple[str | None, str, Any]], ...]], ...] = (
    ("mean set size (classes)", 1.0, (("student_set_size", _STUDENT), ("teacher_set_size", _TEACHER))),
    ("mean overlap (classes)", 1.0, (("overlap", _BOTH),)),
    ("top-1 disagreement (%)", _PERCENT, (("top1_disagreement", _BOTH),)),
    ("empirical coverage (%)", _PERCENT, (("student_coverage", _STUDENT), ("teacher_coverage", _TEACHER))),
    ("threshold q (nats)", 1.0, (("q_student", _STUDENT), ("q_teacher", _TEACHER))),
)


def sets_figure(run: Run, baseline: str) -> Picture | None:
    """Prediction sets of one strategy in each round: the baseline, or the first that is CCMA.

    None where the run has none.
    """
    ccma = [strategy for strategy in run.started if strategy.partition(":")[0] == "ccma"]
    strategy = baseline if baseline in ccma or not ccma else ccma[0]
    drawn = []
    for title, scale, series in _PANELS:
        known = [(metric, look) for metric, look in series if run.has(metric, [strategy])]
        if known:
            drawn.append((title, scale, known))
    if not drawn:
        return None

    def draw(layout: Layout) -> Figure:
        columns = min(2 if layout is NARROW else 3, len(drawn))
        rows = math.ceil(len(drawn) / columns)
        figure = new_figure(layout, (1.9 if layout is NARROW else 2.5) * rows)
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, (title, scale, known) in zip(grid.flat, drawn, strict=False):
            _draw_panel(axes, run, strategy, scale, known)
            if title.startswith("empirical coverage"):
                _draw_nominal_coverage(axes, run, strategy)
            if layout is NARROW:
                axes.set_title(title.replace(" (", "\n("), fontsize=9, loc="left")
            else:
                axes.set_title(title, fontsize=10.5, loc="left")
            axes.set_xlabel("round")
            whole_ticks(axes)
            if len(axes.get_lines()) > 1:
                axes.legend(frameon=False, fontsize=9)
            plain_axes(axes)
        for axes in grid.flat[len(drawn) :]:
            axes.set_visible(False)
        return figure

    bands = ""
    if run.has_errors:
        bands = (
            " Bands: one standard error over the seeds; around the coverage the two-sided "
            f"{100 * CONFIDENCE:g} % t interval of its mean over the seeds."
        )
    models = " of the student"
    disagreement = ""
    if any(look is _BOTH for _, _, known in drawn for _, look in known):
        models = " of student and teacher, and in both"
        disagreement = " share of the rows for which they name different classes,"
    caption = (
        f"Of {strategy}, over all unlabelled rows of each round: mean number of classes in the conformal sets{models},"
        f"{disagreement} share whose true class is in the set, and the thresholds.{bands} Rows that active learning "
        "has left over are not exchangeable with those that it has labelled: no coverage is guaranteed here."
    )
    courses = []
    for title, scale, known in drawn:
        for metric, (name, _, _) in known:
            mean = scale * run.curve(strategy, metric).mean
            courses.append(f"{title}{f' of the {name}' if name else ''} from {_number(mean[0])} to {_number(mean[-1])}")
    description = f"Line plots over the rounds of {strategy}, from the first to the last: {'; '.join(courses)}."
    return Picture("diagnostics", "Conformal sets over the rounds", caption, description, draw)


def _number(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "no value"


def _draw_panel(
    axes: Axes, run: Run, strategy: str, scale: float, known: list[tuple[str, tuple[str | None, str, Any]]]
) -> None:
    for metric, (name, color, dash) in known:
        curve = run.curve(strategy, metric)
        rounds, mean = np.arange(curve.n_labels.size), scale * curve.mean
        marker = "o" if rounds.size == 1 else None
        axes.plot(rounds, mean, color=color, linestyle=dash, linewidth=2, label=name, marker=marker)
        if curve.n_seeds > 1:
            wider = t_quantile(CONFIDENCE, curve.n_seeds - 1) if "coverage" in metric else 1.0
            reach = scale * wider * curve.standard_error
            # No size, share or threshold is below 0, and no share above 1.
            low, high = np.maximum(mean - reach, 0.0), np.minimum(mean + reach, scale if scale == _PERCENT else np.inf)
            axes.fill_between(rounds, low, high, color=color, alpha=0.2, linewidth=0)


def _draw_nominal_coverage(axes: Axes, run: Run, strategy: str) -> None:
    config = run.config(strategy)
    if config["calibration"] == "coverage":
        axes.axhline(100 * (1 - config["alpha"]), color=GREY, linewidth=1.2, linestyle=":", label="1 − α")
