"""Checks of arguments; each message says what came and what was expected.

A check returns a built-in Python value, whatever scalar came, and callers keep that one: NumPy's scalars cannot be
written as JSON, and small ones overflow.
"""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np

__all__ = [
    "LEAST_LENGTH",
    "check_choice",
    "check_flag",
    "check_fraction",
    "check_integer",
    "check_number",
    "check_same_rows",
    "check_threshold",
    "check_words",
    "integer_in",
    "number_in",
    "raise_not_finite",
    "raise_zero_length",
    "random_generator",
]

# Below float32's smallest normal number a direction cannot be held in float32.
LEAST_LENGTH = float(np.finfo(np.float32).tiny)

# Counts and positions are kept in int64.
_MOST = int(np.iinfo(np.int64).max)

# Numbers as a person writes them; int() and float() also take "1_000" and digits of every script.
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf|nan", re.ASCII | re.IGNORECASE)

# Integers of more bits are not printed in error messages.
_SHOWN_BITS = 256


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
    """`value` for an error message: Python refuses to print integers of more than some thousand digits."""
    parts = (value.numerator, value.denominator) if isinstance(value, numbers.Rational) else ()
    bits = max((int(part).bit_length() for part in parts), default=0)
    return str(value) if bits <= _SHOWN_BITS else f"a number of {bits} bits"


def integer_in(text: str) -> int | None:
    """`text` as an integer in decimal digits; None where it is not one."""
    try:
        return int(text) if _INTEGER.fullmatch(text) else None
    except ValueError:  # of more digits than Python takes
        return None


def number_in(text: str) -> float | None:
    """`text` as a number in decimal digits, "inf" or "nan"; None where it is not one."""
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
    """`value`, which must be one of `choices`."""
    expected = tuple(choices)
    if value not in expected:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, expected))}, got {value!r}")
    return expected[expected.index(value)]


def check_words(name: str, value: Any) -> str:
    """`value` as text that UTF-8 can hold."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be text, got {type(value).__name__} {value!r:.80}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} must be text in UTF-8, got {value!r:.80}") from None
    return value


def check_same_rows(name: str, n_rows: int, other: str, n_other: int) -> None:
    """Two inputs have the same number of rows."""
    if n_rows != n_other:
        raise ValueError(f"{name} has {n_rows} rows but {other} has {n_other}; both must describe the same rows")


def random_generator(random_state: Any) -> np.random.Generator:
    """A generator from a seed, a SeedSequence, a Generator (drawn from) or None (fresh entropy)."""
    if isinstance(random_state, np.random.Generator):
        return random_state
    if random_state is None or isinstance(random_state, np.random.SeedSequence):
        return np.random.default_rng(random_state)
    return np.random.default_rng(check_integer("random_state", random_state, minimum=0, maximum=math.inf))


def raise_not_finite(name: str, row: int) -> NoReturn:
    """Raise what every backend raises for NaN or infinity in an input."""
    raise ValueError(f"{name} must be finite, got NaN or infinity at row {row}")


def raise_zero_length(name: str, row: int) -> NoReturn:
    """Raise what every backend raises for a vector without a direction."""
    raise ValueError(
        f"{name} must have a direction (coverage uses L2-normalised rows), got a zero-length vector at row {row}"
    )
