"""The one truth: the method in float64 NumPy, straight from its equations.

Every other backend is tested and benchmarked against this module. It is written to be read: nothing is fused, nothing
is chunked, whole matrices are formed. Logarithms are natural throughout. Equations are those of Nguyen et al.,
"Conformal Cross-Modal Active Learning", arXiv 2603.23159.

Symbols: M rows, C classes, K clusters, D dimensions; a = −ln p the nonconformity (LAC), s the cumulative one (APS,
RAPS); q a threshold on either; Γ the conformal set of the classes whose score is at most q; Ω the union of the
student's and the teacher's set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt

from .checks import LEAST_LENGTH, raise_not_finite, raise_zero_length, random_generator
from .config import CCMAConfig
from .pool.array_like import check_weights
from .pool.rows import Rows
from .system import display

__all__ = [
    "KMEANS_PARALLEL_OVERSAMPLING",
    "KMEANS_PARALLEL_ROUNDS",
    "KMEANS_SAMPLE_ROWS",
    "TIE",
    "Cumulative",
    "KMeans",
    "QueryResult",
    "RowScores",
    "assign",
    "class_quotas",
    "coverage_threshold",
    "draw",
    "drawn_unit",
    "draws",
    "dropout_gradient",
    "greedy_coverage",
    "in_units",
    "kmeans_init",
    "kmeans_plus_plus_draws",
    "linear",
    "mass_of_labels",
    "nonconformity",
    "prediction_sets",
    "query",
    "raised_threshold",
    "representatives",
    "row_lengths",
    "row_thresholds",
    "sample_keys",
    "score",
    "softmax_gradient",
    "target_size_rank",
    "target_size_threshold",
    "top1",
    "top_m",
    "unit_exponent",
    "unit_rows",
    "up_to_ties",
    "weighted_coverage_threshold",
    "weighted_kmeans",
    "weighted_sample",
]

Array = npt.ArrayLike
Float64 = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

# k-means||: rounds, and the share of K that a round draws on average. Together about 2 K candidates, so that the
# initialisation costs about two Lloyd iterations.
KMEANS_PARALLEL_ROUNDS = 3
KMEANS_PARALLEL_OVERSAMPLING = 0.5

# Rows per cluster of the sample of method="sample": centroids of so many are within a per cent or two of the full run's
# inertia.
KMEANS_SAMPLE_ROWS = 64


# Two rows of a cluster are equally far from their mean. Rounding, which differs from backend to backend, is not to
# decide between them: so much (in squared distance of unit rows, or nats of δ) counts as equal.
TIE = 1e-6


# Scores that are equal in the equations differ by rounding: compiled backends sum a row's exponentials in float32, and
# any sum depends on its order. A set includes all scores that may tie with its threshold, up to this much larger in
# nats and relatively: the float32 sums of a calibration row and of a test row, and logarithms taken elsewhere.
SCORE_TIE = 2.0**-19

# The same for the scores that add up probabilities: these are double everywhere. It must be less than any probability
# that counts, or classes would join a set that stand behind it.
CUMULATIVE_TIE = 2.0**-42

# A class less probable than this is impossible to APS and RAPS. Sums of probabilities could not tell it from the class
# before it: where the softmax saturates every class would have the score 1.
LEAST_PROBABILITY = 2.0**-40


class Cumulative(NamedTuple):
    """A score that adds up probabilities: APS, and with a penalty RAPS. See :func:`nonconformity`."""

    penalty: float = 0.0
    """λ ≥ 0; 0 is APS."""
    k_reg: int = 0
    """Ranks that are free of the penalty."""
    u: Float64 | None = None
    """The share of its own probability that a class counts, in [0, 1], shape (M,); 1 in every row where None."""

    def of_rows(self, rows: slice | Int64) -> Cumulative:
        """The score of some of the rows."""
        return self if self.u is None else self._replace(u=self.u[rows])


class RowScores(NamedTuple):
    """Scores of M rows from one pass over the posteriors; every field has shape (M,)."""

    delta: Float32
    """δ in nats."""
    divergence: Float32
    """J in nats; 0 without a teacher."""
    margin: Float32
    """The student's largest probability minus its second largest, in [0, 1]."""
    confidence: Float32
    """The teacher's largest probability; 0 without a teacher."""
    student_top1: Int32
    """The student's most probable class (ties: the lowest)."""
    teacher_top1: Int32
    """The teacher's, −1 without a teacher."""
    student_size: Int32
    """|Γ_S|."""
    teacher_size: Int32
    """|Γ_T|; 0 without a teacher."""
    overlap: Int32
    """|Γ_S ∩ Γ_T|; 0 without a teacher."""

    @classmethod
    def empty(cls, n_rows: int) -> RowScores:
        """Arrays to be written."""
        return cls(
            delta=np.empty(n_rows, np.float32),
            divergence=np.empty(n_rows, np.float32),
            margin=np.empty(n_rows, np.float32),
            confidence=np.empty(n_rows, np.float32),
            student_top1=np.empty(n_rows, np.int32),
            teacher_top1=np.empty(n_rows, np.int32),
            student_size=np.empty(n_rows, np.int32),
            teacher_size=np.empty(n_rows, np.int32),
            overlap=np.empty(n_rows, np.int32),
        )

    @property
    def top1_differs(self) -> npt.NDArray[np.bool_]:
        """Whether student and teacher disagree on the most probable class; False without a teacher."""
        differs: npt.NDArray[np.bool_] = (self.student_top1 != self.teacher_top1) & (self.teacher_top1 >= 0)
        return differs


@dataclass(frozen=True)
class KMeans:
    """A weighted k-means clustering.

    Attributes
    ----------
    centroids : ndarray, shape (K, D), float32
    labels : ndarray, shape (M,), int32
        The nearest centroid of each row; ties go to the lower index.
    inertia : float
        Σ_i w_i ‖x_i − μ_label(i)‖², in squared units of the rows.
    n_iter : int
        Centroid updates that were made.
    backend : str
        The backend that ran.
    squared_distances : ndarray, shape (M,), float32
        ‖x_i − μ_label(i)‖².
    """

    centroids: Float32
    labels: Int32
    inertia: float
    n_iter: int
    backend: str
    squared_distances: Float32

    def __repr__(self) -> str:
        fit = f"inertia {self.inertia:.6g}, {self.n_iter} iterations, {self.backend}"
        return display.line("KMeans", f"{self.labels.size:,} rows, {len(self.centroids):,} clusters", fit)


