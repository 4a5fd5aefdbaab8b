"""Whether a card's matrix units err by no more than the assignment of rows takes them to err by.

The bound of ``kernels.kmeans_centroids.sum_error`` rests on models of the units. These products come near to it where
the models are right: a unit that aligns products at bit 25 loses all but the first of those made for 25 bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from ccma_fast.kernels.kmeans_centroids import sum_error

__all__ = ["adversarial_row", "probe"]


def adversarial_row(n_columns: int, bits: int) -> torch.Tensor:
    """(1, ε, ε, …), float16, whose product with itself is 1 + (D − 1) ε², with ε² just below 2^−bits."""
    row = torch.full((n_columns,), math.sqrt(0.998 * 2.0**-bits))
    row[0] = 1.0
    return row.half()


def probe(device: torch.device) -> Iterator[dict[str, Any]]:
    """The error of the library's products of float16, as a share of the sum of the terms and of the bound."""
    generation = torch.cuda.get_device_capability(device)[0]
    for n_columns in (64, 768, 4096):
        kinds = {f"made for {bits} bits": adversarial_row(n_columns, bits) for bits in (23, 24, 25, 26)}
        kinds["random"] = torch.randn(n_columns, generator=torch.Generator().manual_seed(0)).half()
        for kind, row in kinds.items():
            rows = row.to(device).expand(256, n_columns).contiguous()
            found = torch.mm(rows, rows.T, out_dtype=torch.float32).double().cpu()
            exact = row.double().square().sum()
            error = float((found - exact).abs().max() / exact)
            bound = sum_error(n_columns, generation)
            yield {"what": "matrix unit", "D": n_columns, "rows": kind, "error": error, "share of bound": error / bound}
