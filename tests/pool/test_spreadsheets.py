"""CSV in the forms that spreadsheets write is read as what the person saw; what is not clear is refused, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast.images.sources import open_images
from ccma_fast.pool.class_names import read_class_names
from ccma_fast.pool.labels import read_labels
from ccma_fast.pool.open import open_rows
from ccma_fast.pool.row_masks import read_row_mask
from ccma_fast.pool.rows import Rows
from ccma_fast.pool.spreadsheet_cells import damage, is_lost_zero, whole_number

N = 20
NAMES = ["1-2", "cat", "great tit"]
IDS = [f"{i:03d}" if i < 10 else f"birds; more/{i}, b.png" for i in range(N)]
X = np.random.default_rng(0).standard_normal((N, 4), dtype=np.float32)


@pytest.fixture
def pool(tmp_path: Path) -> Rows:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"image_path": IDS, "vector": list(X)}), tmp_path / "pool.parquet")
    return open_rows(tmp_path / "pool.parquet", "features")


def saved(file: Path, text: str, encoding: str = "utf-8") -> Path:
    file.write_bytes(text.encode(encoding))
    return file


def labels_of(text: str, tmp_path: Path, rows: Rows | None = None, encoding: str = "utf-8") -> dict[int, int]:
    file = saved(tmp_path / "y.csv", text, encoding)
    found = read_labels(file, rows or open_rows(X, "features"), class_names=NAMES)
    return {int(row): int(found[row]) for row in np.flatnonzero(found >= 0)}


TABLE = 'rank,index,score,represents,label\n1,3,"0,53",7,cat\n2,5,"0,41",2,great tit\n'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_encoding_separator_and_end_of_lines(tmp_path: Path, encoding: str, separator: str, end: str) -> None:
    cells = [
        ["rank", "index", "score", "label", "note"],
        ["1", "3", '"0,53"', "cat", "süß"],
        ["2", "5", '"0,4"', "1-2", ""],
    ]
    text = "".join(separator.join(row) + end for row in cells)
    assert labels_of(text, tmp_path, encoding=encoding) == {3: 1, 5: 0}
    assert labels_of(f"sep={separator}{end}{text}", tmp_path, encoding=encoding) == {3: 1, 5: 0}


@pytest.mark.parametrize(
    "text",
    [
        "index,Label\n3,cat\n5,1-2\n",
        " INDEX , label \n3,cat\n5,1-2\n",
        "index;label\n3; cat \n 5 ;1-2\n",
        '"index","label"\n"3","cat"\n"5","1-2"\n',
        "index;score;label\n3;0,53;cat\n5;0,41;1-2\n",  # decimal commas in another column
        "index,label,,\n3,cat,,\n5,1-2,,\n,,,\n,,,\n",  # empty columns and rows
        "index,label\n3,cat\n\n,\n5,1-2\n",
        "index,label\n3,cat,,\n5,1-2\n",
        "index;note;label\n3;;cat\n4\n7;\n5;;1-2\n",  # Excel leaves empty cells at the end of a row out
        "index,label\n3.0,cat\n5.0,1-2\n",
        "index;label\n3,0;cat\n5,0;1-2\n",
        "index,label\n3,1\n5,0\n",
        "index;label\n3;1,0\n5;0,0\n",
        "index,label\n3,1.0\n5,0.0\n",
    ],
)
def test_what_a_spreadsheet_makes_of_a_table(tmp_path: Path, text: str) -> None:
    assert labels_of(text, tmp_path) == {3: 1, 5: 0}


def test_a_separator_inside_of_cells_separates_nothing(tmp_path: Path, pool: Rows) -> None:
    assert labels_of('image_path,label\n"birds; more/12, b.png",cat\n', tmp_path, pool) == {12: 1}
    assert labels_of("image_path;label\n'x;\n", tmp_path, pool) == {}
    assert labels_of('image_path;label\n" birds; more/12, b.png ";" cat"\n', tmp_path, pool) == {12: 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "index,a;label\n1,b;cat\n",
            "may be separated by commas or semicolons, got 'index,a;label'; expected a first line",
        ),
        ("sep=#\nindex#label\n1#cat\n", "its first line says sep=#, expected one of commas or semicolons or tabs"),
        ("index,label\n1E+05,cat\n", "index must be an integer, got '1E.05' at row 0 of .* may have rounded"),
        ("index,label\n1.000,cat\n", "index must be an integer, got '1.000' at row 0 of .* thousands or be a fraction"),
        ("index,label\n1,1E+02\n", "got '1E.02' at row 0 of .* a spreadsheet may have rounded"),
        ('index,label\n1,"1,000"\n', "got '1,000' at row 0 of .*thousands or be a fraction"),
        ("index,label\n1,01. Feb\n", "got '01. Feb' at row 0 of .*; it looks like a date, which spreadsheets make of"),
        ("index,label\n1,2030-02-01\n", "it looks like a date"),
        ("index,label\n1,#NAME?\n", "it is an error of a spreadsheet"),
        ("index,label\n1,cat,5\n", "must have 2 columns, got 3 at row 0"),
        ("index,label\n1,cat\n2", "must have 2 columns, got 1 at row 1"),
        ("index,label,LABEL\n1,cat,\n", "must have one column 'label', got 'label' and 'LABEL'"),
    ],
)
def test_what_is_not_clear_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        labels_of(text, tmp_path)


def test_wrong_bytes_are_named_by_line(tmp_path: Path) -> None:
    message = r"line 3 is not in UTF-8, got the byte 0xfc in '5,gr\\xfcn'; expected a file saved as UTF-8"
    with pytest.raises(cf.FileReadError, match=message):
        labels_of("index,label\r\n3,cat\r\n5,grün\r\n", tmp_path, encoding="cp1252")
    with pytest.raises(cf.FileReadError, match="line 3 is not in UTF-8"):
        read_class_names(saved(tmp_path / "n.txt", "cat\ndog\nKäfer\n", "latin-1"))


def test_zeros_that_a_spreadsheet_took_are_not_guessed(tmp_path: Path, pool: Rows) -> None:
    for cell in ("7", "7.0", "7,0"):
        with pytest.raises(
            ValueError, match="may be '007', which a spreadsheet took for a number: import the column as t"
        ):
            labels_of(f"image_path;label\n{cell};cat\n", tmp_path, pool)
    assert labels_of("image_path;label\n007;cat\n", tmp_path, pool) == {7: 1}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_masks_class_names_and_lists_of_images(tmp_path: Path, pool: Rows, encoding: str) -> None:
    mask = saved(tmp_path / "mask.csv", "Index;Image Path\r\n3; 003\r\n12;birds; more/12, b.png\r\n;\r\n", encoding)
    with pytest.raises(ValueError, match="must have 2 columns, got 3 at row 1"):
        read_row_mask(mask, pool, "exclude")
    saved(mask, 'Index;Image Path\r\n3; 003\r\n12;"birds; more/12, b.png"\r\n;\r\n', encoding)
    assert read_row_mask(mask, pool, "exclude").tolist() == [3, 12]
    assert read_row_mask(
        saved(tmp_path / "mask.txt", "003\r\n004\r\n", encoding), pool, "exclude"
    ).numbers.tolist() == [3, 4]
    for text in (
        "Name\r\ncat\r\ndög\r\n",
        "cat\r\ndög\r\n",
        "Index;Name\r\n1;dög\r\n0;cat\r\n;\r\n",
        "id,class,n\n0,cat,3\n1,dög,4\n",
    ):
        assert read_class_names(saved(tmp_path / "names.csv", text, encoding)) == ["cat", "dög"]
    assert read_class_names(saved(tmp_path / "names.txt", "cat\r\ndög\r\n", encoding)) == ["cat", "dög"]
    for name in ("a.png", " b.png"):
        (tmp_path / name).write_bytes(b"")
    listed: Any = open_images(saved(tmp_path / "list.csv", "Image Path;Label\r\n a.png ; 3\r\n b.png;4\r\n", encoding))
    assert listed.ids == ["a.png", " b.png"]


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        *(
            ("3", 3),
            (" 3 ", 3),
            ("3.", 3),
            ("3.0", 3),
            ("3,0", 3),
            ("3.0000", 3),
            ("-1", -1),
            ("3.5", None),
            ("", None),
        ),
        *(("3,000", None), ("3.000", None), ("1E+05", None), ("٣", None), ("nan", None), ("0x3", None)),
    ],
)
def test_whole_numbers(cell: str, number: int | None) -> None:
    assert whole_number(cell) == number


def test_dates_and_lost_zeros() -> None:
    for cell in (
        "2-Jan",
        "1. Feb",
        "Jan-02",
        "02.01.2030",
        "1/2/30",
        "2030-01-02",
        "2030-01-02 00:00:00",
        "3. März",
        "Sep 2",
    ):
        assert "looks like a date" in damage(cell), cell
    for cell in ("cat", "1-2", "great tit", "v1.2", "7", "", "2nd", "type-2 x"):
        assert damage(cell) == "", cell
    assert is_lost_zero("7", "007")
    assert is_lost_zero("1.2E+3", "1200")
    for cell, text in (("7", "7"), ("7", "a7"), ("x", "0"), ("", "0"), ("7", "008")):
        assert not is_lost_zero(cell, text)
