"""Labels by a model for the rest of a pool, with an error that an audit bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..checks import check_flag, check_fraction
from ..steps.risk_control import Controlled, least_audit
from ..system import display
from .audit import AuditSample, checked_audit, predicted_pool
from .audited_groups import AuditedGroups

__all__ = ["AutoLabels", "auto_label"]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

# Classes that a report names.
_SHOWN = 12


@dataclass(frozen=True, eq=False)
class AutoLabels:
    """The rows that a model has labelled, those that are left for people, and what is known of the error.

    Printed, it says what is guaranteed. Arrays about thresholds have one entry, or with ``per_class`` one for each
    class.

    Attributes
    ----------
    rows : ndarray, shape (m,), int64
        Rows that get a label, ascending: no row of the audit, and none that had a label.
    labels : ndarray, shape (m,), int64
        Their predicted classes.
    scores : ndarray, shape (m,), float32
        How sure each is.
    for_people : ndarray, shape (k,), int64
        The other rows without a label, the least sure first (ties: the lower row): a label by people replaces one that
        would be wrong with the probability 1 − p, so that these correct the most for each label.
    people_scores : ndarray, shape (k,), float32
        How sure the model is of each of them.
    thresholds : ndarray, float64
        Rows of at least this score are labelled; +∞ where none can be.
    bounds : ndarray, float64
        Upper limit of the error among the rows labelled, had this threshold alone been tested; NaN where there are
        none. What holds for all that was tested is `max_error`.
    n_audit, n_audit_errors : ndarray, int64
        Audit rows at or above each threshold, and how many of them are predicted wrongly.
    is_tested : ndarray, bool
        Whether there were audit rows enough for a bound.
    n_audited, n_wrong : int
        The same of the whole audit.
    n_unlabelled : int
        Rows that had no label, the audit's included.
    max_error, confidence : float
    per_class : bool
    class_names : sequence of str or None
    """

    rows: Int64 = field(repr=False)
    labels: Int64 = field(repr=False)
    scores: Float32 = field(repr=False)
    for_people: Int64 = field(repr=False)
    people_scores: Float32 = field(repr=False)
    thresholds: Float64
    bounds: Float64
    n_audit: Int64
    n_audit_errors: Int64
    is_tested: npt.NDArray[np.bool_]
    n_audited: int
    n_wrong: int
    n_unlabelled: int
    max_error: float
    confidence: float
    per_class: bool
    class_names: Sequence[str] | None = field(repr=False)

    @property
    def share(self) -> float:
        """Share of the rows without a label of people that the model has labelled."""
        left = self.n_unlabelled - self.n_audited
        return self.rows.size / left if left else 0.0

    def __str__(self) -> str:
        lines = [f"{name:<18}{text}" for name, text in self._facts().items()]
        if self._has_classes():
            lines += self._of_classes()
        return "\n".join([*lines, *self._guarantee()])

    def __repr__(self) -> str:
        counts = (
            f"{self.rows.size:,} rows labelled ({display.percent(self.share)}), {self.for_people.size:,} for people"
        )
        limit = f"error at most {100 * self.max_error:g} % at confidence {self.confidence:g}"
        return display.line("AutoLabels", counts, limit if self.rows.size else "", "print it for all")

    def _repr_html_(self) -> str:
        parts = [display.facts(self._facts()), display.paragraph(" ".join(self._guarantee()))]
        if self._has_classes():
            rows = map(self._of_class, range(self.thresholds.size))
            header = ["class", "labelled", "errors / audit rows", "threshold"]
            parts.insert(1, display.table(header, rows, self.thresholds.size))
        title = f"Labels by the model: {self.rows.size:,} rows, {self.for_people.size:,} left for people"
        return display.notebook_html(title, *parts)

    def _facts(self) -> dict[str, str]:
        told = {
            "audit": f"{self.n_audited:,} of {self.n_unlabelled:,} rows without a label, drawn at random; "
            f"{self.n_wrong:,} predicted wrongly",
            "labelled": f"{self.rows.size:,} rows, {100 * self.share:.1f} % of those that nobody has labelled",
            "for people": f"{self.for_people.size:,} rows, the least sure first",
        }
        if self.rows.size and not self.per_class:
            told["threshold"] = (
                f"{self.thresholds[0]:.6g}, with {self.n_audit_errors[0]:,} errors among {self.n_audit[0]:,} audit "
                f"rows: an error of at most {100 * self.bounds[0]:.2f} % by this threshold alone"
            )
        return told

    def _has_classes(self) -> bool:
        return self.per_class and self.n_audited < self.n_unlabelled

    def _guarantee(self) -> list[str]:
        """What is promised, a clause a line."""
        if self.n_audited == self.n_unlabelled:
            return ["People have labelled every row of the audit, which is every row that had no label."]
        if not self.rows.size:
            return self._nothing()
        among = "the labels given of each class" if self.per_class else "the labels given"
        return [
            f"With probability {self.confidence:g} over the draw of the audit, at most {100 * self.max_error:g} % of "
            f"{among} are wrong,",
            "if people labelled the audit rightly,",
            "and if neither the model nor its scores nor this limit were chosen with the audit's labels in view.",
        ]

    def _nothing(self) -> list[str]:
        least = least_audit(self.n_unlabelled, self.max_error, 1 - self.confidence)
        if least == self.n_unlabelled:
            return [f"No audit that leaves one of {least:,} rows to the model shows so small an error."]
        if self.n_audited < least:
            return [
                f"An audit of {self.n_audited:,} rows is too small to show so small an error, however good the model:",
                f"that takes {least:,} rows without one error.",
            ]
        return [
            "No threshold shows so small an error:",
            "the model is wrong too often where it is sure, or the audit is too small.",
        ]

    def _of_classes(self) -> list[str]:
        """A line for each class, of the first ones where there are many."""
        lines = ["class             labelled   errors / audit rows   threshold"]
        n_classes = self.thresholds.size
        for c in range(min(_SHOWN, n_classes)):
            name, count, of_audit, threshold = self._of_class(c)
            lines.append(f"{name:<17.17} {count:>8,}   {of_audit:>19}   {threshold}")
        if n_classes > _SHOWN:
            n_none = int(np.isinf(self.thresholds).sum())
            lines.append(f"... {n_classes:,} classes in all, {n_none:,} of them without labels by the model")
        return lines

    def _of_class(self, c: int) -> tuple[str, int, str, str]:
        """Name, labels by the model, errors among audit rows and threshold of a class."""
        name = str(c) if self.class_names is None else self.class_names[c]
        count = int(np.count_nonzero(self.labels == c))
        if not np.isfinite(self.thresholds[c]):
            return name, count, "-", f"none: too {'many errors' if self.is_tested[c] else 'few audit rows'}"
        return name, count, f"{self.n_audit_errors[c]:,} / {self.n_audit[c]:,}", f"{self.thresholds[c]:.6g}"


# long: its docstring
def auto_label(
    probabilities: Any,
    audit: AuditSample,
    audit_labels: Any,
    *,
    max_error: float = 0.05,
    confidence: float = 0.95,
    per_class: bool = False,
    labels: Any = None,
    class_names: Any = None,
    scores: Any = None,
) -> AutoLabels:
    """Give the labels that a model predicts to as many rows as possible without exceeding an error.

    With probability at least `confidence` over the draw of the audit, at most a share `max_error` of the labels given
    is wrong: Learn then Test (arXiv 2110.01052) by fixed-sequence testing of score thresholds from strict to loose,
    with exact bounds for a finite pool; :func:`ccma_fast.steps.risk_control.controlled_thresholds` has theorem and
    proof. It holds for any model and scores, however badly calibrated: bad ones get fewer rows. It assumes that

    - the audit is a uniform draw from the rows without a label, which `audit_sample` sees to. Rows that active learning
      has chosen are no such draw and take no part;
    - its labels are right; and how many of them people give is decided before their labels are seen;
    - the scores were fixed before: the model was not trained on the audit's labels, nor chosen by them. An audit is for
      one call; who tries several `max_error` or models and keeps the best result has no guarantee.

    Parameters
    ----------
    probabilities : array_like, path or Rows, shape (N, C)
        Those that the audit was drawn for, read as by :func:`audit_sample`.
    audit : AuditSample
        What :func:`audit_sample` returned.
    audit_labels : array_like, shape (n,) or shorter
        The labels that people gave, in the order of ``audit.rows``; −1 or nothing for rows at the end that they did not
        reach. A pandas Series whose index says that they are of other rows, or in another order, is refused.
    max_error, confidence : float, default 0.05 and 0.95
        Inside (0, 1). An error of 5 % takes 59 audit rows at least, one of 1 % 299.
    per_class : bool, default False
        Bound the error among the labels given of each class, at once for all classes that have audit rows enough: each
        gets a threshold of its own at the level (1 − confidence) / number of these classes (Bonferroni).
    labels, class_names, scores
        As for :func:`audit_sample`, and the same.

    Returns
    -------
    AutoLabels

    Raises
    ------
    ValueError
        Another pool, other probabilities or scores, labels of other rows than when the audit was drawn (rows of the
        audit among them); audit labels with gaps: where people choose which rows to label, these are no random draw.
    TypeError
        `audit` is no AuditSample; arguments of another type.

    Examples
    --------
    >>> import ccma_fast as cf, numpy as np
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.integers(2, size=10_000)
    >>> p = rng.random(10_000)  # how sure a model is of class 1; it is right as often
    >>> truth = (rng.random(10_000) < p).astype(int)
    >>> p = np.stack([1 - p, p], axis=1)
    >>> audit = cf.audit_sample(p, 500)
    >>> found = cf.auto_label(p, audit, truth[audit.rows], max_error=0.1)
    >>> bool((truth[found.rows] != found.labels).mean() <= 0.1)
    True

    By the models of a loop, without an array of all probabilities:

    >>> x = rng.standard_normal((10_000, 2), dtype=np.float32) + 2 * np.eye(2, dtype=np.float32)[truth]
    >>> p = cf.ActiveLearner(x, labels=np.where(np.arange(10_000) < 50, truth, -1)).probabilities()
    >>> audit = cf.audit_sample(p, 500)
    >>> found = cf.auto_label(p, audit, truth[audit.rows])
    >>> bool((truth[found.rows] != found.labels).mean() <= 0.05)
    True
    """
    max_error, confidence = check_fraction("max_error", max_error), check_fraction("confidence", confidence)
    per_class = check_flag("per_class", per_class)
    predictions, unlabelled, names = predicted_pool(probabilities, scores, labels, class_names)
    rows, codes = checked_audit(audit, audit_labels, predictions, unlabelled, names)
    is_wrong = predictions.labels[rows] != codes
    groups = AuditedGroups(predictions, unlabelled, per_class=per_class)
    controlled = groups.controlled(rows, is_wrong, max_error, confidence)
    thresholds = np.array([of_group.threshold for of_group in controlled])
    is_left = np.ones(predictions.scores.size, np.bool_)
    is_left[rows] = False
    left = unlabelled[is_left[unlabelled]]
    # A threshold is one of the scores, and so exact in float32.
    is_labelled = predictions.scores[left] >= thresholds.astype(np.float32)[groups.of_rows(left)]
    people = left[~is_labelled]
    people = people[np.argsort(predictions.scores[people], kind="stable")]
    return AutoLabels(
        rows=left[is_labelled],
        labels=predictions.labels[left[is_labelled]].astype(np.int64),
        scores=predictions.scores[left[is_labelled]],
        for_people=people,
        people_scores=predictions.scores[people],
        thresholds=thresholds,
        bounds=np.array([of_group.bound for of_group in controlled]),
        n_audit=_counts(controlled, "n_audit"),
        n_audit_errors=_counts(controlled, "n_errors"),
        is_tested=np.array([of_group.is_tested for of_group in controlled]),
        n_audited=int(rows.size),
        n_wrong=int(is_wrong.sum()),
        n_unlabelled=int(unlabelled.size),
        max_error=max_error,
        confidence=confidence,
        per_class=per_class,
        class_names=names,
    )


def _counts(controlled: list[Controlled], name: str) -> Int64:
    return np.array([getattr(of_group, name) for of_group in controlled], np.int64)
