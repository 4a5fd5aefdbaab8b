"""Which class a label means: text is a name, a number is a position."""

from __future__ import annotations

import math
import numbers
import re
import sys
from collections.abc import Callable, Sequence
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from .array_like import check_tensor, is_exact, is_missing, is_tensor, largest_exact, uncoerced
from .class_limits import MOST_CLASSES
from .class_names import positions_of, same_name
from .spreadsheet_cells import ambiguity, damage, with_point

__all__ = ["class_codes", "plain_labels"]

# They may be a mask of the labelled rows.
_OF_BOOLEANS = "; give integers where true is class 1 and false class 0"

# Names of classes that an error message suggests.
_SUGGESTED = 10

# No position has an exponent of more digits.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,4})?|nan", re.ASCII | re.IGNORECASE)


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

    Text is the name of a class, exact up to Unicode's canonical equivalence and, in cells of a CSV file, up to spaces
    around it; a number is its position. Text that is not
    a name and reads as a number means that number. Where a name reads as the number of another class ("10" as the name
    of class 2), numbers are ambiguous: all of them are refused, and so is text of a CSV file that reads as one.

    Parameters
    ----------
    values : array_like, shape (n,)
        Integers, floats that are whole, or text; −1, NaN, None, what is masked and empty text mean "no label".
    class_names : sequence of str, optional
    n_classes : int, optional
        C; as many as there are names where it is not given, and up to 2²⁰ without either.
    name : str
        Their name in error messages.
    place : str
        What error messages add to the number of a row, such as " of 'labels.csv'".
    ids : sequence of str, optional
        Id of each row, which error messages give instead of its number.
    typed : bool, default True
        Text is known to be text; False for cells of a CSV file, where numbers are text as well.

    Returns
    -------
    ndarray, shape (n,), int64
        −1 where there is no label.

    Raises
    ------
    ValueError
        More than one dimension, a number that is not whole or not a class, text that is not a name, or an ambiguous
        label.
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
        hint = _OF_BOOLEANS if array.dtype.kind == "b" else ""
        raise TypeError(f"{name} must be integers (-1 = not labelled) or class names, got dtype {array.dtype}{hint}")
    cells = array.tolist()
    if hidden is not None:
        cells = [None if is_hidden else cell for cell, is_hidden in zip(cells, hidden.tolist(), strict=True)]
    return meaning.of_cells(cells)


