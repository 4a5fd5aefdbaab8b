"""Random numbers by position: those of some rows of a whole, as if all were drawn in row order."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ..pool.derived import Runs
from .exact_sums import slabs

__all__ = ["skip", "uniforms"]

Float64 = npt.NDArray[np.float64]

# Generators that jump ahead by numbers of 64 bits, of which each uniform number takes one.
_JUMPING = ("PCG64", "PCG64DXSM")


def skip(rng: np.random.Generator, n: int) -> None:
    """Leave `rng` as if `n` uniform numbers had been drawn from it."""
    generator = rng.bit_generator
    if type(generator).__name__ not in _JUMPING:
        for part in slabs(n):
            rng.random(part.stop - part.start)
        return
    before = generator.state
    generator.advance(n)  # type: ignore[attr-defined]
    # It drops the half of a number that is kept for a draw of 32 bits, which uniform numbers leave where it is.
    kept = {key: before[key] for key in ("has_uint32", "uinteger")}
    generator.state = {**generator.state, **kept}


def uniforms(rng: np.random.Generator, numbers: Runs) -> Iterator[tuple[slice, Float64]]:
    """The uniform numbers that the rows of these numbers get, stretch by stretch with their positions.

    `rng` is that of row 0, and is left as it is.
    """
    rng, at = copy.deepcopy(rng), 0
    for start, positions in numbers.each():
        skip(rng, start - at)
        for part in slabs(positions.stop - positions.start):
            yield slice(positions.start + part.start, positions.start + part.stop), rng.random(part.stop - part.start)
        at = start + positions.stop - positions.start
