"""Every format: the same rows and the same picks as from memory, in any process, and damage named by file and row."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ccma_fast as cf
from ccma_fast.pool.class_names import read_class_names
from ccma_fast.pool.derived import RowSubset
from ccma_fast.pool.labels import read_labels
from ccma_fast.pool.open import open_rows
from ccma_fast.pool.readers.folder import _mapped
from ccma_fast.pool.rows import Rows, to_float32
from ccma_fast.research.workers import dumped

h5py = pytest.importorskip("h5py")
pyarrow = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.ipc")
parquet = pytest.importorskip("pyarrow.parquet")
safetensors_numpy = pytest.importorskip("safetensors.numpy")

N, D = 301, 5
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N, D)).astype(np.float16)
Y = np.where(np.arange(N) % 6 == 0, np.arange(N) % 4, -1)
ROWS = open_rows(X, "features")


def lists(x: np.ndarray, *, fixed: bool) -> Any:
    flat = pyarrow.array(x.ravel())
    if fixed:
        return pyarrow.FixedSizeListArray.from_arrays(flat, x.shape[1])
    return pyarrow.ListArray.from_arrays(pyarrow.array(np.arange(len(x) + 1, dtype=np.int32) * x.shape[1]), flat)


def write_parquet(file: Path, x: np.ndarray, *, fixed: bool = False, **options: Any) -> Path:
    parquet.write_table(pyarrow.table({"id": np.arange(len(x)), "vector": lists(x, fixed=fixed)}), file, **options)
    return file


def write_nulls(table: pyarrow.Table, file: Path) -> None:
    """A parquet file of lists of which some are missing, which old versions of pyarrow read, but do not write."""
    try:
        parquet.write_table(table, file)
    except pyarrow.ArrowNotImplementedError as error:
        pytest.skip(f"pyarrow {pyarrow.__version__}: {error}")


def write_hdf5(file: Path, x: np.ndarray, **options: Any) -> Path:
    with h5py.File(file, "w") as handle:
        handle.create_dataset("train/features", data=x, **options)
    return file


def write_npy(file: Path, x: np.ndarray) -> Path:
    np.save(file, x)
    return file


def write_arrow(file: Path, x: np.ndarray, *, stream: bool = True, rows: int = 40, **options: Any) -> Path:
    options = {"fixed": False, **options}
    table = pyarrow.table({"id": np.arange(len(x)), "vector": lists(x, **options)})
    new = pyarrow.ipc.new_stream if stream else pyarrow.ipc.new_file
    with pyarrow.OSFile(str(file), "wb") as sink, new(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return file


def save_to_disk(folder: Path, x: np.ndarray, **state: Any) -> Path:
    """What ``datasets.Dataset.save_to_disk`` writes."""
    folder.mkdir(parents=True)
    files = [f"data-{i:05d}-of-00011.arrow" for i in range(11)]
    for file, part in zip(files, np.array_split(x, 11), strict=True):
        write_arrow(folder / file, part)
    (folder / "dataset_info.json").write_text("{}")
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": file} for file in files], **state}))
    return folder


def write_parquet_shards(folder: Path, x: np.ndarray) -> Path:
    folder.mkdir()
    for i, part in enumerate(np.array_split(x, 11)):
        write_parquet(folder / f"train-{i:05d}-of-00011.parquet", part, row_group_size=13)
    return folder


def write_tensors(file: Path, x: np.ndarray, shape: tuple[int, ...] = (D,)) -> Path:
    """A column of the extension type ``arrow.fixed_shape_tensor``."""
    kind = pyarrow.fixed_shape_tensor(pyarrow.from_numpy_dtype(x.dtype), shape)
    column = pyarrow.ExtensionArray.from_storage(kind, lists(x, fixed=True))
    parquet.write_table(pyarrow.table({"id": np.arange(len(x)), "vector": column}), file, row_group_size=53)
    return file


def write_shards(folder: Path, x: np.ndarray, names: str = "part-{}.npy") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, part in enumerate(np.array_split(x, 11)):  # part-10 sorts after part-2
        np.save(folder / names.format(i), part)
    return folder


def write_clip_retrieval(folder: Path, x: np.ndarray) -> Path:
    write_shards(folder / "img_emb", x, "img_emb_{}.npy")
    (folder / "metadata").mkdir()
    return folder


def write_safetensors(file: Path, x: np.ndarray) -> Path:
    safetensors_numpy.save_file({"other": np.zeros(3), "vectors": x}, file)
    return file


def write_bfloat16(file: Path, x: np.ndarray) -> Path:
    import torch
    from safetensors.torch import save_file

    save_file({"features": torch.from_numpy(x).bfloat16(), "second": torch.zeros(2, 2)}, file)
    return file


def dataset(x: np.ndarray, folder: Path | None, **options: Any) -> Any:
    datasets = pytest.importorskip("datasets")
    whole = datasets.Dataset(pyarrow.table({"id": np.arange(len(x)), "vector": lists(x, **options)}))
    if folder is None:
        return whole
    whole.save_to_disk(folder, num_shards=2)
    return datasets.load_from_disk(folder)


def shuffled_dataset(x: np.ndarray, folder: Path) -> Any:
    order = np.random.default_rng(1).permutation(len(x))
    return dataset(x[order], folder, fixed=False).select(np.argsort(order).tolist())


FORMATS: dict[str, Callable[[Path, np.ndarray], Any]] = {
    "npy": lambda path, x: write_npy(path / "x.npy", x),
    "shards": lambda path, x: write_shards(path / "x", x),
    "clip-retrieval": lambda path, x: write_clip_retrieval(path / "x", x),
    "hdf5": lambda path, x: write_hdf5(path / "x.h5", x),
    "hdf5 in chunks": lambda path, x: write_hdf5(path / "x.h5", x, chunks=(7, 2)),
    "hdf5 compressed": lambda path, x: write_hdf5(path / "x.hdf5", x, compression="gzip", chunks=True),
    "parquet lists": lambda path, x: write_parquet(path / "x.parquet", x),
    "parquet fixed lists": lambda path, x: write_parquet(path / "x.parquet", x, fixed=True, row_group_size=53),
    "parquet by its column": lambda path, x: f"{write_parquet(path / 'x.parquet', x, row_group_size=53)}::vector",
    "parquet tensors": lambda path, x: write_tensors(path / "x.parquet", x),
    "parquet shards": lambda path, x: write_parquet_shards(path / "x", x),
    "parquet shards by their column": lambda path, x: f"{write_parquet_shards(path / 'x', x)}::vector",
    "arrow stream": lambda path, x: write_arrow(path / "x.arrow", x),
    "arrow file": lambda path, x: write_arrow(path / "x.arrow", x, stream=False, fixed=True),
    "saved dataset": lambda path, x: save_to_disk(path / "x", x),
    "safetensors": lambda path, x: write_safetensors(path / "x.safetensors", x),
    "safetensors by its name": lambda path, x: f"{write_safetensors(path / 'x.safetensors', x)}::vectors",
    "dataset in memory": lambda path, x: dataset(x, None, fixed=False),
    "dataset on disk": lambda path, x: dataset(x, path / "x", fixed=True),
    "dataset of indices": lambda path, x: shuffled_dataset(x, path / "x"),
}


@pytest.fixture(params=FORMATS)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[np.ndarray], Any]:
    return lambda x: FORMATS[request.param](tmp_path, x)


def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccma_fast.pool.blocks._BLOCK_BYTES", 13 * 2 * D)
    for reader in ("arrow", "huggingface"):
        monkeypatch.setattr(f"ccma_fast.pool.readers.{reader}._MAPPED_BYTES", 100 * 2 * D)


@pytest.mark.parametrize("blocks", ["small", "large"])
def test_rows_are_those_of_the_array(make: Any, monkeypatch: pytest.MonkeyPatch, blocks: str) -> None:
    if blocks == "small":
        small_blocks(monkeypatch)
    rows = open_rows(make(X), "features")
    assert (rows.n_rows, rows.n_columns, rows.name) == (N, D, "features")
    assert rows.bytes_read == 0
    for chunk_size in (1, 40, N, None) if blocks == "small" else (40, None):
        for start, chunk in rows.chunks(chunk_size):
            assert chunk.flags.c_contiguous
            assert chunk.dtype == np.float16
            np.testing.assert_array_equal(chunk, X[start : start + len(chunk)])
    assert rows.bytes_read >= X.nbytes
    assert len(rows.slice(7, 7)) == 0
    for indices in ([3], [], [300, 0, 17, 17, 250, 18], np.arange(0, N, 3), np.random.default_rng(2).permutation(N)):
        where = np.array(indices, dtype=np.int64)
        np.testing.assert_array_equal(rows.take(where), X[where])
    np.testing.assert_array_equal(rows.slice(290, 400), X[290:])


# Every pass reads many small blocks.
SHORT = cf.CCMAConfig(kmeans_max_iter=2)


@cache
def picks_of_the_array() -> tuple[cf.Selection, cf.Selection]:
    return cf.select(X, 9, config=SHORT), cf.select(X, 9, labels=Y, config=SHORT)


def test_picks_are_those_of_the_array(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    small_blocks(monkeypatch)
    source, (first, expected) = make(X), picks_of_the_array()
    np.testing.assert_array_equal(cf.select(source, 9, config=SHORT).indices, first.indices)
    found = cf.select(source, 9, labels=Y, config=SHORT, chunk_size=50)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_rows_travel_to_another_process(make: Any) -> None:
    """Open, half read, and as worker processes get them: files go by their names."""
    rows = open_rows(make(X), "features")
    rows.slice(5, 60)
    payload = dumped(rows)
    there: Rows = pickle.loads(payload)
    np.testing.assert_array_equal(there.slice(0, N), X)
    np.testing.assert_array_equal(there.take(np.array([299, 2])), X[[299, 2]])
    np.testing.assert_array_equal(rows.slice(60, 70), X[60:70])


@pytest.mark.parametrize(
    "kind", ["npy", "shards", "clip-retrieval", "hdf5", "parquet lists", "safetensors", "arrow stream"]
)
def test_files_go_by_their_names(tmp_path: Path, kind: str) -> None:
    x = np.zeros((20_000, D), np.float16)
    assert len(dumped(open_rows(FORMATS[kind](tmp_path, x), "features"))) < 10_000


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16"])
def test_other_types(make: Any, dtype: str) -> None:
    x = (100 * X.astype(np.float64)).astype(dtype)
    chunk = open_rows(make(x), "features").slice(0, N)
    assert chunk.dtype == np.float32
    np.testing.assert_array_equal(chunk, x.astype(np.float32))


def test_bfloat16(tmp_path: Path) -> None:
    import torch

    rows = open_rows(write_bfloat16(tmp_path / "x.safetensors", X.astype(np.float32)), "features")
    expected = torch.from_numpy(X.astype(np.float32)).bfloat16().float().numpy()
    np.testing.assert_array_equal(rows.float32(), expected)
    np.testing.assert_array_equal(to_float32(rows.take(np.array([9, 2]))), expected[[9, 2]])


def test_pools_without_rows(tmp_path: Path) -> None:
    for kind in ("npy", "hdf5", "hdf5 compressed", "parquet fixed lists", "safetensors"):
        (tmp_path / kind).mkdir()
        assert open_rows(FORMATS[kind](tmp_path / kind, X[:0]), "features").float32().shape == (0, D)


def test_the_published_layout_of_hdf5(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y, test_y = rng.integers(3, size=90), rng.integers(3, size=30)
    x, test_x = (np.eye(3, 4)[labels] + 0.3 * rng.standard_normal((labels.size, 4)) for labels in (y, test_y))
    for file in ("student.h5", "teacher.h5"):
        with h5py.File(tmp_path / file, "w") as handle:
            for key, value in {
                "train/features": x,
                "train/labels": y,
                "test/features": test_x,
                "test/labels": test_y,
                "text/features": np.eye(3, 4),
            }.items():
                handle[key] = value
    student, teacher = str(tmp_path / "student.h5"), str(tmp_path / "teacher.h5")
    arguments: dict[str, Any] = {"strategies": ["ccma"], "seeds": [1], "rounds": 2, "progress": False}
    arguments["config"] = cf.CCMAConfig(max_epochs=5)
    found = cf.simulate(
        student, student, test_features=student, test_labels=student, teacher=cf.Teacher(teacher, teacher), **arguments
    )
    expected = cf.simulate(
        x, y, test_features=test_x, test_labels=test_y, teacher=cf.Teacher(x, np.eye(3, 4)), **arguments
    )
    np.testing.assert_array_equal(found.picks["row"], expected.picks["row"])
    assert open_rows(f"{student}::test/features", "features").n_rows == 30


def test_simulate_in_several_processes(tmp_path: Path) -> None:
    y = np.arange(N) % 3
    x = (np.eye(3, D)[y] + 0.3 * RNG.standard_normal((N, D))).astype(np.float16)
    arguments: dict[str, Any] = {"test_features": x, "test_labels": y, "strategies": ["margins"], "seeds": [1, 2]}
    arguments |= {"rounds": 1, "progress": False, "config": cf.CCMAConfig(max_epochs=3)}
    expected = cf.simulate(x, y, **arguments).picks["row"]
    source = write_parquet(tmp_path / "x.parquet", x)
    np.testing.assert_array_equal(cf.simulate(source, y, jobs=2, **arguments).picks["row"], expected)


# --- damage ---------------------------------------------------------------------------------------


def refused(source: Any, *parts: str, name: str = "features") -> None:
    with pytest.raises(cf.FileReadError, match=f"^{name}") as raised:
        open_rows(source, name).slice(0, 10**9)
    message = str(raised.value)
    for part in parts:
        assert part in message, message
    assert "\n" not in message


FILES = {
    "x.h5": lambda file: write_hdf5(file, X),
    "x.hdf5": lambda file: write_hdf5(file, X, compression="gzip"),
    "x.parquet": lambda file: write_parquet(file, X),
    "x.safetensors": lambda file: write_safetensors(file, X),
    "x.npy": lambda file: write_npy(file, X),
    "x.arrow": lambda file: write_arrow(file, X),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "magic"])
def test_damaged_files(tmp_path: Path, name: str, damage: str) -> None:
    file = FILES[name](tmp_path / name)
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes({"empty": b"", "truncated": content[: len(content) - 1000], "magic": b"x" * 300}[damage])
    refused(file, f"{name}'")


def test_a_truncated_safetensors_names_its_last_row(tmp_path: Path) -> None:
    file = write_safetensors(tmp_path / "x.safetensors", X)
    file.write_bytes(file.read_bytes()[: -2 * D * 100])
    refused(file, "x.safetensors' is damaged", "ends in row 201")


def test_a_damaged_chunk_of_hdf5(tmp_path: Path) -> None:
    file = write_hdf5(tmp_path / "x.h5", X, chunks=(100, D), fletcher32=True)
    with h5py.File(file) as handle:
        at = handle["train/features"].id.get_chunk_info(2).byte_offset
    content = bytearray(file.read_bytes())
    content[at + 5] ^= 255
    file.write_bytes(content)
    refused(file, "cannot read rows 0 to 300 of", "x.h5'")


def test_a_damaged_page_of_parquet(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "x.parquet", X, row_group_size=100, compression="gzip", use_dictionary=False)
    at = parquet.ParquetFile(file).metadata.row_group(1).column(1).data_page_offset
    content = bytearray(file.read_bytes())
    content[at + 60 : at + 300] = b"\xff" * 240
    file.write_bytes(content)
    refused(file, "cannot read rows 100 to 199 of", "x.parquet'")


def none_at(row: int, *, fixed: bool) -> list[str]:
    """What is said of a row that is missing: of lists of a fixed size by pyarrow itself, up to version 25."""
    is_old = int(pyarrow.__version__.partition(".")[0]) < 26
    return [f"Expected all lists to be of size={D} but"] if fixed and is_old else ["none", f"at row {row}"]


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("row", [0, 207])
def test_rows_that_are_missing_or_of_another_length(tmp_path: Path, fixed: bool, row: int) -> None:
    def write(change: Callable[[list[Any]], Any]) -> Path:
        rows = X.astype(np.float32).tolist()
        rows[row] = change(rows[row])
        kind = pyarrow.list_(pyarrow.float32(), D if fixed else -1)
        write_nulls(pyarrow.table({"vector": pyarrow.array(rows, kind)}), tmp_path / "x.parquet")
        return tmp_path / "x.parquet"

    refused(write(lambda _: None), *none_at(row, fixed=fixed), "x.parquet'")
    refused(write(lambda values: [*values[:2], None, *values[3:]]), "one that is missing", f"at row {row}")
    if not fixed and row:
        refused(write(lambda values: values[:3]), "x.parquet' must have 5 numbers in each row, got 3 at row 207")


@pytest.mark.parametrize("make_file", [write_parquet, write_arrow])
@pytest.mark.parametrize("missing", ["row", "number"])
def test_missing_values_of_every_kind_of_list(tmp_path: Path, make_file: Any, missing: str) -> None:
    """Nulls under which numbers lie, which are not the user's."""
    flat = pyarrow.array(
        X.astype(np.float32).ravel(), mask=np.arange(N * D) == (207 * D + 2 if missing == "number" else -1)
    )
    mask = pyarrow.array(np.arange(N) == (207 if missing == "row" else -1))
    offsets = pyarrow.array(np.arange(N + 1) * D)
    for column in (
        pyarrow.FixedSizeListArray.from_arrays(flat, D, mask=mask),
        pyarrow.LargeListArray.from_arrays(offsets, flat, mask=mask),
        pyarrow.ListArray.from_arrays(offsets.cast(pyarrow.int32()), flat, mask=mask),
        pyarrow.ExtensionArray.from_storage(
            pyarrow.fixed_shape_tensor(pyarrow.float32(), (D,)),
            pyarrow.FixedSizeListArray.from_arrays(flat, D, mask=mask),
        ),
    ):
        table = pyarrow.table({"vector": column})
        if make_file is write_parquet:
            write_nulls(table, file := tmp_path / "x.parquet")
        else:
            file = tmp_path / "x.arrow"
            with pyarrow.OSFile(str(file), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
        fixed = make_file is write_parquet and not isinstance(column, (pyarrow.ListArray, pyarrow.LargeListArray))
        said = none_at(207, fixed=fixed) if missing == "row" else ["one that is missing", "at row 207"]
        refused(file, *said, f"{file.name}'")


def test_nan_is_named_with_its_file(make: Any) -> None:
    x = X.copy()
    x[207, 3] = np.nan
    source = make(x)
    with pytest.raises(ValueError, match=r"^features must be finite, got NaN or infinity at row 207") as raised:
        cf.select(source, 3)
    if isinstance(source, (str, Path)):
        # Shards of 28 rows, then of 27.
        where = "row 14 of '" if Path(source).is_dir() else "of '"
        assert where in str(raised.value)


def test_several_matrices_in_one_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as handle:
        handle["a"], handle["deep/b"], handle["labels"] = X, X, Y
    refused(tmp_path / "x.h5", "no dataset 'train/features' in", "'a' (float16 (301, 5)), 'deep/b'")
    refused(f"{tmp_path / 'x.h5'}::c", "no dataset 'c' in", "'a' (float16 (301, 5))")
    refused(tmp_path / "x.h5", "no dataset 'text/features' in", name="class_features")
    np.testing.assert_array_equal(open_rows(f"{tmp_path / 'x.h5'}::/deep/b", "features").float32(), X)
    parquet.write_table(pyarrow.table({"a": lists(X, fixed=True), "b": lists(X, fixed=False)}), tmp_path / "x.parquet")
    refused(tmp_path / "x.parquet", "no column 'features' in", "'a' (fixed_size_list", "'b' (list")
    refused(f"{tmp_path / 'x.parquet'}::c", "no column 'c' in")
    safetensors_numpy.save_file({"a": X, "b": X}, tmp_path / "x.safetensors")
    refused(tmp_path / "x.safetensors", "no tensor 'features' in", "'a' (F16 (301, 5)), 'b' (F16 (301, 5))")


def test_a_column_is_taken_by_its_whole_name(tmp_path: Path) -> None:
    """Parquet names what is nested by dots, which may also stand in the name of another column."""
    table = pyarrow.table({"v.list": lists(X + 1, fixed=False), "v": lists(X, fixed=True), "v.x": lists(X, fixed=True)})
    parquet.write_table(table, tmp_path / "x.parquet")
    np.testing.assert_array_equal(open_rows(f"{tmp_path / 'x.parquet'}::v", "features").float32(), X)
    np.testing.assert_array_equal(open_rows(f"{tmp_path / 'x.parquet'}::v.list", "features").float32(), X + 1)
    twice = pyarrow.Table.from_arrays([lists(X, fixed=True)] * 2, names=["v", "v"])
    parquet.write_table(twice, tmp_path / "x.parquet")
    refused(f"{tmp_path / 'x.parquet'}::v", "must have one column 'v', got 2")


def test_tensors_of_two_dimensions_are_not_flattened(tmp_path: Path) -> None:
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    file = write_tensors(tmp_path / "x.parquet", x, (2, 3))
    with pytest.raises(
        TypeError, match=r"must be a column of lists of numbers, got 'vector' of .*tensor.*shape=\[2,3\]"
    ):
        open_rows(f"{file}::vector", "features")
    refused(file, "no column 'features' in", "got none")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"_indices_files": [{"filename": "indices.arrow"}]}, "rows are chosen by indices (_indices_files); expected"),
        ({"_indices_data_files": [{"filename": "i.arrow"}]}, "rows are chosen by indices (_indices_data_files)"),
        ({"_data_files": [{"filename": "../x.arrow"}]}, "must name files in its own folder, got '../x.arrow'"),
        ({"_data_files": [{"filename": "/etc/x.arrow"}]}, "must name files in its own folder, got '/etc/x.arrow'"),
        ({"_data_files": [{"filename": "data-00000-of-00011.arrow"}]}, "must be 11 by their names, got 1"),
        ({"_data_files": [{"filename": "none.arrow"}]}, "none.arrow'"),
        ({"_data_files": None}, "state.json' of a data set"),
        ({"_data_files": [{}]}, "state.json' of a data set: KeyError('filename')"),
    ],
)
def test_damaged_data_sets(tmp_path: Path, state: dict[str, Any], message: str) -> None:
    refused(save_to_disk(tmp_path / "x", X, **state), message)


