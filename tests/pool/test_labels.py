"""Labels land on the images and in the classes that they were given for, or they are refused."""

from __future__ import annotations

import csv
import enum
import json
import sys
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ccma_fast as cf
from ccma_fast.cli import main
from ccma_fast.pool import tables
from ccma_fast.pool.class_codes import class_codes
from ccma_fast.pool.class_names import agreed_class_names, read_class_names
from ccma_fast.pool.labels import ReadLabels, read_labels
from ccma_fast.pool.manifest import Manifest, Shard, Skipped
from ccma_fast.pool.manifest_file import chained, digest_of_file, read_manifest, write_manifest
from ccma_fast.pool.open import open_rows
from ccma_fast.pool.rows import Rows

pandas = pytest.importorskip("pandas")
pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

N = 20
IDS = [f"{'ab'[i % 2]}/{i:02d}.png" for i in range(N)]
RNG = np.random.default_rng(0)
TRUTH = np.arange(N) % 3
X = (3 * np.eye(3, 6)[TRUTH] + RNG.standard_normal((N, 6))).astype(np.float32)
NAMES = ["cat", "dog", "great tit"]
NUMERIC = ["0", "1", "10", "2"]


def make_pool(
    folder: Path,
    ids: Sequence[str] = IDS,
    labels: Sequence[Any] | None = None,
    *,
    class_names: Sequence[str] = (),
    shard_rows: int = 8,
    features: Any = None,
) -> Path:
    """What `extract` writes, without the models."""
    if features is None:
        features = np.stack([X[int(Path(name).stem) % N] for name in ids])
    encoder = {"library": "none", "model": "none", "weights": "none", "weights_sha256": "0"}
    manifest = Manifest(encoder, [], "fp32", False, "float32", features.shape[1], class_names=list(class_names))
    rows_in = "text_emb" if class_names else "img_emb"
    for name in (rows_in, "metadata"):
        (folder / name).mkdir(parents=True)
    for k, start in enumerate(range(0, len(features), shard_rows)):
        here = slice(start, start + shard_rows)
        file, metadata = f"{rows_in}/{rows_in}_{k}.npy", f"metadata/metadata_{k}.parquet"
        np.save(folder / file, features[here])
        columns = {"caption": list(class_names[here])} if class_names else {"image_path": list(ids[here])}
        if labels is not None:
            columns["label"] = list(labels[here])
        parquet.write_table(pyarrow.table(columns), folder / metadata)
        digests = digest_of_file(folder / file), digest_of_file(folder / metadata)
        rows = chained(manifest.rows_sha256, columns.get("image_path", columns.get("caption", [])))
        shard = Shard(file, metadata, len(features[here]), *digests, rows)
        manifest = replace(manifest, shards=(*manifest.shards, shard))
    write_manifest(folder, manifest)
    return folder


@pytest.fixture
def pool(tmp_path: Path) -> Rows:
    return open_rows(make_pool(tmp_path / "pool"), "features")


def table(file: Path, /, **columns: Any) -> Path:
    frame = pandas.DataFrame(columns)
    write = frame.to_csv if file.suffix == ".csv" else frame.to_parquet
    write(file, index=False)
    return file


def expected(known: dict[int, int]) -> np.ndarray:
    labels = np.full(N, -1)
    labels[list(known)] = list(known.values())
    return labels


# --- which image a label is of --------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("column", ["image_path", "path", "filepath", "filename", "file"])
def test_ids_decide_whatever_the_order(pool: Rows, tmp_path: Path, suffix: str, column: str) -> None:
    order = RNG.permutation(N)
    file = table(tmp_path / f"y{suffix}", **{column: [IDS[i] for i in order], "label": TRUTH[order]})
    np.testing.assert_array_equal(read_labels(file, pool), TRUTH)
    some = table(tmp_path / f"some{suffix}", label=[2, 1], **{column: [IDS[7], IDS[19]]})
    np.testing.assert_array_equal(read_labels(some, pool), expected({7: 2, 19: 1}))


def test_labels_of_a_pool_that_was_made_again_go_with_their_images(tmp_path: Path) -> None:
    """One image is gone and another has come: as many rows as before, other images."""
    now = [*IDS[:4], *IDS[5:], "c/00.png"]
    again = open_rows(make_pool(tmp_path / "again", now), "features")
    old = table(tmp_path / "old.csv", index=np.arange(N), image_path=IDS, label=TRUTH)
    with pytest.raises(ValueError, match=r"images of features, whose ids are 'a/00.png', .*, got 1 others of .*a/04"):
        read_labels(old, again)
    with pytest.raises(ValueError, match=r"got 1 others of '.*labelled': 'a/04.png'"):
        read_labels(make_pool(tmp_path / "labelled", labels=TRUTH.tolist()), again)
    left = pandas.read_csv(old).drop(index=4)
    left.to_csv(old, index=False)
    with pytest.warns(cf.LabelWarning, match=r"15 of 19 labels .* first 'b/05.png', which is row 4 and not 5; image_"):
        found = read_labels(old, again)
    assert dict(zip(now, found.tolist(), strict=True)) == {
        **dict(zip(IDS[:4] + IDS[5:], np.delete(TRUTH, 4).tolist(), strict=True)),
        "c/00.png": -1,
    }


def test_labels_of_an_extracted_pool_are_joined_by_id(tmp_path: Path, pool: Rows) -> None:
    text = [NAMES[c] for c in TRUTH]
    labelled = make_pool(tmp_path / "labelled", IDS[::-1], text[::-1])
    np.testing.assert_array_equal(read_labels(labelled, pool, class_names=NAMES), TRUTH)
    with pytest.raises(ValueError, match=r"labels have the ids of their images of '.*labelled' where features has"):
        read_labels(labelled, open_rows(X, "features"), class_names=NAMES)
    part = make_pool(tmp_path / "part", IDS[5:9], [None, 1, None, 0])
    np.testing.assert_array_equal(read_labels(part, pool), expected({6: 1, 8: 0}))
    parquet.write_table(pyarrow.table({"image_path": IDS[5:9], "label": [0] * 4}), part / "metadata/metadata_0.parquet")
    with pytest.raises(cf.FileReadError, match="must hold rows 0 to 3 as written"):
        read_labels(part, pool)
    with pytest.raises(cf.FileReadError, match=r"no column 'label' in '.*': the images came without labels"):
        read_labels(tmp_path / "pool", pool)


