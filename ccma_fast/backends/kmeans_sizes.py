"""Sizes that a clustering goes by, whatever computes it."""

from __future__ import annotations

__all__ = ["KEPT_BYTES", "ROWS_OF_BLOCK", "SAMPLE_ROWS"]

SAMPLE_ROWS = 2048
"""Rows of the sample that the origin is the mean of, at most."""

ROWS_OF_BLOCK = 1 << 14
"""Row numbers of a block: what a row is drawn from, once its block has been drawn."""

KEPT_BYTES = 1 << 28
"""Rows of one coarse cluster are read in every iteration, and kept on the host where they fit."""
