"""The import of PyTorch, which takes seconds and memory, and is needed by some queries alone."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module

from ..backends.protocol import Backend
from ..system.memory import resident
from .cost_inputs import CostInputs, ImportCost
from .plan import IMPORT
from .stage_clock import StageClock

__all__ = ["import_torch", "is_missing", "planned_import"]

# Run in another process, so that this one stays as it is; with its path, so that both find the same package.
_SCRIPT = """
import json, os, sys, time
sys.path[:] = json.loads(sys.argv[1])
import numpy
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
before, start = resident(), time.perf_counter()
import torch
print(time.perf_counter() - start, resident() - before)
"""

# Longer than an import takes from a slow disk.
_MOST_SECONDS = 120


def is_missing() -> bool:
    """Whether PyTorch is still to be imported by this process."""
    return "torch" not in sys.modules


def import_torch(given: CostInputs, backend: Backend, clock: StageClock) -> ImportCost | None:
    """Import PyTorch where a query needs it, as a stage of its own; None where there was nothing to import."""
    if not (is_missing() and _needs_torch(given, backend)):
        return None
    before = resident()
    with clock.stage(IMPORT):
        import_module("torch")
    return ImportCost(None, max(0, resident() - before))


def planned_import(given: CostInputs, backend: Backend) -> ImportCost | None:
    """What the import will take, tried in another process; None where it is not needed, or cannot be tried."""
    if not (sys.executable and _needs_torch(given, backend)):
        return None
    command = [sys.executable, "-c", _SCRIPT, json.dumps(sys.path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_MOST_SECONDS, check=True)
        seconds, n_bytes = done.stdout.split()
        return ImportCost(float(seconds), int(n_bytes))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def _needs_torch(given: CostInputs, backend: Backend) -> bool:
    """Whether a query uses PyTorch: where the published head is trained, and on a GPU."""
    return not backend.ON_HOST or (given.head == "published" and given.budget > 0)
