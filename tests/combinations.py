"""Combinations of parameters of which the fast suite has a part."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest

__all__ = ["thinned"]


def thinned(step: int, *values: Sequence[Any]) -> list[Any]:
    """All combinations of values; those whose places add up to a multiple of `step` are fast, the others slow.

    Each value is in the fast ones, and each pair of values where the other parameters have places of all remainders.
    """
    return [
        pytest.param(*combination, marks=() if sum(places) % step == 0 else pytest.mark.slow)
        for places, combination in zip(product(*(range(len(of)) for of in values)), product(*values), strict=True)
    ]
