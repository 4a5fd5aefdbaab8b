"""The largest scores, of all rows and of each class."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from .device import device

__all__ = ["best_of_classes", "class_sizes", "top_m"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


def top_m(scores: Float32 | torch.Tensor, m: int) -> Int64:
    """Positions of the m largest scores, largest first; ties go to the lower index."""
    on_device = (
        scores if isinstance(scores, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(scores, np.float32))
    )
    # +0 and −0 are one number.
    order: Int64 = torch.sort(on_device.to(device()) + 0.0, descending=True, stable=True).indices[:m].cpu().numpy()
    return order


def class_sizes(classes: torch.Tensor, n_classes: int) -> Int64:
    """How many rows each class has, shape (C,)."""
    sizes: Int64 = torch.bincount(classes, minlength=n_classes).cpu().numpy()
    return sizes


def best_of_classes(scores: torch.Tensor, classes: torch.Tensor, sizes: Int64, wanted: Int64) -> Int64:
    """The rows of largest score of each class, ascending within it; one class after the other.

    All classes are sorted at once, and the host reads the rows alone. Ties go to the lower row; `wanted` of each class
    are at most its size.
    """
    order = torch.sort(scores + 0.0, descending=True, stable=True).indices  # +0 and −0 are one number
    order = order[torch.sort(classes[order], stable=True).indices]
    ends, wanted_ends = np.cumsum(sizes), np.cumsum(wanted)
    skipped = np.repeat((ends - sizes) - (wanted_ends - wanted), wanted)
    at = torch.from_numpy(np.arange(skipped.size) + skipped).to(order.device)
    rows: Int64 = order[at].cpu().numpy()
    return rows[np.lexsort((rows, np.repeat(np.arange(wanted.size), wanted)))]
