"""Rows that `exclude`, `pending` and `include` name: every form gives the same rows, and nothing is guessed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow
import pytest
import torch
from pyarrow import parquet

import ccma_fast as cf
from ccma_fast.pool.arrays import ArrayRows
from ccma_fast.pool.open import open_rows
from ccma_fast.pool.row_masks import read_row_mask
from ccma_fast.pool.rows import RowId, Rows

N = 12
IDS = [f"{'ab'[i % 2]}/{i:02}.png" for i in range(N)]
X = np.random.default_rng(0).standard_normal((N, 3)).astype(np.float32)
ROWS = [7, 2, 10]
MASK = np.isin(np.arange(N), ROWS)
CHOSEN = [IDS[i] for i in ROWS]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """A pool with ids."""
    file = tmp_path_factory.mktemp("pool") / "x.parquet"
    parquet.write_table(pyarrow.table({"image_path": IDS, "vector": list(X)}), file)
    return open_rows(file, "features")


@pytest.fixture(scope="module")
def plain() -> Rows:
    """The same without ids."""
    return open_rows(X, "features")


class WithoutLook(ArrayRows):
    """A pool whose ids must not be read."""

    def row_ids(self) -> Iterator[RowId] | None:
        raise AssertionError("ids were read")

    def ids_at(self, rows: Any) -> list[RowId] | None:
        raise AssertionError("ids were read")


def found(source: Any, rows: Rows) -> list[int]:
    """The rows that are named, ascending."""
    mask = np.zeros(rows.n_rows, np.bool_)
    mask[read_row_mask(source, rows, "exclude")] = True
    return np.flatnonzero(mask).tolist()


IN_MEMORY = {
    "a mask": MASK,
    "a list of booleans": MASK.tolist(),
    "a mask of objects": MASK.astype(object),
    "a tensor of booleans": torch.tensor(MASK),
    "a Series of booleans": pandas.Series(MASK),
    "a Series of nullable booleans": pandas.Series(MASK, dtype="boolean"),
    "rows": np.array(ROWS),
    "rows of 8 bits": np.array(ROWS, np.uint8),
    "a list of rows": ROWS,
    "a tuple of rows": tuple(ROWS),
    "a tensor of rows": torch.tensor(ROWS),
    "a Series of rows": pandas.Series(ROWS, index=["x", "y", "z"]),
    "an Index": pandas.Index(ROWS),
    "a pyarrow array": pyarrow.array(ROWS),
}
OF_IDS = {
    "a list of ids": CHOSEN,
    "an array of ids": np.array(CHOSEN),
    "a Series of ids": pandas.Series(CHOSEN, index=[5, 6, 7]),
    "a Series of booleans by ids": pandas.Series(MASK[::-1], index=IDS[::-1]),
    "a Series of some of them": pandas.Series([True, False, True, True], index=[IDS[2], IDS[3], IDS[10], IDS[7]]),
}


@pytest.mark.parametrize("form", IN_MEMORY)
def test_forms_in_memory_name_the_same_rows_without_a_look_at_the_ids(form: str) -> None:
    assert found(IN_MEMORY[form], WithoutLook(X, "features")) == sorted(ROWS)


@pytest.mark.parametrize("form", [*IN_MEMORY, *OF_IDS])
def test_forms_in_memory_name_the_same_rows(pool: Rows, form: str) -> None:
    assert found({**IN_MEMORY, **OF_IDS}[form], pool) == sorted(ROWS)


@pytest.mark.parametrize(
    "content",
    [
        *("image_path\n{0}\n{1}\n{2}\n", "path,label\n{0},cat\n{1},\n{2},dog\n", "index\n7\n2\n10\n"),
        *("rank,index,score,represents\n1,7,nan,1\n2,2,nan,1\n3,10,nan,1\n", "index,other\n7.0,a\n2.0,b\n10.0,c\n"),
        *("rank,index,image_path\n1,7,{0}\n2,2,{1}\n3,10,{2}\n", "\ufeffimage_path\r\n{0}\r\n{1}\r\n{2}\r\n"),
    ],
)
def test_csv_files_name_the_same_rows(pool: Rows, tmp_path: Path, content: str) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(content.format(*CHOSEN).encode())
    assert found(file, pool) == found(str(file), pool) == sorted(ROWS)
    pandas.read_csv(file).to_parquet(tmp_path / "rows.parquet", index=False)
    assert found(tmp_path / "rows.parquet", pool) == sorted(ROWS)


def test_other_files_name_the_same_rows(pool: Rows, plain: Rows, tmp_path: Path) -> None:
    np.save(tmp_path / "mask.npy", MASK)
    np.save(tmp_path / "rows.npy", ROWS)
    np.save(tmp_path / "ids.npy", CHOSEN)
    (tmp_path / "ids.txt").write_text("\n".join(CHOSEN) + "\n\n")
    for name in ("mask.npy", "rows.npy", "ids.npy", "ids.txt"):
        assert found(tmp_path / name, pool) == sorted(ROWS)
    assert found(tmp_path / "mask.npy", plain) == sorted(ROWS)
    np.save(tmp_path / "more.npy", [0, 7])  # a row in two files
    assert found([tmp_path / "ids.txt", tmp_path / "more.npy"], pool) == [0, *sorted(ROWS)]


def test_picks_of_select_are_such_a_file(pool: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ccma_fast.cli import main

    monkeypatch.chdir(tmp_path)
    parquet.write_table(pyarrow.table({"image_path": IDS, "vector": list(X)}), "x.parquet")
    expected = np.sort(cf.select(pool, 4).indices).tolist()
    for name in ("picks.csv", "picks.npy"):
        assert main(["select", "--features", "x.parquet", "--budget", "4", "-q", "--out", name]) == 0
        assert found(name, pool) == expected


def test_nothing_is_named(pool: Rows, tmp_path: Path) -> None:
    (tmp_path / "none.csv").write_text("image_path,label\n")
    (tmp_path / "none.txt").write_text("")
    for nothing in ([], (), np.array([], np.int64), np.zeros(N, bool), tmp_path / "none.csv", tmp_path / "none.txt"):
        assert found(nothing, pool) == []


MISTAKES = {
    "a short mask": (MASK[:-1], ValueError, "exclude has 11 rows but features has 12"),
    "a long mask": ([True] * 13, ValueError, "exclude has 13 rows but features has 12"),
    "a mask of integers": (MASK.astype(int), ValueError, "got 12 zeros and ones of dtype int64 for the 12 rows"),
    "a mask of bytes": (MASK.astype(np.uint8), ValueError, "give a mask as booleans"),
    "a mask of floats": (MASK.astype(float), TypeError, "got dtype float64"),
    "NaN": ([1.0, np.nan], TypeError, "got dtype float64"),
    "NaN among ids": ([IDS[0], np.nan], TypeError, "all ids of images, got float nan"),
    "a masked entry": (np.ma.array(ROWS, mask=[0, 1, 0]), ValueError, "no masked entries, got 1, the first at row 1"),
    "a null": (pyarrow.array([1, None]), ValueError, "no masked entries, got 1"),
    "a missing boolean": (pandas.Series([*MASK[:-1], None], dtype="boolean"), TypeError, "exclude must be"),
    "booleans among rows": ([True, 3], TypeError, "got bool True"),
    "ids among rows": ([3, IDS[0]], TypeError, "got int 3"),
    "a row twice": ([3, 4, 3], ValueError, "exclude must be distinct, got row 3 more than once"),
    "an id twice": ([IDS[3], IDS[3]], ValueError, "got row 3 more than once"),
    "a row below": ([-1], ValueError, "exclude must be rows from 0 to 11, got -1"),
    "a row above": ([12], ValueError, "exclude must be rows from 0 to 11, got 12"),
    "an unknown id": (["a/99.png"], ValueError, r"exclude must be ids of images of features, such as \[.*got 'a/99"),
    "a matrix": ([[1, 2]], ValueError, r"one dimension, got shape \(1, 2\)"),
    "a set": ({1, 2}, TypeError, "row numbers, ids of images or a path, got set"),
    "a number": (3, TypeError, "got int"),
    "a Series in another order": (pandas.Series(MASK, index=range(N)[::-1]), ValueError, "whose index is 0, 1, 2"),
    "a Series cut short": (pandas.Series(MASK)[3:], ValueError, "whose index is 0, 1, 2"),
    "a Series of unknown ids": (pandas.Series([True], index=["c"]), ValueError, "the index of exclude must be ids"),
    "no file": ("no.npy", cf.FileReadError, "no.npy"),
    "no text file": ("no.txt", cf.FileReadError, "no file 'no.txt'"),
    "a folder": (".", cf.FileReadError, "expected a .npy, .csv, .tsv, .parquet or .txt file"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_is_ambiguous_or_wrong_is_refused(
    pool: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    monkeypatch.chdir(tmp_path)
    source, error, text = MISTAKES[mistake]
    with pytest.raises(error, match=text):
        read_row_mask(source, pool, "exclude")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("score\n1\n", "no column 'image_path' or 'index' in .*, got 'score'"),
        ("1\n2\n", "no column 'image_path' or 'index'"),
        ("Image Path,path,IMAGE-PATH\nx,x,x\n", "must have one column 'image_path', got 'Image Path' and 'IMAGE-PATH'"),
        ("index\n3\n4\n3\n", "must be distinct, got row 3 more than once, first at row 0 of"),
        ("image_path\n{0}\n{0}\n", "must be distinct, got 'b/07.png' more than once"),
        ("image_path\n{0}\nother\n", "must be of images of features"),
        ("image_path,label\n{0},1\n,2\n", "must have an image_path beside each row, got '' at row 1"),
        ("index\n12\n", "index must be a row from 0 to 11, got 12"),
        ("index\n1.5\n", "index must be an integer, got '1.5'"),
        ("index\nnan\n", "index must be an integer, got 'nan'"),
        ("", "is empty"),
    ],
)
def test_files_that_are_refused(pool: Rows, tmp_path: Path, content: str, text: str) -> None:
    (tmp_path / "rows.csv").write_text(content.format(*CHOSEN))
    with pytest.raises(ValueError, match=text):
        read_row_mask(tmp_path / "rows.csv", pool, "exclude")


def test_an_id_decides_against_the_number_beside_it(pool: Rows, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(f"index,image_path\n1,{IDS[2]}\n3,{IDS[3]}\n")
    with pytest.warns(cf.LabelWarning, match=r"exclude: 1 of 2 rows of .* are of another row than their index says"):
        assert found(tmp_path / "rows.csv", pool) == [2, 3]


def test_ids_are_of_no_use_where_the_pool_has_none(plain: Rows, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"exclude must be integers where features has no ids, got 'b/07.png'"):
        read_row_mask(CHOSEN, plain, "exclude")
    (tmp_path / "rows.csv").write_text("image_path\nx\n")
    with pytest.raises(ValueError, match=r"exclude have the ids of their images .* where features has none"):
        read_row_mask(tmp_path / "rows.csv", plain, "exclude")
    (tmp_path / "rows.csv").write_text("index,image_path\n4,x\n")
    assert found(tmp_path / "rows.csv", plain) == [4]


def test_in_a_tiny_pool_zeros_and_ones_are_rows_where_their_type_says_so() -> None:
    two = open_rows(X[:2], "features")
    assert found(np.array([1, 0]), two) == [0, 1]
    assert found([True, False], two) == [0]
    assert found([1], two) == [1]
    for source in ([0, 1], np.array([0, 1], np.uint8), pandas.Series([0, 1])):
        with pytest.raises(ValueError, match="must be row numbers or a mask of booleans, got 2 zeros and ones"):
            read_row_mask(source, two, "exclude")