def test_a_data_set_says_in_which_order_its_files_stand(tmp_path: Path) -> None:
    folder = save_to_disk(tmp_path / "x", X)
    (folder / "cache-1234.arrow").write_bytes(b"what datasets keeps besides")
    state = json.loads((folder / "state.json").read_text())
    state["_data_files"].reverse()
    (folder / "state.json").write_text(json.dumps(state))
    expected = np.concatenate(np.array_split(X, 11)[::-1])
    np.testing.assert_array_equal(open_rows(folder, "features").float32(), expected)


def test_a_data_set_of_several_splits_is_refused(tmp_path: Path) -> None:
    for split in ("train", "test"):
        save_to_disk(tmp_path / "x" / split, X)
    (tmp_path / "x" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    refused(tmp_path / "x", "holds several splits; expected one of '", "x/test', '", "x/train'")
    np.testing.assert_array_equal(open_rows(tmp_path / "x" / "train", "features").float32(), X)


def test_an_array_that_was_cut_off(tmp_path: Path) -> None:
    file = write_npy(tmp_path / "x.npy", X)
    file.write_bytes(file.read_bytes()[:-8])
    refused(file, "shorter than its header says, as where a copy was cut off")


def test_a_stream_that_was_cut_off_between_two_batches(tmp_path: Path) -> None:
    file = write_arrow(tmp_path / "x.arrow", X)
    file.write_bytes(file.read_bytes()[:-8])
    refused(file, "does not end as a stream does")


# --- links and fill values of HDF5 ----------------------------------------------------------------


def test_soft_links_are_followed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as handle:
        handle["deep/down/x"], handle["deep/down/y"] = X, X + 1
        handle["hard"] = handle["deep/down/x"]
        handle["absolute"], handle["deep/relative"] = h5py.SoftLink("/deep/down/x"), h5py.SoftLink("down/x")
        handle["group"], handle["twice"] = h5py.SoftLink("deep/down"), h5py.SoftLink("deep/relative")
        handle["train/features"] = h5py.SoftLink("/group/x")
        handle["none"], handle["circle"] = h5py.SoftLink("/nowhere"), h5py.SoftLink("circle/x")
    keys = ["hard", "absolute", "deep/relative", "group/x", "/twice", "deep//down/./x", "train/features"]
    for source in (tmp_path / "x.h5", *(f"{tmp_path / 'x.h5'}::{key}" for key in keys)):
        np.testing.assert_array_equal(open_rows(source, "features").float32(), X)
    np.testing.assert_array_equal(open_rows(f"{tmp_path / 'x.h5'}::group/y", "features").float32(), X + 1)
    refused(f"{tmp_path / 'x.h5'}::none", "no dataset 'none' in")
    refused(f"{tmp_path / 'x.h5'}::group", "no dataset 'group' in")
    refused(f"{tmp_path / 'x.h5'}::hard/x", "no dataset 'hard/x' in")
    refused(f"{tmp_path / 'x.h5'}::circle", "is a link that leads back to itself")


def test_other_files_are_not_opened_for_a_link(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "secret.h5", X)
    layout = h5py.VirtualLayout((N, D), X.dtype)
    layout[:] = h5py.VirtualSource(tmp_path / "secret.h5", "train/features", (N, D))
    X.tofile(tmp_path / "raw")
    with h5py.File(tmp_path / "x.h5", "w") as handle:
        handle["link"] = h5py.ExternalLink("secret.h5", "/train/features")
        handle["group"] = h5py.ExternalLink("secret.h5", "/train")
        handle["soft"] = h5py.SoftLink("/group/features")
        handle.create_virtual_dataset("virtual", layout)
        handle.create_dataset("raw", X.shape, X.dtype, external=str(tmp_path / "raw"))
    for key, message in (
        ("link", "is a link to '/train/features' in another file, 'secret.h5'"),
        ("group/features", "is a link to '/train' in another file, 'secret.h5'"),
        ("soft", "is a link to '/train' in another file, 'secret.h5'"),
        ("virtual", "is a virtual dataset, of which what is missing would read as 0"),
        ("raw", "lies in another file, '"),
    ):
        refused(f"{tmp_path / 'x.h5'}::{key}", message)
    with h5py.File(tmp_path / "x.h5", "w") as handle:
        handle["other"] = X
        handle["train/features"] = h5py.ExternalLink("secret.h5", "/train/features")
    refused(tmp_path / "x.h5", "is a link to")


@pytest.mark.parametrize("options", [{}, {"chunks": (50, 2)}, {"chunks": (50, D), "compression": "gzip"}])
@pytest.mark.parametrize("userblock", [0, 1024])
def test_rows_that_were_never_written(tmp_path: Path, options: dict[str, Any], userblock: int) -> None:
    with h5py.File(tmp_path / "x.h5", "w", userblock_size=userblock) as handle:
        written = handle.create_dataset("x", X.shape, X.dtype, fillvalue=7, **options)
        if options:
            written[:207] = X[:207]
        else:
            handle["whole"] = X
        handle.create_dataset("y", (N,), "i8")
    refused(f"{tmp_path / 'x.h5'}::x", "has rows that were never written, from row", f"row {250 if options else 0} on")
    if userblock and not options:  # counted from behind the block
        np.testing.assert_array_equal(open_rows(f"{tmp_path / 'x.h5'}::whole", "features").float32(), X)
    with pytest.raises(cf.FileReadError, match=r"^labels: '/y' in .* has rows that were never written, from row 0 on"):
        cf.select(X, 3, labels=f"{tmp_path / 'x.h5'}::y")


def test_numbers_of_a_format_of_the_file_are_converted(tmp_path: Path) -> None:
    """bfloat16, which is of two bytes there, and which h5py gives as float32."""
    bfloat16 = h5py.h5t.IEEE_F16LE.copy()
    bfloat16.set_fields(15, 7, 8, 0, 7)
    bfloat16.set_ebias(127)
    x = np.arange(N * D, dtype=np.float32).reshape(N, D) % 256
    with h5py.File(tmp_path / "x.h5", "w") as handle:
        made = h5py.h5d.create(handle.id, b"x", bfloat16, h5py.h5s.create_simple((N, D)))
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, x)
        handle["big"] = x.astype(">f4")
        handle["half"] = x.astype(">f2")
        handle["whole"] = x.astype(">i8")
        handle["odd"] = x.astype("u2")
    for key in ("x", "big", "half", "whole", "odd"):
        np.testing.assert_array_equal(open_rows(f"{tmp_path / 'x.h5'}::{key}", "features").float32(), x)


