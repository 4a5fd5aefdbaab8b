"""Every check of an argument, and its message: what came, and what was expected.

What a check returns is Python's own value, whatever scalar came: NumPy's are no JSON, and small ones overflow. Callers
keep that one.
"""

from __future__ import annotations

import math
import numbers
import re
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

from ._in_use import loaded, reading
from ._machine import machine_memory
from ._memory import LEAST_LIMIT, Memory

if TYPE_CHECKING:
    from .pool import Rows

__all__ = [
    "LEAST_LENGTH",
    "as_array",
    "check_choice",
    "check_flag",
    "check_fraction",
    "check_integer",
    "check_lengths",
    "check_memory_limit",
    "check_number",
    "check_rows",
    "check_same_rows",
    "check_tensor",
    "check_threshold",
    "check_unmasked",
    "check_weights",
    "integer_in",
    "number_in",
    "raise_not_finite",
    "raise_zero_length",
    "random_generator",
    "read_only",
    "uncoerced",
]


# A row shorter than float32's smallest normal number has no direction that float32 could hold.
LEAST_LENGTH = float(np.finfo(np.float32).tiny)

# Counts and positions are kept in int64.
_MOST = int(np.iinfo(np.int64).max)

# Numbers as a person writes them; int() and float() also take "1_000" and digits of every script.
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf|nan", re.ASCII | re.IGNORECASE)

# An error message shows numbers of no more bits.
_SHOWN_BITS = 256

_UNITS = {
    "B": 1,
    **{prefix + "B": 1000 ** (i + 1) for i, prefix in enumerate("KMGT")},
    **{prefix + "IB": 1024 ** (i + 1) for i, prefix in enumerate("KMGT")},
}


def as_array(name: str, values: Any) -> npt.NDArray[Any]:
    """`values` as an array, where nothing is hidden by a mask.

    A masked entry is a missing value, and what lies under the mask is not the user's. Labels alone may be missing, see
    :func:`ccma_fast.readers.labels.read_labels`.
    """
    check_unmasked(name, values)
    torch = sys.modules.get("torch")  # whoever holds a tensor has imported it
    if torch is not None and isinstance(values, torch.Tensor):
        check_tensor(name, values)
        values = values.detach().cpu()
    with reading():
        return loaded(np.asarray(values), name)


def read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """`array` as one that nobody can write to, nor make writable: of a buffer that can only be read."""
    return np.asarray(array.data.toreadonly())


def uncoerced(values: Any) -> Any:
    """`values`, where they are a list with text or booleans in it as an array of objects.

    NumPy would turn numbers among text into text, and booleans among numbers into numbers.
    """
    if not isinstance(values, (list, tuple)):
        return values
    if not any(isinstance(value, (str, bytes, bool, np.bool_)) for value in values):
        return values
    objects = np.empty(len(values), dtype=object)
    objects[:] = values
    return objects


def check_tensor(name: str, tensor: Any) -> None:
    """A tensor is dense and holds all its values."""
    import torch

    if tensor.layout != torch.strided:
        raise TypeError(f"{name} must be a dense tensor, got layout {tensor.layout}")
    if tensor.is_nested or tensor.is_meta or isinstance(tensor, torch.masked.MaskedTensor):
        kind = "nested" if tensor.is_nested else "meta" if tensor.is_meta else "masked"
        raise TypeError(f"{name} must be a tensor that holds all its values, got a {kind} one")


def check_unmasked(name: str, values: Any) -> None:
    """No entry of `values`, an array or a sequence of arrays, is masked, nor null where they are of pyarrow."""
    rows = enumerate(values) if isinstance(values, (list, tuple)) else ()
    hidden = [row for row, entry in rows if isinstance(entry, np.ma.MaskedArray) and np.ma.getmaskarray(entry).any()]
    if isinstance(values, np.ma.MaskedArray):
        hidden = np.argwhere(np.atleast_1d(np.ma.getmaskarray(values)))[:, 0].tolist()
    pyarrow = sys.modules.get("pyarrow")
    if pyarrow is not None and isinstance(values, (pyarrow.Array, pyarrow.ChunkedArray)):
        hidden = np.flatnonzero(values.is_null()).tolist()
    if hidden:
        raise ValueError(
            f"{name} must have no masked entries, got {len(hidden)}, the first at row {hidden[0]}; "
            "fill them or leave the rows out"
        )


def check_integer(name: str, value: Any, *, minimum: int, maximum: float = _MOST) -> int:
    """`value` as an int from `minimum` to `maximum`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__} {value!r}")
    number = int(value)
    if number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {_shown(number)}")
    if number > maximum:
        raise ValueError(f"{name} must be at most {maximum}, got {_shown(number)}")
    return number


def check_number(name: str, value: Any, *, minimum: float = -math.inf, above: float = -math.inf) -> float:
    """`value` as a finite float, at least `minimum` and greater than `above`."""
    number = _real(name, value, "a number")
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {value}")
    if number <= above:
        raise ValueError(f"{name} must be greater than {above:g}, got {value}")
    if number < minimum:
        raise ValueError(f"{name} must be at least {minimum:g}, got {value}")
    return number


def _real(name: str, value: Any, expected: str) -> float:
    """`value` as a float."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be {expected}, got {type(value).__name__} {value!r}")
    try:
        return float(value)
    except OverflowError:
        most = np.finfo(np.float64).max
        raise ValueError(f"{name} must be {expected} of at most {most:g} (float64), got {_shown(value)}") from None


def _shown(value: Any) -> str:
    """`value` in an error message; Python writes down no integer of more than some thousand digits."""
    parts = (value.numerator, value.denominator) if isinstance(value, numbers.Rational) else ()
    bits = max((int(part).bit_length() for part in parts), default=0)
    return str(value) if bits <= _SHOWN_BITS else f"a number of {bits} bits"


