"""The k-means kernels: the assignment with all that it launches, its rivals beside it, and the update."""

from __future__ import annotations

import importlib
import importlib.util
import time
from pathlib import Path
from typing import Any

import torch
from ccma_fast.kernels import conformal_score, kmeans_assign, kmeans_update

import ccma_fast as cf
from ccma_fast.backends.cuda.device import INTERPRETED

from .problems import COLUMNS, Sizes, kernel_times, random_logits, random_rows, seconds, sizes
from .results import Results

__all__ = ["assign", "assignment", "counters", "iterations", "means"]


def assign(results: Results, out: Path, *, small: bool) -> int:
    """The assignment of one pass in each type of rows, its rivals, and the update."""
    size = sizes(small=small)
    n_wrong = assignment(results, size, COLUMNS[0], torch.bfloat16, with_plain=True)
    n_wrong += updates(results, size, COLUMNS[0])
    for dtype in (torch.float16, torch.float32):
        n_wrong += assignment(results, size, COLUMNS[0], dtype)
    rivals(results, size, COLUMNS[0])
    return n_wrong


def assignment(results: Results, size: Sizes, n_columns: int, dtype: torch.dtype, *, with_plain: bool = False) -> int:
    """Lines for centroids like those of a first pass, and for the means of their clusters; 1 where labels are wrong."""
    n, k = size.rows, size.clusters
    x = random_rows(n, n_columns, 0, dtype)
    lengths = torch.full((n,), 1.01, device=x.device)
    centroids = 0.7 * random_rows(k, n_columns, 1, torch.float32)
    n_wrong = 0
    for which in ("random", "means of clusters"):
        prepared = kmeans_assign.prepare_centroids(centroids, x[:2048].float().mean(dim=0))
        found = kmeans_assign.nearest(x, None, lengths, prepared)
        wrong = _wrong(x, centroids, found[0])
        took = seconds(kmeans_assign.nearest, x, None, lengths, prepared, rounds=5)
        shape = {"N": n, "K": k, "D": n_columns, "dtype": str(dtype)[6:], "centroids": which}
        line: dict[str, Any] = {"ms": 1e3 * took, "operations": 2 * n * k * n_columns, "wrong labels": wrong}
        line["open after the fast product [%]"], line["after the careful [%]"] = (100.0 * found.n_open / n).tolist()
        if with_plain:
            line["PyTorch / ours"] = seconds(torch_assign, x, centroids, rounds=3) / took
        results.add(what="assignment", **shape, **line)
        for kernel in kernel_times(kmeans_assign.nearest, x, None, lengths, prepared):
            results.add(what="kernels of the assignment", **shape, **kernel)
        n_wrong += wrong > 0
        centroids = means(x, torch.ones(n, device=x.device), found[0], centroids)
    return n_wrong


def _wrong(x: torch.Tensor, centroids: torch.Tensor, labels: torch.Tensor) -> int:
    """How many of some rows have a label whose centroid is farther than another, in float64."""
    some = slice(0, min(len(x), 2048))
    squared = torch.cdist(x[some].double(), centroids.double(), compute_mode="donot_use_mm_for_euclid_dist")
    at_label = squared.gather(1, labels[some].long()[:, None])[:, 0]
    return int((at_label > squared.amin(dim=1) * (1.0 + 1e-12)).sum())