def test_a_matrix_that_is_for_another_argument_is_not_taken(tmp_path: Path) -> None:
    layout = {"features": "train/features", "test_features": "test/features", "class_features": "text/features"}
    for argument, key in layout.items():
        with h5py.File(tmp_path / "x.h5", "w") as handle:
            handle[key] = X
        for other in layout:
            if other == argument:
                assert open_rows(tmp_path / "x.h5", other).n_rows == N
            else:
                refused(tmp_path / "x.h5", "no dataset '", f"got '{key}' (float16", name=other)
            assert open_rows(f"{tmp_path / 'x.h5'}::{key}", other).n_rows == N
    parquet.write_table(pyarrow.table({"text_embedding": lists(X, fixed=True)}), tmp_path / "x.parquet")
    safetensors_numpy.save_file({"image_embeds": X}, tmp_path / "x.safetensors")
    refused(tmp_path / "x.parquet", "no column 'features' in", "'text_embedding'")
    assert open_rows(tmp_path / "x.parquet", "class_features").n_rows == N
    refused(tmp_path / "x.safetensors", "no tensor 'class_features' in", "'image_embeds'", name="class_features")
    assert open_rows(tmp_path / "x.safetensors", "image_features").n_rows == N
    with h5py.File(tmp_path / "y.h5", "w") as handle:
        handle["test/labels"] = Y
    with pytest.raises(cf.FileReadError, match=r"^labels: no dataset 'train/labels' in '.*y.h5', got 'test/labels'"):
        read_labels(tmp_path / "y.h5", ROWS)


