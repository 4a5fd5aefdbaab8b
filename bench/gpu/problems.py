"""What is measured on, and how: sizes, random data, times and what the profiler saw."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from ccma_fast.backends.cuda.device import INTERPRETED, device

__all__ = ["CLASSES", "COLUMNS", "Sizes", "kernel_times", "random_logits", "random_rows", "seconds", "sizes"]

COLUMNS = (768, 1024)
"""Columns of the student's features and of the teacher's."""

CLASSES = 1000

# Bytes of a card's memory that the full sizes take, with what PyTorch takes beside.
_BYTES = 36 << 30


class Sizes(NamedTuple):
    """How large the problems are; their numbers of columns and classes, which kernels are compiled for, are fixed."""

    logits: int
    """Logits of one model."""
    rows: int
    clusters: int
    budget: int
    streamed: int
    product: int
    labelled: int
    """Rows that a head is trained on."""
    epochs: int
    candidates: int
    copied: int
    """Bytes of a copy."""


_LARGE = Sizes(10**9, 10**6, 10_000, 1000, 2 * 10**6, 8192, 20_000, 32, 20_000, 4 << 30)
_SMALL = Sizes(40_000, 140, 20, 5, 140, 64, 90, 3, 70, 1 << 16)


def sizes(*, small: bool) -> Sizes:
    """The sizes for this card: all counts of rows smaller where its memory is."""
    if small:
        return _SMALL
    share = min(1.0, torch.cuda.mem_get_info()[0] / _BYTES)
    scaled = {name: int(share * getattr(_LARGE, name)) for name in ("logits", "rows", "streamed", "copied")}
    return _LARGE._replace(**scaled)


def seconds(run: Callable[..., Any], *args: Any, rounds: int = 7) -> float:
    """The median of `rounds` runs after two to warm up, by device events; in the interpreter one run, by the clock."""
    if INTERPRETED:
        start = time.perf_counter()
        run(*args)
        return time.perf_counter() - start
    for _ in range(2):
        run(*args)
    times = []
    for _ in range(rounds):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run(*args)
        end.record()
        end.synchronize()
        times.append(1e-3 * begin.elapsed_time(end))
    return statistics.median(times)


def kernel_times(run: Callable[..., Any], *args: Any, most: int = 14) -> list[dict[str, Any]]:
    """What one run launches on the device, the longest first, with launches and ms; none in the interpreter."""
    if INTERPRETED:
        return []
    run(*args)
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        run(*args)
        torch.cuda.synchronize()
    return launched(profile.key_averages())[:most]


def launched(events: Any) -> list[dict[str, Any]]:
    """The kernels and copies among the events of a profile, joined by their names."""
    found = [event for event in events if event.device_type != torch.autograd.DeviceType.CPU]
    found.sort(key=lambda event: -event.self_device_time_total)
    return [
        {"kernel": event.key[:90], "launches": event.count, "ms": 1e-3 * event.self_device_time_total}
        for event in found
    ]


def random_logits(n_rows: int, n_classes: int, dtype: torch.dtype, seed: int) -> torch.Tensor:
    on = device()
    generator = torch.Generator(on).manual_seed(seed)
    logits = torch.empty((n_rows, n_classes), dtype=dtype, device=on)
    for part in logits.split(1 << 16):
        part.copy_(2.0 * torch.randn(part.shape, generator=generator, device=on))
    return logits


def random_rows(
    n_rows: int,
    n_columns: int,
    seed: int,
    dtype: torch.dtype = torch.bfloat16,
    *,
    around: torch.Tensor | None = None,
    spread: float = 1.0,
) -> torch.Tensor:
    """Unit rows whose spectrum falls as that of vision models does; row i around centre i modulo their number."""
    on = device()
    generator = torch.Generator(on).manual_seed(seed)
    spectrum = torch.arange(1, n_columns + 1, device=on) ** -0.5
    spectrum = spread * spectrum / spectrum.norm()
    rows = torch.empty((n_rows, n_columns), dtype=dtype, device=on)
    for start in range(0, n_rows, 1 << 16):
        part = rows[start : start + (1 << 16)]
        drawn = torch.randn(part.shape, generator=generator, device=on) * spectrum
        if around is not None:
            drawn += around[torch.arange(start, start + len(part), device=on) % len(around)]
        part.copy_(drawn / drawn.norm(dim=1, keepdim=True))
    return rows
