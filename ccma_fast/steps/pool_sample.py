"""The sample of a pool that stands for it where not every row is asked."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["pool_sample", "sample_size"]

# Rows of the pool that centre it, that the teacher labels softly and that tell how both models compare, and the
# posteriors that these may be.
_SAMPLE_ROWS, _SAMPLE_POSTERIORS = 4096, 1 << 22


def sample_size(n_rows: int, n_classes: int) -> int:
    """Rows of a sample of so many."""
    return min(n_rows, _SAMPLE_ROWS, max(1, _SAMPLE_POSTERIORS // n_classes))


def pool_sample(n_rows: int, n_classes: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """The numbers of rows that are drawn at random, ascending."""
    return np.sort(rng.choice(n_rows, sample_size(n_rows, n_classes), replace=False))
