"""The strategies that a simulation compares, with their options, as the user names them."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..checks import check_choice, integer_in, number_in
from ..config import CCMAConfig
from ..steps.linear_head import CONSTANTS
from ..strategies.registry import find, names
from .study import Contender

__all__ = ["contenders_of"]

# Fields of a configuration that say what the default student is.
_OF_STUDENT = ("head", *CONSTANTS)

# Those that nothing but one of the heads has a use for; strategies with dropout use its share under any head.
_OF_PUBLISHED = tuple(name for name in CONSTANTS if name != "dropout")


def contenders_of(strategies: Any, start: str, base: CCMAConfig, *, has_student: bool) -> tuple[Contender, ...]:
    """The contenders that `strategies` of :func:`ccma_fast.simulate` stands for, in their order.

    Parameters
    ----------
    strategies : str, callable, sequence or mapping
    start : str
        Name of the strategy for the first labels, where an entry has no other.
    base : CCMAConfig
        What the options of an entry change.
    has_student : bool
        A student was given, so that the head and its constants are no options.

    Raises
    ------
    ValueError
        No entry, a label twice, a label that cannot be printed, or an unknown strategy or option.
    TypeError
        An entry that is neither a name nor callable.
    """
    if isinstance(strategies, str) or callable(strategies):
        strategies = (strategies,)
    if isinstance(strategies, Mapping):
        given = list(strategies.items())
    elif isinstance(strategies, Sequence):
        given = [(s if isinstance(s, str) else getattr(s, "__name__", type(s).__name__), s) for s in strategies]
    else:
        raise TypeError(f"strategies must be a sequence or a mapping, got {type(strategies).__name__}")
    if not given:
        raise ValueError("strategies must name at least one strategy, got none")
    contenders: list[Contender] = []
    for label, what in given:
        if not isinstance(label, str):
            raise TypeError(f"a strategy's label must be a string, got {type(label).__name__}")
        if not label or not label.isprintable():
            raise ValueError(f"a strategy's label must be printable and not empty, got {label!r}")
        if any(label == known.label for known in contenders):
            raise ValueError(f"strategies must have distinct labels, got {label!r} twice; a mapping gives labels")
        if isinstance(what, str):
            contenders.append(_parsed(label, what, start, base, has_student=has_student))
        elif callable(what):
            contenders.append(Contender(label, what, start, base, find(start)))
        else:
            raise TypeError(f"a strategy must be a name or callable with a Round, got {type(what).__name__}")
    return tuple(contenders)


def _parsed(label: str, text: str, start: str, base: CCMAConfig, *, has_student: bool) -> Contender:
    """A contender from ``name`` or ``name:option,option``."""
    name, colon, options = text.partition(":")
    strategy, changes = find(name), {}
    hints = get_type_hints(CCMAConfig)
    for option in options.split(",") if colon else ():
        key, equals, value = option.partition("=")
        if option == "paper":
            base = CCMAConfig.paper()
        elif key == "start" and equals:
            check_choice(f"start of strategy {text!r}", value, names(needs_labels=False))
            start = value
        elif key == "temperature" or key not in hints or not equals:
            expected = ", ".join(f"{known}=" for known in ("start", *hints) if known != "temperature")
            raise ValueError(f"strategy {text!r} must have options among paper, {expected}, got {option!r}")
        elif has_student and key in _OF_STUDENT:
            raise ValueError(f"strategy {text!r}: {key} is a constant of the default student, but a student was given")
        else:
            changes[key] = _value(f"{key} of strategy {text!r}", value, hints[key])
    config = replace(base, **changes)
    for key in changes:
        if key in _OF_PUBLISHED and config.head != "published":
            raise ValueError(
                f"strategy {text!r}: {key} is a constant of the published head, expected head=published beside it, got "
                f"head={config.head}"
            )
    return Contender(label, strategy, start, config, find(start))


# How numbers of a configuration are parsed, and what error messages call their types.
_NUMBERS: dict[Any, tuple[Callable[[str], Any], str]] = {
    int: (integer_in, "an integer"),
    float: (number_in, "a number"),
}


def _value(name: str, text: str, hint: Any) -> Any:
    """A text as the type of a configuration's field."""
    kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    expected: list[str] = []
    for kind in kinds:
        if get_origin(kind) is Literal:
            words: dict[str, Any] = {word: word for word in get_args(kind)}
        elif kind is bool:
            words = {"true": True, "false": False}
        elif kind is type(None):
            words = {"none": None}
        else:
            parse, what = _NUMBERS[kind]
            if (number := parse(text)) is not None:
                return number
            expected.append(what)
            continue
        if text in words:
            return words[text]
        expected += map(repr, words)
    raise ValueError(f"{name} must be {' or '.join(expected)}, got {text!r}")
