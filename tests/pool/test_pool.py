"""Rows as chunks, whatever they lie in."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

import ccma_fast as cf
from ccma_fast.pool import arrays
from ccma_fast.pool.derived import AllBut, DerivedRows, RowSubset, Runs
from ccma_fast.pool.open import open_rows
from ccma_fast.pool.rows import to_float32

X = np.arange(60, dtype=np.float32).reshape(20, 3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: X,
        lambda: X.astype(np.float16),
        lambda: X.astype(np.int32),
        lambda: X.astype(np.uint16),
        lambda: X.tolist(),
        lambda: torch.from_numpy(X),
        lambda: torch.from_numpy(X).bfloat16(),
        lambda: torch.from_numpy(X).short(),
        lambda: torch.from_numpy(X).to(torch.uint16),
    ],
    ids=["float32", "float16", "int32", "uint16", "list", "tensor", "bfloat16", "short", "uint16 tensor"],
)
def test_chunks_and_subsets(make):
    rows = open_rows(make(), "x")
    assert (rows.n_rows, rows.n_columns, rows.name) == (20, 3, "x")
    for chunk_size in (1, 7, 20, 100, None):
        chunks = list(rows.chunks(chunk_size))
        assert [start for start, _ in chunks] == list(range(0, 20, chunk_size or 20))
        assert all(chunk.flags.c_contiguous for _, chunk in chunks)
        np.testing.assert_array_equal(np.concatenate([to_float32(chunk) for _, chunk in chunks]), X)
    np.testing.assert_array_equal(rows.float32(), X)
    np.testing.assert_array_equal(np.asarray(rows), X)
    indices = np.array([7, 3, 3, 19, 0])
    subset = RowSubset(rows, indices)
    np.testing.assert_array_equal(to_float32(rows.take(indices)), X[indices])
    np.testing.assert_array_equal(subset.float32(), X[indices])
    np.testing.assert_array_equal(to_float32(subset.take(np.array([4, 1]))), X[[0, 3]])
    run = RowSubset(rows, np.arange(5, 9))
    np.testing.assert_array_equal(run.float32(), X[5:9])
    # Row numbers are those of the whole, through any number of views.
    nested = arrays.KeptRows(RowSubset(subset, np.array([3, 1])))
    derived = DerivedRows(nested, "y", 1, lambda chunk: to_float32(chunk).sum(axis=1, keepdims=True))
    assert [derived.row_number(i) for i in range(2)] == [19, 3]
    np.testing.assert_array_equal(derived.float32(), X[[19, 3]].sum(axis=1, keepdims=True))
    assert derived.name == "y"


def test_nothing_is_copied_that_can_be_read_in_place():
    for array in (X, X.astype(np.float16)):
        assert np.shares_memory(open_rows(array, "x").slice(3, 9), array)
    tensor = torch.from_numpy(X.copy())
    assert np.shares_memory(open_rows(tensor, "x").slice(3, 9), tensor.numpy())
    half = tensor.bfloat16()
    assert np.shares_memory(open_rows(half, "x").slice(3, 9), half.view(torch.int16).numpy())
    assert np.shares_memory(RowSubset(open_rows(X, "x"), np.arange(4, 8)).slice(0, 4), X)


def test_files_are_mapped_and_bytes_counted(tmp_path):
    np.save(tmp_path / "x.npy", X)
    rows = open_rows(tmp_path / "x.npy", "x")
    assert rows.bytes_read == 0
    rows.slice(0, 5)
    rows.take(np.array([1, 2]))
    assert rows.bytes_read == 7 * 12


@pytest.mark.parametrize(("page", "most"), [(12, 1), (4096, 3), (2 << 20, 64)])
def test_rows_from_all_over_a_mapped_file(tmp_path, monkeypatch, page, most):
    monkeypatch.setattr("ccma_fast.system.mapped_pages._FAULT_AROUND", page)
    monkeypatch.setattr("ccma_fast.system.mapped_pages._MOST_PAGES", most)
    x = np.arange(30_000, dtype=np.float32).reshape(-1, 3)
    np.save(tmp_path / "x.npy", x)
    rows, rng = open_rows(tmp_path / "x.npy", "x"), np.random.default_rng(0)
    for n in (0, 1, 2, 3, 1000, 10_000):
        for indices in (rng.integers(len(x), size=n), np.sort(rng.integers(len(x), size=n))):
            np.testing.assert_array_equal(rows.take(indices), x[indices])


def test_a_sparse_reading_does_not_leave_the_whole_file_in_memory(tmp_path, run_python):
    np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float16, (100_000, 500))[:] = 1.0  # 100 MB
    script = (
        "import re, sys, numpy as np\n"
        "from ccma_fast.system import mapped_pages\n"
        "from ccma_fast.pool.derived import RowSubset\n"
        "from ccma_fast.pool.open import open_rows\n"
        "mapped_pages._MOST_PAGES = 8\n"
        "rows = open_rows(sys.argv[1], 'x')\n"
        "def peak(): return int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) // 1024\n"
        "before = peak()\n"
        "for _, chunk in rows.chunks(): chunk.max()\n"
        "for step in (11, 1000): RowSubset(rows, np.arange(0, rows.n_rows, step)).slice(0, 10_000)\n"
        "print(peak() - before)"
    )
    assert int(run_python(script, str(tmp_path / "x.npy"))) < 70


def test_bfloat16_is_widened_exactly():
    values = torch.tensor([[0.0, -0.0, 1.0, -2.5, 3e38, 1e-38, 1e-40, float("inf"), float("nan")]]).bfloat16()
    np.testing.assert_array_equal(open_rows(values, "x").float32(), values.float().numpy())


def test_default_chunks_are_of_bounded_size():
    for n_columns in (1, 100, 10**7):
        rows = open_rows(np.broadcast_to(np.float32(0), (10**6, n_columns)), "x")
        assert 1 <= rows.chunk_rows() <= max(1, (32 << 20) // (4 * n_columns))
        assert rows.chunk_rows(5) == 5


def test_memory_mapped_empty_file(tmp_path):
    np.save(tmp_path / "x.npy", X[:0])
    assert open_rows(tmp_path / "x.npy", "x").float32().shape == (0, 3)


def test_all_but_some_numbers():
    for missing in ([], [0], [9], [2, 3, 7], range(10)):
        numbers = AllBut(10, np.array(missing, np.int64))
        expected = np.setdiff1d(np.arange(10), missing)
        assert numbers.size == expected.size
        np.testing.assert_array_equal(numbers[:], expected)
        np.testing.assert_array_equal(numbers[1:4], expected[1:4])
        positions = np.arange(expected.size)[::-2]
        np.testing.assert_array_equal(numbers[positions], expected[positions])


@pytest.mark.parametrize("make", [lambda x, _: x, lambda x, path: saved(x, path), lambda x, _: np.asfortranarray(x)])
@pytest.mark.parametrize("indices", [[5], [3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15], range(19, -1, -1), [4, 4, 19, 0], []])
def test_rows_are_taken_run_by_run_or_one_by_one(tmp_path, make, indices):
    rows, chosen = open_rows(make(X, tmp_path), "x"), np.array(indices, np.int64)
    taken = rows.take(chosen)
    assert taken.flags.c_contiguous
    np.testing.assert_array_equal(taken, X[chosen])
    assert rows.bytes_read == taken.nbytes


def saved(x, path):
    np.save(path / "x.npy", x)
    return path / "x.npy"


def test_all_but_labelled_rows_are_read_in_runs(tmp_path):
    subset = RowSubset(open_rows(saved(X, tmp_path), "x"), AllBut(20, np.array([0, 7, 8, 19])))
    expected = np.delete(X, [0, 7, 8, 19], axis=0)
    for chunk_size in (1, 3, 16, None):
        np.testing.assert_array_equal(np.concatenate([chunk for _, chunk in subset.chunks(chunk_size)]), expected)
    assert [subset.row_number(i) for i in (0, 6, 15)] == [1, 9, 18]


def test_bfloat16_files(tmp_path):
    """As ml_dtypes has NumPy write them: two bytes of no type that NumPy knows."""
    bits = (X.view(np.uint32) >> 16).astype(np.uint16)
    np.save(tmp_path / "x.npy", bits.view("V2"))
    rows = open_rows(tmp_path / "x.npy", "x")
    np.testing.assert_array_equal(rows.float32(), torch.from_numpy(X).bfloat16().float().numpy())
    assert (rows.row_bytes, rows.bytes_read) == (6, 120)


def test_values_are_kept_in_their_storage_type():
    for array in (X, X.astype(np.float16)):
        kept = arrays.kept(RowSubset(open_rows(array, "x"), np.array([3, 11])), 24)
        assert isinstance(kept, arrays.KeptRows)
        assert kept.slice(0, 2).dtype == array.dtype
        np.testing.assert_array_equal(kept.float32(), X[[3, 11]])
    assert not isinstance(arrays.kept(open_rows(X, "x"), 239), arrays.KeptRows)


RESIDENT = """
import sys
import numpy as np
from ccma_fast.system.memory import resident
from ccma_fast.pool.derived import AllBut, RowSubset
from ccma_fast.pool.open import open_rows
rows = open_rows(sys.argv[1], "x")
before = resident()
for _, chunk in RowSubset(rows, AllBut(rows.n_rows, np.arange(0, rows.n_rows, 500))).chunks(2000):
    chunk.sum()