def test_ids_are_never_taken_for_positions(tmp_path: Path) -> None:
    rows = open_rows(X, "features")
    file = table(tmp_path / "y.csv", image_path=IDS, label=TRUTH)
    with pytest.raises(ValueError, match=r"labels have the ids .* where features has none; expected a column 'index'"):
        cf.select(X, 3, labels=file)
    file = table(tmp_path / "y.csv", image_path=IDS[:2], index=[3, 1], label=[0, 1])
    np.testing.assert_array_equal(read_labels(file, rows), expected({3: 0, 1: 1}))


@pytest.mark.parametrize(
    ("text", "known", "warned"),
    [
        ("index,image_path,label\n1,b/01.png,2\n", {1: 2}, None),
        ("index,image_path,label\n3.0,b/03.png,2\n", {3: 2}, None),
        ("index,image_path,label\n,b/03.png,2\n", {3: 2}, None),
        ("index,image_path,label\n9,b/03.png,2\n", {3: 2}, "1 of 1 labels .* row 3 and not 9"),
        ("index,image_path,label\n99,b/03.png,2\n", {3: 2}, "1 of 1 labels .* row 3 and not 99"),
        ("index,image_path,label\n-3,b/03.png,2\n5,b/05.png,1", {3: 2, 5: 1}, "1 of 2 labels .* row 3 and not -3"),
        ("image_path,label\nb/03.png,2\nb/03.png,2\n", {3: 2}, None),
        ("image_path,label\nb/03.png,2\nb/03.png,\n", {3: 2}, None),
        ("image_path,label\nb/03.png,1\nnowhere.png,\n", {3: 1}, None),
        ("\ufeffimage_path,label\r\nb/03.png,1\r\n\r\n", {3: 1}, None),
        ('"image_path","note","label"\n"b/03.png","two\nlines, ""quoted""","1"\n', {3: 1}, None),
    ],
)
def test_rows_of_tables(pool: Rows, tmp_path: Path, text: str, known: dict[int, int], warned: str | None) -> None:
    (tmp_path / "y.csv").write_text(text, encoding="utf-8", newline="")
    if warned is None:
        np.testing.assert_array_equal(read_labels(tmp_path / "y.csv", pool), expected(known))
    else:
        with pytest.warns(cf.LabelWarning, match=warned):
            np.testing.assert_array_equal(read_labels(tmp_path / "y.csv", pool), expected(known))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "image_path,label\nb/03.png,1\na/04.png,1\nb/03.png,2\n",
            "got '1' at row 0 and '2' at row 2 of .*b/03.png'",
        ),
        ("index,label\n3,1\n4,1\n3.0,2\n", "got '1' at row 0 and '2' at row 2 of .* for row 3"),
        ("image_path,label\n./b/03.png,1\nB/03.png,1\n", "got 2 others of '.*y.csv': './b/03.png', 'B/03.png'"),
        ("image_path,label\n" + "".join(f"{i},1\n" for i in range(5)), "got 5 others of '.*': '0', '1', '2', …"),
        ("image_path,label\n,1\n", "labels must have an image_path beside each label, got '' at row 0 of"),
        ("index,image_path,label\nx,b/03.png,1\n", "index must be an integer, got 'x' at row 0 of"),
        ("index,label\n3.5,1\n", "index must be an integer, got '3.5' at row 0 of"),
        ("index,label\n1_0,1\n", "index must be an integer, got '1_0' at row 0 of"),
        ("index,label\n-1,1\n", "index must be a row from 0 to 19, got -1 at row 0 of"),
        ("index,label\n,1\n", "index must be an integer, got '' at row 0 of"),
        ("index,label\n1,1\nindex,label\n2,1\n", "got 'label' at row 1 of"),
        (
            "index|label\n1|1\n",
            "columns of '.*y.csv' must be separated by commas, semicolons or tabs, got 'index|label'",
        ),
        ("index,label,label\n3,1,2\n", "must have each column once, got 'label' twice"),
        ("path\nb/03.png\n", "no column 'label' in"),
        ("label\n1\n2\n", "labels has 2 rows but features has 20"),
    ],
)
def test_tables_that_leave_a_doubt_are_refused(pool: Rows, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "y.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_labels(tmp_path / "y.csv", pool)


def test_row_numbers_of_parquet_are_not_cut_off(tmp_path: Path) -> None:
    rows = open_rows(X, "features")
    file = table(tmp_path / "y.parquet", index=[3.0, 4.0], label=[1.0, np.nan])
    np.testing.assert_array_equal(read_labels(file, rows), expected({3: 1}))
    with pytest.raises(cf.FileReadError, match=r"index must be an integer, got 3\.7 at row 0"):
        read_labels(table(tmp_path / "y.parquet", index=[3.7], label=[1]), rows)


def test_the_index_that_pandas_wrote_is_not_ignored(tmp_path: Path) -> None:
    rows = open_rows(X, "features")
    frame = pandas.DataFrame({"label": TRUTH})
    for shuffled in (False, True):
        some = frame.sample(frac=1, random_state=0) if shuffled else frame
        some.to_csv(tmp_path / "y.csv")
        some.to_parquet(tmp_path / "y.parquet")
        for file in (tmp_path / "y.csv", tmp_path / "y.parquet"):
            if not shuffled:
                np.testing.assert_array_equal(read_labels(file, rows), TRUTH)
                continue
            with pytest.raises(
                ValueError, match="in the order of the rows, or have a column 'index' or 'image_path', got"
            ):
                read_labels(file, rows)
        some.rename_axis("index").to_csv(tmp_path / "y.csv")
        np.testing.assert_array_equal(read_labels(tmp_path / "y.csv", rows), TRUTH)


@pytest.mark.parametrize("index", [slice(None, None, -1), slice(N, None)], ids=["reversed", "the second half"])
@pytest.mark.parametrize("name", [None, "index"])
def test_a_range_that_pandas_wrote_as_no_column_is_not_ignored(tmp_path: Path, index: slice, name: str | None) -> None:
    rows = open_rows(X, "features")
    frame = pandas.DataFrame({"label": np.r_[TRUTH, TRUTH]} if index.start else {"label": TRUTH}).rename_axis(name)
    frame[index].to_parquet(tmp_path / "y.parquet")
    if name is not None and index.start is None:
        np.testing.assert_array_equal(read_labels(tmp_path / "y.parquet", rows), TRUTH)
        return
    with pytest.raises(ValueError, match=r"must be in the order of the rows|a row from 0 to 19, got 20"):
        read_labels(tmp_path / "y.parquet", rows)
    whole = parquet.read_table(tmp_path / "y.parquet")  # cut by another program, with what pandas said about it
    parquet.write_table(whole.slice(0, 4), tmp_path / "y.parquet")
    np.testing.assert_array_equal(read_labels(tmp_path / "y.parquet", open_rows(X[:4], "x")), whole["label"][:4])


@pytest.mark.parametrize("column", ["image", "img_path", "file_name", "id", "url", "Unnamed: 0.1"])
def test_columns_that_may_name_images_are_not_ignored(pool: Rows, tmp_path: Path, column: str) -> None:
    numbers, rows = np.arange(N)[::-1], open_rows(X, "features")
    for suffix in (".csv", ".parquet"):
        for cells in (IDS[::-1], numbers, [f"{i}.0" for i in numbers]):
            file = table(tmp_path / f"y{suffix}", **{column: cells, "label": TRUTH})
            for read_for in (pool, rows):
                with pytest.raises(ValueError, match=f"in the order of the rows, or .* in its column '.*{column}"):
                    read_labels(file, read_for)


def test_columns_that_name_no_rows_are_left_alone(pool: Rows, tmp_path: Path) -> None:
    notes = {"by": ["Ann", "Bo"] * 10, "sure": np.linspace(0, 1, N), "row": np.arange(N), "note": [None, *IDS[1:]]}
    for suffix in (".csv", ".parquet"):
        file = table(tmp_path / f"y{suffix}", **notes, label=TRUTH)
        np.testing.assert_array_equal(read_labels(file, pool), TRUTH)
    file = table(tmp_path / "y.csv", id=np.arange(N) + 1, label=TRUTH)
    np.testing.assert_array_equal(read_labels(file, open_rows(X, "features")), TRUTH)
    with pytest.raises(ValueError, match="must be in the order of the rows"):  # which need not be that of the ids
        read_labels(file, pool)


def test_the_nearest_name_of_a_column_is_taken(pool: Rows, tmp_path: Path) -> None:
    file = table(tmp_path / "y.csv", path=[IDS[3]], Image_Path=[IDS[1]], label=[1])
    np.testing.assert_array_equal(read_labels(file, pool), expected({1: 1}))
    file = table(tmp_path / "y.csv", image_path=[IDS[3]], Path=[IDS[1]], label=[1])
    np.testing.assert_array_equal(read_labels(file, pool), expected({3: 1}))


@pytest.mark.parametrize("first", ["cat", "nan"])
def test_a_first_label_is_no_header(tmp_path: Path, first: str) -> None:
    labels = [first, *(NAMES[c] for c in TRUTH)]
    (tmp_path / "y.csv").write_text("\n".join(labels))
    with pytest.raises(ValueError, match="labels has 21 rows but features has 20"):
        read_labels(tmp_path / "y.csv", open_rows(X, "features"), class_names=NAMES)
    for header in ("label", "species"):
        (tmp_path / "y.csv").write_text("\n".join([header, *labels[1:]]))
        found = read_labels(tmp_path / "y.csv", open_rows(X, "features"), class_names=NAMES)
        np.testing.assert_array_equal(found, TRUTH)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(
    "header", ["index", "Index", "rank", "score", "represents", "image_path", "path", "id", "image", "Unnamed: 0"]
)
def test_a_column_of_something_else_is_no_column_of_labels(tmp_path: Path, suffix: str, header: str) -> None:
    """Numbers of rows are not their labels, because they are all that there is."""
    file = table(tmp_path / f"y{suffix}", **{header: np.arange(N)})
    with pytest.raises(cf.FileReadError, match=rf"'{header}'"):
        read_labels(file, open_rows(X, "features"))


def test_a_first_label_that_is_a_class_or_like_the_others_is_no_header(tmp_path: Path) -> None:
    """Whoever wrote no header loses no label."""
    three = open_rows(X[:3], "features")
    (tmp_path / "y.csv").write_text("great_tit\ncat\ndog\n")
    np.testing.assert_array_equal(
        read_labels(tmp_path / "y.csv", three, class_names=["cat", "dog", "great_tit"]), [2, 0, 1]
    )
    (tmp_path / "y.csv").write_text("path\ncat\npath\n")
    np.testing.assert_array_equal(read_labels(tmp_path / "y.csv", three, class_names=["cat", "path"]), [1, 0, 1])
    (tmp_path / "y.csv").write_text("c3\nc1\nc2\n")
    with pytest.raises(ValueError, match="got 'c3' at row 0"):
        read_labels(tmp_path / "y.csv", three, class_names=["c1", "c2"])


@pytest.mark.parametrize(
    ("cells", "kind"),
    [([[0]] * 4, "list<.*: int64>"), ([{"a": 0}] * 4, "struct<a: int64>"), (np.eye(4).tolist(), "list<.*: double>")],
)
@pytest.mark.parametrize("column", ["label", "index", "image_path", "path"])
def test_columns_of_several_values_in_a_row_are_not_left_out(
    tmp_path: Path, cells: list[Any], kind: str, column: str
) -> None:
    columns = {"label": [0, 1, 0, 1], "index": [0, 1, 2, 3], column: cells}
    parquet.write_table(pyarrow.table(columns), tmp_path / "y.parquet")
    with pytest.raises(
        cf.FileReadError, match=f"the column '{column}' of .* must have one value in each row, got {kind}"
    ):
        read_labels(tmp_path / "y.parquet", open_rows(X[:4], "features"))


@pytest.mark.parametrize("column", ["label", "index"])
@pytest.mark.parametrize(
    ("cells", "known"),
    [
        (pyarrow.array(["3", "1"]).dictionary_encode(), True),
        (pyarrow.array([3, 1]).dictionary_encode(), True),
        (pyarrow.array([3, 1], pyarrow.uint8()), True),
        (pyarrow.array([3, 1], pyarrow.float32()), True),
        (pyarrow.array([3, 1.5]), False),
        (pyarrow.array([True, False]), False),
        (pyarrow.array([3, 1], pyarrow.date32()), False),
        (pyarrow.array([3, 1], pyarrow.timestamp("s")), False),
        (pyarrow.array([3, 1], pyarrow.duration("s")), False),
        (pyarrow.array([2**64 - 2, 1], pyarrow.uint64()), False),
        (pyarrow.array(np.array([2050, 1], np.float16)), False),
        (pyarrow.array([2.0**24 + 2, 1.0], pyarrow.float32()), False),
        (pyarrow.array([1e300, 1.0]), False),
    ],
    ids=lambda value: str(getattr(value, "type", value)),
)
def test_cells_of_every_type(tmp_path: Path, column: str, cells: Any, known: bool) -> None:
    """A number is the one that stands there, or it is refused."""
    columns = {"index": [3, 1], "label": [3, 1], column: cells}
    parquet.write_table(pyarrow.table(columns), tmp_path / "y.parquet")
    if known:
        np.testing.assert_array_equal(
            read_labels(tmp_path / "y.parquet", open_rows(X, "features")), expected({3: 3, 1: 1})
        )
        return
    many = open_rows(np.broadcast_to(np.float32(0), (2**24 + 3, 1)), "features")
    with pytest.raises((ValueError, TypeError), match="labels"):
        read_labels(tmp_path / "y.parquet", many)


@pytest.mark.parametrize(
    "cell", ["1.00000000000000000000001", "0.99999999999999999999", "1e-9999999", "0x1", "١", "1_0"]
)
@pytest.mark.parametrize("column", ["index", "label"])
def test_text_that_is_nearly_a_number(tmp_path: Path, cell: str, column: str) -> None:
    columns = {"index": "1", "label": "1", column: cell}
    (tmp_path / "y.csv").write_text(",".join(columns) + "\n" + ",".join(columns.values()), encoding="utf-8")
    with pytest.raises(ValueError, match=f"labels.* got '?{cell}'? at row 0"):
        read_labels(tmp_path / "y.csv", open_rows(X, "features"))


def test_numbers_that_are_nearly_whole() -> None:
    for value in (Fraction(10**30 + 1, 10**30), np.longdouble(1) + np.finfo(np.longdouble).eps):
        for values in ([value], np.array([value, None], dtype=object)):
            with pytest.raises(ValueError, match=r"labels must be whole numbers or NaN, got .* at row 0"):
                class_codes(values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "label\n0\n1\n".encode("utf-16")[:-1],
            "its byte order mark says UTF-16, but it is damaged or cut off at byte",
        ),
        (
            "label\nKäse\n".encode("cp1252"),
            r"line 2 is not in UTF-8, got the byte 0xe4 in 'K\\xe4se'; expected a file saved",
        ),
        ("label\n0\n1\n".encode("utf-16-le"), "cannot read .* must be text in UTF-8, got a zero byte inside"),
        ("label\n0\n".encode("utf-8-sig") * 2, "cannot read .* must be text in UTF-8, got a byte order mark inside"),
        (b"label\n0\n1\0\n", "got a zero byte inside"),
    ],
)
def test_text_of_another_encoding(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "y.csv").write_bytes(content)
    with pytest.raises(cf.FileReadError, match=message):
        read_labels(tmp_path / "y.csv", open_rows(X[:2], "features"))


