"""The sample of a pool that the default student is trained on beside the labels."""

from __future__ import annotations

__all__ = ["sample_size"]

# Rows of the pool that centre it and that the teacher labels softly, and the posteriors that these may be.
_SAMPLE_ROWS, _SAMPLE_POSTERIORS = 4096, 1 << 22


def sample_size(n_rows: int, n_classes: int) -> int:
    """Rows of a pool that are sampled for the default student."""
    return min(n_rows, _SAMPLE_ROWS, max(1, _SAMPLE_POSTERIORS // n_classes))
