"""Types of arguments: each turns text into a value, or says what was expected."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError
from datetime import timedelta

from ..checks import check_fraction, integer_in, number_in
from ..config import PAPER_DATASETS, CCMAConfig
from ..system.memory import check_memory_limit

__all__ = [
    "above_0",
    "at_least_0",
    "at_least_1",
    "config",
    "distance",
    "duration",
    "event_numbers",
    "fraction",
    "memory_limit",
    "percentage",
    "rows_or_all",
]


# Seconds of a unit of time.
_UNITS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def at_least_0(text: str) -> int:
    return _integer(text, 0)


def at_least_1(text: str) -> int:
    return _integer(text, 1)


def rows_or_all(text: str) -> int | str:
    return text if text == "all" else _integer(text, 1)


def above_0(text: str) -> float:
    value = number_in(text)
    if value is None:
        raise ArgumentTypeError(f"must be a number, got {text!r:.80}")
    if not 0.0 < value < math.inf:
        raise ArgumentTypeError(f"must be finite and greater than 0, got {text}")
    return value


def fraction(text: str) -> float:
    """A share inside (0, 1)."""
    try:
        return check_fraction("it", above_0(text))
    except ValueError as error:
        raise ArgumentTypeError(str(error).removeprefix("it ")) from None


def distance(text: str) -> float:
    """A distance of unit rows."""
    value = above_0(text)
    if value > 2:
        raise ArgumentTypeError(f"must be at most 2, got {text}")
    return value


def percentage(text: str) -> float:
    """A share from 0 to 1."""
    value = above_0(text)
    if value > 100:
        raise ArgumentTypeError(f"must be at most 100, got {text}")
    return value / 100


def duration(text: str) -> timedelta:
    """A number of minutes, hours, days or weeks."""
    unit = _UNITS.get(text[-1:])
    number = number_in(text[:-1]) if unit else None
    if number is None or unit is None:
        raise ArgumentTypeError(
            f"must be a number of minutes, hours, days or weeks such as 7d or 36h, got {text!r:.80}"
        )
    if not 0.0 < number * unit < 1e10:
        raise ArgumentTypeError(f"must be longer than nothing and at most 300 years, got {text}")
    return timedelta(seconds=number * unit)


# More than a campaign has: each of a range is held in memory.
_MOST_EVENTS = 10_000_000


def event_numbers(text: str) -> range:
    """Numbers of events: one, or the first and the last of several, as in 20-35."""
    first, dash, last = text.partition("-")
    numbers = _integer(first, 1), _integer(last if dash else first, 1)
    if numbers[1] < numbers[0]:
        raise ArgumentTypeError(f"must be the first and the last of some events, got {text!r:.80}")
    if numbers[1] - numbers[0] >= _MOST_EVENTS:
        raise ArgumentTypeError(f"must be at most {_MOST_EVENTS} events, got {text!r:.80}")
    return range(numbers[0], numbers[1] + 1)


def memory_limit(text: str) -> int:
    """Bytes."""
    try:
        number = integer_in(text)
        return check_memory_limit(text if number is None else number).limit
    except ValueError as error:
        raise ArgumentTypeError(str(error).removeprefix("memory_limit ")) from None


def config(text: str) -> CCMAConfig:
    if text == "default":
        return CCMAConfig()
    name, colon, dataset = text.partition(":")
    if name != "paper" or (colon and dataset not in PAPER_DATASETS):
        expected = ", ".join(["default", "paper", *(f"paper:{known}" for known in PAPER_DATASETS)])
        raise ArgumentTypeError(f"must be one of {expected}, got {text!r}")
    return CCMAConfig.paper(dataset or None)


def _integer(text: str, minimum: int) -> int:
    value = integer_in(text)
    if value is None:
        raise ArgumentTypeError(f"must be an integer, got {text!r:.80}")
    if value < minimum:
        raise ArgumentTypeError(f"must be at least {minimum}, got {value}")
    return value
