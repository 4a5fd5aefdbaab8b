"""Names of classes: as callers and files give them, and whether two lists of them agree."""

from __future__ import annotations

import io
import json
import numbers
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..checks import integer_in
from ..errors import FileReadError
from ..system.bounded_read import read_whole
from ..system.csv_text import read_csv
from ..system.text_files import decoded
from .class_limits import MOST_CLASSES
from .frames import columns_of_frame, is_series
from .spreadsheet_cells import whole_number

__all__ = [
    "agreed_class_names",
    "differing_names",
    "positions_of",
    "read_class_names",
    "same_name",
    "without_repetition",
]

# Tables with a column of names.
_TABLES = (".csv", ".tsv")

# Files whose lines are more than names.
_OTHER_FORMATS = {".yaml", ".yml", ".toml", ".jsonl", ".xml", ".pbtxt"}

# Headers of a column of names, and of their numbers.
_NAMES = {"class", "classes", "class_name", "class_names", "label", "labels", "name", "names", "category"}

_NUMBERS = {"index", "id", "class_id", "number"}


def read_class_names(source: Any, name: str = "class_names") -> list[str]:
    """Names of classes, in the order of the classes.

    Parameters
    ----------
    source : sequence of str, mapping, or path
        A mapping from each name to its class, or from each class (an integer or its digits) to its name, as
        Hugging Face's ``label2id`` and ``id2label``; a pandas Series is one. A path is that of a ``.json`` file with a
        list of names or such a mapping, of a CSV file (``.csv``, ``.tsv``) with a column ``name`` and perhaps
        ``index``, or of a text file with one name in each line.
    name : str
        Their name in error messages.

    Raises
    ------
    FileReadError
        No such file, a damaged one, or one with other content.
    ValueError
        Fewer than two names, an empty one, the same name twice (names that Unicode calls canonically equivalent are
        the same, and so are those that differ in the spaces around them), or a mapping that does not give each class
        from 0 to C − 1 one name.
    TypeError
        Names that are not strings, or are in no order.
    """
    place = ""
    if isinstance(source, (str, os.PathLike)):
        place = f" of {os.fspath(source)!r}"
        source = _content(Path(source), name)
    if isinstance(source, Mapping) or is_series(source):
        names = _of_mapping([*source.items()], name, place)
    elif isinstance(source, (set, frozenset)):
        raise TypeError(f"{name} must be in the order of the classes, got a {type(source).__name__}, which has none")
    elif columns_of_frame(source) is not None:
        raise TypeError(f"{name} must be a sequence of strings, a mapping or a path, got a data frame; give a column")
    elif isinstance(source, Iterable):
        names = list(source)
    else:
        raise TypeError(f"{name} must be a sequence of strings, a mapping or a path, got {type(source).__name__}")
    for row, text in enumerate(names):
        if not isinstance(text, str):
            raise TypeError(f"{name} must be strings, got {type(text).__name__} at row {row}{place}")
        if not text.strip():
            raise ValueError(f"{name} must not be empty, got {text!r} at row {row}{place}")
    if len(names) < 2:
        raise ValueError(f"{name} must be at least two, got {len(names)}{place}")
    if len(names) > MOST_CLASSES:
        raise ValueError(f"{name} must be at most {MOST_CLASSES}, got {len(names)}{place}")
    positions_of([text.strip() for text in names], name, place)
    return [str.__str__(text) for text in names]  # of an enumeration str() gives another text


class _HasClasses(Protocol):
    """A teacher, as far as its classes go."""

    @property
    def class_names(self) -> list[str] | None: ...

    @property
    def n_classes(self) -> int: ...


def agreed_class_names(class_names: Any, teacher: _HasClasses | None) -> list[str] | None:
    """The names of the classes, from the caller, the teacher, both or neither.

    Parameters
    ----------
    class_names : sequence of str, mapping, path or None
        The caller's, see :func:`read_class_names`.
    teacher : Teacher or None

    Raises
    ------
    ValueError
        Both have names and these differ, or the teacher has another number of classes.
    """
    theirs = None if teacher is None else teacher.class_names
    if class_names is None:
        return theirs
    names = read_class_names(class_names)
    if teacher is not None and len(names) != teacher.n_classes:
        raise ValueError(
            f"class_names must be one for each of the teacher's {teacher.n_classes} classes, got {len(names)}"
        )
    differing = [] if theirs is None else differing_names(names, theirs)
    if theirs is not None and differing:
        c = differing[0]
        raise ValueError(
            f"class_names must be those of the teacher in the same order, got {names[c]!r} for class {c}, which the "
            f"teacher calls {theirs[c]!r}"
        )
    return names


def differing_names(names: Sequence[str], others: Sequence[str]) -> list[int]:
    """The classes whose names differ in two lists of one length."""
    return [c for c, (ours, other) in enumerate(zip(names, others, strict=True)) if same_name(ours) != same_name(other)]


def same_name(text: str) -> str:
    """The normal form of a name: names are equal where it is."""
    return unicodedata.normalize("NFC", text)


def positions_of(names: Sequence[str], name: str, place: str = "") -> dict[str, int]:
    """The class of each name, by its normal form; names must be distinct."""
    positions: dict[str, int] = {}
    for c, text in enumerate(names):
        first = positions.setdefault(same_name(text), c)
        if first != c:
            raise ValueError(f"{name} must be all different, got {text!r} for classes {first} and {c}{place}")
    return positions


