"""Products of nearly all rows: few that are left out are read over, and nothing depends on what they hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ccma_fast.backends.choose import choose_backend
from ccma_fast.errors import FileReadError
from ccma_fast.pool.derived import AllBut, LinearRows, RowSubset
from ccma_fast.pool.open import open_rows
from ccma_fast.pool.rows import READ_OVER, Rows
from ccma_fast.steps.validated_rows import validated_rows

CPU = choose_backend("cpu")
N, D = 500, 24
FEW, MANY = np.array([0, 7, 250, 400, 499]), np.arange(0, N, 10)


def in_file(x: np.ndarray, folder: Path) -> Rows:
    np.save(folder / "x.npy", x)
    return open_rows(folder / "x.npy", "x")


def in_shards(x: np.ndarray, folder: Path) -> Rows:
    (folder / "x").mkdir()
    for k, part in enumerate(np.split(x, [180, 420])):
        np.save(folder / "x" / f"part-{k}.npy", part)
    return open_rows(folder / "x", "x")


STORED = {
    "array": lambda x, folder: open_rows(x, "x"),
    "array of columns": lambda x, folder: open_rows(np.asfortranarray(x), "x"),
    "file": in_file,
    "shards": in_shards,
}


@pytest.fixture
def x(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((N, D), dtype=np.float32)


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("n_products", [D // 4, D // 4 + 1])
def test_products_are_those_of_the_rows_that_are_wanted(
    x: np.ndarray, tmp_path: Path, stored: str, unit: bool, n_products: int
) -> None:
    weight = np.arange(n_products * D, dtype=np.float32).reshape(n_products, D)
    expected = LinearRows(open_rows(x, "x"), "z", CPU, weight, unit=unit).float32()
    x[FEW] = [[np.nan], [np.inf], [0.0], [1e38], [1e-42]]  # what was never asked for is not refused, and not warned of
    rows = STORED[stored](x, tmp_path)
    for missing in (FEW, np.union1d(FEW, MANY)):
        wanted = AllBut(N, missing)
        products = LinearRows(validated_rows(rows, CPU, directions=unit), "z", CPU, weight, unit=unit)
        np.testing.assert_array_equal(RowSubset(products, wanted).float32(), expected[wanted[:]])
        np.testing.assert_array_equal(products.take(wanted[:]), expected[wanted[:]])
    for row in FEW[:2].tolist():
        with pytest.raises(ValueError, match="x must be finite"):
            products.take(np.delete(np.arange(N), np.setdiff1d(FEW, row)))


def test_a_slice_is_taken_where_rows_are_nearly_consecutive(x: np.ndarray) -> None:
    rows = open_rows(x, "x")
    consecutive = np.arange(40, 40 + 2 * READ_OVER)
    for indices, is_slice in (
        (consecutive, True),
        (np.delete(consecutive, [5]), True),
        (np.delete(consecutive, [5, 9]), False),
        (consecutive[::-1], False),
        (consecutive[[0, 2, 1, 3]], False),
        (np.repeat(consecutive, 2), False),
        (consecutive[:0], False),
        (consecutive[:1], True),
    ):
        chunk, places = rows.around(indices)
        assert isinstance(places, np.ndarray) == is_slice
        assert np.shares_memory(chunk, x) == is_slice
        np.testing.assert_array_equal(chunk[places], x[indices])


def test_a_file_that_has_changed_is_refused(x: np.ndarray, tmp_path: Path) -> None:
    rows = in_file(x, tmp_path)
    products = LinearRows(rows, "z", CPU, np.eye(3, D, dtype=np.float32))
    np.save(tmp_path / "x.npy", 2 * x[:-1])
    with pytest.raises(FileReadError):
        products.take(np.arange(1, N))
    with pytest.raises(FileReadError):
        RowSubset(products, AllBut(N, FEW)).float32()
