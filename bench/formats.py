"""The same rows in every format that :mod:`ccma_fast.pool.readers` knows, written piece by piece."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["FORMATS", "Stored", "is_installed", "remove", "store"]

_PIECE = 20_000  # rows


class Stored(NamedTuple):
    """Where the rows lie."""

    name: str
    source: Any
    """What :func:`ccma_fast.pool.open.open_rows` is given."""
    files: list[Path]
    plain: Path
    """The rows as one ``.npy`` file."""
    n_rows: int


def store(name: str, folder: Path, n_rows: int, n_columns: int) -> Stored:
    """Write float16 rows in a format, and as one ``.npy`` file beside it."""
    plain = folder / "plain.npy"
    whole = np.lib.format.open_memmap(plain, "w+", np.float16, (n_rows, n_columns))
    for start, piece in _pieces(n_rows, n_columns):
        whole[start : start + len(piece)] = piece
    whole.flush()
    del whole
    return Stored(name, *FORMATS[name][1](folder, plain, n_rows, n_columns), plain, n_rows)


def is_installed(name: str) -> bool:
    """The library that writes the format is there."""
    library = FORMATS[name][0]
    return library is None or importlib.util.find_spec(library) is not None


def remove(folder: Path) -> None:
    """Delete what was stored: some of these files are large."""
    shutil.rmtree(folder, ignore_errors=True)


def _pieces(n_rows: int, n_columns: int) -> Iterator[tuple[int, npt.NDArray[np.float16]]]:
    piece = np.random.default_rng(0).standard_normal((_PIECE, n_columns), np.float32).astype(np.float16)
    for start in range(0, n_rows, _PIECE):
        yield start, np.roll(piece, start // _PIECE, axis=0)[: n_rows - start]


def _npy(folder: Path, plain: Path, n_rows: int, n_columns: int) -> tuple[Any, list[Path]]:
    return plain, [plain]


def _shards(folder: Path, plain: Path, n_rows: int, n_columns: int) -> tuple[Any, list[Path]]:
    (folder / "shards").mkdir()
    for start, piece in _pieces(n_rows, n_columns):
        np.save(folder / "shards" / f"part-{start // _PIECE}.npy", piece)
    return folder / "shards", sorted((folder / "shards").glob("*.npy"))


def _extracted(folder: Path, plain: Path, n_rows: int, n_columns: int) -> tuple[Any, list[Path]]:
    """With a manifest: checksums are compared whenever the folder is opened."""
    from ccma_fast.pool.manifest import Manifest, Shard
    from ccma_fast.pool.manifest_file import digest_of_file, write_manifest

    pool, shards = folder / "pool", []
    for name in ("img_emb", "metadata"):
        (pool / name).mkdir(parents=True)
    for start, piece in _pieces(n_rows, n_columns):
        k = start // _PIECE
        file, metadata = f"img_emb/img_emb_{k}.npy", f"metadata/metadata_{k}.parquet"
        np.save(pool / file, piece)
        (pool / metadata).touch()  # nobody reads it here
        digests = digest_of_file(pool / file), digest_of_file(pool / metadata)
        shards.append(Shard(file, metadata, len(piece), *digests, str(k)))
    encoder = dict.fromkeys(("library", "model", "weights", "weights_sha256"), "")
    write_manifest(pool, Manifest(encoder, [], "fp32", False, "float16", n_columns, tuple(shards)))
    return pool, sorted((pool / "img_emb").glob("*.npy"))


def _hdf5(**options: Any) -> Callable[..., tuple[Any, list[Path]]]:
    def write(folder: Path, plain: Path, n_rows: int, n_columns: int) -> tuple[Any, list[Path]]:
        import h5py

        with h5py.File(folder / "x.h5", "w") as handle:
            dataset = handle.create_dataset("train/features", (n_rows, n_columns), np.float16, **options)
            for start, piece in _pieces(n_rows, n_columns):
                dataset[start : start + len(piece)] = piece
        return folder / "x.h5", [folder / "x.h5"]

    return write


def _parquet(*, fixed: bool, **options: Any) -> Callable[..., tuple[Any, list[Path]]]:
    def write(folder: Path, plain: Path, n_rows: int, n_columns: int) -> tuple[Any, list[Path]]:
        import pyarrow
        from pyarrow import parquet

        table = pyarrow.table({"vector": _lists(np.load(plain, mmap_mode="r"), fixed)})
        parquet.write_table(table, folder / "x.parquet", **options)
        return folder / "x.parquet", [folder / "x.parquet"]

    return write


def _parquet_shards(folder: Path, plain: Path, n_rows: int, n_columns: int) -> tuple[Any, list[Path]]:
    import pyarrow
    from pyarrow import parquet

    (folder / "parquet").mkdir()
    for start, piece in _pieces(n_rows, n_columns):
        table = pyarrow.table({"vector": _lists(piece, True)})
        parquet.write_table(table, folder / "parquet" / f"part-{start // _PIECE}.parquet", use_dictionary=False)
    return folder / "parquet", sorted((folder / "parquet").glob("*.parquet"))


def _arrow(folder: Path, plain: Path, n_rows: int, n_columns: int) -> tuple[Any, list[Path]]:
    import pyarrow

    table = pyarrow.table({"vector": _lists(np.load(plain, mmap_mode="r"), True)})
    with pyarrow.ipc.new_stream(str(folder / "x.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=1000)
    return folder / "x.arrow", [folder / "x.arrow"]


def _lists(x: npt.NDArray[np.float16], fixed: bool) -> Any:
    import pyarrow

    flat = pyarrow.array(x.reshape(-1))
    if fixed:
        return pyarrow.FixedSizeListArray.from_arrays(flat, x.shape[1])
    return pyarrow.ListArray.from_arrays(pyarrow.array(np.arange(len(x) + 1, dtype=np.int32) * x.shape[1]), flat)


def _safetensors(folder: Path, plain: Path, n_rows: int, n_columns: int) -> tuple[Any, list[Path]]:
    entry = {"dtype": "F16", "shape": [n_rows, n_columns], "data_offsets": [0, 2 * n_rows * n_columns]}
    header = json.dumps({"features": entry}).encode()
    header += b" " * (-len(header) % 8)
    with open(folder / "x.safetensors", "wb") as handle:
        handle.write(len(header).to_bytes(8, "little") + header)
        for _, piece in _pieces(n_rows, n_columns):
            piece.tofile(handle)
    return folder / "x.safetensors", [folder / "x.safetensors"]


def _dataset(folder: Path, plain: Path, n_rows: int, n_columns: int) -> tuple[Any, list[Path]]:
    import datasets
    import pyarrow

    table = pyarrow.table({"vector": _lists(np.load(plain, mmap_mode="r"), True)})
    datasets.Dataset(table).save_to_disk(folder / "dataset")
    del table
    found = datasets.load_from_disk(folder / "dataset")
    return found, [Path(file["filename"]) for file in found.cache_files]


FORMATS: dict[str, tuple[str | None, Callable[..., tuple[Any, list[Path]]]]] = {
    ".npy": (None, _npy),
    "shards": (None, _shards),
    "shards, checksums": (None, _extracted),
    "HDF5": ("h5py", _hdf5()),
    "HDF5, chunks": ("h5py", _hdf5(chunks=(1000, 768))),
    "HDF5, lzf": ("h5py", _hdf5(compression="lzf")),
    "parquet, lists": ("pyarrow", _parquet(fixed=False)),
    "parquet, fixed lists, plain": ("pyarrow", _parquet(fixed=True, row_group_size=20_000, use_dictionary=False)),
    "parquet, shards": ("pyarrow", _parquet_shards),
    "Arrow stream": ("pyarrow", _arrow),
    "safetensors": (None, _safetensors),
    "datasets": ("datasets", _dataset),
}
"""Each format's library, and what writes it. The first parquet file is as pyarrow writes it where nothing is said."""
