"""Compiles for a card, without one, what a run there will launch, into a cache of Triton's that can be carried there.

A driver that is not there answers for the card: Triton then compiles as it does before a first launch, under the same
keys. Keys hold the source of a kernel and of all that it calls, the kinds of its arguments, its options, and Triton
itself: Python, Triton and the sources must be those of the machine with the card.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from .launches import CAPABILITY, hash_in_order, read

__all__ = ["compile_all", "fake_card", "pack", "unpack", "verify", "warm"]

# Shared memory that a program may have on a card of the recorded capability.
_SHARED_BYTES = 227 << 10


def warm(recorded: Path, *, expect_all: bool = False) -> int:
    """Compiles the recorded launches into ``TRITON_CACHE_DIR`` and prints what there was to do.

    Returns
    -------
    int
        How many failed, and with `expect_all`, how many were not in the cache yet.
    """
    launches = read(recorded)
    parts = [launches[i :: 4 * _processors()] for i in range(4 * _processors())]
    context = get_context("spawn")
    failed: list[str] = []
    n_compiled = n_found = 0
    with ProcessPoolExecutor(_processors(), context) as pool:
        for compiled, found, wrong in pool.map(compile_all, parts):
            n_compiled, n_found, failed = n_compiled + compiled, n_found + found, failed + wrong
    for line in failed:
        print("FAILED", line)
    print(f"{len(launches)} kinds of launches: {n_compiled} kernels compiled, {n_found} found in the cache")
    return len(failed) + (n_compiled if expect_all else 0)


def _processors() -> int:
    return len(os.sched_getaffinity(0))


def compile_all(launches: list[dict[str, Any]]) -> tuple[int, int, list[str]]:
    """Compiles launches as they would be on a card: how many kernels were compiled, found, and what failed."""
    with fake_card() as counts:
        failed = list(filter(None, map(_compile, launches)))
    return counts.compiled, counts.found, failed


def _compile(launch: dict[str, Any]) -> str | None:
    """How it failed, or None."""
    try:
        kernel = getattr(importlib.import_module(launch["module"]), launch["kernel"])
        for arguments in _arguments(launch["arguments"]):
            kernel[(1,)](**arguments, **launch["constants"], **launch["options"])
    except Exception as error:  # the others are compiled
        return f"{launch['kernel']}: {type(error).__name__}: {error}"[:300]
    return None


def _arguments(kinds: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Arguments of these kinds, aligned as recorded, and with all aligned that begin within others."""
    pointers = {name: kind for name, kind in kinds.items() if isinstance(kind, list)}
    recorded = {name: kind[2] for name, kind in pointers.items()}
    aligned = {name: is_aligned or pointers[name][3] for name, is_aligned in recorded.items()}
    for alignment in (recorded, aligned) if aligned != recorded else (recorded,):
        yield {name: _tensor(kind[1], alignment[name]) if name in pointers else kind for name, kind in kinds.items()}


def _tensor(dtype: str, is_aligned: bool) -> Any:
    import torch

    values = torch.empty(64, dtype=getattr(torch, dtype))
    return values if is_aligned else values[1:]


@contextlib.contextmanager
def fake_card() -> Iterator[SimpleNamespace]:
    """Launches compile for a card, into the cache, and do nothing else; before Triton and kernels are imported.

    Yields
    ------
    SimpleNamespace
        `compiled` and `found`: kernels that were compiled and that the cache had.
    """
    os.environ["TRITON_INTERPRET"] = "0"
    import torch
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.backends.driver import DriverBase

    # The package takes the host for its device, as under the interpreter, but kernels are compiled: their modules,
    # which have other code for the interpreter, are imported before it is named.
    triton.knobs.runtime.interpret = False
    hash_in_order()
    os.environ["TRITON_INTERPRET"] = "1"
    triton.knobs.compilation.store_binary_only = True
    with tempfile.TemporaryDirectory() as folder, _launchers(Path(folder)) as launcher:

        class Card(DriverBase):
            utils = SimpleNamespace(
                load_binary=lambda *_: (1, 1, 32, 0, 1024),
                get_device_properties=lambda *_: {"max_shared_mem": _SHARED_BYTES},
            )
            launcher_cls = staticmethod(launcher)

            def __init__(self) -> None:
                self.get_current_device = lambda: 0
                self.get_current_stream = lambda device: 0
                self.get_device_capability = lambda device: CAPABILITY
                self.set_current_device = lambda device: None

            @classmethod
            def is_active(cls) -> bool:
                return True

            def map_python_to_cpp_type(self, ty: str) -> str:
                return ty

            def get_current_target(self) -> GPUTarget:
                return GPUTarget("cuda", 10 * CAPABILITY[0] + CAPABILITY[1], 32)

            def get_active_torch_device(self) -> torch.device:
                return torch.device("cpu")

            def get_benchmarker(self) -> None:
                return None

        counts = SimpleNamespace(compiled=0, found=0)

        def count(**what: Any) -> None:
            if what["cache_hit"]:
                counts.found += 1
            else:
                counts.compiled += 1

        triton.knobs.compilation.listener = count
        drivers = triton.runtime.driver
        drivers.set_active(Card())
        try:
            yield counts
        finally:
            triton.knobs.compilation.listener = None
            drivers._active = None  # reset_active() would ask for a card


