"""What stands beside the embeddings of a pool: what made them, which images they are, and the checksum of each shard.

A folder that :func:`ccma_fast.extract` wrote has the layout of clip-retrieval and a manifest:

=====================================  ============================================================================
``img_emb/img_emb_0.npy``              the rows of one shard; ``text_emb/text_emb_0.npy`` where they are classes
``metadata/metadata_0.parquet``        what each of these rows is: ``image_path``, its id, ``label`` where it is known,
                                       and size and checksum of its file, ``file_bytes`` and ``file_crc32``;
                                       ``caption`` where rows are classes
``manifest.json``                      a :class:`Manifest`; a shard counts from the moment in which it stands here
=====================================  ============================================================================

Two folders belong together where their manifests say so. Of other rows their ids are compared where both have them, and
the names and sizes of their shards where not (:func:`differing_images`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ._errors import FileReadError, PoolMismatchError, newer_error
from ._extras import optional
from ._files import write_whole
from ._in_use import open_regular
from ._shards import differing_shards

if TYPE_CHECKING:
    from .pool import Rows

__all__ = [
    "MANIFEST",
    "Manifest",
    "Shard",
    "accepted",
    "chained",
    "check_shards",
    "differing_encoders",
    "differing_images",
    "differing_rows",
    "digest_of_file",
    "id_column",
    "read_manifest",
    "row_ids",
    "shard_columns",
    "write_manifest",
]

MANIFEST = "manifest.json"

_FORMAT = 1
_READ_BYTES = 1 << 20

# A model is its parameters, whatever it is called and wherever they came from.
_IDENTITY = ("library", "weights_sha256")
_OF_IMAGES = ("preprocessing", "normalized")


@dataclass(frozen=True)
class Shard:
    """Rows that lie in one file.

    Attributes
    ----------
    file, metadata : str
        Paths in the folder, with ``/``.
    n_rows : int
    sha256, metadata_sha256 : str
        Of the two files.
    rows_sha256 : str
        The ids of all rows from the first of the pool to the last of this shard, in their order, see :func:`chained`.
    skipped : dict of str
        Why, for the id of each image that was to be a row of this shard and could not be read, until it is one behind.
    """

    file: str
    metadata: str
    n_rows: int
    sha256: str
    metadata_sha256: str
    rows_sha256: str
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """What a folder of embeddings holds.

    Attributes
    ----------
    encoder : dict of str
        ``library``, ``model``, ``weights`` (the tag) and ``weights_sha256`` (of the parameters themselves).
    preprocessing : list of str
        The steps from an image to the model's input; empty where the rows are classes.
    precision : str
        What the model computed in: "fp32", or "fp16" or "bf16" where it did so under autocast.
    normalized : bool
        Rows have unit length.
    dtype : str
    n_columns : int
    shards : tuple of Shard
        In the order of their rows.
    templates : list of str
        The prompts that were averaged; empty where the rows are images.
    class_names : list of str
        What each row is; empty where the rows are images.
    folder : Path or None
        Where it was read.
    """

    encoder: dict[str, str]
    preprocessing: list[str]
    precision: str
    normalized: bool
    dtype: str
    n_columns: int
    shards: tuple[Shard, ...] = ()
    templates: list[str] = field(default_factory=list)
    class_names: list[str] = field(default_factory=list)
    folder: Path | None = field(default=None, compare=False)

    @property
    def n_rows(self) -> int:
        """Rows of all shards."""
        return sum(shard.n_rows for shard in self.shards)

    @property
    def rows_sha256(self) -> str:
        """The ids of all rows in their order."""
        return self.shards[-1].rows_sha256 if self.shards else ""

    def __str__(self) -> str:
        return repr(str(self.folder)) if self.folder else "memory"


def chained(before: str, ids: Iterable[str]) -> str:
    """The SHA-256 of the one `before` and an id, for each id in turn.

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
    """Write or replace the manifest of a folder."""
    content = {"format": _FORMAT, **asdict(manifest)}
    del content["folder"]
    text = json.dumps(content, indent=1, ensure_ascii=False)
    write_whole(folder / MANIFEST, lambda file: file.write(f"{text}\n".encode()))


def read_manifest(folder: str | os.PathLike[str], name: str) -> Manifest | None:
    """The manifest of a folder, None where it has none.

    Parameters
    ----------
    folder : path
    name : str
        What error messages call it.

    Raises
    ------
    FileReadError
        It is damaged, of another format, or of a newer version.
    """
    file = Path(folder) / MANIFEST
    try:
        with open_regular(file) as handle:
            content = json.load(handle)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise FileReadError(f"{name}: cannot read {str(file)!r}: {error}") from error
    found = content.get("format") if isinstance(content, dict) else None
    if isinstance(found, int) and found > _FORMAT:
        raise newer_error(str(file), f"format {found}", name=name)
    if found != _FORMAT or isinstance(found, bool):
        raise FileReadError(f"{name}: {str(file)!r} must be a manifest of format {_FORMAT}, got format {found!r}")
    del content["format"]
    try:
        shards = tuple(_checked(Shard, shard) for shard in content.pop("shards"))
        manifest: Manifest = _checked(Manifest, {**content, "shards": shards, "folder": Path(folder)})
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


