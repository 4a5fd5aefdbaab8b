"""Numbers of every type that a format has: their values, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast.pool.open import open_rows

pyarrow = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.ipc")
parquet = pytest.importorskip("pyarrow.parquet")

N, D = 6, 4
VALUES = np.arange(N * D).reshape(N, D) % 5


def write(file: Path, column: Any, field: Any = None) -> Path:
    table = pyarrow.table([column], schema=pyarrow.schema([field or pyarrow.field("features", column.type)]))
    if file.suffix == ".parquet":
        parquet.write_table(table, file)
    else:
        with pyarrow.OSFile(str(file), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    return file


INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize("kind", [*INTEGERS, "float16", "float32", "float64"])
def test_numbers_in_lists(tmp_path: Path, suffix: str, kind: str) -> None:
    flat = pyarrow.array(VALUES.ravel().astype(kind))
    offsets = np.arange(N + 1) * D
    for column in (
        pyarrow.FixedSizeListArray.from_arrays(flat, D),
        pyarrow.ListArray.from_arrays(pyarrow.array(offsets, pyarrow.int32()), flat),
        pyarrow.LargeListArray.from_arrays(pyarrow.array(offsets, pyarrow.int64()), flat),
    ):
        rows = open_rows(write(tmp_path / f"x{suffix}", column), "features")
        np.testing.assert_array_equal(rows.float32(), VALUES)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize(
    "kind",
    [
        pyarrow.decimal128(5, 2),
        pyarrow.bool_(),
        pyarrow.date32(),
        pyarrow.duration("ms"),
        pyarrow.timestamp("ms"),
        pyarrow.time32("ms"),
        pyarrow.string(),
        pyarrow.binary(2),  # as bfloat16 is stored here and there
        pyarrow.list_(pyarrow.float32()),
    ],
)
def test_lists_of_what_is_no_number(tmp_path: Path, suffix: str, kind: Any) -> None:
    column = pyarrow.nulls(2, pyarrow.list_(kind))
    with pytest.raises(TypeError, match="must be a column of lists of numbers, got 'features' of list"):
        open_rows(f"{write(tmp_path / f'x{suffix}', column)}::features", "features")


def test_numbers_that_stand_for_others(tmp_path: Path) -> None:
    codes = pyarrow.DictionaryArray.from_arrays(pyarrow.array(VALUES.ravel()), pyarrow.array([0.5, 1, 2, 3, 4]))
    column = pyarrow.FixedSizeListArray.from_arrays(codes, D)
    with pytest.raises(TypeError, match="must be a column of lists of numbers"):
        open_rows(f"{write(tmp_path / 'x.arrow', column)}::features", "features")


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_extension_types_that_nobody_knows(tmp_path: Path, suffix: str) -> None:
    """Stored as numbers, which may mean anything: of the list, and of what is in it."""
    named = {"ARROW:extension:name": "somebody.bfloat16", "ARROW:extension:metadata": ""}
    column = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(VALUES.ravel().astype(np.uint16)), D)
    inside = pyarrow.field("item", pyarrow.uint16(), metadata=named)
    for field in (
        pyarrow.field("features", column.type, metadata=named),
        pyarrow.field("features", pyarrow.list_(inside, D)),
    ):
        file = write(tmp_path / f"x{suffix}", column.cast(field.type), field)
        with pytest.raises(TypeError, match=r"of the extension type 'somebody.bfloat16', which nobody knows here"):
            open_rows(file, "features")


@pytest.mark.parametrize("kind", ["BOOL", "F8_E4M3", "F8_E5M2", "F4", "C64", "E8M0"])
def test_types_of_safetensors_that_are_no_plain_numbers(tmp_path: Path, kind: str) -> None:
    header = json.dumps({"features": {"dtype": kind, "shape": [4, 2], "data_offsets": [0, 64]}}).encode()
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))
    with pytest.raises(TypeError, match=f"features must hold real numbers, got dtype {kind} in"):
        open_rows(tmp_path / "x.safetensors", "features")


@pytest.mark.parametrize("kind", ["<f2", ">f2", ">f4", ">f8", "f16", ">i2", ">u4", "i8"])
def test_types_of_npy_that_are_numbers(tmp_path: Path, kind: str) -> None:
    for order in "CF":
        np.save(tmp_path / "x.npy", np.asarray(VALUES.astype(kind), order=order))
        np.testing.assert_array_equal(open_rows(tmp_path / "x.npy", "features").float32(), VALUES)


@pytest.mark.parametrize("kind", ["?", "c8", "M8[s]", "m8[s]", "U3", "S2", "V4", "u1,u1", [("x", "V2")], "V1"])
def test_types_of_npy_that_are_no_numbers(tmp_path: Path, kind: Any) -> None:
    np.save(tmp_path / "x.npy", np.zeros((N, D), kind))
    with pytest.raises(TypeError, match="features must hold real numbers, got dtype"):
        open_rows(tmp_path / "x.npy", "features")


@pytest.mark.parametrize("shape", ["(1000000, 4)", "(10**18, 4)", "(1, 2**62)", "(-3, 4)", f"({'9' * 5000}, 4)"])
def test_headers_that_claim_more_than_there_is(tmp_path: Path, shape: str) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    content = b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header + bytes(96)
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(cf.FileReadError, match=r"x.npy"):
        open_rows(tmp_path / "x.npy", "features")
    (tmp_path / "x.npy").write_bytes(content[:8] + b"\xff\xff\xff\xff" + content[12:])
    with pytest.raises(cf.FileReadError, match=r"x.npy"):
        open_rows(tmp_path / "x.npy", "features")


@pytest.mark.parametrize("lengths", [[25_000] * 2, [49_999, 2], [1, 49_999, 2]])
def test_lists_of_which_a_few_bytes_are_many_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lengths: list[int]
) -> None:
    """Nothing of them is read: the file says how many numbers there are."""
    monkeypatch.setattr("ccma_fast.pool.readers.parquet._MOST_LOOK_BYTES", 65_536)
    flat = pyarrow.array(np.zeros(sum(lengths), np.float32))
    offsets = pyarrow.array(np.cumsum([0, *lengths]), pyarrow.int32())
    file = write(tmp_path / "x.parquet", pyarrow.ListArray.from_arrays(offsets, flat))
    assert file.stat().st_size < 10_000
    with pytest.raises(cf.FileReadError, match="must have as many numbers in each row, in at most 65536 bytes, got"):
        open_rows(file, "features")


def test_large_row_groups_of_lists_of_one_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccma_fast.pool.readers.parquet._MOST_LOOK_BYTES", 64)
    column = pyarrow.array(VALUES.astype(np.float32).tolist(), pyarrow.list_(pyarrow.float32()))
    rows = open_rows(write(tmp_path / "x.parquet", column), "features")
    np.testing.assert_array_equal(rows.float32(), VALUES)