@pytest.mark.parametrize("content", [b"\xef\xbb\xbflabel\r\n0\r\n1\r\n", b"0\r1\r", b'"label"\n"0"\n"1"', b"0\n1"])
def test_text_as_every_system_writes_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "y.csv").write_bytes(content)
    np.testing.assert_array_equal(read_labels(tmp_path / "y.csv", open_rows(X[:2], "features")), [0, 1])


def test_a_table_of_more_rows_than_any_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_MOST_ROWS", N - 1)
    with pytest.raises(cf.FileReadError, match=r"labels: '.*y.parquet' has 20 rows, expected at most 19"):
        read_labels(table(tmp_path / "y.parquet", label=TRUTH), open_rows(X, "features"))


def test_images_that_could_not_be_read_are_called_so(pool: Rows, tmp_path: Path) -> None:
    manifest = read_manifest(tmp_path / "pool", "features")
    assert manifest is not None
    shards = (replace(manifest.shards[0], skipped={"broken.png": Skipped("no image")}), *manifest.shards[1:])
    write_manifest(tmp_path / "pool", replace(manifest, shards=shards))
    file = table(tmp_path / "y.csv", image_path=["broken.png", "b/01.png", "none.png"], label=[1, 1, 0])
    with pytest.raises(ValueError, match=r"got 2 others of .*: 'broken.png', 'none.png' \(1 could not be read when"):
        read_labels(file, open_rows(tmp_path / "pool", "features"))


