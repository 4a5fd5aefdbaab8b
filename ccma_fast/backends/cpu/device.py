"""Instruction set and threads of the CPU backend."""

from __future__ import annotations

from ... import _core

__all__ = ["NAME", "ON_HOST", "arithmetic", "describe"]

NAME = "cpu"
ON_HOST = True


def arithmetic() -> str:
    """The backend with its instruction set."""
    return f"cpu ({_core.simd_level()})"


def describe() -> str:
    """The backend with its instruction set and threads."""
    return f"cpu ({_core.simd_level()}, {_core.num_threads()} threads)"