def test_two_arrays_in_one_file_are_not_the_first_alone(tmp_path: Path) -> None:
    with open(tmp_path / "x.npy", "wb") as file:
        np.save(file, X)
        np.save(file, X)
    refused(tmp_path / "x.npy", "x.npy' must hold one array and nothing else, got")


def test_ids_beside_the_vectors(tmp_path: Path) -> None:
    ids = [f"{i}.png" for i in range(N)]
    table = pyarrow.table({"image_path": ids, "vector": lists(X, fixed=True)})
    parquet.write_table(table, tmp_path / "x.parquet", row_group_size=53)
    with pyarrow.OSFile(str(tmp_path / "x.arrow"), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=40)
    for file in (tmp_path / "x.parquet", tmp_path / "x.arrow"):
        assert list(open_rows(file, "features").row_ids() or ()) == ids
    numbers = table.set_column(0, "image_path", pyarrow.array(np.arange(N)))  # no text, and so no path
    parquet.write_table(numbers, tmp_path / "x.parquet")
    assert open_rows(tmp_path / "x.parquet", "features").row_ids() is None
    datasets = pytest.importorskip("datasets")
    found = datasets.Dataset(table).select(range(N - 1, -1, -1))
    assert list(open_rows(found, "features").row_ids() or ()) == ids[::-1]


