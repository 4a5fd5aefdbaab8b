"""How a rank executes what the first one sends."""

from __future__ import annotations

from typing import Any

from . import operations
from .holder import Holder
from .shipping import loaded

__all__ = ["executed"]


def executed(holder: Holder, content: bytes) -> Any:
    """What a command, as :class:`~.session.Session` writes it, returns on this rank."""
    forgotten, numbers, command = loaded(content, holder.resolve)
    for handle in forgotten:
        holder.kept.pop(handle, None)
    holder.numbers.update(loaded(numbers, holder.resolve))
    operation, arguments = loaded(command, holder.resolve)
    return getattr(operations, operation)(holder, *arguments)