def test_several_files_are_joined(pool: Rows, tmp_path: Path) -> None:
    first = table(tmp_path / "1.csv", image_path=[IDS[3], IDS[5]], label=[0, 1])
    second = table(tmp_path / "2.csv", index=[5, 6], label=[1, 2])
    np.save(tmp_path / "3.npy", expected({7: 1}))
    np.testing.assert_array_equal(
        read_labels([first, second, tmp_path / "3.npy"], pool), expected({3: 0, 5: 1, 6: 2, 7: 1})
    )
    later = table(tmp_path / "4.csv", index=[3, 5, 9], label=[2, 2, 2])
    with pytest.warns(
        cf.LabelWarning, match=r"'.*4.csv' gives 2 rows another label .*, first row 3 class 2 instead of 0; the last"
    ):
        found = read_labels([first, later], pool)
    np.testing.assert_array_equal(found, expected({3: 2, 5: 2, 9: 2}))
    with pytest.warns(cf.LabelWarning, match="first row 3 class 'owl' instead of 'cat'; the last"):
        read_labels([first, later], pool, class_names=["cat", "dog", "owl"])


def test_the_index_of_a_series_is_not_ignored(pool: Rows) -> None:
    series = pandas.Series(TRUTH)
    np.testing.assert_array_equal(read_labels(series, pool), TRUTH)
    np.testing.assert_array_equal(read_labels(pandas.Series(TRUTH[::-1], index=IDS[::-1]), pool), TRUTH)
    np.testing.assert_array_equal(read_labels(series[::-1].to_numpy(), pool), TRUTH[::-1])
    for other in (series[::-1], series.set_axis(np.arange(N) + 1), series.sample(frac=1, random_state=0)):
        with pytest.raises(ValueError, match="labels must be a Series whose index is 0, 1, 2, … or ids"):
            read_labels(other, pool)
    with pytest.raises(ValueError, match="labels must be a Series whose index is 0, 1, 2, … or ids"):
        cf.select(X, 3, labels=pandas.Series(TRUTH, index=IDS))


# --- which class a label means --------------------------------------------------------------------

PLAIN = [0, -1, 2, 1]


