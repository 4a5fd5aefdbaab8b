"""The largest scores, and rows by their classes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from .device import device

__all__ = ["grouped", "top_m"]

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


def grouped(classes: torch.Tensor, n_classes: int) -> tuple[torch.Tensor, Int64]:
    """Rows by their classes, those of a class ascending, and how many each class has."""
    sizes: Int64 = torch.bincount(classes, minlength=n_classes).cpu().numpy()
    return torch.sort(classes, stable=True).indices, sizes
