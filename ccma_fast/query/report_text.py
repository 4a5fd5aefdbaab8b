"""What a query did, in words: a report as people read it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["report_text"]

# Width of the words that lines begin with.
_INDENT = 11

# The likeliest temperature of a teacher that is right on every labelled row is at most this.
_NEVER_WRONG = 1e-6


def report_text(report: Any, *, with_stages: bool = True) -> str:
    """The lines of a report: what was there, what was believed, what was chosen, what it took, and warnings.

    Parameters
    ----------
    report : Report
        Of :mod:`ccma_fast.query.report`.
    with_stages : bool
        Whether a table has the cost of every stage.
    """
    lines = []
    for name, *texts in _entries(report):
        named = [name, *[""] * len(texts)]
        lines += [f"{word:{_INDENT}}{text}" for word, text in zip(named, filter(None, texts), strict=False)]
    if with_stages and report.stages:
        lines += ["", *_stage_table(report)]
    return "\n".join([*lines, *(f"warning: {text}" for text in report.warnings)])


def _stage_table(report: Any) -> Iterator[str]:
    """The time, reads and memory of every stage, beside what was expected."""
    planned: Mapping[str, Any] = {} if report.plan is None else report.plan.stages
    on_ranks = report.n_ranks > 1
    exchanged = f"{'exchanged':>11}" if on_ranks else ""
    yield f"{'stage':14}{'time':>8}{'read':>10}{'memory':>10}{exchanged}   expected"
    for name, stage in report.stages.items():
        seconds, read, memory = _seconds(stage.seconds), _bytes(stage.bytes_read), _bytes(stage.peak_memory)
        exchanged = f"{_bytes(stage.bytes_exchanged):>11}" if on_ranks else ""
        line = f"{name:14}{seconds:>8}{read:>10}{memory:>10}{exchanged}"
        if name in planned:
            line += f"   {_bytes(planned[name].bytes_read)} read, {_bytes(planned[name].peak_memory)}"
            if on_ranks:
                line += f", {_bytes(planned[name].bytes_exchanged)} exchanged"
        yield line


def _entries(report: Any) -> Iterator[tuple[str, ...]]:
    """A word, and the lines behind it; empty ones say nothing."""
    yield "pool", _pool(report)
    yield "backend", report.backend
    yield "picks", _picked_by(report), _passed_over(report)
    yield "student", _student(report)
    yield "teacher", *_teacher(report)
    yield "sets", _sets(report)
    yield "forced", *report.forced
    seconds, read, memory = _seconds(report.seconds), _bytes(report.bytes_read), _bytes(report.peak_memory)
    ranks = ""
    if report.n_ranks > 1:
        ranks = f" on {report.n_ranks} ranks, {_bytes(report.bytes_exchanged)} exchanged"
    yield "took", f"{seconds}{ranks}, {read} read, {memory} of memory"


def _pool(report: Any) -> str:
    counts = (
        (report.n_labelled, "labelled"),
        (report.n_pending, "being labelled"),
        (report.n_excluded, "excluded"),
        (report.n_vanished, "whose images are gone"),
        (report.n_unlabelled, "to choose from"),
    )
    parts = [f"{n:,} {what}" for n, what in counts if n or what in ("labelled", "to choose from")]
    classes = f"; {report.n_classes:,} classes" if report.n_classes else ""
    return f"{report.n_rows:,} rows: {', '.join(parts)}{classes}"


def _picked_by(report: Any) -> str:
    if report.mode == "cold start":
        return "by coverage of the pool, for there are no labels of two classes yet"
    where = f"a subpool of {report.n_scored:,}" if report.n_subpool_clusters else f"{report.n_scored:,} scored"
    led = "" if math.isnan(report.trust) else f"; the teacher leads {_percent(report.trust)}"
    return f"from {report.n_candidates:,} candidates among {where} rows{led}"


def _passed_over(report: Any) -> str:
    return f"{report.n_too_near:,} rows passed over, nearer than min_distance" if report.n_too_near else ""


def _student(report: Any) -> str:
    if math.isnan(report.penalty):
        return ""
    return f"logistic regression on {report.n_labelled:,} labels, penalty {report.penalty:.3g}"


def _teacher(report: Any) -> Iterator[str]:
    """Whether the teacher was believed, and how far; nothing where there was none, or nobody asked it."""
    if report.mode == "cold start" or math.isnan(report.top1_disagreement):
        return
    is_corrected = math.isfinite(report.correction_penalty)
    after = " after a correction by the labels" if is_corrected else ""
    is_even = math.isinf(report.teacher_temperature) and not is_corrected
    if is_even:
        yield "of no use: even guesses fit the labels better than its answers at any temperature, and take their place"
    elif report.soft_weight > 0.0:
        weight = _rounded(report.soft_weight)
        yield f"believed{after}: its answers weigh as much as {weight} labels in the student's training"
    elif report.config.get("head") == "distilled" and report.soft_weight == 0.0:
        yield "left out of the student's training: the labels do not show that its answers help it"
    elif report.soft_weight == 0.0:
        yield "not part of the student's training"
    if not is_even and not math.isnan(report.student_share):
        yield f"counts {_percent(1.0 - report.student_share)} in what both together predict{after}"
    yield f"names another class than the student for {_percent(report.top1_disagreement)} of the rows"
    if report.likeliest_temperature <= _NEVER_WRONG:
        yield "right on every labelled row, so that these tell no likeliest temperature"
    elif math.isfinite(report.likeliest_temperature):
        yield f"likeliest temperature by the labels: {report.likeliest_temperature:.3g}"


def _sets(report: Any) -> str:
    """The conformal sets; empty where none were formed."""
    if math.isnan(report.mean_student_set):
        return ""
    sizes = f"{report.mean_student_set:.2f} classes by the student"
    if not math.isnan(report.mean_teacher_set):
        sizes += f", {report.mean_teacher_set:.2f} by the teacher, {report.mean_overlap:.2f} in both"
    by = "coverage" if report.calibration == "coverage" else "target size"
    return f"{sizes}, on average; thresholds by {by}"


def _percent(share: float) -> str:
    return f"{100.0 * share:.0f} %"


def _seconds(seconds: float) -> str:
    if seconds < 60.0:
        return f"{seconds:.{2 if seconds < 10.0 else 0}f} s"
    return f"{seconds / 60.0:.1f} min" if seconds < 3600.0 else f"{seconds / 3600.0:.1f} h"


def _bytes(n: float) -> str:
    """A number of bytes in MB or GB of 10⁶ or 10⁹ bytes."""
    if n < 1e9:
        return f"{n / 1e6:.{1 if 0 < n < 1e7 else 0}f} MB"
    return f"{n / 1e9:,.{1 if n < 1e10 else 0}f} GB"


def _rounded(value: float) -> str:
    """Three digits at least, and no exponent."""
    return f"{value:,.0f}" if value >= 100.0 else f"{value:.3g}"
