"""The figure of the prediction sets over the rounds: sizes, overlap, disagreement, coverage and thresholds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..plots import BLUE, GREY, VERMILION
from .drawing import Picture, new_figure, plain_axes, whole_ticks
from .run import Run
from .statistics import CONFIDENCE, t_quantile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["sets_figure"]


def sets_figure(run: Run, baseline: str) -> Picture:
    """Prediction sets of one strategy in each round: the baseline, or the first that is CCMA."""
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
    figure = new_figure(3.5 * columns, 2.7 * rows)
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
        whole_ticks(axes)
        if len(axes.get_lines()) > 1:
            axes.legend(frameon=False, fontsize=9)
        plain_axes(axes)
    for axes in grid.flat[len(drawn) :]:
        axes.set_visible(False)
    bands = ""
    if run.has_errors:
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
