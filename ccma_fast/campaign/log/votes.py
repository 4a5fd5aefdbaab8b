"""What several people's answers about one image come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

__all__ = ["REFUSAL", "Outcome", "krippendorff_alpha", "outcome"]

REFUSAL = -1
"""What stands for every refusal among votes for classes, whatever its words."""


class Outcome(NamedTuple):
    """What the answers about an image come to.

    Attributes
    ----------
    vote : int or None
        The class, or :data:`REFUSAL`; None where more people have to answer.
    n_missing : int
        How many more.
    """

    vote: int | None
    n_missing: int

    @property
    def is_refused(self) -> bool:
        return self.vote == REFUSAL


def outcome(votes: Iterable[int], n_wanted: int) -> Outcome:
    """The most frequent vote, once `n_wanted` people have answered; a tie asks one more.

    Parameters
    ----------
    votes : iterable of int
        A class or :data:`REFUSAL` of each person.
    n_wanted : int
        How many people are to answer.
    """
    given = [*votes]
    n_missing = n_wanted - len(given)
    if n_missing > 0:
        return Outcome(None, n_missing)
    if len(given) == 1:
        return Outcome(given[0], 0)
    counts = Counter(given)
    (first, most), *others = counts.most_common(2)
    return Outcome(None, 1) if others and others[0][1] == most else Outcome(first, 0)


def krippendorff_alpha(votes: Iterable[Mapping[str, int]]) -> float:
    """Krippendorff's α of votes on a nominal scale: 1 for agreement, 0 for that of chance.

    α = 1 − (n − 1) Σ_u (Σ_{c≠k} n_uc n_uk) / (m_u − 1) / Σ_{c≠k} n_c n_k over the images u with m_u ≥ 2 votes, of which
    n_uc are for class c; n_c and n are sums over these images (Krippendorff, Content Analysis, 2004, ch. 11).

    Parameters
    ----------
    votes : iterable of mapping from annotator to class
        Of each image.

    Returns
    -------
    float
        NaN where no image has two votes, or all votes are for one class.
    """
    totals: Counter[int] = Counter()
    disagreement = 0.0
    for of_image in votes:
        m = len(of_image)
        if m < 2:
            continue
        counts = Counter(of_image.values())
        totals.update(counts)
        disagreement += (m * m - sum(n * n for n in counts.values())) / (m - 1)
    n = sum(totals.values())
    by_chance = n * n - sum(c * c for c in totals.values())
    return 1.0 - (n - 1) * disagreement / by_chance if by_chance else float("nan")
