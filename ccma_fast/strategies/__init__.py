"""Acquisition strategies: which unlabelled rows to label next.

A strategy is a callable from a :class:`Round` to row numbers; one file each. :func:`register` adds one's own.
"""

from __future__ import annotations

from . import (
    alfamix,
    badge,
    bald,
    ccma,
    centroid,
    coreset,
    dropout,
    entropy,
    margins,
    max_herding,
    powerbald,
    probcover,
    random,
    typiclust,
    uncertainty,
    uncertainty_herding,
)
from ._registry import Round, Strategy, find, names, pick, register

__all__ = ["Round", "Strategy", "find", "names", "pick", "register"]