print(resident() - before)
scattered = np.arange(0, rows.n_rows, 40)
before = resident()
taken = rows.take(scattered)
print(resident() - before - taken.nbytes)
"""


def test_pages_that_have_been_read_are_let_go(tmp_path, run_python):
    file = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float16, (100_000, 512))
    file[:] = 1.0
    file.flush()
    in_runs, scattered = map(int, run_python(RESIDENT, str(tmp_path / "x.npy")).split())
    assert in_runs < 16 << 20  # of 100 MB
    assert scattered < 16 << 20


def test_bytes_of_a_row_where_it_lies(tmp_path):
    for i in range(2):
        np.save(tmp_path / f"{i}.npy", np.zeros((3, 5), np.float16))
    assert open_rows(tmp_path, "x").row_bytes == open_rows(tmp_path / "0.npy", "x").row_bytes == 10


def with_na(kind):
    return pd.DataFrame({"a": pd.array([1, None, 3], dtype=kind), "b": [1.0, 2.0, 3.0]})


TENSOR = torch.arange(6, dtype=torch.float32).reshape(3, 2)
EXPECTED = TENSOR.numpy()

TAKEN = {
    "matrix": lambda: EXPECTED.view(np.matrix),
    "Fortran order": lambda: np.asfortranarray(EXPECTED),
    "big endian": lambda: EXPECTED.astype(">f4"),
    "big endian halves": lambda: EXPECTED.astype(">f2"),
    "big endian integers": lambda: EXPECTED.astype(">u2"),
    "unsigned integers of two bytes": lambda: EXPECTED.astype("u2"),
    "bytes": lambda: EXPECTED.astype("u1"),
    "long double": lambda: EXPECTED.astype(np.longdouble),
    "negative strides": lambda: EXPECTED[::-1, ::-1].copy()[::-1, ::-1],
    "every second": lambda: np.repeat(np.repeat(EXPECTED, 2, axis=0), 2, axis=1)[::2, ::2],
    "frame": lambda: pd.DataFrame(EXPECTED, index=[7, 3, 3]),
    "frame of two types": lambda: pd.DataFrame({"a": EXPECTED[:, 0].astype(int), "b": EXPECTED[:, 1]}),
    "list of tensors": lambda: [*TENSOR],
    "list of arrays": lambda: [*EXPECTED],
    "list of masked arrays that hide nothing": lambda: [np.ma.array(row) for row in EXPECTED],
    "parameter": lambda: torch.nn.Parameter(TENSOR.clone()),
    "part of a graph": lambda: torch.nn.Parameter(TENSOR.clone()) * 1.0,
    "transposed tensor": lambda: TENSOR.T.contiguous().T,
    "negated lazily": lambda: torch.conj(torch.complex(TENSOR, -TENSOR)).imag,
    "double tensor": lambda: TENSOR.double(),
    "unsigned tensor": lambda: TENSOR.to(torch.uint32),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_values_are_those_of_the_source(kind):
    rows = open_rows(TAKEN[kind](), "x")
    np.testing.assert_array_equal(rows.float32(), EXPECTED)
    np.testing.assert_array_equal(to_float32(rows.take(np.array([2, 0]))), EXPECTED[[2, 0]])


@pytest.mark.parametrize("kind", ["big endian", "big endian halves", "unsigned integers of two bytes", "Fortran order"])
def test_files_of_such_arrays(tmp_path, kind):
    np.testing.assert_array_equal(open_rows(saved(TAKEN[kind](), tmp_path), "x").float32(), EXPECTED)


def test_one_row_for_all():
    for source in (np.broadcast_to(EXPECTED[0], (5, 2)), TENSOR[:1].expand(5, 2)):
        np.testing.assert_array_equal(open_rows(source, "x").float32(), np.repeat(EXPECTED[:1], 5, axis=0))


def test_integers_are_rounded_as_any_other_number():
    """Beyond 2**24 to float32's 24 bits: a relative error of 6e-8 at most, and no wrapping around."""
    for dtype in (np.int32, np.uint32, np.int64, np.uint64):
        x = np.array([[2**24 + 1, np.iinfo(dtype).max, 3]], dtype=dtype)
        np.testing.assert_allclose(open_rows(x, "x").float32(), x.astype(np.float64), rtol=6e-8)