@pytest.mark.parametrize(
    "values",
    [
        PLAIN,
        np.array(PLAIN, dtype=np.int8),
        np.array([0, np.nan, 2, 1], dtype=np.float16),
        np.array([0.0, -1.0, 2.0, 1.0]),
        [0, None, 2, 1],
        [0, float("nan"), np.int64(2), np.float32(1)],
        ["cat", None, "great tit", "dog"],
        ["cat", "", "great tit", "dog"],
        [0, "  ", 2, "dog"],
        ["0", "-1", "2", "1.0"],
        np.array(["cat", "", "great tit", "dog"]),
        np.array([b"cat", b"", b"great tit", b"dog"]),
        np.array(["cat", np.nan, "great tit", "dog"]),
        np.array(["cat", None, "great tit", np.str_("dog")], dtype=object),
        np.ma.masked_array([0, 77, 2, 1], mask=[0, 1, 0, 0]),
        np.ma.masked_array(["cat", "cow", "great tit", "dog"], mask=[0, 1, 0, 0]),
        np.ma.masked_array(np.array(["cat", object(), 2, 1], dtype=object), mask=[0, 1, 0, 0]),
        torch.tensor(PLAIN),
        torch.tensor([0, torch.nan, 2, 1], requires_grad=True),
        pandas.Series([0, None, 2, 1], dtype="Int64"),
        pandas.Series(["cat", None, "great tit", "dog"], dtype="string"),
        pandas.Series(pandas.Categorical(["cat", None, "great tit", "dog"], categories=["dog", "great tit", "cat"])),
        pandas.Categorical(["cat", None, "great tit", "dog"]),
        pyarrow.array([0, None, 2, 1]),
        pyarrow.chunked_array([["cat", None], ["great tit", "dog"]]),
    ],
    ids=lambda values: f"{type(values).__name__} {getattr(values, 'dtype', '')}",
)
def test_what_labels_may_be(values: Any) -> None:
    rows = open_rows(X[:4], "features")
    found = read_labels(values, rows, class_names=NAMES, n_classes=3)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, PLAIN)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ([True, False], TypeError, "must be integers .* or class names, got bool True at row 0"),
        (np.array([True, False]), TypeError, "must be integers .* or class names, got dtype bool"),
        ([2, np.True_], TypeError, "must be integers .* or class names, got bool.* .*True.* at row 1"),
        ([0, 10**400], ValueError, "must be whole numbers or NaN, got inf at row 1"),
        ([0, 1 + 0j], TypeError, "got dtype complex128"),
        (np.array([0, object()], dtype=object), TypeError, "got object <object .*> at row 1"),
        (np.array(["2026-01-01"], dtype="datetime64[D]"), TypeError, "got dtype datetime64"),
        (torch.tensor([1.0, 2.0], dtype=torch.bfloat16), TypeError, "got dtype torch.bfloat16"),
        (np.array([2050.0, 1.0], dtype=np.float16), ValueError, "exact, got 2050 at row 0 .*float16, which rounds"),
        (np.array([2**63], dtype=np.uint64), ValueError, r"class from 0 to 1048575, got 9.22337e\+18 at row 0"),
        ([0, 0.5], ValueError, "must be whole numbers or NaN, got 0.5 at row 1"),
        ([0, "0.5"], ValueError, "must be whole numbers or NaN, got 0.5 at row 1"),
        ([0, None, -2], ValueError, r"must be -1 \(not labelled\) or a class from 0, got -2 at row 2"),
        ([[0], [1]], ValueError, r"must have one dimension, got shape \(2, 1\)"),
        (["cat"], TypeError, "integers .* where there are no class_names, got 'cat' at row 0; give class_names"),
        ([b"\xff"], ValueError, "must be text in UTF-8"),
    ],
)
def test_labels_that_mean_nothing(values: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^labels {message}" if message.startswith("must") else message):
        class_codes(values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Cat", "got 'Cat' at row 1; did you mean 'cat'?"),
        ("cat_", "got 'cat_' at row 1; did you mean 'cat'?"),
        ("greattit", "got 'greattit' at row 1; did you mean 'great tit'?"),
        ("zebra", "labels must be class names, or empty where there is none, got 'zebra' at row 1$"),
        ("None", "got 'None' at row 1"),
        ("N/A", "got 'N/A' at row 1"),
        ("3", r"must be -1 \(not labelled\) or a class from 0 to 2, got 3 at row 1"),
        ("1_0", "got '1_0' at row 1"),
        ("inf", "got 'inf' at row 1"),
    ],
)
@pytest.mark.parametrize("typed", [True, False])
def test_text_that_is_no_name_is_refused(text: str, message: str, typed: bool) -> None:
    with pytest.raises(ValueError, match=message):
        class_codes(["cat", text], class_names=NAMES, typed=typed)


def test_spaces_around_a_name_count_only_in_text_of_a_known_type() -> None:
    np.testing.assert_array_equal(class_codes(["cat", " cat "], class_names=NAMES, typed=False), [0, 0])
    with pytest.raises(ValueError, match=r"got ' cat ' at row 1; did you mean 'cat'\?"):
        class_codes(["cat", " cat "], class_names=NAMES)


def test_names_that_are_numbers_of_other_classes(tmp_path: Path) -> None:
    """Text of a known type is a name; a number, or what may be one, is refused."""
    rows = open_rows(X[:4], "features")
    given = ["10", "2", "", "0"]
    for text in (given, np.array(given), pandas.Series(given), table(tmp_path / "y.parquet", label=given)):
        np.testing.assert_array_equal(read_labels(text, rows, class_names=NUMERIC), [2, 3, -1, 0])
    numbers = [2, 3, -1, 0]
    (tmp_path / "y.csv").write_text("label\n10\n2\n\n0\n")
    for ambiguous in (
        numbers,
        np.array(numbers),
        np.array(numbers, dtype=np.float32),
        [2, None, None, "0"],
        [2, "10", "2", "0"],
        ["3", "10", "2", "0"],  # no name, and not to be taken for a position here
        table(tmp_path / "n.parquet", label=numbers),
        tmp_path / "y.csv",
    ):
        with pytest.raises(ValueError, match=r"labels must say whether they are names or numbers of classes, got .*"):
            read_labels(ambiguous, rows, class_names=NUMERIC)
    with pytest.raises(ValueError, match=r"must say whether they are names or numbers"):
        class_codes(["0", "1"], class_names=NUMERIC, typed=False)  # as of a file whose other numbers are still to come
    np.testing.assert_array_equal(read_labels([-1] * 4, rows, class_names=NUMERIC), [-1] * 4)
    np.testing.assert_array_equal(read_labels(ReadLabels(np.array(numbers)), rows, class_names=NUMERIC), numbers)


@pytest.mark.parametrize("names", [["0", "1", "2", "3"], ["00", "01", "02", "03"]])
def test_names_that_are_their_own_numbers(names: list[str]) -> None:
    for typed in (True, False):
        np.testing.assert_array_equal(class_codes([names[3], "2", ""], class_names=names, typed=typed), [3, 2, -1])
    np.testing.assert_array_equal(class_codes([3, 2, -1], class_names=names), [3, 2, -1])


def test_names_that_are_numbers_but_no_positions() -> None:
    """Ratings, say: 1.5 is no position, and so is nothing but a name."""
    names = ["0.5", "1.5", "2.5"]
    for typed in (True, False):
        np.testing.assert_array_equal(class_codes(["2.5", "", "0.5"], class_names=names, typed=typed), [2, -1, 0])
    np.testing.assert_array_equal(class_codes([2, -1, 0], class_names=names), [2, -1, 0])
    with pytest.raises(ValueError, match=r"must be whole numbers or NaN, got 2\.5 at row 0"):
        class_codes([2.5], class_names=names)


