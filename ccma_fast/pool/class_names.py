"""Names of classes, and which class a label means: text is a name, a number is a position."""

from __future__ import annotations

import io
import json
import math
import numbers
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

from ..checks import integer_in
from ..errors import FileReadError
from ..system.bounded import read_whole
from .array_like import check_tensor, uncoerced
from .class_limits import MOST_CLASSES
from .tables import check_text

if TYPE_CHECKING:
    from ..steps.teacher import Teacher

__all__ = [
    "agreed_class_names",
    "class_codes",
    "differing_names",
    "is_exact",
    "is_missing",
    "plain_labels",
    "read_class_names",
]

# Files whose lines are more than names.
_OTHER_FORMATS = {".csv", ".tsv", ".yaml", ".yml", ".toml", ".jsonl", ".xml", ".pbtxt"}

# First lines of a file of names that are no class.
_HEADERS = {"class", "classes", "class_name", "class_names", "label", "labels", "name", "names", "category", "index"}

# Exponents of more digits are no position of anything.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,4})?|nan", re.ASCII | re.IGNORECASE)


def read_class_names(source: Any, name: str = "class_names") -> list[str]:
    """Names of classes, in the order of the classes.

    Parameters
    ----------
    source : sequence of str, mapping, or path
        A mapping from each name to its class, or from each class (an integer or its digits) to its name, as
        Hugging Face's ``label2id`` and ``id2label``; a pandas Series is one. A path is that of a ``.json`` file with a
        list of names or such a mapping, or of a text file with one name in each line.
    name : str
        What error messages call them.

    Raises
    ------
    FileReadError
        No such file, or a damaged one, or one of another content.
    ValueError
        Fewer than two names, an empty one, the same name twice (names that Unicode calls canonically equivalent are
        the same, and so are those that differ in the spaces around them), or a mapping that does not give each class
        from 0 to C − 1 one name.
    TypeError
        Names that are no strings, or have no order.
    """
    place = ""
    if isinstance(source, (str, os.PathLike)):
        place = f" of {os.fspath(source)!r}"
        source = _content(Path(source), name)
    pandas = sys.modules.get("pandas")  # whoever holds a Series has imported it
    if isinstance(source, Mapping) or (pandas is not None and isinstance(source, pandas.Series)):
        names = _of_mapping([*source.items()], name, place)
    elif isinstance(source, (set, frozenset)):
        raise TypeError(f"{name} must be in the order of the classes, got a {type(source).__name__}, which has none")
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
    _positions([text.strip() for text in names], name, place)
    return [str.__str__(text) for text in names]  # of an enumeration str() gives another text