def test_what_is_no_matrix_of_numbers(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"text": ["a", "b"]}), tmp_path / "x.parquet")
    with pytest.raises(TypeError, match=r"must be a column of lists of numbers, got 'text' of string in '.*x.parquet'"):
        open_rows(f"{tmp_path / 'x.parquet'}::text", "features")
    with h5py.File(tmp_path / "x.h5", "w") as handle:
        handle["features"] = np.array([[b"a"]])
    with pytest.raises(TypeError, match="features must hold real numbers"):
        open_rows(tmp_path / "x.h5", "features")
    safetensors_numpy.save_file({"x": np.zeros((2, 2), bool)}, tmp_path / "x.safetensors")
    with pytest.raises(TypeError, match=r"features must hold real numbers, got dtype BOOL in '.*x.safetensors'"):
        open_rows(tmp_path / "x.safetensors", "features")
    datasets = pytest.importorskip("datasets")
    with pytest.raises(ValueError, match=r"features must have one column of lists of numbers, got 'a' \(int64\)"):
        open_rows(datasets.Dataset.from_dict({"a": [1]}), "features")


def test_a_missing_library_is_named(run_python: Callable[..., str], tmp_path: Path) -> None:
    files = {"h5py": "x.h5", "pyarrow": "x.parquet"}
    for file in files.values():
        FILES[file](tmp_path / file)
    printed = run_python(
        f"import sys; sys.modules.update(dict.fromkeys({[*files]}))\n"
        "import ccma_fast as cf\n"
        "for file in sys.argv[1:]:\n"
        "    try: cf.select(file, 3)\n"
        "    except ImportError as error: print(error)",
        *(str(tmp_path / file) for file in files.values()),
    )
    for library, line in zip(files, printed.splitlines(), strict=True):
        assert f"needs {library} (" in line
        assert "pip install 'ccma-fast[data]'" in line


