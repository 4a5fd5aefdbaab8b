"""Faults of logits that labelled rows show: probabilities in their place, a temperature far off, another class order.

Such faults leave numbers that look like any others, and a query that quietly chooses badly. None of them is certain:
these are suspicions. Each needs evidence that honest logits do not give, be they of a poor model or one too sure of
itself, and be the rows few, of some classes only, or hard ones that a query chose.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..pool.derived import RowSubset
from ..pool.rows import Rows
from .intervals import coverage_interval
from .temperature import likeliest_temperature, log_loss

__all__ = [
    "Suspicions",
    "chance_accuracy",
    "probability_suspicions",
    "sampled_rows",
    "suspicions",
]

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

# Labelled rows that are looked at: enough for every suspicion, and little beside what a query with more of them does.
_MOST_ROWS, _LEAST_ROWS, _MOST_LOGITS = 1 << 14, 1 << 8, 1 << 21

# A temperature is far off beyond this factor. Mistaken units are off by 30 and more; poor calibration, and hard rows
# alone, by less.
_FAR = 10.0

# The share of the nats of guessing that a teacher must save at its likeliest temperature for that to mean anything.
_INFORMED = 0.1

# Nats of evidence for a suspicion, beyond the logarithm of how many of its kind could have come up.
_EVIDENCE = 7.0

# Share of a class's rows that must be predicted as one other class.
_MOSTLY = 1 / 2

# A model with this many classes that are mostly predicted right does not guess.
_OWN_NAMES = 6

# A teacher that is right on no more rows than this beyond guessing, as far as 95 % intervals tell, is of no use; so
# many rows tell it, where most are not of one class.
_BEYOND_CHANCE, _LEAST_GUESSES, _MOST_CHANCE = 0.1, 50, 0.5

# Nats of evidence that all labelled classes follow a rule, beyond what guessing gives.
_EVERY_CLASS = 4.0

# Rows that are checked for probabilities where no row is labelled.
_PEEK = 256

# Tolerance of the sums of probabilities, for bfloat16 too.
_ROUNDING = 2.0**-8

_MOST_NAMED = 5


class Suspicions(NamedTuple):
    """Results of the sanity checks of logits by labelled rows."""

    likeliest_temperature: float
    """Maximum-likelihood temperature, in the units of the given one; NaN without one."""
    texts: list[str]
    """A sentence for each suspicion."""


def sampled_rows(n_labelled: int, n_classes: int) -> int:
    """Number of labelled rows that :func:`suspicions` uses."""
    return min(n_labelled, _MOST_ROWS, max(_LEAST_ROWS, _MOST_LOGITS // n_classes))


def suspicions(
    model: str,
    logits: Rows,
    labels: Int64,
    class_names: Sequence[str] | None,
    *,
    temperature: float | None = None,
    ready_made: bool = True,
    whole_order: bool = True,
    unproven: bool = False,
) -> Suspicions:
    """Sanity checks of a model's logits by the labelled rows; of many rows, a random sample with a fixed seed.

    Parameters
    ----------
    model : str
        Name of the model in the texts, such as "the teacher".
    logits : Rows, shape (n, C)
        Logits of the labelled rows, at the model's temperature; n ≥ 1.
    labels : ndarray, shape (n,), int64
    class_names : sequence of str or None
        The names of the labels' classes, in their order.
    temperature : float, optional
        The temperature that the logits were divided by. Without one their scale is not tested.
    ready_made : bool, default True
        Whether the caller passed the logits, which may be probabilities then.
    whole_order : bool, default True
        Whether another order of all classes may be suspected. Among rows that a query chose because two models
        disagree, a model of two classes that is wrong now and then looks like one that exchanges them, or guesses.
    unproven : bool, default False
        Whether a model with a temperature is suspected until it is shown to be better than guessing, and not only where
        it is shown to be little better.
    """
    if (n := sampled_rows(labels.size, logits.n_columns)) < labels.size:
        some = np.sort(np.random.default_rng(0).choice(labels.size, n, replace=False))
        logits, labels = RowSubset(logits, some), labels[some]
    z = logits.float32().astype(np.float64)
    likeliest = math.nan
    texts = []
    if ready_made and _are_probabilities(z * (temperature or 1.0)):
        texts.append(_probabilities_text(model, f"each of the {n} labelled rows"))
    if temperature is not None:
        likeliest = likeliest_temperature(z * temperature, labels)
        if not texts:
            texts += _of_temperature(model, z, labels, temperature, likeliest, ready_made)
    calls, names = _calls(z), class_names or [str(c) for c in range(z.shape[1])]
    texts += _of_order(model, calls, labels, names, whole_order)
    if temperature is not None and (unproven or (whole_order and not texts)):
        texts += _of_guessing(model, labels, calls, len(names), unproven)
    return Suspicions(likeliest, texts)


def probability_suspicions(model: str, logits: Rows) -> list[str]:
    """Whether ready-made logits look like probabilities in the first rows, which needs no labels."""
    n = min(_PEEK, logits.n_rows)
    first = RowSubset(logits, np.arange(n)).float32().astype(np.float64)
    return [_probabilities_text(model, f"each of the first {n} rows")] if _are_probabilities(first) else []


def _probabilities_text(model: str, rows: str) -> str:
    return (
        f"{model}'s logits lie in [0, 1] and add up to 1 in {rows}, as probabilities do; if they are some, their "
        "logarithms are expected"
    )


def _of_guessing(model: str, labels: Int64, calls: Int64, n_classes: int, unproven: bool) -> list[str]:
    """Whether a model is right no more often than by chance."""
    n, n_right = labels.size, int((calls == labels).sum())
    low, high = coverage_interval(n_right, n)
    chance = chance_accuracy(calls, labels, n_classes)
    is_shown = n >= _LEAST_GUESSES and n_classes > 2 and chance <= _MOST_CHANCE and high <= chance + _BEYOND_CHANCE
    if low > chance or not (unproven or is_shown):
        return []
    return [
        f"{model} is right on {100 * n_right / n:.1f} % of the {n} labelled rows (95 % interval {100 * low:.1f} to "
        f"{100 * high:.1f} %), no better than chance ({100 * chance:.1f} %); are its classes in the order of the "
        "labels, and its images the pool's?"
    ]


def chance_accuracy(predicted: Int64, labels: Int64, n_classes: int) -> float:
    """The accuracy to be expected of predictions that are independent of the labels.

    Σ_c (share of rows predicted as c) · (share of rows of class c); a prediction of −1 is of no class.
    """
    shares = (np.bincount(of[of >= 0], minlength=n_classes) / labels.size for of in (predicted, labels))
    of_predicted, of_labels = shares
    return float(of_predicted @ of_labels)


def _are_probabilities(z: Float64) -> bool:
    if len(z) < 2 or z.min() < 0.0 or z.max() > 1.0 + _ROUNDING:
        return False
    return bool((np.abs(z.sum(axis=1) - 1.0) <= _ROUNDING).all())


# ---------------------------------------------------------------------------------------------------------------------
# Temperature


def _of_temperature(
    model: str, z: Float64, labels: Int64, temperature: float, likeliest: float, ready_made: bool
) -> list[str]:
    """Whether the maximum-likelihood temperature is far likelier than every one close to the given one.

    On hard rows, such as a query selects, the estimate is larger; it is infinite where the logits are uninformative,
    and no evidence where they are hardly informative or all rows are of one class.
    """
    off = temperature / likeliest
    if 1.0 / _FAR <= off <= _FAR or math.isinf(likeliest) or (labels == labels[0]).all():
        return []
    n, n_classes = z.shape
    given, best = log_loss(z, labels), log_loss(z * off, labels)
    not_far = log_loss(z * (_FAR if off > 1.0 else 1.0 / _FAR), labels)
    guessing = n * math.log(n_classes)
    if min(not_far, guessing) - best < _EVIDENCE or guessing - best < _INFORMED * guessing:
        return []
    is_never_wrong = bool((z[np.arange(n), labels] == z.max(axis=1)).all())
    most = f"any below {temperature / _FAR:.2g}" if is_never_wrong else _two_digits(likeliest)
    if off > 1.0:
        advice = "it is 1 / logit_scale, 0.01 for CLIP, and cosines need one as small"
    elif not ready_made:
        advice = "it is what cosines are divided by, 0.01 for CLIP"
    elif temperature < 1.0:
        advice = "logits that were multiplied by logit_scale need none, which is temperature 1"
    else:
        advice = f"such logits are too large: divide them by it, as temperature={_two_digits(likeliest)} does"
    return [
        f"{model}'s temperature {temperature:g} is far from the likeliest on the {n} labelled rows, {most} (log loss "
        f"{abs(best) / n:.3g} nats instead of {given / n:.3g}); {advice}"
    ]


def _two_digits(value: float) -> str:
    return f"{value:.2g}" if value < 100.0 else f"{float(f'{value:.2g}'):.0f}"


# ---------------------------------------------------------------------------------------------------------------------
# The order of the classes


def _of_order(model: str, calls: Int64, labels: Int64, names: Sequence[str], whole_order: bool) -> list[str]:
    """Whether the model predicts a permutation of the classes: all by one rule, some in a cycle, or most by any."""
    n, n_classes = labels.size, len(names)
    said, times = _names_of_classes(labels, calls, n_classes)
    n_rows = np.bincount(labels, minlength=n_classes)
    own_name = np.bincount(labels[calls == labels], minlength=n_classes)
    found = None
    if whole_order:
        found = _rule(labels, calls, said, names)
    if found is not None:
        rule, n_right = found
        return [
            f"{model}'s classes seem to stand in another order than the labels': {rule}, which would make {n_right} of "
            f"the {n} labelled rows right instead of {int(own_name.sum())}"
        ]
    is_clear = (said >= 0) & (times >= _MOSTLY * n_rows)
    moved = _rings(said, times, is_clear, n_rows, own_name, whole_order)
    if not moved.size and whole_order:
        moved = _scrambled(said, is_clear & (times >= 2))
    if not moved.size:
        return []
    some = "; ".join(
        f"{times[c]} of {n_rows[c]} rows of {names[c]!r} are called {names[said[c]]!r}"
        for c in moved[:_MOST_NAMED].tolist()
    )
    more = f"; and {moved.size - _MOST_NAMED} classes more" if moved.size > _MOST_NAMED else ""
    what = (
        "two classes seem exchanged" if moved.size == 2 else "classes seem to stand in another order than the labels'"
    )
    return [f"{model}'s {what}: {some}{more}"]


def _calls(z: Float64) -> Int64:
    """Predicted class of each row, −1 for a tie."""
    top = z.max(axis=1, keepdims=True)
    calls: Int64 = np.where((z == top).sum(axis=1) == 1, z.argmax(axis=1), -1)
    return calls


def _names_of_classes(labels: Int64, calls: Int64, n_classes: int) -> tuple[Int64, Int64]:
    """Modal prediction per true class (−1 for a tie or no prediction), and its count."""
    said, times = np.full(n_classes, -1), np.zeros(n_classes, np.int64)
    pairs, counts = np.unique(np.stack([labels, calls])[:, calls >= 0], axis=1, return_counts=True)
    for (c, called), count in zip(pairs.T.tolist(), counts.tolist(), strict=True):
        if count > times[c]:
            said[c], times[c] = called, count
        elif count == times[c]:
            said[c] = -1
    return said, times


def _rule(labels: Int64, calls: Int64, said: Int64, names: Sequence[str]) -> tuple[str, int] | None:
    """The rule that permutes the predicted classes, if any, and the number of rows that are right under it.

    Errors are correlated within a class, so that two kinds of evidence are required. Rows: a sign test of those that
    are right under the rule only against those that are right in the given order only. Classes: m whose modal
    prediction follows the rule, which under random predictions has an expectation of one and a probability of 1 / m!
    for m; few classes must all follow it, or all that have labels.
    """
    has_labels = np.bincount(labels, minlength=said.size) > 0
    classes = np.arange(said.size)
    rules = dict(_rules(labels, calls, names))
    n_rules = said.size + len(rules)  # each shift is one
    best: tuple[str, int] | None = None
    for text, order in rules.items():
        moved = order[labels] != labels
        more, less = (int((calls == by)[moved].sum()) for by in (order[labels], labels))
        n_classes = int(((said == order) & (order != classes)).sum())
        is_all = bool((said == order)[has_labels].all()) and more >= _MOSTLY * moved.sum()
        if not has_labels.all():
            is_all &= n_classes * math.log(said.size) >= math.log(n_rules) + _EVERY_CLASS
        least = math.log(n_rules) + _EVIDENCE
        n_right = int((calls == order[labels]).sum())
        if _coin_evidence(more, less) >= least and (is_all or math.lgamma(n_classes + 1.0) >= least):
            best = max(best or (text, n_right), (text, n_right), key=lambda rule: rule[1])
    return best


def _rules(labels: Int64, calls: Int64, names: Sequence[str]) -> Iterator[tuple[str, Int64]]:
    """Permutations that typical mistakes cause, each as the predicted class of every true class."""
    n_classes = len(names)
    classes = np.arange(n_classes)
    shifts = np.bincount((calls - labels)[calls >= 0] % n_classes, minlength=n_classes)
    shift = 1 + int(shifts[1:].argmax())
    sign, size = ("+", shift) if 2 * shift <= n_classes else ("-", n_classes - shift)
    yield f"rows of class c are called c {sign} {size}", (classes + shift) % n_classes
    yield f"rows of class c are called {n_classes - 1} - c", classes[::-1].copy()
    numbers = [str(c) for c in range(n_classes)]
    for what, keys in {"numbers as text": numbers, "names": names}.items():
        by_key = np.array(sorted(range(n_classes), key=keys.__getitem__))
        if (by_key != classes).any() and (keys is numbers or list(keys) != numbers):
            yield f"they are sorted by their {what}", np.argsort(by_key)
            yield f"the labels count them sorted by their {what}", by_key


def _rings(
    said: Int64, times: Int64, is_clear: npt.NDArray[np.bool_], n_rows: Int64, own_name: Int64, whole_order: bool
) -> Int64:
    """Classes in cycles of two or more predicted as each other, by a model that is right about other classes."""
    classes = np.arange(said.size)
    inside = is_clear & (said != classes)
    while inside.any():
        called = np.zeros_like(inside)
        called[said[inside]] = True
        left = inside & called & inside[said]
        if left.sum() == inside.sum():
            break
        inside = left
    outside = ~inside
    n_own = int((said == classes).sum())
    knows = n_own >= _OWN_NAMES and 2 * own_name[outside].sum() >= n_rows[outside].sum()
    if not knows and (n_own + inside.sum() < said.size or (n_own < 2 and not whole_order)):
        return np.empty(0, np.int64)
    moved: list[int] = []
    while inside.any():
        ring = [int(inside.argmax())]
        while (following := int(said[ring[-1]])) != ring[0]:
            ring.append(following)
        inside[ring] = False
        # One class is no evidence for another: each counts with the number of rows of the smallest of the cycle.
        evidence = _coin_evidence(len(ring) * int(times[ring].min()), int(own_name[ring].sum()))
        if evidence >= len(ring) * math.log(said.size) + _EVIDENCE:
            moved += ring
    return np.array(moved, dtype=np.int64)


def _scrambled(said: Int64, is_clear: npt.NDArray[np.bool_]) -> Int64:
    """Classes predicted as other classes, where most are and by a nearly one-to-one mapping.

    Under random predictions, the modal predictions of k of C classes are u distinct ones with a probability of at most
    C! / (C − u)! / C^u, times the number of choices of u of k.
    """
    classes = np.flatnonzero(is_clear)
    n, k, u = said.size, classes.size, np.unique(said[classes]).size
    choices = math.lgamma(k + 1.0) - math.lgamma(u + 1.0) - math.lgamma(k - u + 1.0)
    evidence = u * math.log(n) - math.lgamma(n + 1.0) + math.lgamma(n - u + 1.0) - choices
    moved = classes[said[classes] != classes]
    return moved if evidence >= _EVIDENCE and moved.size >= 0.75 * k else np.empty(0, np.int64)


def _coin_evidence(more: int, less: int) -> float:
    """−ln of Chernoff's bound in a sign test with counts `more` and `less`, in nats; 0 where `more` is no larger."""
    n = more + less
    if more <= less:
        return 0.0
    return n * math.log(2.0) - math.fsum(k * math.log(n / k) for k in (more, less) if k)
