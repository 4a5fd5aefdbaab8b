"""The file of results: JSON lines that several processes append to one after the other."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

__all__ = ["HANG", "Results", "read"]

HANG = "CCMA_BENCH_HANG"
"""The environment variable in which a part hangs after its first line, and cannot be terminated, only killed."""


class Results:
    """Appends to the file; each line is on its way to the disk before the next is measured."""

    def __init__(self, path: Path, part: str) -> None:
        self._path, self._part = path, part

    def add(self, **line: Any) -> None:
        """One line, in one write."""
        text = json.dumps({"part": self._part, **line}, default=str) + "\n"
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, text.encode())
        finally:
            os.close(file)
        print(text, end="", flush=True)
        if os.environ.get(HANG):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                time.sleep(60.0)


def read(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The lines, and how many could not be read: what died while it wrote leaves half a line."""
    lines, n_broken = [], 0
    for text in path.read_text("utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if isinstance(line, dict):
            lines.append(line)
        else:
            n_broken += bool(text.strip())
    return lines, n_broken


def end_line(path: Path) -> None:
    """Ends a line that was left half, so that the next one stands alone."""
    if path.exists() and (text := path.read_bytes()) and not text.endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")
