"""The acquisitions by their names in a configuration; another one is a file here and a line below."""

from __future__ import annotations

from .acquisition import Acquisition
from .coverage import Coverage
from .published import Published
from .trust import Trust

__all__ = ["ACQUISITIONS"]

ACQUISITIONS: dict[str, Acquisition] = {
    "coverage": Coverage(),
    "trust": Trust(),
    "delta": Published(),
}
