"""Exceptions with a meaning of their own. Each is also the built-in that its kind of mistake would raise."""

from __future__ import annotations

__all__ = ["BackendUnavailableError", "FileReadError"]


class BackendUnavailableError(ValueError):
    """A backend that was asked for by name cannot run here; the text says why and what would run."""


class FileReadError(ValueError, OSError):
    """A file is missing, unreadable or not of the format that its name promises."""
