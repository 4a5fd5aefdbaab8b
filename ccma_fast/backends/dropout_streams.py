"""The random numbers of dropout: a value stays where its 16 bits are below a limit.

Four values take the bits of one 64-bit draw of NumPy's PCG64, the lowest first. A batch is cut into pieces, as
``numpy.array_split`` does, each with a generator of its own that draws for its values, row after row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["DROPOUT_STEPS", "generator", "n_draws", "random_bits", "stream_states"]

DROPOUT_STEPS = 2**16
"""The limit below which all bits are: rates are exact to 8e-6."""

_WORD = (1 << 64) - 1


def n_draws(n_values: int) -> int:
    """Number of draws for so many values."""
    return -(-n_values // 4)


def random_bits(rng: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.uint16]:
    """The bits of values of some shape, in C order."""
    n = math.prod(shape)
    # Whole 64-bit draws: rng.bytes takes six times as long.
    draws = rng.integers(0, 2**64, size=n_draws(n), dtype=np.uint64)
    return draws.view(np.uint16)[:n].reshape(shape)


def stream_states(n_rows: int, n_columns: int, streams: Sequence[np.random.Generator]) -> npt.NDArray[np.uint64]:
    """What dropout of (n_rows, n_columns) values takes from the generators of its pieces, which are advanced.

    Returns
    -------
    ndarray, shape (P, 4), uint64
        The high and the low word of each one's state, and of its increment.
    """
    states = np.empty((len(streams), 4), np.uint64)
    for i, stream in enumerate(streams):
        bits = stream.bit_generator
        assert isinstance(bits, np.random.PCG64), "numpy.random.default_rng makes these"
        of = bits.state["state"]
        states[i] = [of["state"] >> 64, of["state"] & _WORD, of["inc"] >> 64, of["inc"] & _WORD]
        bits.advance(n_draws((n_rows // len(streams) + (i < n_rows % len(streams))) * n_columns))
    return states


def generator(state: npt.NDArray[np.uint64]) -> np.random.Generator:
    """A generator of a state and an increment, (4,)."""
    bits = np.random.PCG64()
    high, low, increment_high, increment_low = (int(word) for word in state)
    bits.state = {
        "bit_generator": "PCG64",
        "state": {"state": high << 64 | low, "inc": increment_high << 64 | increment_low},
        "has_uint32": 0,
        "uinteger": 0,
    }
    return np.random.Generator(bits)
