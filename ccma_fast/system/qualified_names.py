"""Qualified names of functions and classes, module included."""

from __future__ import annotations

from typing import Any

__all__ = ["module_of", "qualified_name"]


def module_of(thing: Any) -> str:
    """The module of a function or class; a script is ``__main__`` also in the processes that it starts."""
    module = getattr(thing, "__module__", None)
    return "__main__" if module == "__mp_main__" else str(module)


def qualified_name(thing: Any) -> str:
    """Module and name of a function or class, or of the class of an object."""
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{module_of(named)}.{named.__qualname__}"
