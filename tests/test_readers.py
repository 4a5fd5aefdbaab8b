"""Every format: the same rows and the same picks as from memory, in any process, and damage named by file and row."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast._workers import dumped
from ccma_fast.pool import Rows, RowSubset, open_rows, to_float32
from ccma_fast.readers.class_names import read_class_names
from ccma_fast.readers.folder import _mapped
from ccma_fast.readers.labels import read_labels

h5py = pytest.importorskip("h5py")
pyarrow = pytest.importorskip("pyarrow")
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


def write_hdf5(file: Path, x: np.ndarray, **options: Any) -> Path:
    with h5py.File(file, "w") as handle:
        handle.create_dataset("train/features", data=x, **options)
    return file


def write_npy(file: Path, x: np.ndarray) -> Path:
    np.save(file, x)
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
    monkeypatch.setattr("ccma_fast.readers._blocks._BLOCK_BYTES", 13 * 2 * D)
    monkeypatch.setattr("ccma_fast.readers.huggingface._MAPPED_BYTES", 100 * 2 * D)


@pytest.mark.parametrize("blocks", ["small", "large"])
def test_rows_are_those_of_the_array(make: Any, monkeypatch: pytest.MonkeyPatch, blocks: str) -> None:
    if blocks == "small":
        small_blocks(monkeypatch)
    rows = open_rows(make(X), "features")
    assert (rows.n_rows, rows.n_columns, rows.name) == (N, D, "features")
    assert rows.bytes_read == 0
    for chunk_size in (1, 40, N, None):
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


def test_picks_are_those_of_the_array(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    small_blocks(monkeypatch)
    source, config = make(X), cf.CCMAConfig(max_epochs=5)
    np.testing.assert_array_equal(cf.select(source, 9).indices, cf.select(X, 9).indices)
    found = cf.select(source, 9, labels=Y, config=config, chunk_size=50)
    expected = cf.select(X, 9, labels=Y, config=config)
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


@pytest.mark.parametrize("kind", ["npy", "shards", "clip-retrieval", "hdf5", "parquet lists", "safetensors"])
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


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("row", [0, 207])
def test_rows_that_are_missing_or_of_another_length(tmp_path: Path, fixed: bool, row: int) -> None:
    def write(change: Callable[[list[Any]], Any]) -> Path:
        rows = X.astype(np.float32).tolist()
        rows[row] = change(rows[row])
        kind = pyarrow.list_(pyarrow.float32(), D if fixed else -1)
        parquet.write_table(pyarrow.table({"vector": pyarrow.array(rows, kind)}), tmp_path / "x.parquet")
        return tmp_path / "x.parquet"

    refused(write(lambda _: None), "none", f"at row {row}", "x.parquet'")
    refused(write(lambda values: [*values[:2], None, *values[3:]]), "one that is missing", f"at row {row}")
    if not fixed and row:
        refused(write(lambda values: values[:3]), "x.parquet' must have 5 numbers in each row, got 3 at row 207")


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


@pytest.mark.parametrize(("library", "file"), [("h5py", "x.h5"), ("pyarrow", "x.parquet")])
def test_a_missing_library_is_named(run_python: Callable[..., str], tmp_path: Path, library: str, file: str) -> None:
    FILES[file](tmp_path / file)
    printed = run_python(
        f"import sys; sys.modules[{library!r}] = None\n"
        "import ccma_fast as cf\n"
        f"try: cf.select({str(tmp_path / file)!r}, 3)\n"
        "except ImportError as error: print(error)"
    )
    assert f"needs {library} (" in printed
    assert "pip install 'ccma-fast[data]'" in printed


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
        ("index,label\n0,1\n1\n", "'.*y.csv' must have 2 columns, got 1 at row 1"),
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
        ("y.txt", "labels: expected a .npy, .csv, .parquet, .h5 or .hdf5 file or the folder of a pool, got '.*y.txt'"),
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


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("n.txt", "ant\n\nbee\n", "class_names must not be empty, got '' at row 1 of '.*n.txt'"),
        ("n.txt", "ant\n", "class_names must be at least two, got 1 of '.*n.txt'"),
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
    again.n_rounds = 1
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
    x = np.arange(1400, dtype=np.float32).reshape(700, 2)
    for i in range(700):
        np.save(tmp_path / f"{i}.npy", x[i : i + 1])
    run_python(
        "import resource, sys, numpy as np, ccma_fast as cf\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400))\n"
        "from ccma_fast.pool import open_rows\n"
        "x, rows = np.arange(1400, dtype=np.float32).reshape(700, 2), open_rows(sys.argv[1], 'x')\n"
        "assert rows.bytes_read == 0\n"
        "for _ in range(2): np.testing.assert_array_equal(rows.float32(), x)\n"
        "assert rows.bytes_read == 2 * x.nbytes\n"
        "np.testing.assert_array_equal(rows.take(np.array([699, 3])), x[[699, 3]])\n"
        "assert cf.select(x, 5).indices.tolist() == cf.select(sys.argv[1], 5).indices.tolist()\n",
        str(tmp_path),
    )


def test_a_shard_that_was_replaced_is_not_read_as_the_old_one(tmp_path: Path) -> None:
    rows = open_rows(write_shards(tmp_path / "x", X), "features")
    np.testing.assert_array_equal(rows.slice(0, N), X)
    _mapped.cache_clear()  # as where there are more shards than are kept open
    np.save(tmp_path / "x" / "part-3.npy", X[:28])
    with pytest.raises(cf.FileReadError, match=r"part-3.npy' was changed while it was in use"):
        rows.slice(0, N)


def test_rows_that_do_not_lie_in_a_folder_do_not_grow() -> None:
    rows = open_rows(X, "features")
    assert rows.grown() is rows
    assert RowSubset(rows, np.arange(3)).grown().n_rows == 3
