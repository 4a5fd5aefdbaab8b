"""The float64 reference as a backend."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import reference
from ..pool.arrays import kept
from ..pool.checked import check_rows
from ..pool.rows import BFLOAT16_BITS, Rows, to_float32

__all__ = ["ReferenceBackend"]


class ReferenceBackend:
    """The reference, which knows no chunks, behind the face of a backend."""

    NAME = "reference"
    ON_HOST = True

    def describe(self) -> str:
        return "reference (NumPy float64)"

    arithmetic = describe

    def check_rows(self, rows: Rows, *, directions: bool = False, chunk_size: int | None = None) -> None:
        check_rows(rows, reference.row_lengths, directions=directions, chunk_size=chunk_size)

    kept = staticmethod(kept)

    def score_at_sizes(self, *_: Any, **__: Any) -> None:
        """Thresholds come first here, and the scores after them."""

    def __getattr__(self, operation: str) -> Any:
        function = getattr(reference, operation)

        def without_chunks(*args: Any, chunk_size: int | None = None, kept_bytes: int = 0, **kwargs: Any) -> Any:
            return function(*map(_decoded, args), **kwargs)

        return without_chunks


def _decoded(argument: Any) -> Any:
    is_bfloat16 = isinstance(argument, np.ndarray) and argument.dtype == BFLOAT16_BITS
    return to_float32(argument) if is_bfloat16 else argument