REFUSED = {
    "complex": lambda: EXPECTED * 1j,
    "booleans": lambda: EXPECTED > 1,
    "objects": lambda: EXPECTED.astype(object),
    "text": lambda: EXPECTED.astype(str),
    "dates": lambda: np.zeros((3, 2), "M8[s]"),
    "None in a row": lambda: [[1.0, 2.0], [None, 1.0]],
    "rows of different lengths": lambda: [[1.0, 2.0], [1.0]],
    "text in a frame": lambda: pd.DataFrame({"a": ["x"], "b": [1.0]}),
    "sparse matrix": lambda: scipy.sparse.csr_matrix(EXPECTED),
    "dictionary": lambda: {"features": EXPECTED},
    "generator": lambda: (row for row in EXPECTED),
    "nothing": lambda: None,
    "integers that are too large": lambda: [[10**30, 1]],
    "sparse tensor": lambda: TENSOR.to_sparse(),
    "float8": lambda: TENSOR.to(torch.float8_e4m3fn),
    "boolean tensor": lambda: TENSOR > 1,
    "complex tensor": lambda: torch.complex(TENSOR, TENSOR),
    "conjugated tensor": lambda: torch.complex(TENSOR, TENSOR).conj(),
    "tensor without values": lambda: TENSOR.to("meta"),
    "raw bytes": lambda: np.zeros((3, 2), "V1"),
    "pairs of bytes": lambda: np.zeros((3, 2), [("a", "u1"), ("b", "u1")]),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.filterwarnings("ignore::UserWarning")  # of PyTorch, where such a tensor is made
def test_what_is_no_matrix_of_numbers_is_refused_as_such(kind):
    with pytest.raises(TypeError, match=r"^features must (be a|hold real)"):
        open_rows(REFUSED[kind](), "features")


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch.masked and nested tensors are prototypes
def test_tensors_that_hide_values_are_refused():
    masked = torch.masked.masked_tensor(TENSOR, TENSOR > 1)
    nested = torch.nested.nested_tensor([TENSOR[0], TENSOR[1, :1]])
    for tensor, kind in ((masked, "masked"), (nested, "nested")):
        with pytest.raises(TypeError, match=f"x must be a tensor that holds all its values, got a {kind} one"):
            open_rows(tensor, "x")


def test_masked_rows_in_a_list_are_refused():
    rows = [np.ma.array(row) for row in EXPECTED]
    rows[1] = np.ma.array(EXPECTED[1], mask=[False, True])
    for source in (rows, tuple(rows), list(np.ma.array(EXPECTED, mask=EXPECTED == 3))):
        with pytest.raises(ValueError, match=r"^x must have no masked entries, got 1, the first at row 1"):
            open_rows(source, "x")


@pytest.mark.parametrize("kind", ["Int64", "Float64", "float64"])
def test_missing_values_of_a_frame_are_never_numbers(kind):
    with pytest.raises((TypeError, ValueError), match=r"features must (hold real numbers|be finite, got NaN .* row 1)"):
        cf.select(with_na(kind), 1)


@pytest.mark.parametrize("seed", range(20))
def test_runs_are_the_numbers_of_their_ranges(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bounds = np.sort(rng.integers(0, 60, 2 * rng.integers(0, 6)))
    starts, stops = bounds[::2], bounds[1::2]
    numbers = np.concatenate([np.arange(0), *map(np.arange, starts, stops)])
    runs = Runs(starts, stops)
    assert runs.size == numbers.size
    assert np.array_equal(runs[:], numbers)
    assert np.array_equal(runs[np.arange(runs.size)[::-1]], numbers[::-1])
    position = {number: i for i, number in enumerate(numbers.tolist())}
    assert runs.positions(np.arange(-2, 63)).tolist() == [position.get(number, -1) for number in range(-2, 63)]
    assert [numbers[part].tolist() for _, part in runs.each()] == [
        list(range(start, start + part.stop - part.start)) for start, part in runs.each()
    ]
