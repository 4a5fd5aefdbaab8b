"""Which rows a model may label with an error that an audit bounds: fixed-sequence testing of score thresholds.

A population of N rows has scores and predicted labels; an audit tells of n rows, drawn uniformly without replacement,
whether the prediction is right. Both numbers of rows and all scores are known, so the bound is that of a finite
population: among the K rows at or above a threshold, M of them wrong, the a audit rows have a hypergeometric number of
errors. The thresholds that are tested, and their order, depend on the scores, N and n alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Audited", "Controlled", "controlled_thresholds", "hypergeometric_tail", "least_audit", "most_wrong"]

Float32 = npt.NDArray[np.float32]

# Where a sequence starts. The strictest thresholds leave too few audit rows for any bound, and a first test that allows
# no error fails by one unlucky row; a loose start never passes where only few rows are easy. So it starts where three
# errors are allowed, or fewer where that would take more than a third of the audit, and two standard deviations of the
# number of audit rows looser (`bench/autolabel.py` compares).
_ERRORS_AT_START, _SHARE_AT_START, _DEVIATIONS_AT_START = 3, 1 / 3, 2.0


class Audited(NamedTuple):
    """A population and its audit.

    Attributes
    ----------
    scores : ndarray, shape (N,), float32
        Of all rows, audit rows included; ascending. The larger, the surer.
    audit_scores : ndarray, shape (n,), float32
        Of the audit rows.
    is_wrong : ndarray, shape (n,), bool
        Whether the predicted label of each audit row is wrong.
    """

    scores: Float32
    audit_scores: Float32
    is_wrong: npt.NDArray[np.bool_]


class Controlled(NamedTuple):
    """The loosest threshold whose error is under control.

    Attributes
    ----------
    threshold : float
        Rows of at least this score are labelled; +∞ where none can be.
    n_rows : int
        Rows of the population at or above it, audit rows included.
    n_audit, n_errors : int
        Audit rows among them, and how many of these are wrong.
    bound : float
        Upper limit, at the level of the tests, of the share of wrong labels among the others, had this threshold alone
        been tested; at most `max_error`. NaN where none can be labelled.
    is_tested : bool
        Whether there were audit rows enough for any bound.
    """

    threshold: float = math.inf
    n_rows: int = 0
    n_audit: int = 0
    n_errors: int = 0
    bound: float = math.nan
    is_tested: bool = False


def controlled_thresholds(populations: Sequence[Audited], max_error: float, delta: float) -> list[Controlled]:
    """For each population, the loosest threshold at which at most a share `max_error` of the labels given is wrong.

    Learn then Test (Angelopoulos, Bates, Candès, Jordan and Lei, arXiv 2110.01052) with fixed-sequence testing. With
    K_j the number of rows at or above threshold λ_j and M_j the wrong ones among them, null hypothesis j is
    M_j > m_j = ⌊ε K_j (1 − n/N)⌋. Its p-value is P(X ≤ e_j), X hypergeometric: a_j rows drawn of K_j, of which m_j + 1
    are wrong; e_j errors were found among a_j audit rows. Hypotheses are tested from strict to loose at level δ up to
    the first that is not rejected; of the rejected ones the loosest with m_j − e_j ≤ ε (K_j − a_j) is taken.

    **Theorem.** If the audit rows are drawn uniformly without replacement from the population, the scores and predicted
    labels do not depend on the audit, and its labels are right, then with probability at least 1 − δ over the draw, at
    most ε (K − a) of the K − a rows that are labelled, those at or above the threshold outside the audit, are wrong.

    *Proof.* Whether hypothesis j is true is not random. Given a_j, the audit rows at or above λ_j are a uniform draw
    from the K_j rows there, so a true hypothesis is rejected with probability at most δ. If any true hypothesis is
    rejected, so is the first true one of the sequence. Else M_j ≤ m_j for every rejected hypothesis at once, whichever
    is taken afterwards, and the rows outside the audit have M_j − e_j ≤ m_j − e_j ≤ ε (K_j − a_j) wrong labels. ∎

    Several populations (the rows of each predicted class) share δ equally (Bonferroni): all statements hold at once.
    Given how many audit rows fell into each, its own are a uniform draw. Those with too few for a bound take no share.

    Parameters
    ----------
    populations : sequence of Audited
    max_error, delta : float
        ε and δ, inside (0, 1).

    Notes
    -----
    The binomial bound (Clopper and Pearson 1934) is not safe here: the audit's own rows are labelled by people, and the
    errors lie among fewer rows. For N → ∞ both agree. Where the audit takes a large part n/N of a small population, m_j
    leaves out the errors that it will find itself, which makes the test stricter than it need be by that part. Rows of
    equal scores are all labelled or none.
    """
    found = [Controlled()] * len(populations)
    tested = _tested(populations, max_error, delta)
    for k in tested:
        found[k] = _loosest(populations[k], _design(populations[k], max_error, delta / len(tested)))
    return found


def _tested(populations: Sequence[Audited], max_error: float, delta: float) -> list[int]:
    """The most populations, those of the largest audits, that an equal share of `delta` lets each be tested."""
    order = sorted(range(len(populations)), key=lambda k: -populations[k].audit_scores.size)

    def able(among: list[int], n_tested: int) -> list[int]:
        return [k for k in among if _design(populations[k], max_error, delta / n_tested).can_reject]

    tested = able(order, 1)
    candidates, low, high = tested, min(1, len(tested)), len(tested)
    while low < high:  # what a smaller share lets be tested, a larger one does
        middle = (low + high + 1) // 2
        enough = able(candidates, middle)
        if len(enough) >= middle:
            low, tested = middle, enough
        else:
            high = middle - 1
    return tested[:low]


def least_audit(n_rows: int, max_error: float, delta: float) -> int:
    """The least number of audit rows, none of them wrong, that bounds the error of a whole population; at most N."""
    low, high = 1, n_rows
    while low < high:
        middle = (low + high) // 2
        if _Design(n_rows, middle, max_error, delta).can_reject:
            high = middle
        else:
            low = middle + 1
    return low


def most_wrong(n_errors: int, n_drawn: int, n_rows: int, delta: float) -> int:
    """The largest number of wrong rows among `n_rows` under which so few errors have a probability above δ.

    It is the upper limit, at confidence 1 − δ, for the number of marked rows of a finite population, of which `n_drawn`
    were drawn without replacement and `n_errors` were marked; for n_rows → ∞ that of Clopper and Pearson.
    """
    low, high = n_errors, n_rows - (n_drawn - n_errors)
    while low < high:
        middle = (low + high + 1) // 2
        if hypergeometric_tail(n_errors, n_drawn, middle, n_rows) > delta:
            low = middle
        else:
            high = middle - 1
    return low


def hypergeometric_tail(most: int, n_drawn: int, n_marked: int, n_rows: int) -> float:
    """P(X ≤ most), X the number of marked rows among `n_drawn` that are drawn without replacement from `n_rows`.

    Summed in logarithms, from the smallest value that X can have.
    """
    least = max(0, n_drawn + n_marked - n_rows)
    if most < least:
        return 0.0
    if most >= min(n_drawn, n_marked):
        return 1.0
    if least == 0:  # no marked row is drawn
        few, many = sorted((n_drawn, n_marked))
        first = np.log1p(-many / (n_rows - np.arange(few, dtype=np.float64))).sum()
    else:  # every row that is not marked is drawn
        unmarked = np.arange(n_rows - n_marked, dtype=np.float64)
        first = np.log((n_drawn - unmarked) / (n_rows - unmarked)).sum()
    x = np.arange(least, most, dtype=np.float64)
    ratios = (n_marked - x) * (n_drawn - x) / ((x + 1) * (n_rows - n_marked - n_drawn + x + 1))
    logs = first + np.concatenate([[0.0], np.cumsum(np.log(ratios))])
    largest = logs.max()
    return min(1.0, math.exp(largest) * math.fsum(np.exp(logs - largest)))


class _Design(NamedTuple):
    """What is tested, before anything is known of the audit's labels; see :func:`controlled_thresholds`."""

    n_rows: int
    n_audit: int
    max_error: float
    delta: float

    def most_allowed(self, n_at: int) -> int:
        """m of the threshold with `n_at` rows: ε times the rows expected outside the audit."""
        return math.floor(self.max_error * n_at * (1 - self.n_audit / self.n_rows))

    def rejects(self, n_errors: int, n_drawn: int, n_at: int) -> bool:
        """Whether more than m wrong rows among `n_at` are refuted by so few errors among `n_drawn` audit rows."""
        n_wrong = self.most_allowed(n_at) + 1
        share = n_wrong / n_at
        if n_errors < n_drawn * share and share < 1:  # Chernoff's bound (Hoeffding 1963) spares most of the sums
            found = n_errors / n_drawn
            entropy = (1 - found) * math.log((1 - found) / (1 - share)) + (found and found * math.log(found / share))
            if n_drawn * entropy > -math.log(self.delta):
                return True
        return hypergeometric_tail(n_errors, n_drawn, n_wrong, n_at) <= self.delta

    @property
    def can_reject(self) -> bool:
        """Whether an audit without errors would bound the error of all rows."""
        return 0 < self.n_audit < self.n_rows and self.rejects(0, self.n_audit, self.n_rows)

    def ranks(self) -> range:
        """How many audit rows are expected at or above each threshold of the sequence."""
        start = self._start(0)
        for n_errors in range(1, _ERRORS_AT_START + 1):
            looser = self._start(n_errors)
            if looser > _SHARE_AT_START * self.n_audit:
                break
            start = looser
        return range(start, self.n_audit + 1)

    def _start(self, n_errors: int) -> int:
        """The expected number of audit rows of a threshold at which so many errors are most probably allowed."""
        low, high = 1, self.n_audit
        while low < high:
            middle = (low + high) // 2
            if self.rejects(n_errors, middle, self.n_rows * middle // self.n_audit):
                high = middle
            else:
                low = middle + 1
        return min(self.n_audit, math.ceil(low + _DEVIATIONS_AT_START * math.sqrt(low * (1 - low / self.n_audit))))


def _design(population: Audited, max_error: float, delta: float) -> _Design:
    return _Design(population.scores.size, population.audit_scores.size, max_error, delta)


def _loosest(population: Audited, design: _Design) -> Controlled:
    """The loosest threshold that fixed-sequence testing allows."""
    order = np.argsort(population.audit_scores)
    audit_scores = population.audit_scores[order]
    from_end = np.cumsum(np.concatenate([[0], population.is_wrong[order[::-1]]]))
    n_rows, n_audit = design.n_rows, design.n_audit
    found, n_before = Controlled(is_tested=True), 0
    for expected in design.ranks():
        threshold = population.scores[n_rows - n_rows * expected // n_audit]
        n_at = n_rows - int(np.searchsorted(population.scores, threshold))  # ties are never split
        if n_at == n_before:
            continue
        n_before, n_drawn = n_at, n_audit - int(np.searchsorted(audit_scores, threshold))
        n_errors = int(from_end[n_drawn])
        if not design.rejects(n_errors, n_drawn, n_at):
            break
        if design.most_allowed(n_at) - n_errors <= design.max_error * (n_at - n_drawn) and n_drawn < n_at:
            found = Controlled(float(threshold), n_at, n_drawn, n_errors, is_tested=True)
    if found.n_rows == 0:
        return found
    n_wrong = most_wrong(found.n_errors, found.n_audit, found.n_rows, design.delta)
    return found._replace(bound=(n_wrong - found.n_errors) / (found.n_rows - found.n_audit))