# --- labels and class names -----------------------------------------------------------------------


def table(file: Path, **columns: Any) -> Path:
    if file.suffix == ".csv":
        lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
        file.write_text("\n".join(lines) + "\n")
    else:
        parquet.write_table(pyarrow.table(columns), file)
    return file


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_labels_of_tables(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"y{suffix}"
    known = np.flatnonzero(Y >= 0)[::-1]
    config = cf.CCMAConfig(max_epochs=5)
    expected = cf.select(X, 5, labels=Y, config=config).indices
    for columns in (
        {"label": Y},
        {"name": np.arange(N), "label": Y},
        {"rank": known, "index": known, "label": Y[known]},
        {"anything": Y} if suffix == ".parquet" else {"label": Y},
    ):
        table(file, **columns)
        np.testing.assert_array_equal(read_labels(file, ROWS), Y)
        np.testing.assert_array_equal(cf.select(X, 5, labels=file, config=config).indices, expected)
    names = ["ant", "bee", "cat", "dog"]
    table(file, index=known, label=[names[c] for c in Y[known]])
    np.testing.assert_array_equal(read_labels(file, ROWS, class_names=names), Y)


def test_labels_of_other_files(tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", Y)
    np.testing.assert_array_equal(read_labels(tmp_path / "y.npy", ROWS), Y)
    for first in (0, 1):  # an empty line is a row without a label, also the first one
        (tmp_path / "y.csv").write_text("".join("\n" if c < 0 else f"{c}\n" for c in Y[first:40]))
        np.testing.assert_array_equal(read_labels(tmp_path / "y.csv", open_rows(X[first:40], "features")), Y[first:40])
    (tmp_path / "y.csv").write_text("id,label\n1,\n2,3\n")
    np.testing.assert_array_equal(read_labels(tmp_path / "y.csv", open_rows(X[:2], "features")), [-1, 3])
    with h5py.File(tmp_path / "y.h5", "w") as handle:
        handle["some/where"] = Y
    np.testing.assert_array_equal(read_labels(tmp_path / "y.h5", ROWS), Y)
    with h5py.File(tmp_path / "y.h5", "w") as handle:  # some kB that stand for 800 MB
        handle.create_dataset("y", (10**8,), "i8", chunks=(10**8,), compression="gzip", fillvalue=0)
    with pytest.raises(ValueError, match="labels has 100000000 rows but features has 301"):
        read_labels(tmp_path / "y.h5", ROWS)
    with h5py.File(tmp_path / "y.h5", "w") as handle:
        handle["y"] = Y
        handle["y"].attrs["scale_factor"] = 2
    with pytest.raises(
        cf.FileReadError, match=r"labels: '/y' .* holds codes of values, as its attribute 'scale_factor'"
    ):
        read_labels(tmp_path / "y.h5", ROWS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "index,label\n0,1\n5,1\n0,2\n",
            "labels must be one for each image, got '1' at row 0 and '2' at row 2 of .* for row 0",
        ),
        ("index,label\n0,1\n301,1\n", "index must be a row from 0 to 300, got 301 at row 1 of '.*y.csv'"),
        ("index,label\n0,1\nx,1\n", "index must be an integer, got 'x' at row 1 of '.*y.csv'"),
        (
            "index,label\n0,1\n1,cat\n",
            "labels must be integers .* where there are no class_names, got 'cat' at row 1 of '.*y.csv'",
        ),
        ("index,label\n0,1\n1", "'.*y.csv' must have 2 columns, got 1 at row 1"),
        ("index,class\n0,1\n", "no column 'label' in '.*y.csv', got 'index', 'class'"),
        ('label\n"1\n', "cannot read '.*y.csv' as CSV: "),
        ("", "'.*y.csv' is empty"),
    ],
)
def test_damaged_labels(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "y.csv").write_text(text)
    with pytest.raises(ValueError, match=f"^(labels: )?{message}"):
        cf.select(X, 3, labels=tmp_path / "y.csv")


