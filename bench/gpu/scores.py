"""What the card can do, and the kernels of scores and thresholds beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ccma_fast.kernels import conformal_score

from ccma_fast import reference
from ccma_fast.backends import cuda
from ccma_fast.backends.cuda.reader import Reader
from ccma_fast.pool.derived import LinearRows
from ccma_fast.pool.open import open_rows

from .problems import CLASSES, COLUMNS, Sizes, kernel_times, random_logits, random_rows, seconds, sizes
from .results import Results

__all__ = ["ceilings", "features", "pool_score", "score_of", "scores"]

# Bytes that stay in the second-level cache of an A100 and of all later cards, and how often they are read.
_CACHED, _READS = 24 << 20, 64


def ceilings(results: Results, out: Path, *, small: bool) -> int:
    """A copy, by bytes read and written; products, by operations; reads from the second-level cache, by bytes."""
    size = sizes(small=small)
    source = random_logits(size.copied // 4000 + 1, 1000, torch.float32, 0)
    target = torch.empty_like(source)
    _ceiling(results, "copy", 2 * source.nbytes, "bytes", seconds(target.copy_, source))
    del source, target
    n = size.product
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        a, b = (random_logits(n, n, dtype, seed) for seed in (1, 2))
        name = f"{str(dtype)[6:]} product"
        _ceiling(results, name, 2 * n**3, "operations", seconds(torch.matmul, a, b))
    cached = random_logits(max(1, min(_CACHED, size.copied) // 4000), 1000, torch.float32, 0).view(1, -1)
    again = cached.expand(_READS, -1)
    _ceiling(results, "read of the second-level cache", _READS * cached.nbytes, "bytes", seconds(again.sum, 1))
    return 0


def _ceiling(results: Results, name: str, amount: int, unit: str, took: float) -> None:
    results.add(what="ceiling", ceiling=name, ms=1e3 * took, rate=amount / took / 1e12, unit=unit)


def scores(results: Results, out: Path, *, small: bool) -> int:
    """Scores and thresholds where they are used most, and the products that logits come from alone."""
    size = sizes(small=small)
    n_wrong = 0
    for n_classes, dtype in (
        (1000, torch.float32),
        (1000, torch.bfloat16),
        (100, torch.float32),
        (100, torch.bfloat16),
    ):
        n_wrong += score_of(results, size, n_classes, dtype)
    products(results, size)
    return n_wrong


def score_of(results: Results, size: Sizes, n_classes: int, dtype: torch.dtype) -> int:
    """Lines for one shape; 1 where scores are wrong."""
    n_rows = max(35, size.logits // n_classes)
    student, teacher = (random_logits(n_rows, n_classes, dtype, seed) for seed in (0, 1))
    rows = open_rows(student, "s"), open_rows(teacher, "t")
    # A hair above the scores that the thresholds are, which the reference's own rounding might leave out.
    q_s, q_t = (cuda.target_size_threshold(logits, n) + 2e-6 for logits, n in zip(rows, (5.0, 3.0), strict=True))
    found = cuda.score(*rows, q_s, q_t)
    part = slice(0, max(1, min(n_rows, 1_000_000 // n_classes)))
    truth = reference.score(student[part].float().cpu().numpy(), teacher[part].float().cpu().numpy(), q_s, q_t)
    error = float(np.abs(found.delta[part].astype(np.float64) - truth.delta).max())
    into = conformal_score.Scores.empty(n_rows, student.device, with_teacher=True)
    cuts = [torch.tensor([q], dtype=torch.float64, device=student.device) for q in (q_s, q_t)]
    bad = torch.full((1,), 2**63 - 1, device=student.device)
    took = seconds(conformal_score.conformal_score, student, teacher, *cuts, into, bad)
    at_once = min(n_rows, 100_000_000 // n_classes)
    plain = seconds(torch_score, student[:at_once], teacher[:at_once], q_s, q_t, rounds=3) * n_rows / at_once
    shape = {"N": n_rows, "C": n_classes, "dtype": str(dtype)[6:]}
    results.add(
        what="score", **shape, ms=1e3 * took, bytes=student.nbytes + teacher.nbytes, **{"error of δ": error},
        **{"PyTorch / ours": plain / took},
    )  # fmt: skip
    took = seconds(cuda.target_size_threshold, rows[0], 5.0, rounds=5)
    plain = seconds(_torch_threshold, student[:at_once], 5.0, rounds=2) * n_rows / at_once
    results.add(what="threshold", **shape, ms=1e3 * took, bytes=student.nbytes, **{"PyTorch / ours": plain / took})
    for line in kernel_times(cuda.target_size_threshold, rows[0], 5.0):
        results.add(what="kernels of the threshold", **shape, **line)
    return int(not error < 1e-5)


def torch_score(student: torch.Tensor, teacher: torch.Tensor, q_student: float, q_teacher: float) -> torch.Tensor:
    """δ as a PyTorch user would write it."""
    a_s, a_t = -student.float().log_softmax(dim=1), -teacher.float().log_softmax(dim=1)
    in_s, in_t = a_s <= q_student, a_t <= q_teacher
    in_s.scatter_(1, a_s.argmin(dim=1, keepdim=True), True)
    in_t.scatter_(1, a_t.argmin(dim=1, keepdim=True), True)
    p_s, p_t = a_s.neg().exp(), a_t.neg().exp()
    union = in_s | in_t
    masked_s, masked_t = p_s * union, p_t * union
    masked_s /= masked_s.sum(dim=1, keepdim=True)
    masked_t /= masked_t.sum(dim=1, keepdim=True)
    mean = 0.5 * (masked_s + masked_t)
    j = 0.5 * (torch.xlogy(masked_s, masked_s / mean).nansum(1) + torch.xlogy(masked_t, masked_t / mean).nansum(1))
    gate = p_t.amax(1) / (p_t.amax(1) + p_s.amax(1))
    return gate * j + (1.0 - gate) * (p_s * a_s).sum(1)


def _torch_threshold(logits: torch.Tensor, size: float) -> torch.Tensor:
    """The order statistic as a PyTorch user would write it."""
    scores = -logits.float().log_softmax(dim=1)
    return scores.view(-1).sort().values[int(size * len(logits)) - 1]


def products(results: Results, size: Sizes) -> None:
    """The logits of a pool from its features, a chunk at a time, beside the library's product of the same type."""
    for d, dtype in ((COLUMNS[0], torch.bfloat16), (COLUMNS[0], torch.float32), (COLUMNS[1], torch.bfloat16)):
        x = random_rows(size.rows, d, 0, dtype)
        weight = random_rows(CLASSES, d, 1, torch.float32)
        rows = LinearRows(open_rows(x, "x"), "logits", cuda, 10.0 * weight.cpu().numpy(), unit=True)
        reader, narrow = Reader(), weight.to(dtype)

        def ours(rows: LinearRows = rows, reader: Reader = reader) -> None:
            for _ in reader.chunks(rows):
                pass

        def plain(x: torch.Tensor = x, narrow: torch.Tensor = narrow) -> None:
            for part in x.split(32_768):
                part @ narrow.T

        took = seconds(ours, rounds=3)
        shape = {"N": len(x), "C": CLASSES, "D": d, "dtype": str(dtype)[6:]}
        results.add(
            what="products of features alone", **shape, ms=1e3 * took, operations=2 * len(x) * CLASSES * d,
            **{"PyTorch / ours": seconds(plain, rounds=3) / took},
        )  # fmt: skip
        for line in kernel_times(ours):
            results.add(what="kernels of the products", **shape, **line)


def pool_score(size: Sizes) -> Callable[[], Any]:
    """The scoring of a whole pool from features that lie on the device."""
    rows = []
    for seed, d in enumerate(COLUMNS):
        weight = 10.0 * random_rows(CLASSES, d, 3, torch.float32).cpu().numpy()
        rows.append(LinearRows(open_rows(random_rows(size.rows, d, seed), "x"), "logits", cuda, weight, unit=True))
    return lambda: cuda.score(*rows, 3.0, 3.0)


def features(results: Results, size: Sizes) -> None:
    """Scores of the whole pool from features."""
    run = pool_score(size)
    took = seconds(run, rounds=3)
    shape: dict[str, Any] = {"N": size.rows, "C": CLASSES, "dtype": "bfloat16"}
    results.add(what="score from features", **shape, ms=1e3 * took, operations=2 * size.rows * CLASSES * sum(COLUMNS))
    for line in kernel_times(run):
        results.add(what="kernels of the score from features", **shape, **line)