def agreed_class_names(class_names: Any, teacher: Teacher | None) -> list[str] | None:
    """The names of the classes, which the caller, the teacher, both or neither may know.

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
    """The classes that two lists of as many names call differently."""
    return [c for c, (ours, other) in enumerate(zip(names, others, strict=True)) if _same(ours) != _same(other)]


def class_codes(
    values: Any,
    *,
    class_names: Sequence[str] | None = None,
    n_classes: int | None = None,
    name: str = "labels",
    place: str = "",
    ids: Sequence[str] | None = None,
    typed: bool = True,
) -> npt.NDArray[np.int64]:
    """The class of each label.

    Text is the name of a class, as it stands there but for Unicode's canonical equivalence; a number is the position
    of one. Text that is no name and reads as a number means that number. Where a name reads as the number of another
    class ("10" as the name of class 2) nobody can tell what a number means: all of them are refused, and so is text of
    a CSV file that reads as one.

    Parameters
    ----------
    values : array_like, shape (n,)
        Integers, floats that are whole, or text; −1, NaN, None, what is masked and empty text mean "no label".
    class_names : sequence of str, optional
    n_classes : int, optional
        C; as many as there are names where it is not given, and up to 2²⁰ without either.
    name : str
        What error messages call them.
    place : str
        What they say behind the number of a row, such as " of 'labels.csv'".
    ids : sequence of str, optional
        What they say instead of the number of a row: what it is of.
    typed : bool, default True
        Text is text because somebody said so; False for cells of a CSV file, where a number is text as well.

    Returns
    -------
    ndarray, shape (n,), int64
        −1 where there is no label.

    Raises
    ------
    ValueError
        More than one dimension, a number that is not whole or no class, text that is no name, or an ambiguous label.
    TypeError
        Neither numbers nor text, or text without names.
    """
    if class_names is not None:
        if n_classes not in (None, len(class_names)):
            raise ValueError(f"class_names must be one for each of the {n_classes} classes, got {len(class_names)}")
        n_classes = len(class_names)

    def at(row: int) -> str:
        return f"at row {row}{place}" if ids is None else f"for {ids[row]!r}"

    meaning = _Meaning(class_names, n_classes, name, at, typed)
    hidden = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None
    array = np.asarray(uncoerced(plain_labels(values, name)))
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension, got shape {array.shape}")
    if array.dtype.kind in "fiu":
        return meaning.of_numbers(array, hidden)
    if array.dtype.kind not in "OSUT":
        raise TypeError(f"{name} must be integers (-1 = not labelled) or class names, got dtype {array.dtype}")
    cells = array.tolist()
    if hidden is not None:
        cells = [None if is_hidden else cell for cell, is_hidden in zip(cells, hidden.tolist(), strict=True)]
    return meaning.of_cells(cells)


class _Meaning:
    """What a label means, where there are `n_classes` classes and they are called `class_names`."""

    def __init__(
        self,
        class_names: Sequence[str] | None,
        n_classes: int | None,
        name: str,
        at: Callable[[int], str],
        typed: bool,
    ) -> None:
        self._names, self._name, self._at, self._typed = class_names, name, at, typed
        self._n_classes, self._n_positions = n_classes, MOST_CLASSES if n_classes is None else n_classes
        self._positions: dict[str, int] | None = None
        self._known: dict[str, int] = {}
        self._clash: tuple[int, str] | None = None  # a class whose name reads as the number of another
        for c, text in enumerate(class_names or ()):
            if (number := _position(text)) is not None and number >= 0 and number != c:
                self._clash = c, text
                break

    def of_numbers(self, array: npt.NDArray[Any], hidden: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.int64]:
        """The classes of integers or floats, but for those that are hidden."""
        given = np.ones(array.shape, dtype=np.bool_) if hidden is None else ~hidden
        given &= (array == array) & (array != -1)
        wrong = given & ~((array >= 0) & (array < np.float64(self._n_positions)))  # which float16 does not hold
        if array.dtype.kind == "f":
            wrong |= given & (array != np.floor(array))
        bad = np.flatnonzero(wrong if self._clash is None else given)
        if bad.size:
            self._of_value(array[bad[0]], int(bad[0]))  # raises
        if array.dtype.kind == "f":
            rounded = np.flatnonzero(given & ~is_exact(array))
            if rounded.size:
                self._refuse_rounded(array[rounded[0]], int(rounded[0]))
        if array.dtype.kind == "u" and self._n_classes is None:
            most = np.iinfo(array.dtype).max
            largest = np.flatnonzero(given & (array == most))
            if largest.size and not (given & (array == most - 1)).any():
                raise ValueError(
                    f"{self._name} must be of a signed type where -1 means not labelled, got {most} "
                    f"{self._at(int(largest[0]))} in {array.dtype}, which is what -1 becomes there; if it is a class, "
                    "give integers of another type"
                )
        codes = np.full(array.shape, -1, dtype=np.int64)
        codes[given] = array[given]
        return codes

    def of_cells(self, cells: Sequence[Any]) -> npt.NDArray[np.int64]:
        """The classes of values of any type."""
        codes = np.empty(len(cells), dtype=np.int64)
        for row, cell in enumerate(cells):
            if isinstance(cell, (str, bytes)):
                text = self._decoded(cell, row)
                if text not in self._known:
                    self._known[text] = self._of_text(text, row)
                codes[row] = self._known[text]
            else:
                codes[row] = self._of_value(cell, row)
        return codes

    def _decoded(self, cell: str | bytes, row: int) -> str:
        try:
            return cell if isinstance(cell, str) else cell.decode()
        except UnicodeDecodeError:
            raise ValueError(f"{self._name} must be text in UTF-8, got {cell!r} {self._at(row)}") from None

    def _of_value(self, value: Any, row: int) -> int:
        if is_missing(value):
            return -1
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
            raise TypeError(
                f"{self._name} must be integers (-1 = not labelled) or class names, got {type(value).__name__} "
                f"{value!r} {self._at(row)}"
            )
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if number != value and number.is_integer() and number < self._n_positions:
            raise ValueError(f"{self._name} must be whole numbers or NaN, got {value!r} {self._at(row)}")
        code = self._of_number(number, row)
        if isinstance(value, np.floating) and not is_exact(value):
            self._refuse_rounded(value, row)
        return code

    def _refuse_rounded(self, value: Any, row: int) -> NoReturn:
        raise ValueError(
            f"{self._name} must be exact, got {value:g} {self._at(row)} in {value.dtype}, which rounds integers above "
            f"{_most_exact(value.dtype)}"
        )

    def _of_number(self, number: float | Decimal, row: int) -> int:
        """The class at a position, or none."""
        if number != number or number == -1:
            return -1
        at = f"got {number:g} {self._at(row)}"
        if not _is_whole(number):
            raise ValueError(f"{self._name} must be whole numbers or NaN, {at}")
        if self._clash is not None:
            self._refuse_ambiguous(f"{number:g}", row)
        if not 0 <= number < self._n_positions:
            upper = "" if self._n_classes is None and number < 0 else f" to {self._n_positions - 1}"
            raise ValueError(f"{self._name} must be -1 (not labelled) or a class from 0{upper}, {at}")
        return int(number)

    def _of_text(self, text: str, row: int) -> int:
        """The class of a name, or at the position that the text reads as."""
        if not text.strip():
            return -1
        if self._positions is None:
            self._positions = {} if self._names is None else _positions(self._names, "class_names")
        position = self._positions.get(_same(text))
        if position is not None:
            other = None if self._typed else _position(text)
            if other is not None and (other != position or self._clash is not None):
                self._refuse_ambiguous(repr(text), row)
            return position
        if (number := _number(text)) is not None:
            return self._of_number(number, row)
        at = f"got {text!r} {self._at(row)}"
        if self._names is None:
            expected = f"{self._name} must be integers (-1 = not labelled) where there are no class_names"
            raise (TypeError if self._typed else ValueError)(f"{expected}, {at}; give class_names")
        folded = {known.strip().casefold(): known for known in self._names}
        nearest = get_close_matches(text.strip().casefold(), folded, n=1)
        hint = f"; did you mean {folded[nearest[0]]!r}?" if nearest else ""
        raise ValueError(f"{self._name} must be class names, or empty where there is none, {at}{hint}")

    def _refuse_ambiguous(self, given: str, row: int) -> NoReturn:
        assert self._names is not None, "numbers are ambiguous among names"
        c, text = self._clash or next((c, text) for c, text in enumerate(self._names) if _position(text) is not None)
        raise ValueError(
            f"{self._name} must say whether they are names or numbers of classes, got {given} {self._at(row)} "
            f"where class {c} is called {text!r}; give names as an array of strings or a parquet column "
            "of strings, or call the classes something else"
        )


def plain_labels(values: Any, name: str) -> Any:
    """Labels that NumPy does not misread: None for what is masked in a list or null in an array of pyarrow."""
    torch, pyarrow = sys.modules.get("torch"), sys.modules.get("pyarrow")  # whoever holds theirs has imported them
    if torch is not None and isinstance(values, torch.Tensor):
        check_tensor(name, values)
        if values.dtype == torch.bfloat16:
            raise TypeError(f"{name} must be integers (-1 = not labelled) or class names, got dtype {values.dtype}")
        return values.detach().cpu()
    if pyarrow is not None and isinstance(values, (pyarrow.Array, pyarrow.ChunkedArray)):
        # A null in chunks of a dictionary would become its last entry.
        is_plain = values.null_count == 0 and not isinstance(values.type, pyarrow.DictionaryType)
        return values if is_plain else values.to_pylist()
    if isinstance(values, (list, tuple)) and any(isinstance(value, np.ma.MaskedArray) for value in values):
        return [None if np.ndim(value) == 0 and np.ma.is_masked(value) else value for value in values]
    return values


def is_missing(value: Any) -> bool:
    """Whether a cell is one of the many things that stand for no value."""
    if value is None or type(value).__name__ in ("NAType", "NaTType", "MaskedConstant"):
        return True
    return isinstance(value, numbers.Real) and value != value


def is_exact(values: Any) -> Any:
    """Whether floating-point numbers of NumPy are so small that their type holds every integer up to the next one."""
    return ~(np.abs(values) >= float(_most_exact(values.dtype)))


def _most_exact(dtype: np.dtype[Any]) -> int:
    return int(2 ** (np.finfo(dtype).nmant + 1))


def _number(text: str) -> float | Decimal | None:
    """The number that text reads as, all its digits counted; None where it is none."""
    stripped = text.strip()
    if not _NUMBER.fullmatch(stripped):
        return None
    number, exact = float(stripped), Decimal(stripped)
    return number if number == exact or number != number else exact


def _is_whole(number: float | Decimal) -> bool:
    return number == number.to_integral_value() if isinstance(number, Decimal) else float(number).is_integer()


def _position(text: str) -> float | Decimal | None:
    """The number that text reads as, where it could be a position or none; NaN and −1 stand for "no label"."""
    number = _number(text)
    return number if number is not None and (number != number or _is_whole(number)) else None


def _same(text: str) -> str:
    """Names are the same where this is."""
    return unicodedata.normalize("NFC", text)


def _positions(names: Sequence[str], name: str, place: str = "") -> dict[str, int]:
    """The class of each name."""
    positions: dict[str, int] = {}
    for c, text in enumerate(names):
        first = positions.setdefault(_same(text), c)
        if first != c:
            raise ValueError(f"{name} must be all different, got {text!r} for classes {first} and {c}{place}")
    return positions


def _of_mapping(pairs: list[tuple[Any, Any]], name: str, place: str) -> list[Any]:
    """Names from the items of a mapping between them and the numbers 0 to C − 1."""
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
    """What a file of class names holds: a list or a mapping."""
    try:
        text = io.StringIO(read_whole(file).decode("utf-8-sig"), newline=None).read()
    except FileNotFoundError:
        raise FileReadError(f"{name}: no file {str(file)!r}") from None
    except (OSError, ValueError) as error:
        raise FileReadError(f"{name}: cannot read {str(file)!r} as text: {error}") from error
    try:
        check_text(text)
    except ValueError as error:
        raise FileReadError(f"{name}: {str(file)!r} {error}") from None
    if file.suffix.lower() != ".json":
        if file.suffix.lower() in _OTHER_FORMATS or _is_json(text):
            raise FileReadError(f"{name}: expected a .json file, or text with one name in each line, got {str(file)!r}")
        names = text.removesuffix("\n").split("\n")  # other ends of lines that Unicode has may stand in a name
        _check_lines(names, file, name)
        return names
    try:
        content = json.loads(text, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError) as error:
        raise FileReadError(f"{name}: cannot read {str(file)!r} as JSON: {error}") from error
    if not isinstance(content, (list, dict)):
        raise FileReadError(
            f"{name}: {str(file)!r} must hold a list of names, or a mapping between names and the numbers of classes"
        )
    return content


def _check_lines(names: Sequence[str], file: Path, name: str) -> None:
    """The lines of a file are names alone: not the header of a table first, nor the number of its class in each."""
    instead = "a .json list says that they are names"
    if names[0].strip().casefold().replace(" ", "_") in _HEADERS:
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
    """Whether the lines of a text are those of a list or a mapping in JSON."""
    if not text.lstrip().startswith(("[", "{")):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError(f"a key stands there twice, got {[key for key, _ in pairs]!r:.80}")
    return content