def test_a_class_that_is_called_as_if_it_were_none() -> None:
    names = ["naan", "nan", "-1"]
    np.testing.assert_array_equal(class_codes(["nan", "-1", "naan"], class_names=names), [1, 2, 0])
    np.testing.assert_array_equal(class_codes([0, -1, np.nan], class_names=names), [0, -1, -1])
    for text in ("nan", "-1"):
        with pytest.raises(ValueError, match="must say whether they are names or numbers"):
            class_codes([text], class_names=names, typed=False)


def test_equivalent_unicode_is_the_same_name() -> None:
    composed, parts = (unicodedata.normalize(form, "Käfer") for form in ("NFC", "NFD"))
    assert composed != parts
    for label, name in ((composed, parts), (parts, composed)):
        np.testing.assert_array_equal(class_codes([label], class_names=["ant", name]), [1])
    with pytest.raises(ValueError, match=r"class_names must be all different, got 'K.*fer' for classes 0 and 2"):
        read_class_names([composed, "ant", parts])


# --- class names ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        NAMES,
        tuple(NAMES),
        np.array(NAMES),
        pandas.Index(NAMES),
        (name for name in NAMES),
        {"dog": 1, "cat": 0, "great tit": np.int64(2)},
        {2: "great tit", 0: "cat", 1: "dog"},
        {"2": "great tit", "0": "cat", "1": "dog"},
    ],
    ids=lambda source: type(source).__name__,
)
def test_sources_of_class_names(source: Any, tmp_path: Path) -> None:
    assert read_class_names(source) == NAMES
    if isinstance(source, (list, dict)) and 2 not in source:
        (tmp_path / "n.json").write_text(json.dumps(source, default=int))
        assert read_class_names(tmp_path / "n.json") == NAMES


def test_mappings_between_numbers_and_names_that_are_numbers() -> None:
    assert read_class_names({"10": 0, "2": 1}) == read_class_names({0: "10", 1: "2"}) == ["10", "2"]
    assert read_class_names({"1": 0, "0": 1}) == read_class_names({"1": "0", "0": "1"}) == ["1", "0"]


def test_a_line_ends_where_a_line_ends(tmp_path: Path) -> None:
    (tmp_path / "n.txt").write_bytes("\ufeffcat\r\nle\u2028on\r\ndog".encode())
    assert read_class_names(tmp_path / "n.txt") == ["cat", "le\u2028on", "dog"]


def test_the_index_of_a_series_of_names_is_not_ignored() -> None:
    for series in (
        pandas.Series(NAMES),
        pandas.Series(NAMES[::-1], index=[2, 1, 0]),
        pandas.Series([2, 0, 1], index=["great tit", "cat", "dog"]),
    ):
        assert read_class_names(series) == NAMES
    for other in (pandas.Series(NAMES, index=[0, 1, 3]), pandas.Series(NAMES, index=[0, 1, 1])):
        with pytest.raises(ValueError, match="class_names must give each class from 0 to 2 one name"):
            read_class_names(other)


def test_names_of_an_enumeration_are_their_values() -> None:
    class Name(str, enum.Enum):
        CAT = "cat"
        DOG = "dog"

    assert [repr(name) for name in read_class_names(Name)] == ["'cat'", "'dog'"]
    np.testing.assert_array_equal(class_codes([Name.DOG, Name.CAT], class_names=Name), [1, 0])


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "n.yaml",
            b"names:\n  0: cat\n  1: dog\n",
            r"expected a .json or .csv file, or text with one name in each line",
        ),
        (
            "n.csv",
            b"color,size\nred,1\nblue,2\n",
            "must have one column 'name', and perhaps one 'index' .*, got 'color', 'size'",
        ),
        (
            "n.csv",
            b"index,name\n0,cat\n0,dog\n",
            "must have a different number of a class in each row of its column 'index'",
        ),
        (
            "n.jsonl",
            b'{"0": "cat"}\n{"1": "dog"}\n',
            r"expected a .json or .csv file, or text with one name in each line",
        ),
        ("n.txt", b'[\n "cat",\n "dog"\n]\n', r"expected a .json or .csv file, or text with one name in each line"),
        ("n.txt", b'{"cat": 0,\n "dog": 1}\n', r"expected a .json or .csv file, or text with one name in each line"),
        ("n.txt", "cat\ndog\n".encode("utf-16-le"), "must be text in UTF-8, got a zero byte inside"),
        ("n.txt", "cat\n\ufeffdog\n".encode(), "must be text in UTF-8, got a byte order mark inside"),
        ("n.json", b"[" * 100_000, "as JSON: (maximum recursion depth|Stack overflow)"),
    ],
)
def test_files_that_hold_more_than_names(tmp_path: Path, file: str, content: bytes, message: str) -> None:
    (tmp_path / file).write_bytes(content)
    with pytest.raises(cf.FileReadError, match=message):
        read_class_names(tmp_path / file)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (["cat", "dog", "cat "], ValueError, "must be all different, got 'cat' for classes 0 and 2"),
        (3, TypeError, "must be a sequence of strings, a mapping or a path, got int"),
        (["cat", "dog", "cat"], ValueError, "must be all different, got 'cat' for classes 0 and 2"),
        ({"cat", "dog"}, TypeError, "must be in the order of the classes, got a set, which has none"),
        (frozenset(NAMES), TypeError, "must be in the order of the classes, got a frozenset"),
        ({"cat": 1, "dog": 2}, ValueError, r"must give each class from 0 to 1 one name, got \[1, 2\]"),
        ({"cat": 0, "dog": 0}, ValueError, r"must give each class from 0 to 1 one name, got \[0, 0\]"),
        ({0: "cat", 2: "dog"}, ValueError, "must give each class from 0 to 1 one name"),
        ({"0": "cat", "00": "dog"}, ValueError, "must give each class from 0 to 1 one name"),
        ({0: "cat", 1: "cat"}, ValueError, "must be all different, got 'cat' for classes 0 and 1"),
        ({"cat": "0", "dog": "1"}, ValueError, "must be a mapping from names to classes"),
        ({"cat": 0.0, "dog": 1.0}, ValueError, "must be a mapping from names to classes"),
        ({"cat": False, "dog": True}, ValueError, "must be a mapping from names to classes"),
        ({0: 1, 1: 0}, TypeError, "must be strings, got int at row 0"),
        (["cat", 1], TypeError, "must be strings, got int at row 1"),
        (["cat"], ValueError, "must be at least two, got 1"),
    ],
)
def test_class_names_that_are_refused(source: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^class_names {message}"):
        read_class_names(source)


def test_a_key_that_stands_twice_in_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "n.json").write_text('{"cat": 0, "dog": 1, "cat": 2}')
    with pytest.raises(cf.FileReadError, match="a key stands there twice, got"):
        read_class_names(tmp_path / "n.json")


