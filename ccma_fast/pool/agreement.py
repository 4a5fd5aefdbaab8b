"""Whether several matrices are rows of the same images, and of one encoder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import PoolMismatchError
from .frames import index_text
from .manifest import Manifest
from .manifest_file import former_ids, row_ids
from .rows import Rows
from .shard_names import differing_shards

__all__ = ["accepted", "differing_encoders", "differing_images", "differing_rows"]

# A model is identified by its parameters, not by their name or origin.
_IDENTITY = ("library", "weights_sha256")

_OF_IMAGES = ("preprocessing", "normalized")


def differing_rows(name: str, here: Manifest | None, other: str, there: Manifest | None) -> str | None:
    """Why two manifests are not of the same images in the same order; None where they are, or cannot be compared."""
    if here is None or there is None or here.rows_sha256 == there.rows_sha256:
        return None
    expected = f"{name} and {other} must be the same images in the same order"
    ids = enumerate(zip(row_ids(here), row_ids(there), strict=False))
    if (found := _first_other(ids, former_ids(here), former_ids(there))) is not None:
        row, (a, b) = found
        return f"{expected}, got at row {row} {a!r} in {here} and {b!r} in {there}"
    if here.n_rows == there.n_rows:  # renamed in one of them
        return None
    return f"{expected}, got {here.n_rows} rows in {here} and {there.n_rows} in {there}"


def differing_images(rows: Rows, others: Rows) -> str | None:
    """Why two matrices are not rows of the same images in the same order; None where they are, or cannot be compared.

    What is compared: their manifests; where not both have one, the ids beside the rows; where not both have those, the
    indexes of the data frames that they are, and the shards in which they lie. Their numbers of rows are not compared
    here.
    """
    if rows is others:
        return None
    if rows.manifest is not None and others.manifest is not None:
        return differing_rows(rows.name, rows.manifest, others.name, others.manifest)
    here, there = rows.row_ids(), others.row_ids()
    if here is None or there is None:
        return _differing_index(rows, others) or differing_shards(
            rows.name, rows.shard_files, others.name, others.shard_files
        )
    found = _first_other(enumerate(zip(here, there, strict=False)), rows.former_ids(), others.former_ids())
    if found is None:
        return None
    row, (a, b) = found
    return (
        f"{rows.name} and {others.name} must be the same images in the same order, got {a!r} at row "
        f"{rows.row_number(row)} and {b!r} at row {others.row_number(row)}"
    )


def _differing_index(rows: Rows, others: Rows) -> str | None:
    """That two data frames have other indexes; None where they have not, or one of the matrices is no data frame."""
    if rows.index is None or others.index is None or rows.index.equals(others.index):
        return None
    return (
        f"{rows.name} and {others.name} must be the same images in the same order, got the index "
        f"{index_text(rows.index)} and {index_text(others.index)}"
    )


def _first_other(
    ids: Iterable[tuple[int, tuple[str | None, str | None]]],
    former_here: dict[str, list[int]],
    former_there: dict[str, list[int]],
) -> tuple[int, tuple[str | None, str | None]] | None:
    """The first row whose ids differ in two matrices, former ids of renamed images included."""
    for row, (a, b) in ids:
        if a != b and row not in former_here.get(b or "", ()) and row not in former_there.get(a or "", ()):
            return row, (a, b)
    return None


def differing_encoders(
    name: str, here: Manifest | None, other: str, there: Manifest | None, *, images: bool = True
) -> str | None:
    """Why two matrices are not of one encoder; None where they are, or cannot be compared.

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
    """The mismatches found, if `force` accepts them; None for `force` where the caller has no such option.

    Raises
    ------
    PoolMismatchError
        There is one, and it is not to be accepted.
    """
    found = [mismatch for mismatch in mismatches if mismatch is not None]
    if found and not force:
        hint = "" if force is None else "; force (--force) takes them all the same"
        raise PoolMismatchError(f"{found[0]}{hint}")
    return found


def _encoder(manifest: Manifest) -> str:
    encoder = manifest.encoder
    return f"{encoder['library']} {encoder['model']} ({encoder['weights']}, SHA-256 {encoder['weights_sha256'][:12]}…)"
