"""The device of the CUDA backend: a GPU, or the host under Triton's interpreter."""

from __future__ import annotations

import os

import numpy as np
import torch
import triton
from triton.runtime.errors import InterpreterError

from ...kernels.linear import row_lengths

__all__ = ["INTERPRETED", "NAME", "ON_HOST", "arithmetic", "describe", "device", "why_unavailable"]

NAME = "cuda"
ON_HOST = False

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

# The oldest Triton that the kernels have been tried with.
_LEAST_TRITON = (3, 6)


def why_unavailable() -> str | None:
    """The reason why the backend cannot run here, or None."""
    if not INTERPRETED and not torch.cuda.is_available():
        return "PyTorch sees no CUDA device"
    version = tuple(map(int, triton.__version__.split(".")[:2]))
    if version < _LEAST_TRITON:
        return f"its kernels need Triton {'.'.join(map(str, _LEAST_TRITON))} or newer, got {triton.__version__}"
    return _why_not_interpreted() if INTERPRETED else None


def _why_not_interpreted() -> str | None:
    """The reason why the interpreter cannot run kernels here, or None; by the smallest of them."""
    try:
        row_lengths(torch.ones((1, 1)))
    except InterpreterError as error:  # an array of one element is no number any more
        return (
            f"the interpreter of Triton {triton.__version__} (TRITON_INTERPRET=1) fails on NumPy {np.__version__} "
            f"({error}); it needs a NumPy before 2.5 or a newer Triton"
        )
    return None


def device() -> torch.device:
    """The device that kernels run on."""
    return torch.device("cpu") if INTERPRETED else torch.device("cuda", torch.cuda.current_device())


def describe() -> str:
    """The backend with its device."""
    return f"cuda ({'the interpreter' if INTERPRETED else torch.cuda.get_device_name()})"


arithmetic = describe
