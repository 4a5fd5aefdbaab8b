"""Objects as bytes: a pickle, with the memory of large arrays beside it and not copied."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

__all__ = ["packed", "unpacked"]

# Smaller buffers are copied into the pickle: a transfer of their own would cost more.
SMALLEST_BUFFER = 1 << 20


def packed(value: object) -> list[memoryview]:
    """The pickle of an object, and after it the memory of its large buffers, as flat views."""
    buffers: list[memoryview] = []

    def inside(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < SMALLEST_BUFFER:
            return True
        buffers.append(view)
        return False

    stream = pickle.dumps(value, protocol=5, buffer_callback=inside)
    return [memoryview(stream), *buffers]


def unpacked(pieces: Sequence[Any]) -> Any:
    """The object of what :func:`packed` gave; its large arrays lie in the memory of ``pieces[1:]``."""
    return pickle.loads(pieces[0], buffers=pieces[1:])
