"""How many rows a model could label, by the size of an audit that is still to be made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..checks import check_flag, check_fraction, check_integer, random_generator
from ..steps.risk_control import least_audit
from ..system import display
from .audit import AuditSample, checked_audit, predicted_pool
from .audited_groups import AuditedGroups
from .pool_predictions import PoolPredictions

__all__ = ["AuditForecast", "audit_forecast"]

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class AuditForecast:
    """The share of the rows without a label that a model could label, by the size of the audit. It prints as a table.

    Attributes
    ----------
    sizes : ndarray, shape (k,), int64
        Audit rows.
    share : ndarray, shape (k,), float64
        Mean of the simulated audits.
    low, high : ndarray, shape (k,), float64
        Between these are 80 % of them.
    n_unlabelled : int
    least : int
        The least size at which anything can be labelled (without ``per_class``); `n_unlabelled` where there is none.
    n_audited : int
        Rows of a first audit that the forecast is made from; 0 where it believes the model's own probabilities.
    max_error, confidence : float
    """

    sizes: Int64
    share: Float64
    low: Float64
    high: Float64
    n_unlabelled: int
    least: int
    n_audited: int
    max_error: float
    confidence: float

    def _limits(self) -> str:
        by = (
            f"the {self.n_audited:,} row{'s' if self.n_audited > 1 else ''} audited so far"
            if self.n_audited
            else "the model's own probabilities (as good as its calibration)"
        )
        return f"With an error of at most {100 * self.max_error:g} % at confidence {self.confidence:g}, by {by}:"

    def _least(self) -> str:
        if self.least < self.n_unlabelled:
            return f"At least {self.least:,} audit rows are needed for anything."
        return "With so few rows without a label, no audit that leaves one shows so small an error."

    def __repr__(self) -> str:
        shares = zip(self.sizes, self.share, strict=True)
        listed = display.few(shares, self.sizes.size, of=lambda entry: f"{entry[0]:,}: {display.percent(entry[1])}")
        return display.line(
            "AuditForecast", f"labelled by audit rows [{listed}]", f"at least {self.least:,} audit rows"
        )

    def _repr_html_(self) -> str:
        rows = [
            (n, *map(display.percent, shares))
            for n, *shares in zip(self.sizes.tolist(), self.share, self.low, self.high, strict=True)
        ]
        header = ["audit rows", "labelled by the model", "80 % of audits: from", "to"]
        table = display.table(header, rows, len(rows), shown=len(rows))
        limits, least = map(display.paragraph, (self._limits(), self._least()))
        return display.notebook_html("Audit forecast", limits, table, least)

    def __str__(self) -> str:
        lines = [self._limits(), "audit rows   labelled by the model   80 % of audits"]
        for n, share, low, high in zip(self.sizes, self.share, self.low, self.high, strict=True):
            between = f"{100 * low:.1f} to {100 * high:.1f} %"
            lines.append(f"{n:>10,}   {100 * share:>19.1f} %   {between:>16}")
        if not self.sizes.size:
            lines.append(f"no size is below {self.n_unlabelled:,}, the rows without a label")
        return "\n".join([*lines, self._least()])


# long: its docstring
def audit_forecast(
    probabilities: Any,
    sizes: Sequence[int] = (100, 200, 500, 1000, 2000),
    *,
    max_error: float = 0.05,
    confidence: float = 0.95,
    per_class: bool = False,
    labels: Any = None,
    class_names: Any = None,
    scores: Any = None,
    audit: AuditSample | None = None,
    audit_labels: Any = None,
    repetitions: int = 50,
    random_state: int = 0,
) -> AuditForecast:
    """Forecast what share of a pool :func:`auto_label` would label, before anyone labels an audit.

    Audits are drawn and judged as `auto_label` would; whether a row of one is wrong is simulated. Without a first audit
    it is wrong with the probability that the model gives the other classes: a forecast that believes the model. With
    one it is wrong where a row of next higher or lower score in that audit is, drawn with replacement for each
    simulation (bootstrap), so that the spread covers what a small audit does not tell. The model is then believed as if
    it were one more row: each simulation draws for how many rows from Beta(1, n), as a Dirichlet process has it
    (Ferguson 1973), or an audit of three rows without an error would forecast that there is none. Who has looked at the
    labels of an audit cannot extend it and keep the guarantee; the next audit is a new draw, for example by another
    seed.

    Parameters
    ----------
    probabilities, max_error, confidence, per_class, labels, class_names, scores
        As for :func:`auto_label`.
    sizes : sequence of int
        Audit rows; those that are not fewer than the rows without a label are left out.
    audit, audit_labels : optional
        A first audit and its labels, as for :func:`auto_label`.
    repetitions : int, default 50
        Simulated audits of each size.
    random_state : int, default 0

    Returns
    -------
    AuditForecast

    Raises
    ------
    ValueError, TypeError
        As :func:`auto_label`; no size, no row without a label, or an audit without its labels.

    Examples
    --------
    What audits of 100 and of 500 rows would let the model label, if it is as good as it says:

    >>> import numpy as np, ccma_fast as cf
    >>> p = np.random.default_rng(0).dirichlet([0.1, 0.1, 0.1], 5000)
    >>> forecast = cf.audit_forecast(p, [100, 500], repetitions=10)
    >>> forecast.sizes.tolist(), forecast.n_unlabelled
    ([100, 500], 5000)
    >>> bool(forecast.share[1] >= forecast.share[0])
    True
    """
    max_error, confidence = check_fraction("max_error", max_error), check_fraction("confidence", confidence)
    repetitions = check_integer("repetitions", repetitions, minimum=1)
    wanted = _checked_sizes(sizes)
    if (audit is None) != (audit_labels is None):
        raise ValueError("audit and audit_labels must be given together")
    rng = random_generator(random_state)
    predictions, unlabelled, names = predicted_pool(probabilities, scores, labels, class_names)
    groups = AuditedGroups(predictions, unlabelled, per_class=check_flag("per_class", per_class))
    first = None
    if audit is not None:
        first = _FirstAudit(*checked_audit(audit, audit_labels, predictions, unlabelled, names), predictions, groups)
    if not unlabelled.size:
        raise ValueError(
            f"labels must leave at least one row without a label, got {predictions.rows.n_rows} rows that all have one"
        )
    possible = [n for n in wanted if n < unlabelled.size]
    shares = np.zeros((len(possible), repetitions))
    for i, n in enumerate(possible):
        for k in range(repetitions):
            rows = unlabelled[rng.choice(unlabelled.size, n, replace=False)]
            is_wrong = rng.random(n) >= predictions.largest[rows] if first is None else first.simulated(rows, rng)
            found = groups.controlled(rows, is_wrong, max_error, confidence)
            n_labelled = sum(of_group.n_rows - of_group.n_audit for of_group in found)
            shares[i, k] = n_labelled / (unlabelled.size - n)
    low, high = np.quantile(shares, [0.1, 0.9], axis=1)
    return AuditForecast(
        sizes=np.array(possible, np.int64),
        share=shares.mean(axis=1),
        low=low,
        high=high,
        n_unlabelled=int(unlabelled.size),
        least=least_audit(int(unlabelled.size), max_error, 1 - confidence),
        n_audited=0 if first is None else len(first),
        max_error=max_error,
        confidence=confidence,
    )


def _checked_sizes(sizes: Any) -> list[int]:
    given = sizes.tolist() if isinstance(sizes, np.ndarray) else sizes
    if not isinstance(given, Sequence) or isinstance(given, (str, bytes)):
        raise TypeError(
            f"sizes must be a sequence of integers, such as [100, 200], got {type(given).__name__} {given!r}"
        )
    if not given:
        raise ValueError("sizes must have at least one entry, got none")
    return [check_integer("sizes", n, minimum=1) for n in given]


class _FirstAudit:
    """Simulates whether predictions are wrong from the rows of an audit."""

    def __init__(self, rows: Int64, codes: Int64, predictions: PoolPredictions, groups: AuditedGroups) -> None:
        self._rows, self._is_wrong = rows, predictions.labels[rows] != codes
        self._predictions, self._groups = predictions, groups

    def __len__(self) -> int:
        return int(self._rows.size)

    def simulated(self, rows: Int64, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
        """Whether each of some rows is predicted wrongly, as a neighbour by score in a resample of the audit is.

        Or, of some, as the model itself believes.
        """
        resample = rng.integers(len(self), size=len(self))
        of_resample, of_rows = self._groups.of_rows(self._rows[resample]), self._groups.of_rows(rows)
        is_wrong = np.empty(rows.size, np.bool_)
        for group in np.unique(of_rows):
            own = resample[of_resample == group]
            known = own if own.size else resample  # nothing is known of this class
            scores = self._predictions.scores[self._rows[known]]
            order = np.argsort(scores)
            at = np.flatnonzero(of_rows == group)
            wanted = self._predictions.scores[rows[at]]
            below = np.searchsorted(scores[order], wanted) - 1
            above = np.searchsorted(scores[order], wanted, side="right")
            neighbour = np.clip(rng.integers(below, above + 1), 0, known.size - 1)
            is_wrong[at] = self._is_wrong[known[order[neighbour]]]
        by_model = rng.random(rows.size) < rng.beta(1, len(self))
        is_wrong[by_model] = rng.random(int(by_model.sum())) >= self._predictions.largest[rows[by_model]]
        return is_wrong
