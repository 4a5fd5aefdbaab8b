"""What compiled code does: a form to compare it by, and the names that it looks up."""

from __future__ import annotations

import dis
import importlib.util
import types
from collections.abc import Iterator
from typing import Any

__all__ = ["compiled", "globals_in", "imports_in", "names_in"]


def compiled(code: types.CodeType) -> list[Any]:
    """All of a code object but its place in the file, as plain lists."""
    return [
        code.co_code.hex(),
        [_constant(constant) for constant in code.co_consts],
        [code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars],
        [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags],
        getattr(code, "co_exceptiontable", b"").hex(),  # new in Python 3.11
    ]


def names_in(code: types.CodeType) -> frozenset[str]:
    """Every global, attribute and module that is mentioned."""
    return frozenset(name for inner in _codes(code) for name in inner.co_names)


def globals_in(code: types.CodeType) -> list[str]:
    """Names that are looked up in the module, in order."""
    found = [
        str(step.argval)
        for inner in _codes(code)
        for step in dis.get_instructions(inner)
        if step.opname.startswith("LOAD_") and ("GLOBAL" in step.opname or "NAME" in step.opname)
    ]
    return list(dict.fromkeys(found))


def imports_in(code: types.CodeType, package: str | None) -> list[str]:
    """Modules that are imported inside."""
    found: list[str] = []
    for inner in _codes(code):
        steps = [step for step in dis.get_instructions(inner) if step.opname != "EXTENDED_ARG"]
        for at, step in enumerate(steps):
            if step.opname == "IMPORT_NAME":
                level = next((s.argval for s in reversed(steps[max(0, at - 2) : at]) if isinstance(s.argval, int)), 0)
                found.append(importlib.util.resolve_name("." * level + str(step.argval), package))
    return list(dict.fromkeys(found))


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code object and those of the functions inside."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _constant(constant: Any) -> Any:
    if isinstance(constant, types.CodeType):
        return compiled(constant)
    if isinstance(constant, tuple):
        return ["tuple", *map(_constant, constant)]
    if isinstance(constant, frozenset):
        return ["frozenset", *sorted(map(repr, constant))]
    return [type(constant).__name__, repr(constant)]
