"""The manifest of a folder of embeddings as a file, and the metadata of its shards."""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import FileReadError
from ..system.bounded_read import read_whole
from ..system.extras import optional
from ..system.file_integrity import open_regular
from ..system.output_files import write_whole
from ..version import newer_error
from .manifest import Manifest, Shard, Skipped

__all__ = [
    "MANIFEST",
    "chained",
    "check_shards",
    "digest_of_file",
    "former_ids",
    "ids_of_shard",
    "names_now",
    "read_manifest",
    "row_ids",
    "shard_columns",
    "write_manifest",
]

MANIFEST = "manifest.json"

# The first format had only the reasons of skipped images, and no vanished or renamed ones.
_FORMAT, _FIRST_FORMAT = 2, 1

_READ_BYTES = 1 << 20


def chained(before: str, ids: Iterable[str]) -> str:
    """A running SHA-256 over ids: of the digest `before` and an id, for each id in turn.

    The result depends on the ids and their order alone, not on where shards end, and grows with them.
    """
    for row_id in ids:
        before = hashlib.sha256(f"{before}\n{row_id}".encode()).hexdigest()
    return before


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while part := file.read(_READ_BYTES):
            digest.update(part)
    return digest.hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write or replace the manifest of a folder, in the first format where that is sufficient."""
    content = {"format": _FORMAT, **asdict(manifest)}
    del content["folder"]
    if not (manifest.vanished or manifest.renamed or any(shard.skipped for shard in manifest.shards)):
        content["format"] = _FIRST_FORMAT
        del content["vanished"], content["renamed"]
    text = json.dumps(content, indent=1, ensure_ascii=False)
    write_whole(folder / MANIFEST, lambda file: file.write(f"{text}\n".encode()))


def read_manifest(folder: str | os.PathLike[str], name: str) -> Manifest | None:
    """The manifest of a folder, None where it has none.

    Parameters
    ----------
    folder : path
    name : str
        Its name in error messages.

    Raises
    ------
    FileReadError
        It is damaged, of another format, or of a newer version.
    """
    file = Path(folder) / MANIFEST
    try:
        content = json.loads(read_whole(file))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise FileReadError(f"{name}: cannot read {str(file)!r}: {error}") from error
    found = content.get("format") if isinstance(content, dict) else None
    if isinstance(found, int) and found > _FORMAT:
        raise newer_error(str(file), f"format {found}", name=name)
    if found not in (_FIRST_FORMAT, _FORMAT) or isinstance(found, bool):
        raise FileReadError(f"{name}: {str(file)!r} must be a manifest of format {_FORMAT}, got format {found!r}")
    del content["format"]
    try:
        if found == _FIRST_FORMAT:
            content = {**content, "vanished": [], "renamed": {}}
        shards = tuple(_shard(shard, found) for shard in content.pop("shards"))
        manifest: Manifest = _checked(Manifest, {**content, "shards": shards, "folder": Path(folder)})
        _check_rows(manifest)
        if set(manifest.encoder) != {"library", "model", "weights", "weights_sha256"}:
            raise ValueError(f"it does not describe its encoder, got {manifest.encoder!r:.200}")
    except (KeyError, TypeError, ValueError) as error:
        raise FileReadError(f"{name}: {str(file)!r} is no manifest: {error}") from error
    seen: set[str] = set()
    for path in (path for shard in manifest.shards for path in (shard.file, shard.metadata)):
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise FileReadError(f"{name}: {str(file)!r} must name files in its own folder, got {path!r}")
        if path in seen:
            raise FileReadError(f"{name}: {str(file)!r} must name each file once, got {path!r} twice")
        seen.add(path)
    return manifest


def check_shards(
    manifest: Manifest, name: str, first: int = 0, stop: int | None = None, *, metadata_only: bool = False
) -> None:
    """Every shard from `first` to `stop` − 1, or its metadata at least, is there and is what was written.

    Raises
    ------
    FileReadError
        The text names the file and its rows.
    """
    from concurrent.futures import ThreadPoolExecutor  # slow to import

    assert manifest.folder is not None, "it was read from a folder"
    folder, start = manifest.folder, sum(shard.n_rows for shard in manifest.shards[:first])
    shards = manifest.shards[first:stop]
    # Hashing releases the interpreter lock.
    with ThreadPoolExecutor() as pool:
        wanted = [(shard, file) for shard in shards for file in (shard.file, shard.metadata)[metadata_only:]]
        digests = pool.map(lambda pair: _digest_or_none(folder / pair[1]), wanted)
        for (shard, file), digest in zip(wanted, digests, strict=True):
            path, expected = folder / file, shard.sha256 if file == shard.file else shard.metadata_sha256
            rows = f"rows {start} to {start + shard.n_rows - 1}" if shard.n_rows else f"no row from {start} on"
            if digest is None:
                raise FileReadError(f"{name}: no file {str(path)!r}, which should hold {rows}")
            if digest != expected:
                holds = [other.file for other in manifest.shards if digest == other.sha256]
                holds += [other.metadata for other in manifest.shards if digest == other.metadata_sha256]
                what = f"what belongs to {holds[0]!r}" if holds else "something else"
                raise FileReadError(
                    f"{name}: {str(path)!r} must hold {rows} as written, got {what} (SHA-256 {digest[:12]}…, "
                    f"expected {expected[:12]}…)"
                )
            if file == shard.metadata:
                start += shard.n_rows


def row_ids(manifest: Manifest) -> Iterator[str]:
    """The current id of every row's image, in order."""
    for k in range(len(manifest.shards)):
        yield from ids_of_shard(manifest, k)


