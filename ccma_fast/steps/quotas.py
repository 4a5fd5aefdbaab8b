"""Step 6: quotas of classes, balanced or towards a given distribution."""

from __future__ import annotations

import heapq
import math

import numpy as np
import numpy.typing as npt

__all__ = ["class_quotas"]

Int64 = npt.NDArray[np.int64]


def class_quotas(
    available: npt.ArrayLike, labelled: npt.ArrayLike, budget: int, shares: npt.ArrayLike | None = None
) -> Int64:
    """Number of picks per class that makes the labels as balanced as possible, or as they should be: water-filling.

    One pick after the other goes to the class with the fewest labels, chosen ones included, that has rows left; ties go
    to the class with more rows, then to the lower index. Given shares s, to that of least (labels + 1/2) / s instead,
    which is Sainte-Laguë's apportionment of what is missing; classes of share 0 come last.

    Parameters
    ----------
    available, labelled : array_like, shape (C,), int
        Number of selectable rows and of labelled rows of each class.
    budget : int
        At most the number of available rows.
    shares : array_like, shape (C,), optional
        Wanted shares of the labels; all equal by default.

    Returns
    -------
    ndarray, shape (C,), int64
        Adds up to `budget`.
    """
    rows, labels = np.asarray(available), np.asarray(labelled)
    wanted = (np.ones(rows.size) if shares is None else np.asarray(shares, np.float64)).tolist()
    quotas = np.zeros(rows.size, dtype=np.int64)

    def entry(c: int, n_labels: int) -> tuple[float, int, int, int]:
        filled = (n_labels + 0.5) / wanted[c] if wanted[c] else math.inf
        return filled, n_labels, -int(rows[c]), c

    queue = [entry(c, int(labels[c])) for c in np.flatnonzero(rows).tolist()]
    heapq.heapify(queue)
    for _ in range(budget):
        _, n_labels, _, c = queue[0]
        quotas[c] += 1
        if quotas[c] < rows[c]:
            heapq.heapreplace(queue, entry(c, n_labels + 1))
        else:
            heapq.heappop(queue)
    return quotas