class QueryResult(NamedTuple):
    """The outcome of :func:`query`, B picks and what decided them."""

    indices: Int64
    """Rows of the pool in the order of choice, shape (B,)."""
    scores: Float32
    """δ of each pick, shape (B,); NaN at cold start."""
    represents: Int64
    """Candidates behind each pick, shape (B,)."""
    scored: Int64
    """Rows of the pool that got a score, ascending, shape (M,)."""
    q_student: float = math.nan
    """Threshold in units of the score, the median where rows have their own; NaN where no sets were formed."""
    q_teacher: float = math.nan
    mean_student_set: float = math.nan
    """Mean |Γ_S| over the scored rows, in classes."""
    mean_teacher_set: float = math.nan
    trust: float = math.nan
    """t in [0, 1]; NaN at cold start and with other acquisitions than "trust"."""


# ---------------------------------------------------------------------------------------------------------------------
# Posteriors and conformal sets (steps 2 and 3)


def _finite(name: str, values: Array | Rows) -> Float64:
    array = np.asarray(values, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if bad.size:
        raise_not_finite(_name(values, name), _row_number(values, int(bad[0])))
    return array


def _name(values: Array | Rows, otherwise: str) -> str:
    return values.name if isinstance(values, Rows) else otherwise


def _row_number(values: Array | Rows, row: int) -> int:
    return values.row_number(row) if isinstance(values, Rows) else row


@overload
def up_to_ties(q: float, tie: float = SCORE_TIE) -> float: ...
@overload
def up_to_ties(q: float | Float64, tie: float = SCORE_TIE) -> float | Float64: ...
def up_to_ties(q: float | Float64, tie: float = SCORE_TIE) -> float | Float64:
    """The effective threshold of sets for a threshold q on scores, so that ties are included: q + tie · max(1, |q|)."""
    size = np.where(np.isinf(q), 0.0, np.maximum(1.0, np.abs(q)))
    cut: Float64 = q + tie * size
    return cut if cut.ndim else float(cut)


def nonconformity(logits: Array | Rows, cumulative: Cumulative | None = None, *, name: str = "logits") -> Float64:
    """The nonconformity of every class of every row, shape (M, C).

    LAC (Sadinle et al. 2019): a_ic = −ln softmax(z_i)_c = (max_c z_ic − z_ic) + ln Σ_c exp(z_ic − max_c z_ic), in units
    of −ln p.

    APS (Romano et al. 2020, arXiv 2006.02544) and RAPS (Angelopoulos et al. 2021, arXiv 2009.14193), where `cumulative`
    is given: s_ic = Σ_{c' before c} p_ic' + u_i · p_ic + λ · max(0, r_ic − k_reg), a probability plus a penalty. c' is
    before c where a_ic' < a_ic, and r_ic is one more than the number of such classes: classes of equal probability have
    the same score. Probabilities are divided by their own cumulative sum, so that the largest score without λ is 1. One
    more is added where p_ic < 2⁻⁴⁰ (`LEAST_PROBABILITY`): no threshold up to 1 admits an impossible class.
    """
    z = _finite(name, logits)
    shifted = z.max(axis=1, keepdims=True) - z
    a: Float64 = shifted + np.log(np.exp(-shifted).sum(axis=1, keepdims=True))
    if cumulative is None:
        return a
    order = np.argsort(a, axis=1, kind="stable")
    in_order = np.take_along_axis(a, order, axis=1)
    p = np.exp(-np.take_along_axis(shifted, order, axis=1))
    upto = np.cumsum(p, axis=1)
    is_first = np.concatenate([np.ones((len(a), 1), bool), in_order[:, 1:] != in_order[:, :-1]], axis=1)
    first = np.maximum.accumulate(np.where(is_first, np.arange(a.shape[1]), 0), axis=1)
    before = np.take_along_axis(np.concatenate([np.zeros((len(a), 1)), upto], axis=1), first, axis=1)
    u = 1.0 if cumulative.u is None else cumulative.u[:, None]
    of_first = np.take_along_axis(p, first, axis=1)
    s = (before + u * of_first) / upto[:, -1:]
    s += of_first / upto[:, -1:] < LEAST_PROBABILITY
    s += cumulative.penalty * np.maximum(first + 1 - cumulative.k_reg, 0)
    scores = np.empty_like(a)
    np.put_along_axis(scores, order, s, axis=1)
    return scores


def row_thresholds(
    logits: Array | Rows, q: float | Float64, cumulative: Cumulative, *, name: str = "logits"
) -> Float64:
    """Thresholds on −ln p that give the sets of a cumulative score, shape (M,).

    s grows with a, so that { c : s_ic ≤ q_i } = { c : a_ic ≤ t_i }, where t_i is the largest a_ic of that set, −∞ where
    it is empty. q is one threshold, or one for each row.
    """
    admitted = nonconformity(logits, cumulative, name=name) <= np.asarray(q)[..., None]
    thresholds: Float64 = np.where(admitted, nonconformity(logits, name=name), -np.inf).max(axis=1)
    return thresholds


def prediction_sets(logits: Array | Rows, q: float | Float64, *, name: str = "logits") -> npt.NDArray[np.bool_]:
    """Γ_i = { c : a_ic ≤ q_i }, and the lowest most probable class where that is empty; shape (M, C).

    q is one threshold on −ln p, or one for each row, shape (M,).
    """
    sets = nonconformity(logits, name=name) <= np.asarray(q)[..., None]
    empty = np.flatnonzero(~sets.any(axis=1))
    # The logits' own maximum: scores of logits that are very close can round to one number.
    sets[empty, top1(logits)[empty]] = True
    return sets


def top1(logits: Array | Rows) -> Int64:
    """The most probable class of each row (ties: the lowest), shape (M,)."""
    classes: Int64 = np.asarray(logits).argmax(axis=1)
    return classes


def target_size_rank(size: float, n_rows: int, n_classes: int) -> int:
    """The rank ⌈k·M⌉ among all M·C scores at which the mean set size reaches k (at most C)."""
    return max(1, _ceiling(min(size, n_classes) * n_rows, n_rows * n_classes))


def _ceiling(product: float, scale: float) -> int:
    """⌈x⌉ of a product of decimals up to `scale`, which rounding can leave just above a whole number.

    10 · (1 − 0.1) is to be 9, and 10 · 1.1 is to be 11.
    """
    return math.ceil(product - scale * 2.0**-51)


def target_size_threshold(
    logits: Array, size: float, cumulative: Cumulative | None = None, *, name: str = "logits"
) -> float:
    """The ⌈k·M⌉-th smallest of all M·C nonconformity scores, in their units."""
    a = nonconformity(logits, cumulative, name=name)
    rank = target_size_rank(size, *a.shape)
    return float(np.partition(a, rank - 1, axis=None)[rank - 1])


def raised_threshold(logits: Array, q: float, cumulative: Cumulative | None = None, *, name: str = "logits") -> float:
    """The least threshold from q up that leaves no set empty: max(q, max_i min_c a_ic)."""
    return float(nonconformity(logits, cumulative, name=name).min(axis=1).max(initial=q))


def coverage_threshold(calibration_scores: Array, alpha: float) -> float:
    """The ⌈(n+1)(1−α)⌉-th smallest calibration score (split conformal); +∞ where that exceeds n."""
    scores = np.sort(np.asarray(calibration_scores, dtype=np.float64))
    rank = max(1, _ceiling((scores.size + 1) * (1.0 - alpha), scores.size + 1))
    return math.inf if rank > scores.size else float(scores[rank - 1])


def weighted_coverage_threshold(
    calibration_scores: Array, alpha: float, weights: Array, test_weights: Array
) -> Float64:
    """The (1−α)-quantile of the calibration scores and +∞, each by its weight, for each test weight; shape (M,).

    Weighted split conformal prediction (Tibshirani et al. 2019, arXiv 1904.06019, Lemma 3): q_i is the smallest score
    s_k for which Σ_{j : s_j ≤ s_k} w_j ≥ (1−α) · (Σ_j w_j + w_i), +∞ where there is none. Equal weights give
    :func:`coverage_threshold`.
    """
    scores, w = np.asarray(calibration_scores, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    order = np.argsort(scores, kind="stable")
    mass = np.cumsum(w[order])
    # Rounding must not carry the wanted mass over that of a score which just reaches it.
    wanted = (mass[-1:].sum() + np.asarray(test_weights, dtype=np.float64)) * (1.0 - alpha) * (1.0 - 1e-9)
    thresholds: Float64 = np.append(scores[order], np.inf)[np.searchsorted(mass, wanted)]
    return thresholds


# ---------------------------------------------------------------------------------------------------------------------
# Disagreement and candidates (steps 4 and 5)


def _kl(p: Float64, m: Float64) -> Float64:
    """Σ_c p_c ln(p_c / m_c) for a mean m of p and another, of which p is at most twice as much."""
    with np.errstate(divide="ignore", invalid="ignore"):
        # Half of the least number of all rounds to zero.
        ratio = np.minimum(p / m, 2.0)
        divergence: Float64 = np.where(p > 0.0, p * np.log(ratio), 0.0).sum(axis=1)
    return divergence


def score(
    student_logits: Array,
    teacher_logits: Array | None = None,
    q_student: float | Float64 = math.inf,
    q_teacher: float | Float64 = math.inf,
) -> RowScores:
    """δ_i = g_i · J_i + (1 − g_i) · H_i (step 4), and what the report needs of each row.

    Parameters
    ----------
    student_logits, teacher_logits : array_like, shape (M, C)
        z^S and z^T (already divided by τ). Without a teacher δ = H.
    q_student, q_teacher : float or ndarray, shape (M,)
        Thresholds in units of −ln p, of all rows or of each. Rows whose set would be empty get their most probable
        class.
    """
    if teacher_logits is not None:
        # Of two rows that are not finite the first is named, and in one row the student.
        finite_s, finite_t = (np.isfinite(np.asarray(z)).all(axis=1) for z in (student_logits, teacher_logits))
        first = np.flatnonzero(~(finite_s & finite_t))[:1]
        if first.size and finite_s[first[0]]:
            _finite("teacher_logits", teacher_logits)
    a_s = nonconformity(student_logits, name="student_logits")
    p_s = np.exp(-a_s)
    entropy = (p_s * a_s).sum(axis=1)
    in_s = prediction_sets(student_logits, q_student, name="student_logits")
    ordered = np.sort(p_s, axis=1)
    of_student = {
        "margin": (ordered[:, -1] - ordered[:, -2]).astype(np.float32),
        "student_top1": top1(student_logits).astype(np.int32),
        "student_size": in_s.sum(axis=1, dtype=np.int32),
    }
    if teacher_logits is None:
        none = {"divergence": np.float32, "confidence": np.float32, "teacher_size": np.int32, "overlap": np.int32}
        return RowScores(
            delta=entropy.astype(np.float32),
            teacher_top1=np.full(len(p_s), -1, dtype=np.int32),
            **{name: np.zeros(len(p_s), dtype) for name, dtype in none.items()},
            **of_student,
        )

    a_t = nonconformity(teacher_logits, name="teacher_logits")
    p_t = np.exp(-a_t)
    in_t = prediction_sets(teacher_logits, q_teacher, name="teacher_logits")
    union = in_s | in_t
    masked_s, masked_t = np.where(union, p_s, 0.0), np.where(union, p_t, 0.0)
    masked_s /= masked_s.sum(axis=1, keepdims=True)
    masked_t /= masked_t.sum(axis=1, keepdims=True)
    mean = 0.5 * (masked_s + masked_t)
    # Rounding can leave equal posteriors a hair below zero.
    disagreement = np.maximum(0.5 * _kl(masked_s, mean) + 0.5 * _kl(masked_t, mean), 0.0)
    gate = p_t.max(axis=1) / (p_t.max(axis=1) + p_s.max(axis=1))
    return RowScores(
        delta=(gate * disagreement + (1.0 - gate) * entropy).astype(np.float32),
        divergence=disagreement.astype(np.float32),
        confidence=p_t.max(axis=1).astype(np.float32),
        teacher_top1=top1(teacher_logits).astype(np.int32),
        teacher_size=in_t.sum(axis=1, dtype=np.int32),
        overlap=(in_s & in_t).sum(axis=1, dtype=np.int32),
        **of_student,
    )


def top_m(scores: Array, m: int) -> Int64:
    """Positions of the m largest scores, largest first; ties go to the lower index (step 5)."""
    values = np.asarray(scores)
    return np.lexsort((np.arange(values.size), -values))[:m].astype(np.int64)


def linear(x: Array, weight: Array, bias: Array | None = None, *, scale: Array | None = None) -> Float32:
    """(scale · x) Wᵀ + b in float64, rounded to float32; shapes (M, D), (C, D), (C,), scale (M,) → (M, C)."""
    rows = np.asarray(x, dtype=np.float64)
    if scale is not None:
        rows = rows * np.asarray(scale, dtype=np.float64)[:, None]
    product = rows @ np.asarray(weight, dtype=np.float64).T
    if bias is not None:
        product = product + np.asarray(bias, dtype=np.float64)
    rounded: Float32 = product.astype(np.float32)
    return rounded


# ---------------------------------------------------------------------------------------------------------------------
# Coverage (step 6, and the subpool of step 1)


def softmax_gradient(
    coef: Float32, x: Float32, labels: Int64, soft: Float32, offset: Float32 | None, weights: Float32
) -> tuple[float, Float32]:
    """Σ w CE(t, softmax(W x + o)) of rows, and its gradient by W, Σ w (softmax(W x + o) − t) xᵀ.

    Parameters
    ----------
    coef : ndarray, shape (C, D), float32
        W.
    x : ndarray, shape (M, D), float32
    labels : ndarray, shape (n,), int64
        Classes, one-hot targets t of the first n rows.
    soft : ndarray, shape (M − n, C), float32
        Targets of the other rows: probabilities, each row's summing to 1.
    offset : ndarray, shape (M, C), float32, or None
        o, 0 where None.
    weights : ndarray, shape (M,), float32
        w.

    Returns
    -------
    loss : float
        Nats.
    gradient : ndarray, shape (C, D), float32
    """
    rows, w = x.astype(np.float64), weights.astype(np.float64)
    z = rows @ coef.astype(np.float64).T
    if offset is not None:
        z += offset
    z -= z.max(axis=1, keepdims=True)
    targets = np.concatenate([np.eye(len(coef))[labels], soft])
    e = np.exp(z)
    total = e.sum(axis=1)
    loss = float(w @ (np.log(total) - (targets * z).sum(axis=1)))
    residuals = w[:, None] * (e / total[:, None] - targets)
    return loss, (residuals.T @ rows).astype(np.float32)


def dropout_gradient(
    parameters: Float64, x: Float64, labels: Int64, stays: npt.NDArray[np.bool_]
) -> tuple[float, Float64]:
    """Σ CE(y, softmax(W x̃ + b)) of rows x̃ whose values were dropped but for those that stay, and its gradient.

    Parameters
    ----------
    parameters : ndarray, shape (C · D + C,), float64
        W (C, D), then b.
    x : ndarray, shape (n, D), float64
    labels : ndarray, shape (n,), int64
    stays : ndarray, shape (n, D), bool

    Returns
    -------
    loss : float
        Nats.
    gradient : ndarray, shape (C · D + C,), float64
    """
    n, d = x.shape
    n_classes = parameters.size // (d + 1)
    weight, bias = parameters[:-n_classes].reshape(n_classes, d), parameters[-n_classes:]
    dropped = np.where(stays, x, 0.0)
    z = dropped @ weight.T + bias
    z -= z.max(axis=1, keepdims=True)
    e = np.exp(z)
    total = e.sum(axis=1)
    loss = float((np.log(total) - z[np.arange(n), labels]).sum())
    residuals = e / total[:, None]
    residuals[np.arange(n), labels] -= 1.0
    return loss, np.concatenate([(residuals.T @ dropped).ravel(), residuals.sum(axis=0)])


def unit_rows(x: Array | Rows, *, name: str = "X") -> Float64:
    """Rows divided by their Euclidean length."""
    rows = _finite(name, x)
    lengths = row_lengths(rows)
    zero = np.flatnonzero(lengths < LEAST_LENGTH)
    if zero.size:
        raise_zero_length(_name(x, name), _row_number(x, int(zero[0])))
    unit: Float64 = rows / lengths[:, None]
    return unit


def row_lengths(x: Array) -> Float64:
    """Euclidean length of each row, shape (M,); not finite exactly where the row is not."""
    rows = np.asarray(x, dtype=np.float64)
    lengths: Float64 = np.sqrt((rows * rows).sum(axis=1))
    return lengths


def assign(x: Array, centroids: Array) -> tuple[Int32, Float64]:
    """The nearest centroid of each row (ties: the lower index) and the squared distance to it."""
    rows, centres = np.asarray(x, dtype=np.float64), np.asarray(centroids, dtype=np.float64)
    squared = np.stack([((rows - centre) ** 2).sum(axis=1) for centre in centres], axis=1)
    labels = squared.argmin(axis=1).astype(np.int32)
    return labels, squared[np.arange(len(rows)), labels]


def kmeans_init(x: Float64, n_clusters: int, weights: Float64, init: str, rng: np.random.Generator) -> Int64:
    """Rows that start a weighted k-means.

    "random": distinct rows, each drawn with probability proportional to its weight, in the order drawn.

    "k-means++": each row drawn with probability proportional to w_i · (squared distance to the nearest row drawn
    before) (Arthur and Vassilvitskii 2007).

    "k-means||": the oversampling of Bahmani et al. 2012 (arXiv 1203.6402): from one row drawn by weight, rounds that
    keep each row with probability min(1, ℓ · w_i d_i / Σ w d), ℓ = K/2; the candidates, weighted by the weight of the
    rows nearest to them, are thinned to K by k-means++. Where fewer than K candidates came, the rows of largest w_i d_i
    join them (ties: the lower index).
    """
    if init == "random":
        return weighted_sample(weights, n_clusters, rng)
    if init == "k-means++":
        return kmeans_plus_plus(x, n_clusters, weights, rng)

    candidates = [draw(weights, rng.random())]
    labels, squared = assign(x, x[candidates])
    for _ in range(KMEANS_PARALLEL_ROUNDS):
        potential = weights * squared
        total = math.fsum(potential.tolist())
        if total == 0.0:
            break
        keep = rng.random(len(x)) * total < KMEANS_PARALLEL_OVERSAMPLING * n_clusters * potential
        new = np.flatnonzero(keep)
        if new.size == 0:
            continue
        new_labels, new_squared = assign(x, x[new])
        closer = new_squared < squared
        labels = np.where(closer, new_labels + len(candidates), labels)
        squared = np.where(closer, new_squared, squared)
        candidates.extend(new.tolist())
    if len(candidates) < n_clusters:
        # The new centres stand on rows of their own, so those rows, and only those, change their label.
        others = np.setdiff1d(np.arange(len(x)), candidates)
        new = others[top_m((weights * squared)[others], n_clusters - len(candidates))]
        labels[new] = np.arange(len(candidates), n_clusters)
        candidates.extend(new.tolist())
    chosen = np.asarray(candidates)
    mass = mass_of_labels(labels, weights, len(candidates))
    return chosen[kmeans_plus_plus(x[chosen], n_clusters, mass, rng)]


def draw(potential: Float64, uniform: float) -> int:
    """The index that a uniform number in [0, 1) draws in proportion to `potential` (not all zero)."""
    return int(draws(potential, np.array([uniform]))[0])


def draws(potential: Float64, uniforms: Float64) -> Int64:
    """The index that each uniform number in [0, 1) draws in proportion to `potential` (not all zero).

    That is the first one up to which the sum of :func:`in_units` exceeds :func:`drawn_unit`. Sums of whole numbers are
    the same in any order: they can be formed in parts, wherever the rows lie.
    """
    cumulative = np.cumsum(in_units(potential, unit_exponent(float(potential.max()), potential.size)))
    units = [drawn_unit(uniform, int(cumulative[-1])) for uniform in uniforms.tolist()]
    return np.searchsorted(cumulative, np.array(units, dtype=np.int64), side="right").astype(np.int64)


def unit_exponent(largest: float, n: int) -> int:
    """k such that n numbers up to `largest`, times 2^k, are at most 2^50 and their sum below 2^62."""
    return min(50, 62 - n.bit_length()) - math.frexp(largest)[1]


def in_units(potential: Array, exponent: int) -> Int64:
    """The whole numbers nearest to potential · 2^exponent."""
    return np.rint(np.ldexp(np.asarray(potential, dtype=np.float64), exponent)).astype(np.int64)


def drawn_unit(uniform: float, total: int) -> int:
    """⌊uniform · total⌋, exactly; `uniform` is a multiple of 2^−53, as generators draw them."""
    return int(uniform * 2.0**53) * total >> 53


def mass_of_labels(labels: Array, weights: Array, n_labels: int) -> Float64:
    """The weight of the rows of each label, shape (n_labels,): sums that are rounded once."""
    label, w = np.asarray(labels), np.asarray(weights, dtype=np.float64)
    ends = np.cumsum(np.bincount(label, minlength=n_labels))
    groups = np.split(w[np.argsort(label, kind="stable")], ends[:-1])
    return np.array([math.fsum(group.tolist()) for group in groups])


def weighted_sample(weights: Array, size: int, rng: np.random.Generator) -> Int64:
    """`size` distinct indices drawn by weight, in the order drawn (Efraimidis and Spirakis 2006).

    Index i has the key ln(1 − u_i) / w_i; the largest keys win. Indices of weight zero come last.
    """
    return top_m(sample_keys(weights, rng.random(np.size(weights))), size)


def sample_keys(weights: Array, uniforms: Float64) -> Float64:
    """ln(1 − u_i) / w_i, and −∞ where the weight is zero."""
    w = np.asarray(weights, dtype=np.float64)
    keys = np.full(w.size, -np.inf)
    np.divide(np.log1p(-uniforms), w, out=keys, where=w > 0.0)
    return keys


def kmeans_plus_plus(x: Float64, n_clusters: int, weights: Float64, rng: np.random.Generator) -> Int64:
    """Rows drawn one after the other, each in proportion to w_i · (squared distance to the nearest row drawn before).

    A batch of :func:`kmeans_plus_plus_draws` draws goes by the potentials of its beginning; a draw counts with the
    probability that is left of its row's potential by the rows chosen since, which leaves the distribution as it is,
    and no row is chosen twice. Where nothing can be drawn it is the lowest index left.
    """
    chosen = [draw(weights, rng.random())]
    squared = ((x - x[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < n_clusters:
        potential, now = weights * squared, squared
        if not potential.any():
            chosen.append(int(np.setdiff1d(np.arange(len(x)), chosen)[0]))
            continue
        where, whether = rng.random((kmeans_plus_plus_draws(len(chosen)), 2)).T
        for index, uniform in zip(draws(potential, where).tolist(), whether.tolist(), strict=True):
            if uniform * potential[index] < weights[index] * now[index] and len(chosen) < n_clusters:
                chosen.append(index)
                now = np.minimum(now, ((x - x[index]) ** 2).sum(axis=1))
        squared = now
    return np.asarray(chosen, dtype=np.int64)


def kmeans_plus_plus_draws(n_chosen: int) -> int:
    """Draws of a batch: few enough that most of them count, as a quarter more rows change few potentials."""
    return min(256, max(1, n_chosen // 4))


def weighted_kmeans(
    x: Array | Rows,
    n_clusters: int,
    *,
    weights: Array | None = None,
    init: str | Array = "k-means||",
    max_iter: int = 20,
    tol: float = 1e-4,
    random_state: int | np.random.Generator | None = None,
    unit: bool = False,
) -> KMeans:
    """Lloyd's algorithm on Σ_i w_i · min_k ‖x_i − μ_k‖², by full float64 distance matrices.

    Parameters
    ----------
    x : array_like, shape (M, D)
    n_clusters : int
        K, at most M.
    weights : array_like, shape (M,), optional
        w, not negative; unit weights where missing or all zero.
    init : {"k-means||", "k-means++", "random"} or array_like, shape (K, D)
        See :func:`kmeans_init`.
    max_iter, tol : int, float
        At most `max_iter` updates; stops when the objective falls by no more than tol · objective.
    random_state : int, Generator or None
    unit : bool, default False
        Cluster the L2-normalised rows.

    Notes
    -----
    An empty cluster moves to the row of largest w_i d_i (ties: the lower index), several to as many rows, as long as
    that is positive; otherwise, and where all its rows weigh nothing, a centroid stays where it is.
    """
    rows = unit_rows(x) if unit else _finite("X", x)
    w = check_weights(weights, len(rows)).astype(np.float64)
    rng = random_generator(random_state)
    if isinstance(init, str):
        centroids = rows[kmeans_init(rows, n_clusters, w, init, rng)]
    else:
        centroids = np.asarray(init, dtype=np.float64).copy()

    labels, squared = assign(rows, centroids)
    inertia = math.fsum((w * squared).tolist())
    n_iter = 0
    while n_iter < max_iter:
        contribution = w * squared
        owners = labels.copy()
        empty = np.flatnonzero(np.bincount(owners, minlength=n_clusters) == 0)
        seeds = top_m(contribution, empty.size)
        seeds = seeds[contribution[seeds] > 0.0]
        owners[seeds] = empty[: seeds.size]
        for k in range(n_clusters):
            members = owners == k
            mass = w[members].sum()
            if mass > 0.0:
                centroids[k] = (w[members, None] * rows[members]).sum(axis=0) / mass
        n_iter += 1
        labels, squared = assign(rows, centroids)
        previous, inertia = inertia, math.fsum((w * squared).tolist())
        if previous - inertia <= tol * previous:
            break
    return KMeans(centroids.astype(np.float32), labels, inertia, n_iter, "reference", squared.astype(np.float32))


def representatives(
    labels: Array, squared: Array, n_picks: int, weights: Array, n_clusters: int, *, preference: Array | None = None
) -> tuple[Int64, Int64]:
    """`n_picks` distinct rows that stand for the clusters, and how many rows stand behind each.

    The first pick of every cluster comes before any second one; among equals the cluster of larger weight comes first,
    then that of lower index. Inside a cluster the row nearest to the centroid comes first, or, with `preference`, the
    row of largest preference; ties, and what lies within :data:`TIE` of the best, go to the lower index.

    Parameters
    ----------
    labels, squared : array_like, shape (M,)
        Cluster of each row and squared distance to its centroid.
    n_picks : int
        At most M.
    weights : array_like, shape (M,)
        The weights of the clustering.
    n_clusters : int
        K.
    preference : array_like, shape (M,), optional
        What to prefer instead of nearness.

    Returns
    -------
    picks : ndarray, shape (n_picks,), int64
    represents : ndarray, shape (n_picks,), int64
        The first pick of a cluster represents all its rows but those picked later, which represent themselves; the sum
        over all picks is M when every cluster has a pick.
    """
    cluster = np.asarray(labels)
    cost = np.asarray(squared if preference is None else np.negative(preference), dtype=np.float64)
    least = np.full(n_clusters, np.inf)
    np.minimum.at(least, cluster, cost)
    cost = np.where(cost <= least[cluster] + TIE, least[cluster], cost)
    by_cluster = np.lexsort((np.arange(cluster.size), cost, cluster))
    counts = np.bincount(cluster, minlength=n_clusters)
    starts = np.cumsum(counts) - counts
    turn = np.empty(cluster.size, dtype=np.int64)
    turn[by_cluster] = np.arange(cluster.size) - starts[cluster[by_cluster]]
    mass = mass_of_labels(cluster, weights, n_clusters)
    picks = np.lexsort((cluster, -mass[cluster], turn))[:n_picks].astype(np.int64)
    later = np.bincount(cluster[picks[turn[picks] > 0]], minlength=n_clusters)
    represents = np.where(turn[picks] == 0, (counts - later)[cluster[picks]], 1)
    return picks, represents.astype(np.int64)


# ---------------------------------------------------------------------------------------------------------------------
# Selection with acquisition="coverage" and "trust" (steps 5 and 6)


def class_quotas(available: Array, labelled: Array, budget: int, shares: Array | None = None) -> Int64:
    """Class-balanced quotas of `budget` picks, shape (C,): each pick goes to the class with the fewest labels.

    Labels are those there already and those of the picks before; ties go to the class with more `available` rows, then
    to the lower index. No class gets more picks than it has rows. Given the `shares` s of labels that are wanted, each
    pick goes to the class of least (labels + 1/2) / s, and to one of share 0 where no other has rows.
    """
    rows, labels = np.asarray(available), np.asarray(labelled)
    wanted = np.ones(rows.size) if shares is None else np.asarray(shares, dtype=np.float64)
    quotas = np.zeros(rows.size, dtype=np.int64)
    for _ in range(budget):
        with_rows = np.flatnonzero(quotas < rows).tolist()
        n = labels + quotas
        filled = np.divide(n + 0.5, wanted, out=np.full(rows.size, math.inf), where=wanted > 0.0)
        quotas[min(with_rows, key=lambda c: (filled[c], n[c], -rows[c], c))] += 1
    return quotas


def _squared_distances(x: Float64, others: Float64) -> Float64:
    """‖x_i − x_j‖², shape (M, n)."""
    return np.stack([((x - other) ** 2).sum(axis=1) for other in others], axis=1)


def greedy_coverage(x: Float64, covered: Float64, n_picks: int, weights: Array) -> Int64:
    """Rows of x that one after the other reduce Σ_i w_i · min_j ‖x_i − x_j‖² the most, by trying every row each time.

    j runs over the rows of `covered` and those chosen; unit rows that nothing covers are at their largest squared
    distance, 4. Where no row reduces anything, the rest follow in falling order of weight. Ties go to the lower index.
    """
    w = np.asarray(weights, dtype=np.float64)[:, None]
    by_weight = np.argsort(-w[:, 0], kind="stable")
    to_nearest = np.full(len(x), 4.0)
    if len(covered):
        to_nearest = _squared_distances(x, covered).min(axis=1)
    to_others = _squared_distances(x, x)
    chosen: list[int] = []
    while len(chosen) < n_picks:
        gains = (w * np.maximum(to_nearest[:, None] - to_others, 0.0)).sum(axis=0)
        gains[chosen] = 0.0
        best = int(gains.argmax())
        if gains[best] == 0.0:
            rest = by_weight[~np.isin(by_weight, chosen)]
            chosen.extend(rest[: n_picks - len(chosen)].tolist())
            break
        chosen.append(best)
        to_nearest = np.minimum(to_nearest, to_others[:, best])
    return np.asarray(chosen, dtype=np.int64)


# ---------------------------------------------------------------------------------------------------------------------
# The whole query


class _Picks(NamedTuple):
    """Chosen rows, by their positions among the scored ones, and what :class:`QueryResult` says of each."""

    positions: Int64
    scores: Float32
    represents: Int64


# long: the method in one piece, step after step
def query(
    features: Array,
    budget: int,
    *,
    labels: Array,
    student_logits: Array | None = None,
    teacher_logits: Array | None = None,
    teacher_features: Array | None = None,
    config: CCMAConfig | None = None,
    random_state: int = 0,
) -> QueryResult:
    """Steps 1 to 6 of :func:`ccma_fast.select`, given the posteriors' logits for the whole pool.

    Parameters
    ----------
    features : array_like, shape (N, D_S)
        x.
    budget : int
        B ≥ 1.
    labels : array_like, shape (N,), int
        y, −1 where there is none; at least one row has none.
    student_logits : array_like, shape (N, C), optional
        z^S, taken as they are: the student's calibration scores are those of the labelled rows' own logits. Without
        them, which labels of fewer than two classes allow, the query is a cold start.
    teacher_logits : array_like, shape (N, C), optional
        z^T, already divided by τ.
    teacher_features : array_like, shape (N, D_T), optional
        v; the space of the clusterings, which is x without them and with ``acquisition="coverage"``.
    config : CCMAConfig, optional
    random_state : int, default 0

    Returns
    -------
    QueryResult
        min(B, number of unlabelled rows) picks.

    Raises
    ------
    ValueError
        Labels of two classes without student logits: this module fits no student.
    """
    config = config or CCMAConfig()
    rng_subpool, _, rng_coverage = (np.random.default_rng(s) for s in np.random.SeedSequence(random_state).spawn(3))
    x, y = np.asarray(features, dtype=np.float64), np.asarray(labels)
    z_t = None if teacher_logits is None else np.asarray(teacher_logits, dtype=np.float64)
    labelled, pool = np.flatnonzero(y >= 0), np.flatnonzero(y < 0)
    budget = min(budget, pool.size)
    # A student that is trained here learns from the teacher; ready-made logits are of one that has not.
    learns = student_logits is None and config.head == "distilled"
    auto = "coverage" if learns or config.calibration != "coverage" else "trust"
    acquisition = auto if config.acquisition == "auto" else config.acquisition
    by_trust, published = acquisition == "trust", acquisition == "delta"
    in_x = teacher_features is None or acquisition == "coverage"
    space = x if in_x else np.asarray(teacher_features, dtype=np.float64)

    # Cold start
    if student_logits is None:
        if np.unique(y[labelled]).size > 1:
            raise ValueError(f"student_logits must be given with labels, got None and {labelled.size} labelled rows")
        if by_trust and z_t is not None:
            teacher = score(z_t[pool])
            already = np.bincount(y[labelled], minlength=z_t.shape[1])
            first = _picks_by_class(
                teacher.margin, teacher.student_top1, already, space[pool], budget, config, rng_coverage, cold=True
            )
        else:
            uncovered = None
            if labelled.size:
                similarity = unit_rows(space[pool]) @ unit_rows(space[labelled]).T
                uncovered = np.maximum(2.0 - 2.0 * similarity.max(axis=1), 0.0).astype(np.float32)
            picks, represents = _cover(space[pool], uncovered, budget, config, rng_coverage)
            first = _Picks(picks, np.empty(0, np.float32), represents)
        return QueryResult(pool[first.positions], np.full(budget, np.nan, np.float32), first.represents, pool)

    # 1. Subpool
    scored = _subpool(space, pool, budget, config, rng_subpool)

    # 2. Posteriors
    z_s = np.asarray(student_logits, dtype=np.float64)

    # 3. Conformal sets
    cut_s: float | Float64 = math.inf
    cut_t: float | Float64 = math.inf
    q_s = q_t = math.nan
    has_sets = published or (z_t is not None and labelled.size > 0)
    if has_sets:
        weights = None
        if config.reweight and config.calibration == "coverage":
            classes = top1(z_s if z_t is None else z_t)
            weights = _class_weights(classes[labelled], classes[scored])
        q_s, cut_s = _thresholds(z_s, config.student_set_size, scored, labelled, y, weights, config)
        if z_t is not None:
            q_t, cut_t = _thresholds(z_t, config.teacher_set_size, scored, labelled, y, weights, config)

    # 4. Disagreement
    rows = score(z_s[scored], None if z_t is None else z_t[scored], cut_s, cut_t)
    size_s = float(rows.student_size.mean()) if has_sets else math.nan
    size_t = float(rows.teacher_size.mean()) if has_sets and z_t is not None else math.nan

    # 5. Candidates and 6. Coverage
    if published:
        candidates = np.sort(top_m(rows.delta, config.kappa * budget))
        picks, represents = _cover(space[scored[candidates]], rows.delta[candidates], budget, config, rng_coverage)
        chosen = candidates[picks]
        return QueryResult(scored[chosen], rows.delta[chosen], represents, scored, q_s, q_t, size_s, size_t)

    trust = 0.0
    if by_trust and has_sets and size_s > 1.0:
        trust = max(0.0, 1.0 - (size_t - 1.0) / (size_s - 1.0))
    n_led = math.floor(trust * budget + 0.5)
    uncertainty = 1.0 - rows.margin
    led = _Picks(np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.int64))
    if n_led:
        delta = rows.confidence * (uncertainty + rows.divergence / np.float32(math.log(2.0)))
        already = np.bincount(y[labelled], minlength=z_s.shape[1])
        led = _picks_by_class(delta, rows.teacher_top1, already, space[scored], n_led, config, rng_coverage)
    whole = led
    if n_led < budget:
        free = np.setdiff1d(np.arange(scored.size), led.positions)
        covered = np.concatenate([labelled, scored[led.positions]])
        rest = _picks_by_student(uncertainty, free, x[scored], x[covered], budget - n_led, config)
        whole = _Picks(
            np.concatenate([led.positions, rest.positions]),
            np.concatenate([led.scores, rest.scores]),
            np.concatenate([led.represents, rest.represents]),
        )
    trust = trust if by_trust else math.nan
    return QueryResult(scored[whole.positions], whole.scores, whole.represents, scored, q_s, q_t, size_s, size_t, trust)


def _subpool(space: Float64, pool: Int64, budget: int, config: CCMAConfig, rng: np.random.Generator) -> Int64:
    """The rows of `pool` to score, ascending."""
    if config.pool_limit is not None and pool.size > max(config.pool_limit, budget):
        pool = np.sort(rng.choice(pool, max(config.pool_limit, budget), replace=False))
    n_rows = config.subpool_rows(pool.size, budget)
    if n_rows == pool.size:
        return pool
    k = config.cluster_count(pool.size, n_rows)
    found = weighted_kmeans(
        space[pool],
        k,
        init="random",
        max_iter=config.subpool_max_iter,
        tol=config.kmeans_tol,
        random_state=rng,
        unit=True,
    )
    kept, _ = representatives(found.labels, found.squared_distances, n_rows, np.ones(pool.size), k)
    return np.sort(pool[kept])


def _class_weights(labelled_class: Int64, scored_class: Int64) -> tuple[Float64, Float64]:
    """Weights of the labelled and of the scored rows that make each class as frequent among both.

    w_c = share_c / ((n_c + share_c) / (n + 1)), share_c that of the scored rows, n_c of n labelled rows.
    """
    of_class = {}
    for c in np.unique(scored_class).tolist():
        share = float((scored_class == c).mean())
        of_class[c] = share * (labelled_class.size + 1) / (int((labelled_class == c).sum()) + share)
    of_labelled = np.array([of_class.get(c, 0.0) for c in labelled_class.tolist()])
    return of_labelled, np.array([of_class[c] for c in scored_class.tolist()])


def _thresholds(
    logits: Float64,
    size: float,
    scored: Int64,
    labelled: Int64,
    y: Int64,
    weights: tuple[Float64, Float64] | None,
    config: CCMAConfig,
) -> tuple[float, float | Float64]:
    """A model's threshold in units of its score (the median of several), and the cuts on −ln p of the scored rows."""
    rule = {"lac": None, "aps": Cumulative(), "raps": Cumulative(config.raps_penalty, config.raps_k_reg)}[
        config.nonconformity
    ]
    z = logits[scored]
    q: float | Float64
    if config.calibration == "target_size":
        q = target_size_threshold(z, size, rule)
    else:
        scores = nonconformity(logits[labelled], rule)[np.arange(labelled.size), y[labelled]]
        alpha = config.alpha
        if config.acquisition != "delta":  # the largest coverage that so few labels attain is n / (n + 1)
            alpha = max(alpha, 1.0 / (labelled.size + 1.0))
        q = (
            coverage_threshold(scores, alpha)
            if weights is None
            else weighted_coverage_threshold(scores, alpha, *weights)
        )
    if config.nonempty == "raise":
        q = np.maximum(q, raised_threshold(z, -math.inf, rule))
    cuts = up_to_ties(q) if rule is None else row_thresholds(z, up_to_ties(q, CUMULATIVE_TIE), rule)
    return float(np.median(q)), cuts


def _cover(
    rows: Float64, weights: Float32 | None, n_picks: int, config: CCMAConfig, rng: np.random.Generator
) -> tuple[Int64, Int64]:
    """Step 6: positions of the picks by k-means, weighted where weights are given, and what stands behind each."""
    if len(rows) <= n_picks:
        order = np.arange(len(rows)) if weights is None else top_m(weights, len(rows))
        return order, np.ones(len(rows), dtype=np.int64)
    k = config.cluster_count(len(rows), n_picks)
    w = weights if weights is not None and config.weighted_coverage else np.ones(len(rows), dtype=np.float32)
    found = weighted_kmeans(
        rows,
        k,
        weights=w,
        max_iter=config.kmeans_max_iter,
        tol=config.kmeans_tol,
        random_state=rng,
        unit=True,
    )
    preference = weights if config.pick == "highest" else None
    return representatives(found.labels, found.squared_distances, n_picks, w, k, preference=preference)


def _picks_by_class(
    scores: Float32,
    classes: Int32,
    already: Int64,
    rows: Float64,
    n_picks: int,
    config: CCMAConfig,
    rng: np.random.Generator,
    *,
    cold: bool = False,
) -> _Picks:
    """The picks that the teacher leads: its classes with the fewest labels first, of each the best rows, spread.

    The best are the κ rows of largest score for each pick; when `cold`, the confident share, of equal weight.
    """
    chosen: list[tuple[int, int]] = []
    for c, quota in enumerate(class_quotas(np.bincount(classes, minlength=already.size), already, n_picks).tolist()):
        if quota == 0:
            continue
        members = np.flatnonzero(classes == c)
        m = max(quota, int(config.confident_share * members.size)) if cold else config.kappa * quota
        best = members[np.sort(top_m(scores[members], m))]
        picks, represents = _cover(rows[best], None if cold else scores[best], quota, config, rng)
        chosen.extend(zip(best[picks].tolist(), represents.tolist(), strict=True))
    chosen.sort(key=lambda pick: (-scores[pick[0]], pick[0]))
    positions, represents = np.asarray(chosen, dtype=np.int64).T
    return _Picks(positions, scores[positions], represents)


def _picks_by_student(
    uncertainty: Float32,
    free: Int64,
    x: Float64,
    covered: Float64,
    n_picks: int,
    config: CCMAConfig,
) -> _Picks:
    """The picks that the student leads: of the most uncertain `free` rows those that cover them, greedily."""
    n_candidates = min(config.student_kappa * n_picks, max(config.candidate_limit, 2 * n_picks))
    candidates = free[np.sort(top_m(uncertainty[free], n_candidates))]
    rows = unit_rows(x[candidates])
    known = unit_rows(covered) if len(covered) else covered
    picks = greedy_coverage(rows, known, n_picks, uncertainty[candidates])
    # A pick stands for itself, also where an equal row was picked before it.
    nearest, _ = assign(rows, rows[picks])
    nearest[picks] = np.arange(n_picks)
    represents = np.bincount(nearest, minlength=n_picks).astype(np.int64)
    return _Picks(candidates[picks], uncertainty[candidates[picks]], represents)
