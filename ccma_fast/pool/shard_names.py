"""Names of shards: their order, whether one is missing, and whether two folders hold the same ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import FileReadError

__all__ = ["ShardFile", "check_names", "differing_shards", "natural_order", "pattern_of"]


class ShardFile(NamedTuple):
    """A file of some rows of a matrix."""

    file: Path
    n_rows: int


def natural_order(file: Path) -> tuple[list[str | int], str]:
    """Sort key of files by their names, ``part-2`` before ``part-10`` and behind ``PART-1``."""
    # Every other piece is a run of digits, and nothing else is a number: "²" is a digit that int() does not take.
    pieces = re.split(r"(\d+)", file.name.casefold())
    return [int(piece) if i % 2 else piece for i, piece in enumerate(pieces)], file.name


def pattern_of(file: Path) -> str:
    """What the names of a matrix's shards have in common: a name without its suffix, and with 0 for each number."""
    return re.sub(r"\d+", "0", file.stem.casefold())


def check_names(files: Sequence[Path], name: str) -> None:
    """Check that the names of a folder's shards do not show that one is missing or there twice.

    They do where two have the same number (``part-1``, ``part-01``) or are the same file, where one is called as
    another and more (``part-1 (copy)``, ``part-1_old``), where most of the numbers from the first to the last are there
    but not all, and where they say how many they are (``part-00000-of-00004``) and are not as many.

    Raises
    ------
    FileReadError
        Without the missing rows those behind would get other numbers.
    """
    where = repr(str(files[0].parent))
    seen: dict[_Mark, Path] = {}
    for file, mark in zip(files, _marks(files), strict=True):
        if len(files) > 1 and mark in seen:
            raise FileReadError(
                f"{name}: {seen[mark].name!r} and {file.name!r} are the same shard of the folder {where}; expected one"
            )
        seen[mark] = file
    _check_copies(seen, name, where)
    totals = {int(found[1]) for file in files if (found := _OF.search(file.stem))}
    if totals and totals != {len(files)}:
        declared = " and ".join(map(str, sorted(totals)))
        raise FileReadError(
            f"{name}: the shards of the folder {where} must be {declared} by their names, got {len(files)}, such as "
            f"{files[0].name!r}; expected all shards of one matrix"
        )
    numbers = {mark[0] for mark in seen if len(mark) == 1 and isinstance(mark[0], int)}
    if len(numbers) < len(files):
        return
    first, last = min(numbers), max(numbers)
    if 0 < last - first + 1 - len(numbers) < len(numbers):
        missing = next(number for number in range(first, last) if number not in numbers)
        raise FileReadError(
            f"{name}: no shard {missing} in the folder {where}, whose {len(files)} shards are numbered {first} to "
            f"{last}; expected it, or shards numbered without a gap, as rows count on from shard to shard"
        )


def differing_shards(name: str, here: Sequence[ShardFile], other: str, there: Sequence[ShardFile]) -> str | None:
    """Why two matrices are not rows of the same images, by their shards; None where these do not tell.

    Where both have as many, at least two, their names must differ by the same text before and behind all of them
    alone (``img_emb_0`` and ``part-00``, and so on), and each must have as many rows as the other's.
    """
    if len(here) != len(there) or len(here) < 2:
        return None
    expected = f"{name} and {other} must be the same images in the same order"
    marks = zip(_marks([shard.file for shard in here]), _marks([shard.file for shard in there]), strict=True)
    for i, (a, b) in enumerate(marks):
        if a != b:
            return (
                f"{expected}, got {str(here[i].file)!r} as shard {i} of the one and {str(there[i].file)!r} of the "
                "other; expected shards of the same numbers or names"
            )
    for a_shard, b_shard in zip(here, there, strict=True):
        if a_shard.n_rows != b_shard.n_rows:
            return (
                f"{expected}, got {a_shard.n_rows} rows in {str(a_shard.file)!r} and {b_shard.n_rows} in "
                f"{str(b_shard.file)!r}"
            )
    return None


_Mark = tuple["str | int", ...]

# The number of shards; what follows it is the same for all (``train-00000-of-00004-9f2c``).
_OF = re.compile(r"[-_.]of[-_.](\d+)(?![^\W_]).*", re.IGNORECASE | re.DOTALL)


def _check_copies(seen: dict[_Mark, Path], name: str, where: str) -> None:
    """Check that no file is a link to another one, or by its name a copy of it."""
    places: dict[tuple[int, int], Path] = {}
    for mark, file in seen.items():
        beginnings = (mark[:end] for end in range(len(mark)) if not str(mark[end]).isalnum())
        other = next((seen[beginning] for beginning in beginnings if beginning in seen), None)
        if file.exists():  # opening it will say where not
            found = file.stat()
            other = places.setdefault((found.st_dev, found.st_ino), file) if other is None else other
        if other is not None and other != file:
            raise FileReadError(
                f"{name}: {file.name!r} may be a copy of {other.name!r} in the folder {where}, by its name or as a "
                "link to it; expected every row once"
            )


def _marks(files: Sequence[Path]) -> list[_Mark]:
    """What distinguishes each file: its name without the common beginning and end, each number in one piece."""
    stems = [_OF.sub(r"-of-\1", file.stem.casefold()) for file in files]
    names = [[int(t) if t.isdecimal() else t for t in re.findall(r"\d+|\D", stem)] for stem in stems]
    least = min(map(len, names))
    begin = next((i for i in range(least) if len({tokens[i] for tokens in names}) > 1), least)
    left = least - begin
    end = next((i for i in range(left) if len({tokens[-1 - i] for tokens in names}) > 1), left)
    return [tuple(tokens[begin : len(tokens) - end]) for tokens in names]
