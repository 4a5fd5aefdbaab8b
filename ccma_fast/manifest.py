"""What stands beside the embeddings of a pool: what made them, which images they are, and the checksum of each shard.

A folder that :func:`ccma_fast.extract` wrote has the layout of clip-retrieval and a manifest:

=====================================  ============================================================================
``img_emb/img_emb_0.npy``              the rows of one shard; ``text_emb/text_emb_0.npy`` where they are classes
``metadata/metadata_0.parquet``        what each of these rows is: ``image_path``, its id, ``label`` where it is known,
                                       and of its file ``file_bytes``, ``file_crc32`` and ``file_mtime_ns`` (since
                                       1970) as it was read, and ``file_root``, the folder that the id begins in;
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
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ._bounded import read_whole
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
    "Skipped",
    "accepted",
    "chained",
    "check_shards",
    "differing_encoders",
    "differing_images",
    "differing_rows",
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

# The first knew no more of a skipped image than the reason, and nothing of images that vanished or were renamed.
_FORMAT, _FIRST_FORMAT = 2, 1
_READ_BYTES = 1 << 20

# A model is its parameters, whatever it is called and wherever they came from.
_IDENTITY = ("library", "weights_sha256")
_OF_IMAGES = ("preprocessing", "normalized")


@dataclass(frozen=True)
class Skipped:
    """Why an image is no row.

    Attributes
    ----------
    reason : str
    passing : bool
        It lay in the circumstances, such as permissions or memory, and not in what the file holds.
    n_bytes, mtime_ns, ctime_ns : int or None
        Size and times of its file before it was read; None where there was none, or nobody wrote it down.
    decoder : str
        What tells another decoder, or another limit of it, from the one that failed.
    """

    reason: str
    passing: bool = True
    n_bytes: int | None = None
    mtime_ns: int | None = None
    ctime_ns: int | None = None
    decoder: str = ""


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
    skipped : dict of str to Skipped
        Why, for the id of each image that was to be a row of this shard and could not be read, until it is one behind.
    """

    file: str
    metadata: str
    n_rows: int
    sha256: str
    metadata_sha256: str
    rows_sha256: str
    skipped: dict[str, Skipped] = field(default_factory=dict)


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
    vanished : list of int
        Rows whose images were gone when they were last looked for, ascending.
    renamed : dict of str to int
        The rows of images that were renamed, by the names that they got, in the order in which they got them.
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
    vanished: list[int] = field(default_factory=list)
    renamed: dict[str, int] = field(default_factory=dict)
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
    """Write or replace the manifest of a folder, in the first format where that can say everything."""
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
        What error messages call it.

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
    """The id of every row of images, in order: the name that its image has now."""
    for k in range(len(manifest.shards)):
        yield from ids_of_shard(manifest, k)


def ids_of_shard(manifest: Manifest, k: int, rows: Any = None) -> list[str]:
    """The ids of rows of a shard, by default of all.

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
    """What images of a shard are called now.

    Parameters
    ----------
    manifest : Manifest
    k : int
    ids : list of str
        What they were called when they were embedded.
    rows : iterable of int
        Which they are, counted from the first of the shard.
    """
    if not manifest.renamed:
        return ids
    names = {row: name for name, row in manifest.renamed.items()}
    start = sum(shard.n_rows for shard in manifest.shards[:k])
    return [names.get(start + row, image) for row, image in zip(rows, ids, strict=True)]


def former_ids(manifest: Manifest) -> dict[str, list[int]]:
    """The rows of images that were renamed, by each name that they had before."""
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
    ids = enumerate(zip(row_ids(here), row_ids(there), strict=False))
    if (found := _first_other(ids, former_ids(here), former_ids(there))) is not None:
        row, (a, b) = found
        return f"{expected}, got at row {row} {a!r} in {here} and {b!r} in {there}"
    if here.n_rows == there.n_rows:  # called otherwise in one of them, and renamed since
        return None
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
    found = _first_other(enumerate(zip(here, there, strict=False)), rows.former_ids(), others.former_ids())
    if found is None:
        return None
    row, (a, b) = found
    return (
        f"{rows.name} and {others.name} must be the same images in the same order, got {a!r} at row "
        f"{rows.row_number(row)} and {b!r} at row {others.row_number(row)}"
    )


def _first_other(
    ids: Iterable[tuple[int, tuple[str | None, str | None]]],
    former_here: dict[str, list[int]],
    former_there: dict[str, list[int]],
) -> tuple[int, tuple[str | None, str | None]] | None:
    """The first row of two matrices whose ids differ, also by what the images were called before they were renamed."""
    for row, (a, b) in ids:
        if a != b and row not in former_here.get(b or "", ()) and row not in former_there.get(a or "", ()):
            return row, (a, b)
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


def _shard(content: Any, version: int) -> Shard:
    shard: Shard = _checked(Shard, content)
    whys = shard.skipped.items()
    if version == _FIRST_FORMAT:
        skipped = {image: _checked(Skipped, {**asdict(Skipped("")), "reason": why}) for image, why in whys}
    else:
        skipped = {image: _checked(Skipped, why) for image, why in whys}
    return replace(shard, skipped=skipped)


def _check_rows(manifest: Manifest) -> None:
    """What names rows names some that there are."""
    for name, rows in (("vanished", manifest.vanished), ("renamed", [*manifest.renamed.values()])):
        for row in rows:
            if type(row) is not int or not 0 <= row < manifest.n_rows:
                raise ValueError(f"{name} must be rows from 0 to {manifest.n_rows - 1}, got {row!r:.80}")
    if manifest.vanished != sorted({*manifest.vanished}):
        raise ValueError("vanished must be ascending rows")


def _checked(kind: Any, content: Any) -> Any:
    """A dataclass from what JSON holds, where the types are those of its fields."""
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