def _of_mapping(pairs: list[tuple[Any, Any]], name: str, place: str) -> list[Any]:
    """Names from the items of a mapping from or to the numbers 0 to C − 1."""
    if all(_is_class(value) for _, value in pairs):
        pairs = [(value, key) for key, value in pairs]
    elif not all(_is_class(key) or (isinstance(key, str) and integer_in(key) is not None) for key, _ in pairs):
        raise ValueError(
            f"{name} must be a mapping from names to classes (integers) or from classes to names, got "
            f"{dict(pairs)!r:.80}{place}"
        )
    by_class = {int(c): text for c, text in pairs}
    if len(by_class) < len(pairs) or set(by_class) != set(range(len(pairs))):
        numbers_given = sorted(int(c) for c, _ in pairs)
        raise ValueError(
            f"{name} must give each class from 0 to {len(pairs) - 1} one name, got {numbers_given!r:.80}{place}"
        )
    return [by_class[c] for c in range(len(pairs))]


def _is_class(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, (bool, np.bool_))


def _content(file: Path, name: str) -> Any:
    """The content of a file of class names: a list or a mapping."""
    is_table = file.suffix.lower() in _TABLES
    try:
        content = read_whole(file)
        rows = read_csv(content).rows if is_table else []
        text = "" if is_table else io.StringIO(decoded(content), newline=None).read()
    except FileNotFoundError:
        raise FileReadError(f"{name}: no file {str(file)!r}") from None
    except (OSError, ValueError) as error:
        what = "CSV" if is_table else "text"
        raise FileReadError(f"{name}: cannot read {str(file)!r} as {what}: {error}") from error
    if is_table:
        return _of_rows(rows, file, name)
    if file.suffix.lower() != ".json":
        if file.suffix.lower() in _OTHER_FORMATS or _is_json(text):
            raise FileReadError(
                f"{name}: expected a .json or .csv file, or text with one name in each line, got {str(file)!r}"
            )
        names = text.removesuffix("\n").split("\n")  # Unicode's other ends of lines may be part of a name
        _check_lines(names, file, name)
        return names
    try:
        found = json.loads(text, object_pairs_hook=without_repetition)
    except (ValueError, RecursionError) as error:
        raise FileReadError(f"{name}: cannot read {str(file)!r} as JSON: {error}") from error
    if not isinstance(found, (list, dict)):
        raise FileReadError(
            f"{name}: {str(file)!r} must hold a list of names, or a mapping between names and the numbers of classes"
        )
    return found


def _of_rows(rows: Sequence[list[str]], file: Path, name: str) -> list[str] | dict[str, str]:
    """The names in a table: its only column, whose header may be missing, or one that a header says, with numbers."""
    header = [cell.strip().casefold().replace(" ", "_") for cell in next(iter(rows), [])]
    names = [i for i, cell in enumerate(header) if cell in _NAMES]
    cells = [row for row in rows[1 if names else 0 :] if any(map(str.strip, row))]
    if len(header) == 1 and all(len(row) == 1 for row in cells):
        return [row[0] for row in cells]
    numbers_at = [i for i, cell in enumerate(header) if cell in _NUMBERS]
    if len(names) != 1 or len(numbers_at) > 1 or any(len(row) != len(header) for row in cells):
        raise FileReadError(
            f"{name}: {str(file)!r} must have one column 'name', and perhaps one 'index' with the numbers of the "
            f"classes, got {', '.join(map(repr, rows[0] if rows else ())) or 'nothing'}"
        )
    if not numbers_at:
        return [row[names[0]] for row in cells]
    found = [whole_number(row[numbers_at[0]]) for row in cells]
    if None in found or len(set(found)) < len(found):
        raise FileReadError(
            f"{name}: {str(file)!r} must have a different number of a class in each row of its column "
            f"{rows[0][numbers_at[0]]!r}"
        )
    return {str(number): row[names[0]] for number, row in zip(found, cells, strict=True)}


def _check_lines(names: Sequence[str], file: Path, name: str) -> None:
    """Check that lines are names alone: no header of a table first, no number of the class in each."""
    instead = "a .json list says that they are names"
    if names[0].strip().casefold().replace(" ", "_") in _NAMES | _NUMBERS:
        raise FileReadError(
            f"{name}: {str(file)!r} must have the name of a class in each line, got the header {names[0]!r} first; "
            f"{instead}"
        )
    if len(names) > 1 and all(re.match(rf"\s*{c}(\s*[,;:|]|[.)]?\s)\s*\S", text) for c, text in enumerate(names)):
        raise FileReadError(
            f"{name}: {str(file)!r} must have the name of a class in each line and nothing else, got {names[0]!r} and "
            f"{names[1]!r}, which begin with its number; {instead}"
        )


def _is_json(text: str) -> bool:
    """Whether a text is a list or a mapping in JSON."""
    if not text.lstrip().startswith(("[", "{")):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The pairs of a JSON object; a key that stands there twice is refused."""
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError(f"a key stands there twice, got {[key for key, _ in pairs]!r:.80}")
    return content
