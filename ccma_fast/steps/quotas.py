"""Step 6: class-balanced quotas."""

from __future__ import annotations

import heapq

import numpy as np
import numpy.typing as npt

__all__ = ["class_quotas"]

Int64 = npt.NDArray[np.int64]


def class_quotas(available: npt.ArrayLike, labelled: npt.ArrayLike, budget: int) -> Int64:
    """Number of picks per class that makes the labels as balanced as possible: water-filling.

    One pick after the other goes to the class with the fewest labels, chosen ones included, that has rows left; ties go
    to the class with more rows, then to the lower index.

    Parameters
    ----------
    available, labelled : array_like, shape (C,), int
        Number of selectable rows and of labelled rows of each class.
    budget : int
        At most the number of available rows.

    Returns
    -------
    ndarray, shape (C,), int64
        Adds up to `budget`.
    """
    rows, labels = np.asarray(available), np.asarray(labelled)
    quotas = np.zeros(rows.size, dtype=np.int64)
    queue = [(int(labels[c]), -int(rows[c]), int(c)) for c in np.flatnonzero(rows)]
    heapq.heapify(queue)
    for _ in range(budget):
        n_labels, minus_rows, c = queue[0]
        quotas[c] += 1
        if quotas[c] < rows[c]:
            heapq.heapreplace(queue, (n_labels + 1, minus_rows, c))
        else:
            heapq.heappop(queue)
    return quotas
