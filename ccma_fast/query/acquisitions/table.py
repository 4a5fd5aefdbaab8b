"""The acquisitions by their names in a configuration; another one is a file here and a line below."""

from __future__ import annotations

from .acquisition import Acquisition
from .published import Published
from .trust import Trust

__all__ = ["ACQUISITIONS"]

ACQUISITIONS: dict[str, Acquisition] = {
    "trust": Trust(),
    "delta": Published(),
}