def integer_in(text: str) -> int | None:
    """The integer that `text` is, in decimal digits; None where it is none."""
    try:
        return int(text) if _INTEGER.fullmatch(text) else None
    except ValueError:  # of more digits than Python takes
        return None


def number_in(text: str) -> float | None:
    """The number that `text` is, in decimal digits, "inf" or "nan"; None where it is none."""
    return float(text) if _NUMBER.fullmatch(text) else None


def check_flag(name: str, value: Any) -> bool:
    """`value` as a bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be true or false, got {type(value).__name__} {value!r}")
    return bool(value)


def check_fraction(name: str, value: Any) -> float:
    """`value` as a float inside the open interval (0, 1)."""
    number = _real(name, value, "a number")
    if not 0.0 < number < 1.0:
        raise ValueError(f"{name} must lie inside (0, 1), got {value}")
    return number


def check_threshold(name: str, value: Any) -> float:
    """A threshold q in units of −ln p: any float but NaN."""
    number = _real(name, value, "a number (a threshold in units of -ln p)")
    if math.isnan(number):
        raise ValueError(f"{name} must be a number (a threshold in units of -ln p), got nan")
    return number


def check_choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """The one of `choices` that `value` is."""
    expected = tuple(choices)
    if value not in expected:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, expected))}, got {value!r}")
    return expected[expected.index(value)]


def check_same_rows(name: str, n_rows: int, other: str, n_other: int) -> None:
    """Two inputs describe the same rows."""
    if n_rows != n_other:
        raise ValueError(f"{name} has {n_rows} rows but {other} has {n_other}; both must describe the same rows")


def check_memory_limit(value: Any, jobs: int = 1) -> Memory:
    """A limit in bytes, or text such as "4GB" (10⁹) or "4GiB" (2³⁰), of which each of some jobs has its share.

    None is a quarter of the memory that this process may use, and at most half of what is left of it: the process and
    what `Memory` does not bound need the rest.
    """
    least = jobs * LEAST_LIMIT
    if value is None:
        machine = machine_memory()
        value = max(least, min(machine.whole // 4, machine.left // 2))
    if isinstance(value, str):
        found = re.fullmatch(r"\s*(\d{1,18}(?:\.\d+)?)\s*([A-Z]+)\s*", value.upper(), re.ASCII)
        if found is None or found[2] not in _UNITS:
            raise ValueError(f"memory_limit must be bytes or text such as '4GB' or '500MiB', got {value!r:.80}")
        value = int(float(found[1]) * _UNITS[found[2]])
    limit = check_integer("memory_limit", value, minimum=LEAST_LIMIT)
    if limit < least:
        raise ValueError(f"memory_limit must be at least {least} for {jobs} jobs, {LEAST_LIMIT} each, got {limit}")
    return Memory(limit // jobs)


def check_weights(weights: Any, n_rows: int) -> npt.NDArray[np.float32]:
    """Non-negative finite weights as float32; unit weights for None, and where every weight is zero."""
    if weights is None:
        return np.ones(n_rows, dtype=np.float32)
    array = as_array("weights", weights)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"weights must be real numbers, got dtype {array.dtype}")
    if array.shape != (n_rows,):
        raise ValueError(f"weights must have shape ({n_rows},), got {array.shape}")
    bad = np.flatnonzero(~np.isfinite(array) | (array < 0))
    if bad.size:
        raise ValueError(f"weights must be finite and not negative, got {array[bad[0]]} at row {bad[0]}")
    most = np.finfo(np.float32).max
    bad = np.flatnonzero(array > most)
    if bad.size:
        raise ValueError(f"weights must be at most {most:g} (float32), got {array[bad[0]]} at row {bad[0]}")
    array = array.astype(np.float32)
    return array if array.any() else np.ones(n_rows, dtype=np.float32)


def check_rows(
    rows: Rows,
    row_lengths: Callable[[npt.NDArray[Any]], npt.NDArray[np.float64]],
    *,
    directions: bool = False,
    chunk_size: int | None = None,
) -> None:
    """Every row is finite and, where `directions` are needed, long enough to have one."""
    for start, chunk in rows.chunks(chunk_size):
        check_lengths(rows, start, row_lengths(chunk), directions=directions)
        del chunk  # before the next is read


def check_lengths(rows: Rows, start: int, lengths: npt.NDArray[np.float64], *, directions: bool) -> None:
    """What :func:`check_rows` checks, given the lengths of the rows from `start` on."""
    bad = np.flatnonzero(~np.isfinite(lengths))
    if bad.size:
        raise_not_finite(rows.name, rows.row_number(start + int(bad[0])))
    short = np.flatnonzero(lengths < LEAST_LENGTH)
    if directions and short.size:
        raise_zero_length(rows.name, rows.row_number(start + int(short[0])))


def random_generator(random_state: Any) -> np.random.Generator:
    """A generator from a seed, a SeedSequence, a Generator (drawn from) or None (fresh entropy)."""
    if isinstance(random_state, np.random.Generator):
        return random_state
    if random_state is None or isinstance(random_state, np.random.SeedSequence):
        return np.random.default_rng(random_state)
    return np.random.default_rng(check_integer("random_state", random_state, minimum=0, maximum=math.inf))


def raise_not_finite(name: str, row: int) -> NoReturn:
    """The error of every backend for NaN or infinity in an input."""
    raise ValueError(f"{name} must be finite, got NaN or infinity at row {row}")


def raise_zero_length(name: str, row: int) -> NoReturn:
    """The error of every backend for a vector that has no direction."""
    raise ValueError(
        f"{name} must have a direction (coverage uses L2-normalised rows), got a zero-length vector at row {row}"
    )