def check_shards(manifest: Manifest, name: str, first: int = 0, *, metadata_only: bool = False) -> None:
    """Every shard from `first` on, or its metadata at least, is there and is what was written.

    Raises
    ------
    FileReadError
        The text names the file and its rows.
    """
    from concurrent.futures import ThreadPoolExecutor  # slow to import

    assert manifest.folder is not None, "it was read somewhere"
    folder, start = manifest.folder, sum(shard.n_rows for shard in manifest.shards[:first])
    shards = manifest.shards[first:]
    # The rows and their ids are equally good; hashing leaves the interpreter to others.
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
    """The id of every row of images, in order."""
    for shard in manifest.shards:
        yield from id_column(manifest, shard).to_pylist()


def id_column(manifest: Manifest, shard: Shard) -> Any:
    """The ids of the rows of a shard, a ``pyarrow.ChunkedArray``; as :func:`shard_columns`."""
    return _shard_table(manifest, shard, ["image_path"]).column("image_path")


def shard_columns(manifest: Manifest, shard: Shard, wanted: Sequence[str]) -> dict[str, list[Any]]:
    """Columns of what is known about the rows of a shard, those of `wanted` that there are.

    Raises
    ------
    FileReadError
        The metadata cannot be read, have no ids, or are not of as many rows as the shard.
    """
    table = _shard_table(manifest, shard, wanted)
    return {column: table[column].to_pylist() for column in table.column_names}


def _shard_table(manifest: Manifest, shard: Shard, wanted: Sequence[str]) -> Any:
    """A ``pyarrow.Table`` for :func:`shard_columns`."""
    assert manifest.folder is not None, "it was read somewhere"
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


def differing_rows(name: str, here: Manifest | None, other: str, there: Manifest | None) -> str | None:
    """Why two matrices are not rows of the same images in the same order; None where they are, or nobody knows."""
    if here is None or there is None or here.rows_sha256 == there.rows_sha256:
        return None
    expected = f"{name} and {other} must be the same images in the same order"
    for row, (a, b) in enumerate(zip(row_ids(here), row_ids(there), strict=False)):
        if a != b:
            return f"{expected}, got at row {row} {a!r} in {here} and {b!r} in {there}"
    return f"{expected}, got {here.n_rows} rows in {here} and {there.n_rows} in {there}"


def differing_images(rows: Rows, others: Rows) -> str | None:
    """Why two matrices are not rows of the same images in the same order; None where they are, or nobody knows.

    What is compared: their manifests; where not both have one, the ids beside the rows; where not both have those, the
    shards in which they lie. Their numbers of rows are not compared here.
    """
    if rows is others:
        return None
    if rows.manifest is not None and others.manifest is not None:
        return differing_rows(rows.name, rows.manifest, others.name, others.manifest)
    here, there = rows.row_ids(), others.row_ids()
    if here is None or there is None:
        return differing_shards(rows.name, rows.shard_files, others.name, others.shard_files)
    for row, (a, b) in enumerate(zip(here, there, strict=False)):
        if a != b:
            return (
                f"{rows.name} and {others.name} must be the same images in the same order, got {a!r} at row "
                f"{rows.row_number(row)} and {b!r} at row {others.row_number(row)}"
            )
    return None


def differing_encoders(
    name: str, here: Manifest | None, other: str, there: Manifest | None, *, images: bool = True
) -> str | None:
    """Why two matrices are not of one encoder; None where they are, or nobody knows.

    Where both are `images`, their preprocessing and normalisation must agree as well.
    """
    if here is None or there is None:
        return None
    expected = f"{name} and {other} must come from the same encoder"
    if any(here.encoder[key] != there.encoder[key] for key in _IDENTITY):
        return f"{expected}, got {_encoder(here)} in {here} and {_encoder(there)} in {there}"
    for key in _OF_IMAGES if images else ():
        a, b = getattr(here, key), getattr(there, key)
        if a != b:
            return f"{expected} and preprocessing, got {key} {a!r} in {here} and {b!r} in {there}"
    return None


def accepted(mismatches: Sequence[str | None], force: bool | None) -> list[str]:
    """The mismatches that there are, where they were to be accepted; None is for who cannot ask for it.

    Raises
    ------
    PoolMismatchError
        There is one, and nobody asked for it to be accepted.
    """
    found = [mismatch for mismatch in mismatches if mismatch is not None]
    if found and not force:
        hint = "" if force is None else "; force (--force) takes them all the same"
        raise PoolMismatchError(f"{found[0]}{hint}")
    return found


def _encoder(manifest: Manifest) -> str:
    encoder = manifest.encoder
    return f"{encoder['library']} {encoder['model']} ({encoder['weights']}, SHA-256 {encoder['weights_sha256'][:12]}…)"


def _digest_or_none(path: Path) -> str | None:
    try:
        return digest_of_file(path)
    except FileNotFoundError:
        return None


def _checked(kind: Any, content: dict[str, Any]) -> Any:
    """A dataclass from what JSON holds, where the types are those of its fields."""
    if not isinstance(content, dict) or set(content) != {entry.name for entry in fields(kind)}:
        raise ValueError(f"expected the keys {[entry.name for entry in fields(kind)]}, got {content!r:.200}")
    types = {"str": str, "int": int, "bool": bool, "dict": dict, "list": list, "tuple": tuple, "Path": Path}
    for entry in fields(kind):
        expected = types[str(entry.type).split("[")[0].split(" ")[0]]
        if not isinstance(content[entry.name], expected):
            raise TypeError(f"{entry.name} must be {expected.__name__}, got {content[entry.name]!r:.80}")
    return kind(**content)
