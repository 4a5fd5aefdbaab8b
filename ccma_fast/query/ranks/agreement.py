"""Whether all ranks were asked the same of the same files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...pool.row_digests import row_digests
from ...pool.rows import Rows
from ...system.ranks import Ranks
from ..arguments import Arguments

__all__ = ["check_agreement"]

# Rows of a source without a manifest, spread evenly, of which every rank must read the same.
_COMPARED = 16


def check_agreement(ranks: Ranks, arguments: Arguments, sources: Sequence[Rows]) -> None:
    """Check that every rank was asked the same of the same files; all ranks call this.

    Raises
    ------
    ValueError
        On the first rank: what differs, with both sides.
    """
    told: dict[str, Any] = {"budget": arguments.budget, "random_state": arguments.random_state}
    told |= {f"config.{name}": value for name, value in arguments.config.to_dict().items()}
    for rows in sources:
        told |= _told_of(rows)
    for rank, others in enumerate(ranks.gather(told) or ()):
        for name in {**told, **others}:
            if told.get(name) != others.get(name):
                here, there = (_text(of.get(name)) for of in (told, others))
                raise ValueError(
                    f"every rank must be asked the same: {name} is {here} on {ranks.names[0]} and {there} on "
                    f"{ranks.names[rank]}"
                )


def _told_of(rows: Rows) -> dict[str, Any]:
    told: dict[str, Any] = {
        f"shard {place} of {rows.name}": f"{shard.file.name} with {shard.n_rows} rows"
        for place, shard in enumerate(rows.shard_files)
    }
    told[f"the shape of {rows.name}"] = (rows.n_rows, rows.n_columns)
    told[f"the size of a row of {rows.name} in bytes"] = rows.row_bytes
    if rows.manifest is not None:  # with which shards are compared when they are read
        digests = "".join(shard.sha256 for shard in rows.manifest.shards)
        told[f"the manifest of {rows.name}"] = hashlib.sha256(digests.encode()).hexdigest()
        return told
    some = np.unique(np.linspace(0, rows.n_rows - 1, min(rows.n_rows, _COMPARED)).astype(np.int64))
    for row, digest in zip(some.tolist(), row_digests(rows, some), strict=True):
        told[f"the digest of row {row} of {rows.name}"] = digest.tobytes().hex()
    return told


def _text(value: Any) -> str:
    return "missing" if value is None else f"{value!r:.200}"