def test_names_of_the_caller_and_the_teacher_agree(tmp_path: Path) -> None:
    known = cf.Teacher(X, np.eye(3, 6), class_names=NAMES)
    unknown = cf.Teacher.from_logits(X[:, :3])
    assert agreed_class_names(None, None) is agreed_class_names(None, unknown) is None
    assert agreed_class_names(None, known) == agreed_class_names(NAMES, unknown) == agreed_class_names(NAMES, None)
    assert cf.Teacher.from_logits(X[:, :3], class_names=dict(zip(NAMES, range(3), strict=True))).class_names == NAMES
    for names, message in (
        (["cat", "great tit", "dog"], "in the same order, got 'great tit' for class 1, which the teacher calls 'dog'"),
        (["cat", "dog"], "class_names must be one for each of the teacher's 3 classes, got 2"),
    ):
        with pytest.raises(ValueError, match=message):
            cf.select(X, 2, class_names=names, teacher=known)
    classes = make_pool(tmp_path / "classes", class_names=NAMES, features=np.eye(3, 6))
    assert cf.Teacher(X, classes).class_names == NAMES
    with pytest.raises(ValueError, match="got 'dog' for class 0, which the teacher calls 'cat'"):
        cf.Teacher(X, classes, class_names=["dog", "cat", "great tit"])
    with pytest.raises(ValueError, match="student_logits has 3 classes but there are 2 class_names"):
        cf.select(X, 2, student_logits=X[:, :3], class_names=["cat", "dog"])
    with pytest.raises(ValueError, match="class_names must be one for each of the 3 classes, got 2"):
        class_codes([0], class_names=["cat", "dog"], n_classes=3)


def test_names_that_a_manifest_has_twice_are_refused_where_one_is_used() -> None:
    np.testing.assert_array_equal(class_codes([1, 0], class_names=["crane", "ant", "crane"]), [1, 0])
    with pytest.raises(ValueError, match="class_names must be all different, got 'crane' for classes 0 and 2"):
        class_codes(["ant"], class_names=["crane", "ant", "crane"])


# --- the query ------------------------------------------------------------------------------------

LABELLED = np.where(np.arange(N) < 9, TRUTH, -1)


def test_text_is_taken_wherever_numbers_are(tmp_path: Path) -> None:
    text = [NAMES[c] if c >= 0 else None for c in LABELLED]
    config = cf.CCMAConfig(max_epochs=5)
    picks = cf.select(X, 4, labels=LABELLED, config=config, class_names=NAMES)
    np.testing.assert_array_equal(picks.indices, cf.select(X, 4, labels=LABELLED, config=config).indices)
    np.testing.assert_array_equal(cf.select(X, 4, labels=text, class_names=NAMES, config=config).indices, picks.indices)
    teacher = cf.Teacher(X, np.eye(3, 6), class_names=NAMES)
    assert str(teacher.diagnose(text)) == str(teacher.diagnose(LABELLED))
    assert "great tit" in str(teacher.diagnose(text))
    led = cf.select(X, 4, labels=text, teacher=teacher, config=config)
    np.testing.assert_array_equal(led.indices, cf.select(X, 4, labels=LABELLED, teacher=teacher, config=config).indices)
    expected_plan = cf.plan(X, 4, labels=LABELLED, config=config)
    found_plan = cf.plan(X, 4, labels=text, class_names=NAMES, config=config)
    assert found_plan.bytes_read == expected_plan.bytes_read
    extracted = make_pool(tmp_path / "pool", labels=text)
    found = cf.select(extracted, 4, labels=extracted, class_names=NAMES, config=config)
    np.testing.assert_array_equal(found.indices, picks.indices)


def test_class_names_tell_how_many_classes_there_are() -> None:
    names = [*NAMES, "eel", "frog"]
    assert cf.select(X, 2, labels=LABELLED, class_names=names).report.n_classes == 5
    with pytest.raises(ValueError, match="a class from 0 to 1, got 2 at row 2"):
        cf.select(X, 2, labels=LABELLED, class_names=["cat", "dog"])
    with pytest.raises(ValueError, match="a class from 0 to 1, got 2 at row 2"):
        read_labels(ReadLabels(LABELLED), open_rows(X, "features"), n_classes=2)


def test_a_loop_goes_on_where_names_are_numbers() -> None:
    """What the package passes on to itself is not asked for its meaning again."""
    teacher = cf.Teacher(X, np.eye(4, 6), class_names=NUMERIC)
    learner = cf.ActiveLearner(X, teacher=teacher, labels=[NUMERIC[c] if c >= 0 else "" for c in LABELLED])
    np.testing.assert_array_equal(learner.labels, LABELLED)
    assert len(learner.query(2)) == 2


