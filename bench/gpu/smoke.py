"""Every kernel once, against float64: the product that all else falls back on first."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import triton
from ccma_fast.kernels import kmeans_assign, kmeans_update

import ccma_fast as cf
from ccma_fast import reference
from ccma_fast.backends import cuda
from ccma_fast.backends.choose import choose_backend
from ccma_fast.backends.cuda.device import INTERPRETED, device
from ccma_fast.backends.unit_rows import Kernel
from ccma_fast.pool.derived import LinearRows
from ccma_fast.pool.open import open_rows
from ccma_fast.steps.coverage import unit_rows
from ccma_fast.steps.greedy import greedy_coverage

from ..matrix_units import probe
from .problems import random_logits, random_rows
from .results import Results

__all__ = ["machine", "sanitized", "smoke"]

TYPES = (torch.float32, torch.bfloat16, torch.float16)

# What was found and what was expected, and the error that is allowed, as a share of the largest that was expected.
Found = tuple[Any, Any, float]
Check = Callable[[], Found]


def smoke(results: Results, out: Path, *, small: bool) -> int:
    """A line for each kernel: its error, or how it failed. What fails does not stop the rest, but a dead context does.

    Returns
    -------
    int
        How many were wrong, failed or did not run.
    """
    results.add(what="machine", **machine())
    n_wrong, is_alive = _run(results, _checks(TYPES, (70, 768), (1000, 100, 10, 257, 37, 5000)))
    if INTERPRETED or not is_alive:
        return n_wrong
    for line in probe(device()):
        results.add(**line, status="ok" if line["share of bound"] <= 1.0 else "the bound is broken")
        n_wrong += line["share of bound"] > 1.0
    return n_wrong


def sanitized(results: Results, out: Path, *, small: bool) -> int:
    """Fewer of them, for a tool that slows each down a hundredfold: sizes that end within tiles."""
    n_wrong, _ = _run(results, _checks(TYPES[:2], (70,), (37, 257, 1000, 5000)))
    return n_wrong


def _run(results: Results, checks: Iterator[tuple[str, Check]]) -> tuple[int, bool]:
    n_wrong, is_dead = 0, False
    for name, check in checks:
        if is_dead:
            results.add(what="smoke", kernel=name, status="not run: the device's context is dead")
            n_wrong += 1
            continue
        try:
            found, expected, limit = check()
            error = _error(found, expected)
            status = "ok" if error <= limit else "wrong"
            results.add(what="smoke", kernel=name, error=error, limit=limit, status=status)
        except Exception as raised:  # whatever it is, the other kernels are tried
            status = f"{type(raised).__name__}: {raised}"[:400]
            results.add(what="smoke", kernel=name, status=status)
            is_dead = not _is_alive()
        n_wrong += status != "ok"
    return n_wrong, not is_dead


def machine() -> dict[str, Any]:
    """What it runs on, and with what."""
    card = None if INTERPRETED else torch.cuda.get_device_properties(0)
    return {
        "card": "none (Triton's interpreter)" if card is None else card.name,
        "memory [GiB]": None if card is None else round(card.total_memory / 2**30, 1),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "NumPy": np.__version__,
        "ccma_fast": cf.__version__,
    }


def _error(found: Any, expected: Any) -> float:
    """The largest difference as a share of the largest expected; infinite where one is not finite, or shapes differ."""
    found, expected = (np.asarray(v, dtype=np.float64) for v in (found, expected))
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - expected).max(initial=0.0) / max(np.abs(expected).max(initial=0.0), 1e-300))


def _is_alive() -> bool:
    if INTERPRETED:
        return True
    try:
        torch.cuda.synchronize()
        torch.ones(1, device="cuda").add_(1).item()
    except Exception:
        return False
    return True


def _checks(
    types: Sequence[torch.dtype], columns: Sequence[int], classes: Sequence[int]
) -> Iterator[tuple[str, Check]]:
    for dtype in types:
        yield f"product, {_name(dtype)}", lambda dtype=dtype: _product(dtype)
    yield "row lengths", _lengths
    for dtype in types:
        for case in ("spread", "near ties", "ties"):
            for n_columns in columns:
                name = f"assignment, {case}, {_name(dtype)}, D = {n_columns}"
                yield name, lambda dtype=dtype, case=case, d=n_columns: _assignment(dtype, case, d)
        for k in (40, 1):
            yield f"update, K = {k}, {_name(dtype)}", lambda dtype=dtype, k=k: _update(dtype, k)
    for n_classes in classes:
        for dtype in types:
            shape = f"C = {n_classes}, {_name(dtype)}"
            yield f"score, {shape}", lambda dtype=dtype, c=n_classes: _score(dtype, c)
            yield f"threshold, {shape}", lambda dtype=dtype, c=n_classes: _threshold(dtype, c)
        yield f"sets, C = {n_classes}", lambda c=n_classes: _sets(c)
        yield f"raised threshold, C = {n_classes}", lambda c=n_classes: _raised(c)
        yield f"cumulative thresholds, C = {n_classes}", lambda c=n_classes: _cumulative(c)
    for kernel in (Kernel(), Kernel.gaussian(1.0), Kernel("ball", 0.1)):
        yield f"greedy coverage, {kernel.kind}", lambda kernel=kernel: _coverage(kernel)
    yield "training of the head", _training
    yield "k-means", _kmeans


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _product(dtype: torch.dtype) -> Found:
    x = random_rows(133, 768, 0, dtype)
    weight = np.random.default_rng(0).standard_normal((111, 768), dtype=np.float32)
    found = LinearRows(open_rows(x, "x"), "logits", cuda, weight, unit=True)
    wide = x.double().cpu().numpy()
    expected = wide / np.linalg.norm(wide, axis=1, keepdims=True) @ weight.T.astype(np.float64)
    return _float32(found), expected, 2e-6


def _float32(rows: Any) -> Any:
    from ccma_fast.backends.cuda.reader import Reader

    return Reader().float32(rows).cpu().numpy()


def _lengths() -> Found:
    x = random_rows(333, 70, 0, torch.float32).cpu().numpy() * np.float32(3.0)
    return cuda.row_lengths(x), np.linalg.norm(x.astype(np.float64), axis=1), 1e-14


def _assignment(dtype: torch.dtype, case: str, n_columns: int) -> Found:
    """Squared distances to the nearest centroids; near ties and ties are left open by the fast and careful products."""
    x = random_rows(133, n_columns, 0, dtype)
    centroids = random_rows(21, n_columns, 1, torch.float32)
    if case != "spread":
        noise = random_rows(21, n_columns, 2, torch.float32) * (1e-3 if case == "near ties" else 0.0)
        centroids = torch.cat([centroids, centroids + noise])
    prepared = kmeans_assign.prepare_centroids(centroids, x.float().mean(dim=0))
    labels, squared = kmeans_assign.nearest(x, None, 1.01 * x.float().norm(dim=1), prepared)[:2]
    all_squared = (x.double()[:, None] - centroids.double()).square().sum(dim=2)
    expected = all_squared.argmin(dim=1)  # the first of equal ones
    if bool((labels != expected).any()):
        raise AssertionError(f"{int((labels != expected).sum())} of {len(labels)} labels are wrong")
    return squared.cpu(), all_squared.amin(dim=1).cpu(), 1e-6


def _update(dtype: torch.dtype, k: int) -> Found:
    x = random_rows(2333, 70, 0, dtype)
    labels = (torch.arange(len(x), device=x.device) * 7 % k).to(torch.int32)
    weights = torch.rand(len(x), generator=torch.Generator(x.device).manual_seed(0), device=x.device)
    units = kmeans_update.Units.of(x.device, 30, 30, 40, n_limbs=2, n_mass_limbs=1)
    found = kmeans_update.Sums.empty(k, x.shape[1], units)
    kmeans_update.accumulate(x, None, weights, labels, found)
    expected = torch.zeros((k, x.shape[1]), dtype=torch.float64)
    expected.index_add_(0, labels.cpu().long(), x.double().cpu() * weights.double().cpu()[:, None])
    return found.totals()[0].cpu(), expected, 1e-12


def _logits(dtype: torch.dtype, n_classes: int, seed: int) -> tuple[torch.Tensor, Any]:
    logits = random_logits(35, n_classes, dtype, seed)
    return logits, logits.double().cpu().numpy()


def _score(dtype: torch.dtype, n_classes: int) -> Found:
    (student, z_s), (teacher, z_t) = (_logits(dtype, n_classes, seed) for seed in (0, 1))
    # Between two scores, so that rounding decides about no class.
    q_s, q_t = (float(_between(z, size)) for z, size in ((z_s, 5), (z_t, 3)))
    found = cuda.score(open_rows(student, "s"), open_rows(teacher, "t"), q_s, q_t)
    expected = reference.score(z_s, z_t, q_s, q_t)
    for name in ("student_top1", "teacher_top1", "student_size", "teacher_size", "overlap"):
        if not np.array_equal(getattr(found, name), getattr(expected, name)):
            raise AssertionError(f"{name} differs")
    return found.delta, expected.delta, 5e-6


def _between(z: Any, size: float) -> float:
    scores = np.sort(reference.nonconformity(z), axis=None)
    place = int(size * len(z))
    gaps = np.diff(scores[place : place + 50])
    return float(scores[place + gaps.argmax()] + 0.5 * gaps.max())


def _threshold(dtype: torch.dtype, n_classes: int) -> Found:
    logits, z = _logits(dtype, n_classes, 0)
    return cuda.target_size_threshold(open_rows(logits, "z"), 5.0), reference.target_size_threshold(z, 5.0), 2e-6


def _sets(n_classes: int) -> Found:
    logits, z = _logits(torch.float32, n_classes, 0)
    q = _between(z, 5)
    return cuda.prediction_sets(open_rows(logits, "z"), q), reference.prediction_sets(z, q), 0.0


def _raised(n_classes: int) -> Found:
    logits, z = _logits(torch.float32, n_classes, 0)
    return cuda.raised_threshold(open_rows(logits, "z"), 0.01), reference.raised_threshold(z, 0.01), 2e-6


def _cumulative(n_classes: int) -> Found:
    """RAPS sets by their thresholds on −ln p."""
    logits, z = _logits(torch.float32, n_classes, 0)
    rule = reference.Cumulative(0.01, 2, np.random.default_rng(0).random(len(z)))
    found = cuda.row_thresholds(open_rows(logits, "z"), 0.9, rule)
    return found, reference.row_thresholds(z, 0.9, rule), 2e-6


def _coverage(kernel: Kernel) -> Found:
    x = random_rows(333, 70, 0, torch.float32)

    def picks(name: str) -> Any:
        on = choose_backend(name)
        rows = unit_rows(open_rows(x if name == "cuda" else x.cpu(), "x"), on)
        known = unit_rows(open_rows(x[:5] if name == "cuda" else x[:5].cpu(), "x"), on)
        rng = np.random.default_rng(0)
        return greedy_coverage(rows, known, np.arange(5, 333), 7, kernel=kernel, rng=rng, least=-1.0)

    return picks("cuda"), picks("cpu"), 0.0


def _training() -> Found:
    x = random_rows(333, 70, 0, torch.float32)
    y = np.arange(333) % 5
    losses = []
    for name in ("cuda", "cpu"):
        head = cf.LinearHead(5, max_epochs=3, batch_size=100)
        head.fit_rows(open_rows(x if name == "cuda" else x.cpu(), "x"), y, choose_backend(name))
        losses.append(head.loss_)
    return losses[0], losses[1], 1e-4


def _kmeans() -> Found:
    x = random_rows(333, 70, 0, torch.float32)
    found, expected = (
        cf.weighted_kmeans(rows, 12, random_state=0, max_iter=3, backend=name).inertia
        for name, rows in (("cuda", x), ("cpu", x.cpu().numpy()))
    )
    return found, expected, 1e-5
