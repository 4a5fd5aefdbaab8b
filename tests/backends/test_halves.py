"""Rows as float16: what the parts hold, what they lose, and the lengths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ccma_fast.kernels import halves, linear

from ccma_fast.backends.cuda.device import device

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

# Triton's interpreter computes with NumPy, which warns of what a GPU does as it is told.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def rows_of(n_rows: int, n_columns: int, dtype: str, scale: float = 1.0) -> torch.Tensor:
    """Rows of all magnitudes that the type holds, and a row of zeros."""
    rng = np.random.default_rng([n_rows, n_columns])
    x = rng.standard_normal((n_rows, n_columns)) * 10.0 ** rng.uniform(-9, 0, (n_rows, n_columns))
    x[n_rows // 2] = 0.0
    x *= scale
    if dtype == "bfloat16":  # of which Triton's interpreter reads numbers below the normal ones wrongly
        x[np.abs(x) < 2.0**-126] = 0.0
    return torch.from_numpy(x.astype(np.float32)).to(DTYPES[dtype]).to(device())


def float64(tensor: torch.Tensor) -> np.ndarray:
    found: np.ndarray = tensor.double().cpu().numpy()
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("n_rows", "n_columns", "scale"),
    [(1, 1, 1.0), (5, 3, 1e-5), (33, 64, 1.0), (9, 65, 1e30), (3, 768, 3e-30), (4, 1000, 1e-38), (2, 4097, 1.0)],
)
def test_parts_hold_the_rows(n_rows, n_columns, scale, dtype):
    x = rows_of(n_rows, n_columns, dtype, scale if dtype != "float16" else min(scale, 1.0))
    exact = float64(x)
    length = np.linalg.norm(exact, axis=1)
    for n_parts in (1, 2):
        found = halves.prepare_halves(x, n_parts)
        assert found.parts.shape == (n_parts, n_rows, -(-n_columns // 64) * 64)
        assert found.parts.is_contiguous()
        assert not found.parts[:, :, n_columns:].any()
        parts, unit = float64(found.parts)[:, :, :n_columns], float64(found.unit)[:, None]
        assert (np.frexp(unit)[0] == 0.5).all()
        np.testing.assert_array_equal(unit[length == 0.0], 1.0)
        normal = (length > 2.0**-112)[:, None]
        assert (np.where(normal, length[:, None] / unit, 2.0**13) >= 2.0**13).all()
        assert (length[:, None] < 2.0**14 * unit).all()
        missed = np.linalg.norm(exact - unit * parts[0], axis=1)
        lost = float64(found.lost)
        assert (missed <= lost).all()
        assert (lost <= 1.002 * missed + 2.0**-60 * length + 2.0**-126).all()
        if dtype != "float32":
            assert (missed <= 2.0**-38 * length * n_columns**0.5).all()
        if n_parts == 2:
            error = np.abs(exact - unit * (parts[0] + halves.LOW_PART * parts[1]))
            assert (error <= 2.0**-22 * np.abs(exact) + 2.0**-48 * np.maximum(length[:, None], 2.0**-112)).all()
        assert torch.equal(found.lengths, linear.row_lengths(x))


def test_rows_of_any_stride_and_none():
    x = rows_of(7, 130, "float32")
    found, expected = halves.prepare_halves(x[::2, 1:98], 2), halves.prepare_halves(x[::2, 1:98].contiguous(), 2)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    assert halves.prepare_halves(x[:0], 1).parts.shape == (1, 0, 192)


def test_rows_at_the_ends_of_float32():
    """The largest length, the least numbers, and rows that are not finite, of which no bound is."""
    x = torch.zeros((6, 70), device=device())
    x[0], x[1, 5], x[2, 9], x[3, 0], x[4, 69], x[5, 3] = 3.4e38, 1e-45, 3e-39, torch.nan, torch.inf, -torch.inf
    found = halves.prepare_halves(x, 2)
    held = float64(found.unit)[:, None] * (float64(found.parts[0]) + halves.LOW_PART * float64(found.parts[1]))
    np.testing.assert_allclose(held[:3, :70], float64(x[:3]), rtol=2.0**-22)
    assert torch.isfinite(found.lengths).tolist() == torch.isfinite(found.lost).tolist() == [True] * 3 + [False] * 3
    assert torch.isfinite(found.unit).all()


def test_a_weight_is_scaled_by_exact_powers_of_two():
    exponents = torch.arange(-149, 128)
    weight = torch.from_numpy(np.ldexp(np.float32(1.0), exponents.numpy()).astype(np.float32))[:, None]
    weight = torch.cat([weight, weight * 0.75, torch.zeros_like(weight)], dim=1)
    found = linear.prepare_weight(weight, None, 1)
    bits = found.unit.view(torch.int32)
    assert bool(((bits & 0x7FFFFF) == 0).all() & (bits > 0).all()), "units are normal powers of two"
    product = found.unit[:, None].double() * found.parts.double().sum(dim=0)[: len(weight), :3]
    assert torch.equal(product, weight.double())
    largest = found.parts[0].abs().amax(dim=1)[: len(weight)]
    assert bool((largest[exponents >= -113] == 2.0**13).all())