class _Meaning:
    """The meaning of labels, given the number of classes and their names."""

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
        self._bare_positions: dict[str, int] = {}
        self._known: dict[str, int] = {}
        self._cells: Sequence[Any] = ()
        self._clash: tuple[int, str] | None = None  # a class whose name reads as the number of another
        for c, text in enumerate(class_names or ()):
            if (number := _position(text)) is not None and number >= 0 and number != c:
                self._clash = c, text
                break

    def of_numbers(self, array: npt.NDArray[Any], hidden: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.int64]:
        """The classes of integers or floats; −1 for hidden ones."""
        given = array != -1
        if array.dtype.kind == "f":
            given &= array == array
        if hidden is not None:
            given &= ~hidden
        rows = np.flatnonzero(given)  # few of a large pool
        values = array[rows]
        wrong = ~((values >= 0) & (values < np.float64(self._n_positions)))  # which float16 does not hold
        if array.dtype.kind == "f":
            wrong |= values != np.floor(values)
        bad = rows[wrong] if self._clash is None else rows
        if bad.size:
            self._of_value(array[bad[0]], int(bad[0]))  # raises
        if array.dtype.kind == "f":
            rounded = rows[~is_exact(values)]
            if rounded.size:
                self._refuse_rounded(array[rounded[0]], int(rounded[0]))
        if array.dtype.kind == "u" and self._n_classes is None:
            most = np.iinfo(array.dtype).max
            largest = rows[values == most]
            if largest.size and not (values == most - 1).any():
                raise ValueError(
                    f"{self._name} must be of a signed type where -1 means not labelled, got {most} "
                    f"{self._at(int(largest[0]))} in {array.dtype}, which is what -1 becomes there; if it is a class, "
                    "give integers of another type"
                )
        codes = np.full(array.shape, -1, dtype=np.int64)
        codes[rows] = values
        return codes

    def of_cells(self, cells: Sequence[Any]) -> npt.NDArray[np.int64]:
        """The classes of values of any type."""
        codes = np.empty(len(cells), dtype=np.int64)
        self._cells = cells
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
        is_boolean = isinstance(value, (bool, np.bool_))
        if is_boolean or not isinstance(value, numbers.Real):
            raise TypeError(
                f"{self._name} must be integers (-1 = not labelled) or class names, got {type(value).__name__} "
                f"{value!r} {self._at(row)}{_OF_BOOLEANS if is_boolean else ''}"
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
            f"{largest_exact(value.dtype)}"
        )

    def _of_number(self, number: float | Decimal, row: int) -> int:
        """The class at a position, or −1 for no label."""
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
        """The class of a name, or at the position that a text reads as."""
        if not text.strip():
            return -1
        if self._positions is None:
            self._positions = {} if self._names is None else positions_of(self._names, "class_names")
            self._bare_positions = {known.strip(): c for known, c in self._positions.items()}
        position = self._positions.get(same_name(text))
        if position is None and not self._typed:  # spaces around a name in CSV: no two names differ in these alone
            position = self._bare_positions.get(same_name(text.strip()))
        if position is not None:
            other = None if self._typed else _position(text)
            if other is not None and (other != position or self._clash is not None):
                self._refuse_ambiguous(repr(text), row)
            return position
        at = f"got {text!r} {self._at(row)}"
        if not self._typed:
            if why := ambiguity(text):
                raise ValueError(f"{self._name} must be class names or numbers of classes, {at}, {why}")
            text = with_point(text)
        if (number := _number(text)) is not None:
            return self._of_number(number, row)
        if self._names is None:
            expected = f"{self._name} must be integers (-1 = not labelled) where there are no class_names"
            raise (TypeError if self._typed else ValueError)(f"{expected}, {at}; give class_names{self._suggested()}")
        folded = {known.strip().casefold(): known for known in self._names}
        nearest = get_close_matches(text.strip().casefold(), folded, n=1)
        hint = f"; did you mean {folded[nearest[0]]!r}?" if nearest else damage(text)
        raise ValueError(f"{self._name} must be class names, or empty where there is none, {at}{hint}")

    def _suggested(self) -> str:
        """What the names of the classes may be, where labels alone tell."""
        texts = {str(cell).strip() for cell in self._cells if isinstance(cell, str) and cell.strip()}
        if not 2 <= len(texts) <= _SUGGESTED:
            return " in the order of the classes"
        return f" in the order of the classes, such as {sorted(texts)!r:.200}"

    def _refuse_ambiguous(self, given: str, row: int) -> NoReturn:
        assert self._names is not None, "numbers are ambiguous among names"
        c, text = self._clash or next((c, text) for c, text in enumerate(self._names) if _position(text) is not None)
        raise ValueError(
            f"{self._name} must say whether they are names or numbers of classes, got {given} {self._at(row)} "
            f"where class {c} is called {text!r}; give names as an array of strings or a parquet column "
            "of strings, or call the classes something else"
        )


def plain_labels(values: Any, name: str) -> Any:
    """Labels in a form that NumPy does not misread: None for what is masked in a list or null in a pyarrow array."""
    if is_tensor(values):
        check_tensor(name, values)
        if str(values.dtype) == "torch.bfloat16":
            raise TypeError(f"{name} must be integers (-1 = not labelled) or class names, got dtype {values.dtype}")
        return values.detach().cpu()
    pyarrow = sys.modules.get("pyarrow")  # who holds its objects has imported it
    if pyarrow is not None and isinstance(values, (pyarrow.Array, pyarrow.ChunkedArray)):
        # A null in chunks of a dictionary would become its last entry.
        is_plain = values.null_count == 0 and not isinstance(values.type, pyarrow.DictionaryType)
        return values if is_plain else values.to_pylist()
    if isinstance(values, (list, tuple)) and any(isinstance(value, np.ma.MaskedArray) for value in values):
        return [None if np.ndim(value) == 0 and np.ma.is_masked(value) else value for value in values]
    return values


def _number(text: str) -> float | Decimal | None:
    """The exact number that a text reads as; None where it is not one."""
    stripped = text.strip()
    if not _NUMBER.fullmatch(stripped):
        return None
    number, exact = float(stripped), Decimal(stripped)
    return number if number == exact or number != number else exact


def _is_whole(number: float | Decimal) -> bool:
    return number == number.to_integral_value() if isinstance(number, Decimal) else float(number).is_integer()


def _position(text: str) -> float | Decimal | None:
    """The number that a text reads as, where it is a position or, as NaN or −1, "no label"; else None."""
    number = _number(text)
    return number if number is not None and (number != number or _is_whole(number)) else None
