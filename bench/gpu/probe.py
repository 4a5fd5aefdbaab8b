"""How the matrix units add up: the error of sums whose terms vanish beside the first, against the bound that we assume.

The tensor cores of Hopper align the products of one instruction and truncate what lies beyond some 25 bits of the
largest. With rows (1, ε, …) and ε = 1.414 · 2⁻¹³ each ε² is a hair below 2⁻²⁵ and all of it may be lost: of all rows
this breaks a bound first, if it is to be broken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from ccma_fast.backends import cuda
from ccma_fast.backends.cuda.device import INTERPRETED, device
from ccma_fast.backends.cuda.reader import Reader
from ccma_fast.pool.derived import LinearRows
from ccma_fast.pool.open import open_rows

from .results import Results

__all__ = ["adversarial", "assumed", "probes"]

EPSILON = 1.414 * 2.0**-13


def adversarial(n_rows: int, n_columns: int, dtype: torch.dtype) -> torch.Tensor:
    """Rows (1, ε, …), shape (n_rows, n_columns)."""
    rows = torch.full((n_rows, n_columns), EPSILON, dtype=dtype, device=device())
    rows[:, 0] = 1.0
    return rows


def assumed(n_columns: int, *, is_tf32: bool) -> float:
    """The error that is allowed, as a share of the terms' absolute sum: 17 terms an instruction, or 9, truncated."""
    return (n_columns / (2.4 if is_tf32 else 3.0) + 16.0) * 2.0 * 2.0**-24


def probes(results: Results) -> int:
    """A line for each kind of product; returns how many broke the bound or failed."""
    n_wrong = 0
    for n_columns in (768, 4096):
        for name, dtype, product in _products():
            x = adversarial(128, n_columns, dtype)
            exact = float(x[0].double().square().sum())
            try:
                found = product(x).double()
                error = float((found - exact).abs().max()) / exact / assumed(n_columns, is_tf32=name == "TF32, PyTorch")
            except Exception as raised:
                results.add(what="truncation", product=name, D=n_columns, status=f"{type(raised).__name__}: {raised}")
                n_wrong += 1
                continue
            status = "ok" if error <= 1.0 else "the bound is broken"
            results.add(what="truncation", product=name, D=n_columns, **{"error / bound": error}, status=status)
            n_wrong += status != "ok"
    return n_wrong


def _products() -> Iterator[tuple[str, torch.dtype, Callable[[torch.Tensor], torch.Tensor]]]:
    for dtype in (torch.float16, torch.bfloat16):
        yield f"{str(dtype)[6:]}, PyTorch", dtype, _of_library
    yield "TF32, PyTorch", torch.float32, _tf32
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        yield f"{str(dtype)[6:]}, ours", dtype, _ours


def _of_library(x: torch.Tensor) -> torch.Tensor:
    if INTERPRETED:  # where PyTorch returns factors' types alone
        return x.float() @ x.float().T
    return torch.mm(x, x.T, out_dtype=torch.float32)


def _tf32(x: torch.Tensor) -> torch.Tensor:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        return x @ x.T
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _ours(x: torch.Tensor) -> torch.Tensor:
    """By the kernel of products, which keeps float32's digits; its bound is no smaller."""
    weight = x.float().cpu().numpy()
    return Reader().float32(LinearRows(open_rows(x, "x"), "products", cuda, np.ascontiguousarray(weight)))