def torch_assign(x: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """Labels by chunks of cuBLAS products and an argmax, in the rows' type."""
    offset = (0.5 * centroids.float().square().sum(dim=1)).to(x.dtype)
    weight = centroids.to(x.dtype)
    step = max(1, (1 << 28) // len(centroids))
    return torch.cat([(part @ weight.T - offset).argmax(dim=1) for part in x.split(step)])


def rivals(results: Results, size: Sizes, n_columns: int) -> None:
    """The assignments of others in the same run, in the rows' type, where they are installed; they compile first."""
    if INTERPRETED:
        return
    x = random_rows(size.rows, n_columns, 0)[None]
    centroids = (0.7 * random_rows(size.clusters, n_columns, 1, torch.float32)).to(x.dtype)[None]
    calls: dict[str, tuple[str, str, tuple[Any, ...]]] = {
        "flash-kmeans": ("flash_kmeans.assign_euclid_triton", "euclid_assign_triton", (x.float().square().sum(dim=2),)),
        "FlashLib, Triton": ("flashlib.primitives.kmeans.triton.assign", "euclid_assign_triton", ()),
        "FlashLib, CuTe": ("flashlib.primitives.kmeans.cutedsl.assign", "cutedsl_assign_euclid", ()),
    }
    for name, (module, function, args) in calls.items():
        shape = {"rival": name, "N": size.rows, "K": size.clusters, "D": n_columns, "dtype": "bfloat16"}
        if importlib.util.find_spec(module.split(".")[0]) is None:
            results.add(what="rivals of the assignment", **shape, status="not installed")
            continue
        try:
            took = seconds(getattr(importlib.import_module(module), function), x, centroids, *args, rounds=5)
        except Exception as error:  # theirs to answer for
            results.add(what="rivals of the assignment", **shape, status=f"{type(error).__name__}: {error}"[:200])
        else:
            operations = 2 * size.rows * size.clusters * n_columns
            results.add(what="rivals of the assignment", **shape, ms=1e3 * took, operations=operations, status="ok")


def means(x: torch.Tensor, weights: torch.Tensor, labels: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """The mean of each cluster, or its centroid where it has no rows."""
    units = kmeans_update.Units.of(x.device, 30, 30, 40, n_limbs=1, n_mass_limbs=1)
    found = kmeans_update.Sums.empty(len(centroids), x.shape[1], units)
    kmeans_update.accumulate(x, None, weights, labels, found)
    sums, mass = found.totals()
    return torch.where(mass[:, None] > 0.0, (sums / mass[:, None]).float(), centroids)


def updates(results: Results, size: Sizes, n_columns: int) -> int:
    """The update of many clusters and of one; 1 where two runs differ."""
    n = size.rows
    x = random_rows(n, n_columns, 0)
    weights = torch.rand(n, device=x.device)
    n_wrong = 0
    for k in (size.clusters, 1):
        labels = torch.randint(k, (n,), device=x.device, dtype=torch.int32)
        start = torch.zeros((k, n_columns), device=x.device)
        took = seconds(means, x, weights, labels, start, rounds=5)
        same = torch.equal(means(x, weights, labels, start), means(x, weights, labels, start))
        shape = {"N": n, "K": k, "D": n_columns, "dtype": "bfloat16"}
        results.add(what="update", **shape, ms=1e3 * took, bytes=x.nbytes, **{"same bits twice": same})
        for kernel in kernel_times(means, x, weights, labels, start):
            results.add(what="kernels of the update", **shape, **kernel)
        n_wrong += not same
    return n_wrong


def iterations(results: Results, size: Sizes, n_columns: int) -> None:
    """Five iterations of k-means, with the choice of the first centroids."""
    x = random_rows(size.rows, n_columns, 0)
    took, inertia = [], 0.0
    for _ in range(1 if INTERPRETED else 2):  # the first compiles
        start = time.perf_counter()
        inertia = cf.weighted_kmeans(x, size.clusters, tol=0.0, max_iter=5, random_state=0, backend="cuda").inertia
        took.append(time.perf_counter() - start)
    shape = {"N": size.rows, "K": size.clusters, "D": n_columns, "dtype": "bfloat16"}
    results.add(what="k-means, 5 iterations", **shape, ms=1e3 * took[-1], inertia=inertia)


def counters(results: Results, out: Path, *, small: bool) -> int:
    """An assignment and two scores, for a profiler that replays each kernel: they fill a card several times."""
    rows = 300 if small else 1 << 17
    clusters = sizes(small=small).clusters
    x = random_rows(rows, COLUMNS[0], 0)
    centroids = 0.7 * random_rows(clusters, COLUMNS[0], 1, torch.float32)
    prepared = kmeans_assign.prepare_centroids(centroids, x[:2048].float().mean(dim=0))
    kmeans_assign.nearest(x, None, torch.full((rows,), 1.01, device=x.device), prepared)
    for dtype in (torch.float32, torch.bfloat16):
        student, teacher = (random_logits(rows, 1000, dtype, seed) for seed in (0, 1))
        into = conformal_score.Scores.empty(rows, x.device, with_teacher=True)
        cut = torch.tensor([5.0], dtype=torch.float64, device=x.device)
        bad = torch.full((1,), 2**63 - 1, device=x.device)
        conformal_score.conformal_score(student, teacher, cut, cut, into, bad)
    results.add(what="profiled", kernels="of one assignment and two scores", finite=bool((bad == 2**63 - 1).item()))
    return 0
