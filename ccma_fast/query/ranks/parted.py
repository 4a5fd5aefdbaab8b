"""Which passes of a backend several ranks can share."""

from __future__ import annotations

from ...backends.protocol import Backend, PartedBackend, over_parts
from ...errors import BackendUnavailableError

__all__ = ["CLUSTERING", "THRESHOLDS", "parted"]

CLUSTERING, THRESHOLDS = "a k-means of the pool", "thresholds of target sizes"


def parted(backend: Backend, what: str) -> PartedBackend:
    """The backend, to compute `what` in parts.

    Raises
    ------
    BackendUnavailableError
        It cannot.
    """
    found = over_parts(backend)
    if found is None:
        raise BackendUnavailableError(
            f"backend {backend.NAME!r} computes {what} on one rank alone; expected backend='cpu', or one rank"
        )
    return found
