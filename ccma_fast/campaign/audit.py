"""Audits: rows drawn uniformly from those without labels, whose labels by people say how often a model is wrong."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..checks import check_integer, check_same_rows
from ..pool.class_codes import class_codes
from ..pool.class_names import agreed_class_names, differing_names
from ..pool.labels import read_labels
from ..pool.row_ids import check_beside
from ..pool.rows import Rows
from ..steps.predicted_rows import PredictedRows
from ..system import display
from .pool_predictions import PoolPredictions, read_predictions

__all__ = ["AuditSample", "PredictedPool", "audit_sample", "checked_audit", "drawn_rows", "predicted_pool"]

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class AuditSample:
    """The record of an audit: which rows people are to label, and how they were drawn.

    Attributes
    ----------
    rows : ndarray, shape (n,), int64
        In the order of the draw. Any first part of it is a uniform draw too, and the audit of another size by the same
        seed begins with the same rows.
    n_rows, n_labelled : int
        Rows of the pool, and how many of them had a label (or no image any more) and could not be drawn.
    random_state : int
    labelled : str
        Fingerprint of which rows could be drawn.
    predictions : str
        Fingerprint of the predicted labels and their scores.
    """

    rows: Int64 = field(repr=False)
    n_rows: int
    n_labelled: int
    random_state: int
    labelled: str
    predictions: str

    def __len__(self) -> int:
        return int(self.rows.size)

    def __repr__(self) -> str:
        of = f"{len(self):,} of {self.n_rows - self.n_labelled:,} rows without a label"
        return display.line("AuditSample", of, f"[{display.few(self.rows, len(self))}]", f"seed {self.random_state}")

    def _repr_html_(self) -> str:
        told = {"rows of the pool": self.n_rows, "with a label": self.n_labelled, "random_state": self.random_state}
        title = f"Audit: {len(self):,} rows for people to label, drawn at random"
        rows = ((k, row) for k, row in enumerate(self.rows.tolist(), start=1))
        return display.notebook_html(title, display.facts(told), display.table(["draw", "row"], rows, len(self)))


def audit_sample(
    probabilities: Any,
    n: int,
    *,
    labels: Any = None,
    class_names: Any = None,
    scores: Any = None,
    random_state: int = 0,
) -> AuditSample:
    """Draw the rows that people label to find out how often a model is wrong.

    Uniform without replacement among the rows without labels. What the audit is to judge, the probabilities, is fixed
    here: :func:`auto_label` refuses others, for a model that was trained on the audit's labels, or chosen for doing
    well on them, would judge itself.

    Parameters
    ----------
    probabilities : array_like, path or Rows, shape (N, C)
        Class probabilities of every row of the pool, in any form that ``features`` of :func:`ccma_fast.select` may
        have, or those of a loop, :meth:`ccma_fast.ActiveLearner.probabilities`. Read once, in chunks; of a loop once
        for all such calls together.
    n : int
        Rows; at most as many as have no label.
    labels : as for :func:`ccma_fast.select`, optional
        The labels that there are, those on which the model was trained among them. These rows, which active learning
        has chosen, are never drawn. Probabilities of a loop know its labels: here are others, if any.
    class_names : as for :func:`ccma_fast.select`, optional
        Where labels are names; a loop may know them.
    scores : array_like, shape (N,), optional
        How sure each predicted label is, larger for surer; by default its probability.
    random_state : int, default 0
        Seed of the draw.

    Returns
    -------
    AuditSample

    Raises
    ------
    ValueError
        Rows that are no probabilities, more rows than have no label, and what is wrong with labels.
    TypeError
        Arguments of another type.

    Examples
    --------
    Of 2,000 rows, 100 of which have a label, 50 are drawn for people to label:

    >>> import numpy as np, ccma_fast as cf
    >>> p = np.random.default_rng(0).dirichlet([0.2, 0.2, 0.2], 2000)
    >>> labels = np.where(np.arange(2000) < 100, 0, -1)
    >>> audit = cf.audit_sample(p, 50, labels=labels)
    >>> len(audit), audit.n_labelled, bool((audit.rows >= 100).all())
    (50, 100, True)

    :func:`auto_label` takes the audit and the labels of its rows.
    """
    n = check_integer("n", n, minimum=1)
    seed = check_integer("random_state", random_state, minimum=0, maximum=math.inf)
    predictions, unlabelled, _ = predicted_pool(probabilities, scores, labels, class_names)
    if n > unlabelled.size:
        raise ValueError(f"n must be at most the number of rows without a label, {unlabelled.size}, got {n}")
    return AuditSample(
        rows=drawn_rows(unlabelled, n, seed),
        n_rows=predictions.rows.n_rows,
        n_labelled=predictions.rows.n_rows - int(unlabelled.size),
        random_state=seed,
        labelled=_fingerprint(unlabelled),
        predictions=predictions.fingerprint,
    )


class PredictedPool(NamedTuple):
    """What a model predicts for a pool, and the rows that it may label."""

    predictions: PoolPredictions
    unlabelled: Int64
    """Rows without a label whose images are there, ascending."""
    class_names: list[str] | None


def predicted_pool(probabilities: Any, scores: Any, labels: Any, class_names: Any) -> PredictedPool:
    """The arguments that all functions about audits have, as :func:`audit_sample` describes them."""
    predictions = read_predictions(probabilities, scores)
    rows = predictions.rows
    names = _agreed_names(class_names, rows)
    is_unlabelled = read_labels(labels, rows, n_classes=rows.n_columns, class_names=names) < 0
    if isinstance(rows, PredictedRows) and rows.is_labelled is not None:
        is_unlabelled &= ~rows.is_labelled
    is_unlabelled[rows.vanished()] = False  # nobody could label them
    return PredictedPool(predictions, np.flatnonzero(is_unlabelled), names)


def _agreed_names(class_names: Any, rows: Rows) -> list[str] | None:
    """The names of the classes, from the caller, or from the loop that the probabilities are of."""
    names = agreed_class_names(class_names, None)
    theirs = rows.class_names if isinstance(rows, PredictedRows) else None
    if names is None or theirs is None:
        return theirs if names is None else names
    if len(names) != len(theirs) or differing_names(names, theirs):
        raise ValueError(f"class_names must be those of the loop, {theirs!r:.200}, got {names!r:.200}")
    return names


def checked_audit(
    audit: Any, audit_labels: Any, predictions: PoolPredictions, unlabelled: Int64, class_names: list[str] | None
) -> tuple[Int64, Int64]:
    """The rows of an audit that people have labelled, and their classes.

    Parameters
    ----------
    audit : AuditSample
    audit_labels : array_like, shape (n,) or shorter
        In the order of ``audit.rows``; a first part of them where people have not labelled all.
    predictions : PoolPredictions
    unlabelled : ndarray, int64
        Rows without a label.
    class_names : list of str or None

    Raises
    ------
    TypeError
        `audit` is no AuditSample.
    ValueError
        It is not the audit of these predictions and labels, or the labels are not those of a first part of it, or a
        pandas Series whose index says that they are of other rows or in another order.
    """
    if not isinstance(audit, AuditSample):
        raise TypeError(
            f"audit must be an AuditSample (what audit_sample returned), got {type(audit).__name__}: rows that were "
            "not drawn at random bound nothing"
        )
    _check_same_pool(audit, predictions, unlabelled)
    codes = class_codes(
        audit_labels, class_names=class_names, n_classes=predictions.rows.n_columns, name="audit_labels"
    )
    if codes.size > len(audit):
        whole = codes.size == predictions.rows.n_rows
        hint = "; of labels of the whole pool, y, give y[audit.rows]" if whole else ""
        raise ValueError(
            f"audit_labels must be at most {len(audit)}, one for each row of the audit, got {codes.size}{hint}"
        )
    check_beside("audit_labels", audit_labels, audit.rows[: codes.size], of="audit.rows")
    known = np.flatnonzero(codes >= 0)
    if known.size == 0:
        raise ValueError("audit_labels must have at least one label, got none")
    n_known = int(known.size)
    if known[-1] >= n_known:
        gap = int(np.flatnonzero(codes < 0)[0])
        raise ValueError(
            f"audit_labels must be those of a first part of the audit, in the order of the draw, got none for row "
            f"{audit.rows[gap]} (number {gap + 1} of the draw) but one for row {audit.rows[known[-1]]} (number "
            f"{known[-1] + 1}): where people choose which rows to label, they are no random draw"
        )
    return audit.rows[:n_known], codes[:n_known]


def _check_same_pool(audit: AuditSample, predictions: PoolPredictions, unlabelled: Int64) -> None:
    """Check that a pool is as it was when an audit was drawn from it."""
    check_same_rows("probabilities", predictions.rows.n_rows, "the pool of the audit", audit.n_rows)
    if predictions.fingerprint != audit.predictions:
        raise ValueError(
            "probabilities (or scores) are not those that the audit was drawn for; expected these, or another audit: a "
            "model that was trained on the audit's labels, or chosen by them, cannot be judged by them"
        )
    if _fingerprint(unlabelled) != audit.labelled:
        is_unlabelled = np.zeros(audit.n_rows, np.bool_)
        is_unlabelled[unlabelled] = True
        labelled = audit.rows[~is_unlabelled[audit.rows]]
        what = (
            f"row {labelled[0]} of the audit has one, on which the model may have been trained"
            if labelled.size
            else f"{audit.n_rows - unlabelled.size} rows have one where {audit.n_labelled} had"
            if unlabelled.size != audit.n_rows - audit.n_labelled
            else "other rows have one"
        )
        n_gone = predictions.rows.vanished().size
        gone = f" ({n_gone} rows whose images are gone count as labelled)" if n_gone else ""
        raise ValueError(f"labels must be of the rows that had one when the audit was drawn, got others: {what}{gone}")
    if not 1 <= len(audit) <= unlabelled.size:
        raise ValueError(
            f"audit must have from 1 to {unlabelled.size} rows, as many as have no label, got {len(audit)}: "
            "audit_sample did not draw it"
        )
    seed = check_integer("random_state of audit", audit.random_state, minimum=0, maximum=math.inf)
    if not np.array_equal(audit.rows, drawn_rows(unlabelled, len(audit), seed)):
        raise ValueError(f"audit must be as audit_sample drew it, got rows that random_state={seed} does not draw")


def drawn_rows(rows: Int64, n: int, seed: int) -> Int64:
    """`n` of `rows`, uniformly without replacement, in the order of the draw.

    Of the raw bits of the generator alone, which NumPy promises to keep from version to version (NEP 19).
    """
    bits = np.random.PCG64(seed)
    size = int(rows.size)
    end = 2**64 - 2**64 % size  # beyond it some rows would be more probable than others
    drawn: dict[int, None] = {}
    while len(drawn) < n:
        for number in bits.random_raw(n).tolist():
            if number < end and len(drawn) < n:
                drawn.setdefault(number % size)
    return rows[np.fromiter(drawn, np.int64, n)]


def _fingerprint(unlabelled: Int64) -> str:
    return hashlib.blake2b(np.ascontiguousarray(unlabelled, dtype="<i8").data, digest_size=16).hexdigest()
