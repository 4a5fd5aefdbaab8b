"""What a GPU makes of the kernels, beside what the card can do and plain PyTorch::

    python -m bench.gpu --output bench/results

Times are medians by device events after a warm-up, on random data; ratios are of one run. Ceilings are measured first:
a copy between two places on the device (bytes read and written) and a large bfloat16 product. ``--small`` shows that it
runs, also in Triton's interpreter; ``--sanitize`` launches every kernel once, for compute-sanitizer.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import importlib.util
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import triton
from ccma_fast.kernels import conformal_score, kmeans_assign, kmeans_update

import ccma_fast as cf
from ccma_fast import reference
from ccma_fast.backends import cuda
from ccma_fast.backends.choose import choose_backend
from ccma_fast.backends.cuda.device import device
from ccma_fast.backends.protocol import Kernel
from ccma_fast.pool.derived import LinearRows
from ccma_fast.pool.open import open_rows
from ccma_fast.steps.coverage import unit_rows
from ccma_fast.steps.greedy import greedy_coverage

from .tabulate import table

ROUNDS = 15
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Sizes(NamedTuple):
    """How large the problems are."""

    logits: int
    """Logits of one model."""
    rows: int
    classes: int
    student: int
    teacher: int
    clusters: int
    dimensions: tuple[int, ...]
    budget: int
    streamed: int
    product: int
    heads: tuple[tuple[int, int, int], ...]
    """Labelled rows, columns and classes."""
    epochs: int
    candidates: int


LARGE = Sizes(
    10**9, 10**6, 1000, 768, 1024, 10_000, (768, 1024, 1536), 1000, 10**7, 8192,
    ((2000, 768, 100), (20_000, 768, 1000), (50_000, 1536, 1000)), 32, 20_000,
)  # fmt: skip
SMALL = Sizes(4000, 120, 10, 24, 32, 7, (24,), 5, 200, 64, ((60, 24, 4),), 3, 70)


def seconds(run: Callable[..., Any], *args: Any, rounds: int = ROUNDS) -> float:
    """The median of `rounds` runs after two to warm up."""
    for _ in range(2):
        run(*args)
    if not torch.cuda.is_available():
        start = time.perf_counter()
        run(*args)
        return time.perf_counter() - start
    times = []
    for _ in range(rounds):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run(*args)
        end.record()
        end.synchronize()
        times.append(1e-3 * begin.elapsed_time(end))
    return statistics.median(times)


def random_logits(n_rows: int, n_classes: int, dtype: torch.dtype, seed: int) -> torch.Tensor:
    on = device()
    generator = torch.Generator(on).manual_seed(seed)
    logits = torch.empty((n_rows, n_classes), dtype=dtype, device=on)
    for start in range(0, n_rows, 1 << 16):
        part = logits[start : start + (1 << 16)]
        part.copy_(2.0 * torch.randn(part.shape, generator=generator, device=on))
    return logits


def random_embeddings(n_rows: int, n_columns: int, seed: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    """Unit rows whose spectrum falls as that of vision models does."""
    on = device()
    generator = torch.Generator(on).manual_seed(seed)
    spectrum = torch.arange(1, n_columns + 1, device=on) ** -0.5
    rows = torch.empty((n_rows, n_columns), dtype=dtype, device=on)
    for start in range(0, n_rows, 1 << 16):
        part = rows[start : start + (1 << 16)]
        drawn = torch.randn(part.shape, generator=generator, device=on) * spectrum
        part.copy_(drawn / drawn.norm(dim=1, keepdim=True))
    return rows


# ---------------------------------------------------------------------------------------------------------------------
# What is measured; each yields rows of the table


class Ceilings(NamedTuple):
    """What the card can do."""

    copy: float
    """Bytes a second, read and written."""
    product: float
    """Operations a second of a bfloat16 product."""


def ceilings(sizes: Sizes) -> Ceilings:
    source = random_logits(sizes.logits // 1000 + 1, 1000, torch.float32, 0)
    target = torch.empty_like(source)
    copy = 2 * source.nbytes / seconds(target.copy_, source)
    n = sizes.product
    a, b = (random_logits(n, n, torch.bfloat16, seed) for seed in (1, 2))
    return Ceilings(copy, 2 * n**3 / seconds(torch.matmul, a, b))


def torch_score(student: torch.Tensor, teacher: torch.Tensor, q_student: float, q_teacher: float) -> torch.Tensor:
    """δ as a PyTorch user would write it."""
    a_s, a_t = -student.float().log_softmax(dim=1), -teacher.float().log_softmax(dim=1)
    in_s, in_t = a_s <= q_student, a_t <= q_teacher
    in_s[torch.arange(len(a_s)), a_s.argmin(dim=1)] = True
    in_t[torch.arange(len(a_t)), a_t.argmin(dim=1)] = True
    p_s, p_t = a_s.neg().exp(), a_t.neg().exp()
    union = in_s | in_t
    masked_s, masked_t = p_s * union, p_t * union
    masked_s /= masked_s.sum(dim=1, keepdim=True)
    masked_t /= masked_t.sum(dim=1, keepdim=True)
    mean = 0.5 * (masked_s + masked_t)
    j = 0.5 * (torch.xlogy(masked_s, masked_s / mean).nansum(1) + torch.xlogy(masked_t, masked_t / mean).nansum(1))
    gate = p_t.amax(1) / (p_t.amax(1) + p_s.amax(1))
    return gate * j + (1.0 - gate) * (p_s * a_s).sum(1)


def scoring(sizes: Sizes, card: Ceilings) -> Iterator[dict[str, Any]]:
    for n_classes in (1000, 10, 100, 257, 10_000, 21_000):
        for name in DTYPES:
            yield from _scoring(max(2, sizes.logits // n_classes), n_classes, name, card)


def _scoring(n_rows: int, n_classes: int, dtype: str, card: Ceilings) -> Iterator[dict[str, Any]]:
    student, teacher = (random_logits(n_rows, n_classes, DTYPES[dtype], seed) for seed in (0, 1))
    rows = open_rows(student, "s"), open_rows(teacher, "t")
    # A hair above the scores that the thresholds are, which the reference's own rounding might leave out.
    q_s, q_t = (cuda.target_size_threshold(logits, size) + 2e-6 for logits, size in zip(rows, (5.0, 3.0), strict=True))
    scores = cuda.score(*rows, q_s, q_t)
    part = slice(0, max(1, min(n_rows, 2_000_000 // n_classes)))
    truth = reference.score(student[part].float().cpu().numpy(), teacher[part].float().cpu().numpy(), q_s, q_t)
    out = conformal_score.Scores.empty(n_rows, student.device, with_teacher=True)
    thresholds = [torch.tensor([q], dtype=torch.float64, device=student.device) for q in (q_s, q_t)]
    bad = torch.full((1,), 2**63 - 1, device=student.device)
    took = seconds(conformal_score.conformal_score, student, teacher, *thresholds, out, bad)
    nbytes = student.nbytes + teacher.nbytes
    shape = {"N": n_rows, "C": n_classes, "dtype": dtype}
    line = {
        "what": "score", **shape, "ms": 1e3 * took, "GB/s": nbytes / took / 1e9,
        "share of copy": nbytes / took / card.copy,
        "error of δ": float(np.abs(scores.delta[part].astype(np.float64) - truth.delta).max()),
    }  # fmt: skip
    if n_classes == 1000:
        at_once = min(n_rows, 100_000)
        plain = seconds(torch_score, student[:at_once], teacher[:at_once], q_s, q_t, rounds=3)
        line["PyTorch / ours"] = plain * n_rows / at_once / took
    yield line
    took = seconds(cuda.target_size_threshold, rows[0], 5.0, rounds=5)
    yield {"what": "threshold", **shape, "ms": 1e3 * took, "reads of the logits": took * card.copy / student.nbytes}


def features(sizes: Sizes, card: Ceilings) -> Iterator[dict[str, Any]]:
    """Full-pool scoring from features that lie on the device."""
    x, v = (random_embeddings(sizes.rows, d, seed) for seed, d in enumerate((sizes.student, sizes.teacher)))
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((sizes.classes, d), dtype=np.float32) for d in (sizes.student, sizes.teacher)]
    student, teacher = (
        LinearRows(open_rows(rows, "x"), "logits", cuda, 10 * w, unit=True)
        for rows, w in zip((x, v), weights, strict=True)
    )
    took = seconds(cuda.score, student, teacher, 3.0, 3.0, rounds=5)
    operations = 2 * sizes.rows * sizes.classes * (sizes.student + sizes.teacher)
    floor = max(operations / card.product, (x.nbytes + v.nbytes) / card.copy)
    yield {
        "what": "score from features", "N": sizes.rows, "C": sizes.classes, "dtype": "bfloat16", "ms": 1e3 * took,
        "time / floor": took / floor,
    }  # fmt: skip


def torch_assign(x: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """Labels by chunks of cuBLAS products and an argmax, in the rows' type."""
    offset = 0.5 * centroids.float().square().sum(dim=1)
    weight = centroids.to(x.dtype)
    step = max(1, (1 << 28) // len(centroids))
    return torch.cat([(part @ weight.T - offset).argmax(dim=1) for part in x.split(step)])


def clustering(sizes: Sizes, card: Ceilings) -> Iterator[dict[str, Any]]:
    for d in sizes.dimensions:
        yield from _clustering(sizes.rows, sizes.clusters, d, card)


def _clustering(n: int, k: int, d: int, card: Ceilings) -> Iterator[dict[str, Any]]:
    x = random_embeddings(n, d, 0)
    centroids = random_embeddings(k, d, 1, torch.float32) * 0.7
    lengths = torch.full((n,), 1.01, device=x.device)
    prepared = kmeans_assign.prepare_centroids(centroids, x[:2048].float().mean(dim=0))
    some = slice(0, min(n, 4096))
    exact = torch.cdist(x[some].double(), centroids.double(), compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
    shape = {"N": n, "K": k, "D": d, "dtype": "bfloat16"}
    operations = 2 * n * k * d
    plain = seconds(torch_assign, x, centroids, rounds=3)
    labels, _, n_open = kmeans_assign.nearest(x, None, lengths, prepared)
    took = seconds(kmeans_assign.nearest, x, None, lengths, prepared, rounds=5)
    yield {
        "what": "assign, exact", **shape, "ms": 1e3 * took, "TFLOP/s": operations / took / 1e12,
        "share of product": operations / took / card.product, "open rows": n_open.tolist(),
        "wrong labels": int((labels[some] != exact).sum()), "PyTorch / ours": plain / took,
        **rivals(x, centroids, took),
    }  # fmt: skip
    weights = torch.rand(n, device=x.device)
    for n_clusters, of in ((k, labels), (1, torch.zeros_like(labels))):
        took = seconds(_update, x, weights, of, n_clusters, rounds=5)
        same = torch.equal(_update(x, weights, of, n_clusters), _update(x, weights, of, n_clusters))
        yield {
            "what": "update", **shape, "K": n_clusters, "ms": 1e3 * took, "GB/s": x.nbytes / took / 1e9,
            "same bits twice": same,
        }  # fmt: skip
    start = time.perf_counter()
    found = cf.weighted_kmeans(x, k, weights=weights.cpu().numpy(), tol=0.0, random_state=0, backend="cuda")
    took = time.perf_counter() - start
    yield {"what": "k-means, 20 iterations", **shape, "ms": 1e3 * took, "inertia": found.inertia}


def _update(x: torch.Tensor, weights: torch.Tensor, labels: torch.Tensor, k: int) -> torch.Tensor:
    sums = kmeans_update.Sums.empty(k, x.shape[1], x.device)
    kmeans_update.accumulate(x, None, weights, labels, sums)
    return sums.totals()[0]


def rivals(x: torch.Tensor, centroids: torch.Tensor, took: float) -> dict[str, Any]:
    """The assignments of flash-kmeans and FlashLib in the same run, in the rows' type, where they are installed."""
    rows, centres = x[None], centroids.to(x.dtype)[None]
    squares = rows.float().square().sum(dim=-1)
    calls = {
        "flash-kmeans": ("flash_kmeans.assign_euclid_triton", "euclid_assign_triton", (rows, centres, squares)),
        "FlashLib": ("flashlib.primitives.kmeans.cutedsl.assign", "cutedsl_assign_euclid", (rows, centres)),
    }
    found = {}
    for name, (module, function, args) in calls.items():
        if importlib.util.find_spec(module.split(".")[0]) is not None:
            run = getattr(importlib.import_module(module), function)
            found[f"{name} / ours"] = seconds(run, *args, rounds=5) / took
    return found


def heads(sizes: Sizes, card: Ceilings) -> Iterator[dict[str, Any]]:
    """Training the student, beside the CPU's of the same run: the same start, batches and dropped inputs."""
    for n, d, n_classes in sizes.heads:
        centres = random_embeddings(n_classes, d, 1, torch.float32)
        y = torch.arange(n, device=centres.device) % n_classes
        x = centres[y] + 0.5 * random_embeddings(n, d, 2, torch.float32)
        labels = y.cpu().numpy()
        took, fitted = {}, {}
        for name in ("cuda", "cpu"):
            head = cf.LinearHead(n_classes, max_epochs=sizes.epochs, patience=sizes.epochs)
            rows, backend = open_rows(x if name == "cuda" else x.cpu(), "x"), choose_backend(name)
            for _ in range(2 if name == "cuda" else 1):  # the first compiles
                start = time.perf_counter()
                fitted[name] = head.fit_rows(rows, labels, backend)
                took[name] = time.perf_counter() - start
        ours, cpu = fitted["cuda"], fitted["cpu"]
        yield {
            "what": "training of the head", "n": n, "D": d, "C": n_classes, "epochs": ours.n_iter_,
            "ms an epoch": 1e3 * took["cuda"] / ours.n_iter_, "CPU / ours": took["cpu"] / took["cuda"],
            "difference of the loss": abs(ours.loss_ - cpu.loss_),
            "other predictions": int((ours.predict(x.cpu()) != cpu.predict(x.cpu())).sum()),
        }  # fmt: skip


def covering(sizes: Sizes, card: Ceilings) -> Iterator[dict[str, Any]]:
    """The picks that the student leads, and a tenth of them beside the CPU's of the same run."""
    x = random_embeddings(sizes.candidates, sizes.student, 0)
    covered = random_embeddings(sizes.classes, sizes.student, 1)
    weights = np.random.default_rng(0).random(sizes.candidates, dtype=np.float32)

    def picked(backend: str, n_picks: int) -> tuple[np.ndarray, float]:
        start = time.perf_counter()
        on = choose_backend(backend)
        pool, known = (unit_rows(open_rows(of if backend == "cuda" else of.cpu(), "x"), on) for of in (x, covered))
        picks = greedy_coverage(
            pool, known, np.arange(sizes.candidates), n_picks,
            kernel=Kernel(), rng=np.random.default_rng(0), weights=weights, least=-1.0,
        )  # fmt: skip
        return picks, time.perf_counter() - start

    some = max(1, sizes.budget // 10)
    picked("cuda", 1)  # compiles
    (ours, took), (cpu, cpu_took), (_, whole) = picked("cuda", some), picked("cpu", some), picked("cuda", sizes.budget)
    yield {
        "what": "greedy coverage", "candidates": sizes.candidates, "D": sizes.student, "picks": sizes.budget,
        "ms": 1e3 * whole, "ms of a tenth": 1e3 * took, "CPU / ours": cpu_took / took,
        "other picks": int((ours != cpu).sum()),
    }  # fmt: skip


def queries(sizes: Sizes, card: Ceilings) -> Iterator[dict[str, Any]]:
    """The whole query stage by stage, rows on the device, and streamed from host memory."""
    x, v = (random_embeddings(sizes.rows, d, seed) for seed, d in enumerate((sizes.student, sizes.teacher)))
    published = cf.CCMAConfig(acquisition="delta", calibration="target_size", max_epochs=20)
    yield _query("published, rows on the device", x, v, sizes, published)
    yield _query("default, rows on the device", x, v, sizes, cf.CCMAConfig(max_epochs=20))
    # The same rows again and again: what counts is that they are copied.
    repeats = max(1, sizes.streamed // sizes.rows)
    x, v = x.cpu().repeat(repeats, 1), v.cpu().repeat(repeats, 1)
    yield _query("published, rows on the host", x, v, sizes, published)


def _query(name: str, x: torch.Tensor, v: torch.Tensor, sizes: Sizes, config: cf.CCMAConfig) -> dict[str, Any]:
    classes = random_embeddings(sizes.classes, sizes.teacher, 7, torch.float32).cpu().numpy()
    y = np.full(len(x), -1)
    labelled = y[:: max(1, len(x) // (5 * sizes.classes))]
    labelled[:] = np.arange(labelled.size) % sizes.classes
    for _ in range(2):  # the first compiles
        start = time.perf_counter()
        teacher = cf.Teacher(v, classes)
        found = cf.select(x, sizes.budget, labels=y, teacher=teacher, config=config, backend="cuda")
        took = time.perf_counter() - start
    stages = {f"{name} [ms]": 1e3 * stage.seconds for name, stage in found.report.stages.items()}
    return {"what": f"select, {name}", "N": len(x), "C": sizes.classes, "ms": 1e3 * took} | stages


# ---------------------------------------------------------------------------------------------------------------------


def sanitize() -> None:
    """Every kernel once, on shapes that end within tiles."""
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        for n_classes in (10, 257, 1000, 5000):
            student, teacher = (open_rows(random_logits(37, n_classes, dtype, seed), "z") for seed in (0, 1))
            q = cuda.target_size_threshold(student, 5.0)
            cuda.score(student, teacher, q, q)
            cuda.prediction_sets(student, q)
            cuda.raised_threshold(student, q)
        x = random_embeddings(333, 70, 0, dtype)
        LinearRows(open_rows(x, "x"), "logits", cuda, np.ones((11, 70), np.float32), unit=True).float32()
        cf.weighted_kmeans(x, 40, random_state=0, max_iter=3, backend="cuda")
        cf.weighted_kmeans(torch.ones_like(x), 3, random_state=0, max_iter=1, backend="cuda")
        centroids = x[:40].float()
        prepared = kmeans_assign.prepare_centroids(centroids, centroids.mean(dim=0))
        lengths = 1.01 * x.float().norm(dim=1)
        kmeans_assign.nearest(x, None, lengths, prepared)
        rows, backend = open_rows(x, "x"), choose_backend("cuda")
        cf.LinearHead(max_epochs=2, batch_size=100).fit_rows(rows, np.arange(333) % 5, backend)
        for kernel in (Kernel(), Kernel.gaussian(1.0), Kernel("ball", 0.5)):
            unit = unit_rows(rows, backend)
            greedy_coverage(unit, unit, np.arange(333), 3, kernel=kernel, rng=np.random.default_rng(0), least=-1.0)


def machine() -> dict[str, Any]:
    card = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
    return {
        "card": "none (Triton's interpreter)" if card is None else card.name,
        "memory [GiB]": None if card is None else round(card.total_memory / 2**30, 1),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "ccma_fast": cf.__version__,
    }


def report(run: dict[str, Any]) -> str:
    """The results as tables, one for each kind."""
    parts = [f"# GPU benchmarks of {run['machine']['date']}", ", ".join(f"{k}: {v}" for k, v in run["machine"].items())]
    ceiling = run["ceilings"]
    parts.append(f"Copy {ceiling['copy'] / 1e12:.3g} TB/s, bfloat16 product {ceiling['product'] / 1e12:.4g} TFLOP/s.")
    kinds = dict.fromkeys(line["what"] for line in run["results"])
    for kind in kinds:
        lines = [line for line in run["results"] if line["what"] == kind]
        head = list(dict.fromkeys(name for line in lines for name in line if name != "what"))
        rows = [["" if (v := line.get(name)) is None else _digits(v) for name in head] for line in lines]
        parts += [f"## {kind}", table(head, rows)]
    return "\n\n".join(parts) + "\n"


def _digits(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _collect(run: dict[str, Any], lines: Iterator[dict[str, Any]], name: str) -> None:
    try:
        for line in lines:
            print(json.dumps(line), flush=True)
            run["results"].append(line)
    except Exception as error:  # whatever it is, the other measurements go on
        run["failures"].append(f"{name}: {error!r}")
        print("FAILED", run["failures"][-1], flush=True)


def main() -> None:
    """Measures everything; what fails is noted and does not stop the rest."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=(__doc__ or "").split("::")[0])
    parser.add_argument("--output", type=Path, help="the folder to write to (default: print)")
    parser.add_argument("--small", action="store_true", help="tiny problems")
    parser.add_argument("--sanitize", action="store_true", help="launch every kernel once and measure nothing")
    arguments = parser.parse_args()
    if arguments.sanitize:
        sanitize()
        return
    sizes = SMALL if arguments.small else LARGE
    card = ceilings(sizes)
    run: dict[str, Any] = {"machine": machine(), "ceilings": card._asdict(), "results": [], "failures": []}
    for measured in (scoring, features, clustering, heads, covering, queries):
        _collect(run, measured(sizes, card), measured.__name__)
    if arguments.output is None:
        print(report(run))
    else:
        name = f"{run['machine']['date']}-gpu"
        (arguments.output / f"{name}.json").write_text(json.dumps(run, indent=1), encoding="utf-8")
        (arguments.output / f"{name}.md").write_text(report(run), encoding="utf-8")
    if run["failures"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