def test_picks_have_the_ids_of_their_images(pool: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picks = cf.select(pool, 5)
    assert picks.ids == [IDS[i] for i in picks.indices]
    assert cf.select(X, 5).ids is None
    read: list[str] = []
    original = parquet.read_table

    def spied(file: Path, **options: Any) -> Any:
        read.append(file.name)
        return original(file, **options)

    monkeypatch.setattr(parquet, "read_table", spied)
    assert pool.ids_at(np.array([19, 2, 17])) == [IDS[19], IDS[2], IDS[17]]
    assert read == ["metadata_0.parquet", "metadata_2.parquet"]  # and not the one between
    assert pool.ids_at(np.array([], dtype=np.int64)) == []


# --- the program ----------------------------------------------------------------------------------


def run(*arguments: Any) -> int:
    return main(["select", "--features", *map(str, arguments)])


def test_the_loop_of_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Picks, a column of names added by hand, the pool made again, picks again."""
    monkeypatch.chdir(tmp_path)
    make_pool(tmp_path / "pool")
    Path("names.txt").write_text("\n".join(NAMES))
    assert run("pool", "--budget", 6, "--out", "1.csv", "-q") == 0
    frame = pandas.read_csv("1.csv")
    assert frame.columns.tolist() == ["rank", "index", "image_path", "score", "represents"]
    assert frame["image_path"].tolist() == [IDS[i] for i in frame["index"]]
    frame["label"] = [NAMES[TRUTH[i]] for i in frame["index"]]
    frame.to_csv("1.csv", index=False)
    make_pool(tmp_path / "again", IDS[::-1])
    np.save("y.npy", np.full(N, -1))
    given = ("again", "--budget", 3, "--labels", "y.npy", "--labels", "1.csv", "--class-names", "names.txt")
    assert run(*given, "--out", "2.json") == 0
    err = capsys.readouterr().err
    assert err.startswith("ccma-fast select: warning: labels: 6 of 6 labels of '1.csv' are of another row than")
    assert err.count("warning") == 1
    assert " 6 labelled, " in err
    whole = json.loads(Path("2.json").read_text())
    assert not set(whole["image_path"]) & set(frame["image_path"])
    assert whole["image_path"] == [IDS[::-1][i] for i in whole["index"]]
    np.save("v.npy", X[::-1])
    np.save("t.npy", np.eye(3, 6))
    assert run(*given, "--teacher-images", "v.npy", "--teacher-classes", "t.npy") == 0  # whose rows have no ids
    err = capsys.readouterr().err
    assert "top-1               100.0 % of 6 labelled rows" in err
    assert "great tit 100 %" in err


def test_ids_that_need_quotes(tmp_path: Path, capsys: Any) -> None:
    ids = ['a, "b"/00.png', "two\nlines/01.png", *IDS[2:]]
    make_pool(tmp_path / "pool", ids)
    assert run(tmp_path / "pool", "--budget", N, "-q") == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines(keepends=True)))
    assert {row["image_path"] for row in rows} == set(ids)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("picks.csv", "rank,index,score,represents,label\n1,3,nan,1,\n"),
        ("picks.csv", "notes"),
        ("picks.csv", "rank,index,score,represents\n1,3,nan,cat\n"),
        ("picks.csv", "rank,index,score,represents\n1,3,dog,1\n"),
        ("picks.csv", "rank,index,score,represents\n2,3,nan,1\n1,4,nan,1\n"),
        ("picks.csv", "rank,index,score,represents\n1,3,nan,1\n# the first is done\n"),
        ("picks.json", '{"rank": [1], "index": [3], "score": [null], "represents": ["cat"], "report": {}}'),
        ("picks.json", '{"rank": 1, "index": [3], "score": [null], "represents": [1], "report": {}}'),
        ("picks.json", '{"rank": [1], "index": [3], "score": [null], "represents": [1], "report": {}, "label": []}'),
        ("picks.json", "[1, 2]"),
        ("picks.json", "3"),
        ("picks.npy", None),
    ],
)
def test_what_somebody_made_is_not_overwritten(tmp_path: Path, capsys: Any, name: str, content: str | None) -> None:
    np.save(tmp_path / "x.npy", X)
    file = tmp_path / name
    np.save(file, np.arange(3)) if content is None else file.write_text(content)
    before = file.read_bytes()
    given = (tmp_path / "x.npy", "--budget", 2, "--out", file, "-q")
    assert run(*given) == 2
    assert "is there already and holds something else than picks, or more; expected another file, or --overwrite" in (
        capsys.readouterr().err
    )
    assert file.read_bytes() == before
    assert run(*given, "--overwrite") == 0
    assert file.read_bytes() != before
    assert run(*given) == (2 if content is None else 0)  # row numbers alone could be anybody's


@pytest.mark.parametrize("name", ["picks.npy", "manifest.json", "img_emb/img_emb_0.npy", "img_emb/picks.NPY"])
def test_picks_do_not_become_a_part_of_the_pool(tmp_path: Path, capsys: Any, name: str) -> None:
    """A file .npy would be the next shard."""
    pool = make_pool(tmp_path / "pool")
    before = {file: file.read_bytes() for file in pool.rglob("*.*")}
    assert run(pool, "--budget", 2, "--out", pool / name, "--overwrite") == 2
    assert "would be among the files of --features" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in pool.rglob("*.*")} == before
    assert run(pool, "--budget", 2, "--out", pool / "picks.csv", "-q") == 0


def test_a_file_of_labels_with_a_key_is_an_input_too(tmp_path: Path, capsys: Any) -> None:
    np.save(tmp_path / "x.npy", X)
    file = table(tmp_path / "y.csv", label=TRUTH)
    before = file.read_bytes()
    assert run(tmp_path / "x.npy", "--budget", 2, "--labels", f"{file}::label", "--out", file, "--overwrite") == 2
    assert "is also --labels" in capsys.readouterr().err
    assert file.read_bytes() == before


def test_a_label_that_is_added_while_it_computes_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    np.save(tmp_path / "x.npy", X)
    file = tmp_path / "picks.csv"
    assert run(tmp_path / "x.npy", "--budget", 2, "--out", file, "-q") == 0
    original, before = cf.select, file.read_text()
    edited = "\n".join(f"{line},label" for line in before.splitlines())

    def slow(*given: Any, **options: Any) -> Any:
        file.write_text(edited)
        return original(*given, **options)

    monkeypatch.setattr(sys.modules["ccma_fast.query.select"], "select", slow)
    assert run(tmp_path / "x.npy", "--budget", 2, "--out", file, "-q") == 2
    assert file.read_text() == edited
    assert capsys.readouterr().out == before  # the picks are not lost


def test_an_option_that_is_given_twice_is_refused(tmp_path: Path, capsys: Any) -> None:
    np.save(tmp_path / "x.npy", X)
    assert run(tmp_path / "x.npy", "--budget", 2, "--budget", 3) == 2
    assert "argument --budget: must be given once" in capsys.readouterr().err


def test_other_warnings_are_shown_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(*_: Any, **__: Any) -> Any:
        warnings.warn("of another kind", UserWarning, stacklevel=1)
        return cf.plan(X, 2)

    np.save(tmp_path / "x.npy", X)
    monkeypatch.setattr(sys.modules["ccma_fast.query.planning"], "plan", warn)
    with pytest.warns(UserWarning, match="of another kind"):
        run(tmp_path / "x.npy", "--budget", 2, "--plan")


def test_paths_as_text_and_mappings_are_refused_with_what_to_give() -> None:
    pool = open_rows(X, "features")
    for files in (["one.csv"], ["one.csv", "two.parquet"], ("y.npy",)):
        with pytest.raises(TypeError, match=r"got the text '.*', which in a sequence .* give \[pathlib.Path\('"):
            read_labels(files, pool)
    with pytest.raises(
        TypeError, match="must have a label for each row, got a dict; give an array of them, or a pandas"
    ):
        read_labels({"a.png": 1}, pool)
    names = ["a.csv", "b.csv"]
    assert read_labels(["a.csv", "b.csv"] * (len(X) // 2), pool, class_names=names).tolist() == [0, 1] * (len(X) // 2)