@contextlib.contextmanager
def _launchers(folder: Path) -> Iterator[Any]:
    """What makes the function that launches a kernel; the C code of it, where this Triton has such, is compiled too.

    Triton 3.6 compiles that code for each signature, and the code that talks to the driver, with the C compiler; both
    are in the cache under a hash of their source. They are linked with a driver's library, here an empty one by its
    name, and not loaded.
    """
    from triton.backends.nvidia import driver
    from triton.runtime import build

    idle = SimpleNamespace(**dict.fromkeys(_OF_THE_DRIVER), launch=lambda *_: None)

    def launches_nothing(*_: Any, **__: Any) -> None:
        return None

    if not hasattr(driver, "compile_module_from_src"):
        yield lambda source, metadata: launches_nothing
        return
    library = folder / "libcuda.so.1"
    subprocess.run(
        ["gcc", "-shared", "-o", str(library), f"-Wl,-soname,{library.name}", "-x", "c", "/dev/null"], check=True
    )
    loaded, path = build._load_module_from_path, os.environ.get("TRITON_LIBCUDA_PATH")
    build._load_module_from_path = lambda name, path: idle
    os.environ["TRITON_LIBCUDA_PATH"] = str(folder)
    driver.libcuda_dirs.cache_clear()
    driver.library_dirs.cache_clear()
    try:
        driver.CudaUtils()

        def launcher(source: Any, metadata: Any) -> Any:
            driver.CudaLauncher(source, metadata)
            return launches_nothing

        yield launcher
    finally:
        build._load_module_from_path = loaded
        if path is None:
            del os.environ["TRITON_LIBCUDA_PATH"]


_OF_THE_DRIVER = (
    "PyCUtensorMap", "load_binary", "get_device_properties", "cuOccupancyMaxActiveClusters", "set_printf_fifo_size",
    "fill_tma_descriptor",
)  # fmt: skip


def pack(cache: Path, archive: Path) -> None:
    """The cache as a compressed archive."""
    with tarfile.open(archive, "w:xz") as file:
        for path in sorted(cache.rglob("*")):
            if path.is_file():
                file.add(path, path.relative_to(cache))


def unpack(archive: Path, cache: Path) -> None:
    """The archive as a cache in another place: Triton keeps the paths of the files of each kernel in the cache."""
    with tarfile.open(archive) as file:
        file.extractall(cache, filter="data")
    for group in cache.rglob("__grp__*.json"):
        found = json.loads(group.read_text("utf-8"))
        found["child_paths"] = {name: str(group.parent / name) for name in found["child_paths"]}
        group.write_text(json.dumps(found), "utf-8")


def verify(out: Path) -> int:
    """The smoke check's own launches on the card that is not there: how many kernels the cache did not have."""
    with fake_card() as counts:
        for name, module in list(sys.modules.items()):
            if name.startswith("ccma_fast.kernels.") and hasattr(module, "capability"):
                module.capability = lambda device: CAPABILITY
        from .results import Results
        from .smoke import smoke

        with contextlib.redirect_stdout(io.StringIO()):  # of the results, which nothing has computed
            smoke(Results(out / "verify.jsonl", "verify"), out, small=True)
    print(f"{counts.found} kernels of the smoke check found in the cache, {counts.compiled} compiled")
    return counts.compiled
