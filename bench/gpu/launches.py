"""What a run in Triton's interpreter would compile on a card: the launches, each kind once, as JSON lines.

Two launches are of one kind where Triton compiles them to one kernel: by the types of the arguments, whether pointers
are aligned to 16 bytes and numbers are 1 or multiples of 16, and by the constants and options.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import runpy
from pathlib import Path
from typing import Any

__all__ = ["CAPABILITY", "LAUNCHES", "hash_in_order", "prepare", "read", "record"]

LAUNCHES = "CCMA_BENCH_LAUNCHES"
"""The environment variable with the file to append launches to."""

CAPABILITY = (9, 0)
"""Whose choices of tiles and stages are recorded."""


def prepare() -> None:
    """Makes the interpreter ready, and records its launches; before kernels are imported."""
    if os.environ.get("TRITON_INTERPRET") != "1":
        hash_in_order()
        return
    runpy.run_path(str(Path(__file__).resolve().parents[2] / "tests" / "interpreter.py"))["prepare"]()
    record()


def hash_in_order() -> None:
    """Imports all kernels and has Triton hash them in one order.

    Functions that call each other in a circle are hashed as far as the first of them has come: the key of a kernel in
    the cache depends on those that were hashed before it in the process, and so on the order of the launches.
    """
    kernels = importlib.import_module("ccma_fast.kernels")
    for module in sorted(module.name for module in pkgutil.iter_modules(kernels.__path__)):
        for value in vars(importlib.import_module(f"{kernels.__name__}.{module}")).values():
            getattr(value, "cache_key", None)


def record() -> None:
    """Records what is interpreted where `LAUNCHES` says so; before kernels are imported."""
    if LAUNCHES not in os.environ or os.environ.get("TRITON_INTERPRET") != "1":
        return
    path = Path(os.environ[LAUNCHES])
    from ccma_fast.kernels import _configs
    from triton.runtime import interpreter

    _configs.capability = lambda device: CAPABILITY
    seen: set[str] = set()
    launched = interpreter.GridExecutor.__call__

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = dict(zip(self.arg_names, args, strict=False))
        options = {name: value for name, value in kwargs.items() if name not in self.arg_names}
        given |= {name: value for name, value in kwargs.items() if name in self.arg_names}
        constants = {name: value for name, value in given.items() if name in self.constexprs}
        arguments = {name: _kind(value) for name, value in given.items() if name not in self.constexprs}
        launch = {"module": self.fn.__module__, "kernel": self.fn.__name__, "arguments": arguments}
        line = json.dumps(launch | {"constants": constants, "options": options}, sort_keys=True)
        if line not in seen:
            seen.add(line)
            with path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        return launched(self, *args, **kwargs)

    interpreter.GridExecutor.__call__ = call


def _kind(value: Any) -> Any:
    if hasattr(value, "data_ptr"):
        # Where a part of a tensor begins is a matter of its size: on a card it may be aligned or not.
        is_part = value.storage_offset() > 0
        return ["pointer", str(value.dtype).removeprefix("torch."), value.data_ptr() % 16 == 0, is_part]
    if isinstance(value, int) and not isinstance(value, bool):
        # A number of the same kind: 1, a multiple of 16 or neither, of 32 bits or 64.
        small = 1 if value == 1 else 16 if value % 16 == 0 else 2
        return small if -(2**31) <= value < 2**31 else 2**32 + small
    return value


def read(path: Path) -> list[dict[str, Any]]:
    """The launches of a file, which several processes may have written, each once."""
    lines = dict.fromkeys(path.read_text("utf-8").splitlines())
    return [json.loads(line) for line in lines]