def ids_of_shard(manifest: Manifest, k: int, rows: Any = None) -> list[str]:
    """The current ids of rows of a shard, by default of all.

    Parameters
    ----------
    manifest : Manifest
    k : int
    rows : ndarray, int64, optional
        Counted from the first of the shard.

    Raises
    ------
    FileReadError
        As :func:`shard_columns`.
    """
    column = _shard_table(manifest, manifest.shards[k], ["image_path"]).column("image_path")
    ids: list[str] = (column if rows is None else column.take(rows)).to_pylist()
    return names_now(manifest, k, ids, range(len(ids)) if rows is None else rows.tolist())


def names_now(manifest: Manifest, k: int, ids: list[str], rows: Iterable[int]) -> list[str]:
    """The current ids of images of a shard.

    Parameters
    ----------
    manifest : Manifest
    k : int
    ids : list of str
        Their ids when they were embedded.
    rows : iterable of int
        Their rows, counted from the first of the shard.
    """
    if not manifest.renamed:
        return ids
    names = {row: name for name, row in manifest.renamed.items()}
    start = sum(shard.n_rows for shard in manifest.shards[:k])
    return [names.get(start + row, image) for row, image in zip(rows, ids, strict=True)]


def former_ids(manifest: Manifest) -> dict[str, list[int]]:
    """The rows of renamed images, by each former id."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    now = {row: name for name, row in manifest.renamed.items()}
    start = 0
    for shard in manifest.shards if now else ():
        moved = [row - start for row in now if start <= row < start + shard.n_rows]
        written = shard_columns(manifest, shard, ["image_path"])["image_path"] if moved else []
        for row in moved:
            found[written[row]].append(start + row)
        start += shard.n_rows
    for name, row in manifest.renamed.items():
        if now[row] != name and row not in found[name]:
            found[name].append(row)
    return dict(found)


def shard_columns(manifest: Manifest, shard: Shard, wanted: Sequence[str]) -> dict[str, list[Any]]:
    """Columns of the metadata of a shard, those of `wanted` that exist.

    Raises
    ------
    FileReadError
        The metadata cannot be read, have no ids, or are not of as many rows as the shard.
    """
    table = _shard_table(manifest, shard, wanted)
    return {column: table[column].to_pylist() for column in table.column_names}


def _shard_table(manifest: Manifest, shard: Shard, wanted: Sequence[str]) -> Any:
    """A ``pyarrow.Table`` for :func:`shard_columns`."""
    assert manifest.folder is not None, "it was read from a folder"
    parquet = optional("pyarrow.parquet", "the metadata of a pool")
    file = manifest.folder / shard.metadata
    if _digest_or_none(file) != shard.metadata_sha256:
        raise FileReadError(f"{str(file)!r} must hold {shard.n_rows} rows as written; it was changed since")
    try:
        there = [column for column in wanted if column in parquet.read_schema(file).names]
        table = parquet.read_table(file, columns=there)
    except (OSError, ValueError) as error:
        raise FileReadError(f"cannot read {str(file)!r} as parquet: {error}") from error
    if "image_path" not in there or table.num_rows != shard.n_rows:
        raise FileReadError(
            f"{str(file)!r} must have {shard.n_rows} rows and a column 'image_path', got {table.num_rows} rows and "
            f"{', '.join(map(repr, there)) or 'no such column'}"
        )
    return table


def _digest_or_none(path: Path) -> str | None:
    try:
        return digest_of_file(path)
    except FileNotFoundError:
        return None


def _shard(content: Any, version: int) -> Shard:
    shard: Shard = _checked(Shard, content)
    whys = shard.skipped.items()
    if version == _FIRST_FORMAT:
        skipped = {image: _checked(Skipped, {**asdict(Skipped("")), "reason": why}) for image, why in whys}
    else:
        skipped = {image: _checked(Skipped, why) for image, why in whys}
    return replace(shard, skipped=skipped)


def _check_rows(manifest: Manifest) -> None:
    """Check that vanished and renamed images are of rows that exist."""
    for name, rows in (("vanished", manifest.vanished), ("renamed", [*manifest.renamed.values()])):
        for row in rows:
            if type(row) is not int or not 0 <= row < manifest.n_rows:
                raise ValueError(f"{name} must be rows from 0 to {manifest.n_rows - 1}, got {row!r:.80}")
    if manifest.vanished != sorted({*manifest.vanished}):
        raise ValueError("vanished must be ascending rows")


def _checked(kind: Any, content: Any) -> Any:
    """A dataclass from parsed JSON, checked against the names and types of its fields."""
    if not isinstance(content, dict) or set(content) != {entry.name for entry in fields(kind)}:
        raise ValueError(f"expected the keys {[entry.name for entry in fields(kind)]}, got {content!r:.200}")
    types = {"str": str, "int": int, "bool": bool, "dict": dict, "list": list, "tuple": tuple, "Path": Path}
    for entry in fields(kind):
        expected = types[str(entry.type).split("[")[0].split(" ")[0]]
        if content[entry.name] is None and "None" in str(entry.type):
            continue
        if not isinstance(content[entry.name], expected):
            raise TypeError(f"{entry.name} must be {expected.__name__}, got {content[entry.name]!r:.80}")
    return kind(**content)
