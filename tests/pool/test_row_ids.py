"""Whatever beside the rows tells their ids: labels are joined by them, and picks have them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow
import pytest
from pyarrow import parquet

import ccma_fast as cf
from ccma_fast.cli import main
from ccma_fast.pool.labels import read_labels
from ccma_fast.pool.manifest import Manifest, Shard
from ccma_fast.pool.manifest_file import chained, digest_of_file, write_manifest
from ccma_fast.pool.open import open_rows

N, D = 20, 4
IDS: list[str | None] = [f"{'ab'[i % 2]}/{i:02}.png" for i in range(N)]
X = np.random.default_rng(0).standard_normal((N, D)).astype(np.float32)
Y = np.arange(N) % 3
CUTS = (0, 8, 16, N)


def vectors(ids: list[str | None], x: np.ndarray, kind: Any = None) -> pyarrow.Table:
    return pyarrow.table({"image_path": pyarrow.array(ids, kind), "vector": list(x)})


def in_parquet(path: Path, ids: list[str | None], x: np.ndarray = X, kind: Any = None) -> Path:
    parquet.write_table(vectors(ids, x, kind), path / "x.parquet", row_group_size=8)
    return path / "x.parquet"


def in_categories(path: Path, ids: list[str | None], x: np.ndarray = X) -> Path:
    return in_parquet(path, ids, x, pyarrow.dictionary(pyarrow.int32(), pyarrow.string()))


def in_arrow(path: Path, ids: list[str | None], x: np.ndarray = X) -> Path:
    table = vectors(ids, x)
    with pyarrow.OSFile(str(path / "x.arrow"), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=8)
    return path / "x.arrow"


def in_shards(path: Path, ids: list[str | None], x: np.ndarray = X) -> Path:
    for k, (start, stop) in enumerate(pairwise(CUTS)):
        parquet.write_table(vectors(ids[start:stop], x[start:stop]), path / f"part-{k}.parquet")
    return path


def of_clip_retrieval(path: Path, ids: list[str | None], x: np.ndarray = X) -> Path:
    for part in ("img_emb", "metadata"):
        (path / part).mkdir()
    for k, (start, stop) in enumerate(pairwise(CUTS)):
        np.save(path / f"img_emb/img_emb_{k}.npy", x[start:stop])
        table = pyarrow.table({"image_path": pyarrow.array(ids[start:stop], pyarrow.string())})
        parquet.write_table(table, path / f"metadata/metadata_{k}.parquet")
    return path


def extracted(path: Path, ids: list[Any], x: np.ndarray = X) -> Path:
    of_clip_retrieval(path, ids, x)
    shards, rows = [], ""
    for k, (start, stop) in enumerate(pairwise(CUTS)):
        files = f"img_emb/img_emb_{k}.npy", f"metadata/metadata_{k}.parquet"
        rows = chained(rows, ids[start:stop])
        shards.append(Shard(*files, stop - start, *(digest_of_file(path / file) for file in files), rows))
    model = {"library": "l", "model": "m", "weights": "w", "weights_sha256": "0"}
    write_manifest(path, Manifest(model, [], "fp32", False, "float32", x.shape[1], tuple(shards)))
    return path


def data_set(path: Path, ids: list[str | None], x: np.ndarray = X) -> Any:
    return pytest.importorskip("datasets").Dataset(vectors(ids, x))


KINDS = [in_parquet, in_categories, in_arrow, in_shards, of_clip_retrieval, extracted, data_set]
POOLS = pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)


@POOLS
def test_labels_are_joined_by_ids_and_picks_have_them(tmp_path: Path, make: Callable[..., Any]) -> None:
    pool = open_rows(make(tmp_path, IDS), "features")
    assert list(pool.row_ids() or ()) == IDS
    assert pool.ids_at(np.array([19, 3, 8, 3])) == [IDS[19], IDS[3], IDS[8], IDS[3]]
    assert pool.ids_at(np.array([], dtype=np.int64)) == []
    table = pandas.DataFrame({"index": np.arange(N), "image_path": IDS[::-1], "label": Y[::-1]})
    table.to_csv(tmp_path / "with index.csv", index=False)
    with pytest.warns(cf.LabelWarning, match="20 of 20 labels .* image_path is taken"):
        np.testing.assert_array_equal(read_labels(tmp_path / "with index.csv", pool), Y)
    table.drop(columns="index").to_csv(tmp_path / "y.csv", index=False)
    np.testing.assert_array_equal(read_labels(tmp_path / "y.csv", pool), Y)
    np.testing.assert_array_equal(read_labels(pandas.Series(Y[::-1], index=IDS[::-1]), pool), Y)
    picks = cf.select(pool, 4)
    assert picks.ids == [IDS[i] for i in picks.indices]
    learner = cf.ActiveLearner(pool)
    learner.label(picks.ids, Y[picks.indices])
    np.testing.assert_array_equal(np.flatnonzero(learner.labels >= 0), np.sort(picks.indices))


@pytest.mark.parametrize("make", [in_parquet, of_clip_retrieval])
def test_ids_that_several_images_have_or_none_has(tmp_path: Path, make: Callable[..., Any], capsys: Any) -> None:
    """Then the number of the row decides, and where nobody tells it nothing does."""
    ids = [None if i in (4, 6) else IDS[1] if i == 3 else row_id for i, row_id in enumerate(IDS)]
    source = make(tmp_path, ids)
    pool = open_rows(source, "features")
    for text, shown in (("image_path,label\nb/01.png,1\n", "'b/01.png' at row 0"), ("image_path,label\n,1\n", "None")):
        (tmp_path / "y.csv").write_text(text)
        with pytest.raises(ValueError, match=rf"must say by index which they are of .*, got {shown}.*, which rows \["):
            read_labels(tmp_path / "y.csv", pool)
    (tmp_path / "y.csv").write_text("index,image_path,label\n5,b/01.png,1\n")
    with pytest.raises(ValueError, match=r"which rows \[1, 3\] of features have"):
        read_labels(tmp_path / "y.csv", pool)
    assert main(["select", "--features", str(source), "--budget", str(N), "-q"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    with open(tmp_path / "y.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "label"])
        writer.writeheader()
        writer.writerows({**row, "label": Y[int(row["index"])]} for row in rows)
    np.testing.assert_array_equal(read_labels(tmp_path / "y.csv", pool), Y)


def test_ids_of_a_few_rows_are_found_without_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    original = parquet.ParquetFile.read_row_group

    def spied(file: Any, group: int, **options: Any) -> Any:
        read.append(group)
        return original(file, group, **options)

    monkeypatch.setattr(parquet.ParquetFile, "read_row_group", spied)
    pool = open_rows(in_parquet(tmp_path, IDS), "features")
    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", None)
    assert pool.ids_at(np.array([17, 2, 1])) == [IDS[17], IDS[2], IDS[1]]
    assert read == [0, 2]


@pytest.mark.parametrize("make", [of_clip_retrieval, extracted])
def test_metadata_that_are_replaced_while_a_pool_is_in_use(tmp_path: Path, make: Callable[..., Any]) -> None:
    """Ids of other rows than those that were opened."""
    learner = cf.ActiveLearner(make(tmp_path, IDS))
    table = pyarrow.table({"image_path": IDS[8:16][::-1]})
    parquet.write_table(table, tmp_path / "new.parquet")
    (tmp_path / "new.parquet").replace(tmp_path / "metadata" / "metadata_1.parquet")
    with pytest.raises(cf.FileReadError, match=r"metadata_1.parquet' (must hold 8 rows as written|was replaced while)"):
        learner.label(["b/09.png"], [1])
    assert (learner.labels == -1).all()


def test_a_file_that_is_replaced_while_it_is_in_use(tmp_path: Path) -> None:
    pool = open_rows(in_parquet(tmp_path, IDS), "features")
    (tmp_path / "new").mkdir()
    in_parquet(tmp_path / "new", IDS[::-1]).replace(tmp_path / "x.parquet")
    for ids in (lambda: pool.ids_at(np.array([0])), lambda: next(pool.row_ids() or iter(()))):
        with pytest.raises(cf.FileReadError, match=r"x.parquet' was replaced while it was in use"):
            ids()


def test_labels_beside_the_vectors_are_of_their_rows(tmp_path: Path) -> None:
    """Whatever else stands there: the same text twice, or text that could be a name."""
    columns = {"image_path": [*IDS[:18], None, IDS[0]], "caption": IDS[::-1], "label": pyarrow.array(Y)}
    for names in (columns, ("caption", "label")):
        table = pyarrow.table({"vector": list(X), **{name: columns[name] for name in names}})
        parquet.write_table(table, tmp_path / "x.parquet")
        np.testing.assert_array_equal(read_labels(tmp_path / "x.parquet", open_rows(tmp_path / "x.parquet", "x")), Y)
        with pytest.raises(ValueError, match=r"must be in the order of the rows|have the ids of their images"):
            read_labels(tmp_path / "x.parquet", open_rows(X, "x"))


OF_TABLE = {
    "parquet": lambda path, table: (parquet.write_table(table, path / "t.parquet"), path / "t.parquet")[1],
    "shards": lambda path, table: (parquet.write_table(table, path / "t-0.parquet"), path)[1],
    "Arrow": lambda path, table: table,
    "pandas": lambda path, table: table.to_pandas(),
}


@pytest.mark.parametrize("kind", OF_TABLE)
@pytest.mark.parametrize("column", ["path", "File Path", "filepath", "filename", "File"])
def test_ids_may_be_called_as_in_tables_of_labels(tmp_path: Path, kind: str, column: str) -> None:
    table = pyarrow.table({"caption": IDS[::-1], column: IDS, "vector": list(X)})
    if column == "File Path":
        with pytest.warns(cf.UnreadIdsWarning, match=r"features has no ids.* 'File Path' .* call it 'image_path'"):
            assert open_rows(OF_TABLE[kind](tmp_path, table), "features").row_ids() is None
        return
    pool = open_rows(OF_TABLE[kind](tmp_path, table), "features")
    assert list(pool.row_ids() or ()) == IDS
    assert pool.ids_at(np.array([19, 3])) == [IDS[19], IDS[3]]


@pytest.mark.parametrize("kind", OF_TABLE)
@pytest.mark.parametrize("column", ["id", "name", "Key", "image_id", "url"])
def test_text_that_may_be_ids_is_not_left_out_in_silence(tmp_path: Path, kind: str, column: str) -> None:
    table = pyarrow.table({"caption": IDS[::-1], column: IDS, "vector": list(X)})
    with pytest.warns(cf.UnreadIdsWarning, match=f"the column '{column}' of text is not read"):
        assert cf.select(OF_TABLE[kind](tmp_path, table), 2).ids is None


def test_what_is_no_column_of_ids(tmp_path: Path) -> None:
    """Numbers, text of another name, and whatever stands beside ids."""
    vectors_alone = {"vector": list(X)}
    for more in ({"id": range(N)}, {"caption": IDS}, {"image_path": IDS, "id": IDS, "path": IDS[::-1]}):
        table = pyarrow.table({**more, **vectors_alone})
        for kind, given in OF_TABLE.items():
            (tmp_path / kind).mkdir(exist_ok=True)
            found = open_rows(given(tmp_path / kind, table), "features").row_ids()
            assert (None if found is None else list(found)) == more.get("image_path")
    frame = pyarrow.table({"name": Y.astype(str), **vectors_alone}).to_pandas().set_axis(IDS)
    assert list(open_rows(frame, "features").row_ids() or ()) == IDS