def test_labels_that_cannot_be_opened(tmp_path: Path) -> None:
    for name, message in (
        ("y.csv", "labels: no file '.*y.csv'"),
        ("y.parquet", "labels: no file '.*y.parquet'"),
        ("y.npy", "labels: no file '.*y.npy'"),
        ("y.txt", "labels: no file '.*y.txt'"),
    ):
        with pytest.raises(cf.FileReadError, match=message):
            read_labels(tmp_path / name, ROWS)
    (tmp_path / "y.parquet").write_bytes(b"PAR1" * 10)
    with pytest.raises(cf.FileReadError, match=r"labels: cannot read '.*y.parquet' as parquet"):
        read_labels(tmp_path / "y.parquet", ROWS)
    with pytest.raises(cf.FileReadError, match="labels: no manifest in the folder"):
        read_labels(tmp_path, ROWS)


def test_class_names(tmp_path: Path) -> None:
    names = ["great tit", "crane", "Crane", "Käfer"]
    (tmp_path / "names.json").write_text(json.dumps(names))
    (tmp_path / "mapping.json").write_text(json.dumps({str(c): name for c, name in reversed([*enumerate(names)])}))
    (tmp_path / "names.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    for source in (names, tmp_path / "names.json", tmp_path / "mapping.json", tmp_path / "names.txt"):
        assert read_class_names(source) == names
    for plain in (["0.5 mm", "1.5 mm"], ["1 dot", "2 dots"], ["cat", "label"], ["0", "1"]):
        (tmp_path / "names.txt").write_bytes("\r\n".join(plain).encode())
        assert read_class_names(tmp_path / "names.txt") == plain


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("n.txt", "ant\n\nbee\n", "class_names must not be empty, got '' at row 1 of '.*n.txt'"),
        ("n.txt", "ant\n", "class_names must be at least two, got 1 of '.*n.txt'"),
        (
            "n.txt",
            "label\nant\nbee\n",
            "must have the name of a class in each line, got the header 'label' first; a .json",
        ),
        ("n.txt", "Class Name\nant\nbee\n", "got the header 'Class Name' first"),
        ("n.txt", "0 ant\n1 bee\n", "nothing else, got '0 ant' and '1 bee', which begin with its number"),
        ("n.txt", "0,ant\n1,bee\n", "got '0,ant' and '1,bee'"),
        ("n.txt", "0. ant\n1. bee\n", "got '0. ant' and '1. bee'"),
        ("n.json", '{"٠": "ant", "1": "bee"}', "must be a mapping from names to classes"),
        ("n.json", '["ant", 3]', "class_names must be strings, got int at row 1 of '.*n.json'"),
        ("n.json", "3", "class_names: '.*n.json' must hold a list of names"),
        ("n.json", '["ant"', "class_names: cannot read '.*n.json' as JSON"),
    ],
)
def test_damaged_class_names(tmp_path: Path, file: str, text: str, message: str) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises((ValueError, TypeError), match=message):
        read_class_names(tmp_path / file)
    with pytest.raises(cf.FileReadError, match="class_names: no file"):
        read_class_names(tmp_path / "none.txt")


# --- pools that grow ------------------------------------------------------------------------------


def test_new_shards_join_and_old_rows_keep_their_numbers(tmp_path: Path) -> None:
    x, v = X.astype(np.float32), X[:, ::-1].astype(np.float32) + 1
    for folder, values in (("x", x), ("v", v)):
        write_shards(tmp_path / folder, values[:200])
    learner = cf.ActiveLearner(
        tmp_path / "x", teacher=cf.Teacher(tmp_path / "v", np.eye(3, D)), config=cf.CCMAConfig(max_epochs=5)
    )
    first = learner.query(6).indices
    learner.label(first, np.arange(6) % 3)
    np.save(tmp_path / "x" / "part-11.npy", x[200:])
    with pytest.raises(ValueError, match="image_features has 200 rows but features has 301"):
        learner.query(6)  # one of two
    np.save(tmp_path / "v" / "part-11.npy", v[200:])
    found = learner.query(6)
    labels = np.full(N, -1)
    labels[first] = np.arange(6) % 3
    np.testing.assert_array_equal(learner.labels, labels)
    assert (found.report.n_rows, found.report.n_labelled) == (N, 6)
    again = cf.ActiveLearner(x, labels=labels, teacher=cf.Teacher(v, np.eye(3, D)), config=cf.CCMAConfig(max_epochs=5))
    again.query(6)  # every round has a seed of its own
    np.testing.assert_array_equal(found.indices, again.query(6).indices)
    learner.label([300], [0])


def test_shards_that_would_shift_rows_are_refused(tmp_path: Path) -> None:
    rows = open_rows(write_shards(tmp_path / "x", X), "features")
    assert rows.grown() is rows
    shutil.copy(tmp_path / "x" / "part-0.npy", tmp_path / "x" / "new.npy")
    with pytest.raises(cf.FileReadError, match=r"part-0.npy' must stay shard 0 of its folder, got '.*new.npy'"):
        rows.grown()
    (tmp_path / "x" / "new.npy").unlink()
    (tmp_path / "x" / "part-10.npy").unlink()
    with pytest.raises(cf.FileReadError, match=r"part-10.npy' must stay shard 10 of its folder, got none"):
        rows.grown()


def test_folders_of_more_shards_than_a_process_may_open(run_python: Callable[..., str], tmp_path: Path) -> None:
    x = np.arange(620, dtype=np.float32).reshape(310, 2)
    for i in range(310):
        np.save(tmp_path / f"{i}.npy", x[i : i + 1])
    run_python(
        "import resource, sys, numpy as np, ccma_fast as cf\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))\n"
        "from ccma_fast.pool.open import open_rows\n"
        "x, rows = np.arange(620, dtype=np.float32).reshape(310, 2), open_rows(sys.argv[1], 'x')\n"
        "assert rows.bytes_read == 0\n"
        "for _ in range(2): np.testing.assert_array_equal(rows.float32(), x)\n"
        "assert rows.bytes_read == 2 * x.nbytes\n"
        "np.testing.assert_array_equal(rows.take(np.array([309, 3])), x[[309, 3]])\n"
        "config = cf.CCMAConfig(kmeans_max_iter=1)\n"
        "picks = [cf.select(source, 2, config=config).indices.tolist() for source in (x, sys.argv[1])]\n"
        "assert picks[0] == picks[1]\n",
        str(tmp_path),
    )


@pytest.mark.parametrize("cached", [True, False])
def test_a_shard_that_was_replaced_is_not_read_as_the_old_one(tmp_path: Path, cached: bool) -> None:
    rows = open_rows(write_shards(tmp_path / "x", X), "features")
    np.testing.assert_array_equal(rows.slice(0, N), X)
    if not cached:  # as where there are more shards than are kept open
        _mapped.cache_clear()
    np.save(tmp_path / "x" / "new", X[84:112])
    (tmp_path / "x" / "new.npy").replace(tmp_path / "x" / "part-3.npy")
    with pytest.raises(cf.FileReadError, match=r"part-3.npy' was replaced while it was in use"):
        rows.read(0, N)
    with pytest.raises(cf.FileReadError, match=r"part-3.npy' was replaced while it was in use"):
        rows.take(np.array([90]))
    np.testing.assert_array_equal(rows.read(0, 50), X[:50])


def test_rows_that_do_not_lie_in_a_folder_do_not_grow() -> None:
    rows = open_rows(X, "features")
    assert rows.grown() is rows
    assert RowSubset(rows, np.arange(3)).grown().n_rows == 3


def test_shards_have_their_rows_in_one_column(tmp_path: Path) -> None:
    for number, column in enumerate(["clip", "dino"]):
        lists = pyarrow.array(X.tolist(), pyarrow.list_(pyarrow.float32()))
        parquet.write_table(pyarrow.table({column: lists}), tmp_path / f"p{number}.parquet")
    with pytest.raises(ValueError, match=r"one column, got 'clip' in 'p0.parquet' and 'dino' in 'p1.parquet'"):
        open_rows(tmp_path, "features")


@pytest.mark.parametrize("key", ["scale_factor", "add_offset"])
def test_codes_of_values_are_no_values(tmp_path: Path, key: str) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("features", data=np.ones((3, 2), "i2")).attrs[key] = 0.5
    with pytest.raises(cf.FileReadError, match=f"holds codes of values, as its attribute '{key}' says"):
        open_rows(tmp_path / "x.h5", "features")


def test_open_datasets_of_hdf5_are_checked_as_files_are(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        whole, empty = file.create_dataset("a", data=X), file.create_dataset("b", (4, 2), "f4", chunks=(2, 2))
        np.testing.assert_array_equal(open_rows(whole, "features").float32(), X)
        with pytest.raises(cf.FileReadError, match="has rows that were never written, from row 0 on"):
            open_rows(empty, "features")
        file["none"] = h5py.Empty("f4")
    for key, message in (("none", "must have two dimensions"), ("", "no dataset ''")):
        with pytest.raises(ValueError, match=f"^features:? {message}"):
            open_rows(f"{tmp_path / 'x.h5'}::{key}", "features")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ('"x": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}', "16 bytes behind its last tensor"),
        ('"x": {"dtype": "F32", "shape": [4, 2], "data_offsets": [8, 40]}', "lies in the bytes 8 to 40"),
        ('"x": {"dtype": "F32", "shape": [-4, -2], "data_offsets": [0, 32]}', "its header describes 'x' by"),
        ('"x": {"dtype": [], "shape": "42", "data_offsets": [0]}', "its header describes 'x' by"),
        (", ".join(['"x": {"dtype": "F32", "shape": [4, 2], "data_offsets": [0, 32]}'] * 2), "a key twice"),
    ],
)
def test_headers_of_safetensors_that_cannot_be(tmp_path: Path, entries: str, message: str) -> None:
    header = f"{{{entries}}}".encode()
    file = tmp_path / "x.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(32))
    with pytest.raises(cf.FileReadError, match=f"x.safetensors' as .safetensors: .*{message}"):
        open_rows(file, "features")


def test_tensors_of_a_graph_in_a_list() -> None:
    with pytest.raises(TypeError, match=r"features must be a matrix of real numbers, got list .*requires grad"):
        open_rows([torch.ones(2, requires_grad=True)], "features")
