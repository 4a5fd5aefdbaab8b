"""The peers: what people run today for the same job.

Plain torch is written as a PyTorch user would write it: whole matrices, the library's own operations, no tricks and no
deliberate slowness. NumPy is :mod:`ccma_fast.reference`. k-means gets the same rows, the same first centroids, the same
number of iterations and the same number of threads everywhere, and gives the same results back, with two exceptions:
SuperKMeans and fastkmeans take no first centroids and start from random rows of their own, and the hierarchical
SuperKMeans does its usual 3 + 5 iterations on two levels.
"""

from __future__ import annotations

import importlib.util
import math
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn import functional

import ccma_fast as cf
from ccma_fast import _core, reference
from ccma_fast.backends.choose import choose_backend
from ccma_fast.steps.scaling import Scaling

from .marks import OURS, OURS_AVX2

__all__ = [
    "HEADS",
    "KMEANS",
    "OURS",
    "QUERIES",
    "REGRESSIONS",
    "SCORERS",
    "SCORERS_WITH_THRESHOLDS",
    "THRESHOLDS",
    "contenders",
]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Contender:
    """One way to do a job."""

    run: Callable[..., Any]
    backend: str
    """What computes; of our own functions the backend says so itself."""
    requires: str | None = None
    """The module without which it is skipped."""
    weighted: bool = True
    """Whether rows may have weights."""


def contenders(table: dict[str, Contender], *names: str) -> list[Any]:
    """The names of a table, or some of them, as test parameters: what cannot run here is skipped, with the reason."""
    return [
        pytest.param(
            name,
            marks=[]
            if c.requires is None or _installed(c.requires)
            else pytest.mark.skip(f"{c.requires} not installed"),
        )
        for name, c in table.items()
        if not names or name in names
    ]


def skip_slow_reference(contender: str, n_values: int) -> None:
    """Skips NumPy where it would take a quarter of a minute a round."""
    if contender.startswith("NumPy") and n_values > 20_000_000:
        pytest.skip(f"{contender}: too many logits")


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


@cache
def import_faiss() -> Any:
    """FAISS, with matrix products that suit this processor."""
    # The OpenBLAS in FAISS's wheels is older than many processors. One that it does not know gets its SSE3 kernels,
    # which would make FAISS three times slower than it need be. Read once, when the library is loaded.
    core = {"avx512_vnni": "SKYLAKEX", "avx512": "SKYLAKEX", "avx2": "HASWELL"}.get(_core.detected_simd_level())
    before = os.environ.get("OPENBLAS_CORETYPE")
    if core is not None and before is None:
        os.environ["OPENBLAS_CORETYPE"] = core
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # SWIG's own
            import faiss
    finally:
        if before is None:
            os.environ.pop("OPENBLAS_CORETYPE", None)
    return faiss


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Every library at `n` threads."""
    with ExitStack() as stack:
        for now, put in ((cf.get_num_threads(), cf.set_num_threads), (torch.get_num_threads(), torch.set_num_threads)):
            stack.callback(put, now)
            put(n)
        if _installed("faiss"):
            faiss = import_faiss()
            stack.callback(faiss.omp_set_num_threads, faiss.omp_get_max_threads())
            faiss.omp_set_num_threads(n)
        if _installed("threadpoolctl"):
            from threadpoolctl import threadpool_limits

            stack.enter_context(threadpool_limits(n))
        yield


# ---------------------------------------------------------------------------------------------------------------------
# Scoring and thresholds


def _torch_nonconformity(logits: torch.Tensor) -> torch.Tensor:
    return -torch.log_softmax(logits, dim=1)


def _torch_threshold(scores: torch.Tensor, size: float) -> float:
    rank = min(math.ceil(size * len(scores)), scores.numel())
    return float(torch.kthvalue(scores.flatten(), rank).values)


def _torch_sets(scores: torch.Tensor, q: float) -> torch.Tensor:
    # The most probable class is in every set that is not empty, so it may join them all.
    return (scores <= q).scatter_(1, scores.argmin(dim=1, keepdim=True), True)


def _torch_delta(a_s: torch.Tensor, a_t: torch.Tensor, q_s: float, q_t: float) -> torch.Tensor:
    p_s, p_t = torch.exp(-a_s), torch.exp(-a_t)
    union = _torch_sets(a_s, q_s) | _torch_sets(a_t, q_t)
    r_s, r_t = torch.where(union, p_s, 0.0), torch.where(union, p_t, 0.0)
    r_s = r_s / r_s.sum(dim=1, keepdim=True)
    r_t = r_t / r_t.sum(dim=1, keepdim=True)
    mean = (0.5 * (r_s + r_t)).clamp_min(torch.finfo(torch.float32).tiny)
    js = 0.5 * torch.xlogy(r_s, r_s / mean).sum(dim=1) + 0.5 * torch.xlogy(r_t, r_t / mean).sum(dim=1)
    entropy = (p_s * a_s).sum(dim=1)
    top_s, top_t = p_s.amax(dim=1), p_t.amax(dim=1)
    gate = top_t / (top_t + top_s)
    return gate * js + (1.0 - gate) * entropy


def _ours_score(student: Float32, teacher: Float32, q_s: float, q_t: float) -> Float32:
    return cf.score(student, teacher, q_student=q_s, q_teacher=q_t)


def _torch_score(student: Float32, teacher: Float32, q_s: float, q_t: float) -> Float32:
    a_s, a_t = (_torch_nonconformity(torch.from_numpy(z)) for z in (student, teacher))
    return _torch_delta(a_s, a_t, q_s, q_t).numpy()


def _reference_score(student: Float32, teacher: Float32, q_s: float, q_t: float) -> Float32:
    return reference.score(student, teacher, q_s, q_t).delta


@lru_cache(maxsize=1)
def _target(shape: tuple[int, ...]) -> torch.Tensor:
    # Touched beforehand: a floor is not to pay for fresh pages.
    return torch.zeros(shape)


def _copy(*matrices: Any) -> None:
    for z in matrices:
        if isinstance(z, np.ndarray):
            _target(z.shape).copy_(torch.from_numpy(z))


def _copy_exp(*matrices: Any) -> None:
    _copy(*matrices)
    for z in matrices:
        if isinstance(z, np.ndarray):
            _target(z.shape).exp_()


_FLOORS = {
    "floor: copy of the input": Contender(_copy, "torch"),
    "floor: copy, then exp": Contender(_copy_exp, "torch"),
}

SCORERS = {
    OURS: Contender(_ours_score, ""),
    "plain torch": Contender(_torch_score, "torch"),
    "NumPy reference": Contender(_reference_score, "numpy float64"),
    **_FLOORS,
}


def _ours_thresholds_and_score(student: Float32, teacher: Float32, k_s: float, k_t: float) -> cf.SizedScores:
    return cf.score_at_sizes(student, teacher, student_size=k_s, teacher_size=k_t)


def _torch_thresholds_and_score(student: Float32, teacher: Float32, k_s: float, k_t: float) -> cf.SizedScores:
    a_s, a_t = (_torch_nonconformity(torch.from_numpy(z)) for z in (student, teacher))
    q_s, q_t = _torch_threshold(a_s, k_s), _torch_threshold(a_t, k_t)
    return cf.SizedScores(_torch_delta(a_s, a_t, q_s, q_t).numpy(), q_s, q_t)


SCORERS_WITH_THRESHOLDS = {
    OURS: Contender(_ours_thresholds_and_score, ""),
    "plain torch": Contender(_torch_thresholds_and_score, "torch"),
    **_FLOORS,
}


def _torch_kthvalue(logits: Float32, size: float) -> float:
    return _torch_threshold(_torch_nonconformity(torch.from_numpy(logits)), size)


def _torch_topk(logits: Float32, size: float) -> float:
    scores = _torch_nonconformity(torch.from_numpy(logits)).flatten()
    rank = min(math.ceil(size * len(logits)), scores.numel())
    return float(torch.topk(scores, rank, largest=False, sorted=False).values.max())


THRESHOLDS = {
    OURS: Contender(cf.target_size_threshold, ""),
    "torch kthvalue": Contender(_torch_kthvalue, "torch"),
    "torch topk": Contender(_torch_topk, "torch"),
    "NumPy reference (partition)": Contender(reference.target_size_threshold, "numpy float64"),
    **_FLOORS,
}


# ---------------------------------------------------------------------------------------------------------------------
# k-means: the same first centroids, the same number of updates, and the labels for the last centroids


class Clustered(NamedTuple):
    """Centroids and the nearest of them for each row."""

    centroids: Float32
    labels: npt.NDArray[Any]


def _ours_kmeans(x: Float32, start: Float32, weights: Float32 | None, n_iter: int) -> Clustered:
    found = cf.weighted_kmeans(x, len(start), weights=weights, init=start, max_iter=n_iter, tol=0.0)
    return Clustered(found.centroids, found.labels)


def _faiss_kmeans(x: Float32, start: Float32 | int, weights: Float32 | None, n_iter: int) -> Clustered:
    n_clusters = start if isinstance(start, int) else len(start)
    kmeans = import_faiss().Kmeans(
        x.shape[1],
        n_clusters,
        niter=n_iter,
        max_points_per_centroid=len(x),  # all rows, no sample
        min_points_per_centroid=1,  # no warning
    )
    kmeans.train(x, weights=weights, init_centroids=None if isinstance(start, int) else start)
    _, labels = kmeans.assign(x)
    return Clustered(kmeans.centroids, labels)


def _sklearn_kmeans(x: Float32, start: Float32, weights: Float32 | None, n_iter: int) -> Clustered:
    from sklearn.cluster import KMeans

    found = KMeans(len(start), init=start, n_init=1, max_iter=n_iter, tol=0.0).fit(x, sample_weight=weights)
    return Clustered(found.cluster_centers_, found.labels_)


# Rows whose products with all centroids are formed at once: faster than all rows at once, and far less memory.
_TORCH_ROWS = 4096


def _torch_kmeans(x: Float32, start: Float32, weights: Float32 | None, n_iter: int) -> Clustered:
    rows, centroids = torch.from_numpy(x), torch.from_numpy(start).clone()
    w = torch.ones(len(x)) if weights is None else torch.from_numpy(weights)
    weighted = rows if weights is None else rows * w[:, None]

    def nearest() -> torch.Tensor:
        half_squares = 0.5 * (centroids * centroids).sum(dim=1)
        return torch.cat([(half_squares - part @ centroids.T).argmin(dim=1) for part in rows.split(_TORCH_ROWS)])

    for _ in range(n_iter):
        labels = nearest()
        sums = torch.zeros_like(centroids).index_add_(0, labels, weighted)
        mass = torch.zeros(len(centroids)).index_add_(0, labels, w)
        centroids = torch.where(mass[:, None] > 0.0, sums / mass[:, None], centroids)
    return Clustered(centroids.numpy(), nearest().numpy())


def _superkmeans(x: Float32, start: Float32, weights: Float32 | None, n_iter: int, *, hierarchical: bool) -> Clustered:
    from superkmeans import SuperKMeans

    kmeans = SuperKMeans(
        len(start),
        x.shape[1],
        hierarchical=hierarchical,
        iters=n_iter,
        sampling_fraction=1.0,  # all rows, no sample
        max_points_per_cluster=len(x),
        n_threads=torch.get_num_threads(),
        early_termination=False,
    )
    centroids = kmeans.train(x)
    return Clustered(centroids, kmeans.assign_training_points(x, centroids))


def _fastkmeans(x: Float32, start: Float32, weights: Float32 | None, n_iter: int) -> Clustered:
    from fastkmeans import FastKMeans

    kmeans = FastKMeans(x.shape[1], len(start), niter=n_iter, tol=0.0, gpu=False, use_triton=False)
    kmeans.train(x)
    return Clustered(kmeans.centroids, kmeans.predict(x))


def _ours_kmeans_avx2(x: Float32, start: Float32, weights: Float32 | None, n_iter: int) -> Clustered:
    before = _core.simd_level()
    _core.set_simd_level("avx2")
    try:
        return _ours_kmeans(x, start, weights, n_iter)
    finally:
        _core.set_simd_level(before)


KMEANS = {
    OURS: Contender(_ours_kmeans, ""),
    **({OURS_AVX2: Contender(_ours_kmeans_avx2, "cpu (avx2)")} if _core.detected_simd_level() != "scalar" else {}),
    "FAISS": Contender(_faiss_kmeans, "faiss", "faiss"),
    "scikit-learn Lloyd": Contender(_sklearn_kmeans, "scikit-learn", "sklearn"),
    "SuperKMeans, flat": Contender(partial(_superkmeans, hierarchical=False), "superkmeans", "superkmeans", False),
    "SuperKMeans, hierarchical": Contender(
        partial(_superkmeans, hierarchical=True), "superkmeans", "superkmeans", False
    ),
    "fastkmeans": Contender(_fastkmeans, "fastkmeans, torch", "fastkmeans", False),
    "plain torch": Contender(_torch_kmeans, "torch"),
}


# ---------------------------------------------------------------------------------------------------------------------
# The query


# The published score on every row.
PUBLISHED_SCORE = cf.CCMAConfig(acquisition="delta", calibration="target_size", head="published")


class Picked(NamedTuple):
    """Picks and their δ."""

    indices: Int64
    scores: Float32
    report: cf.Report | None


def _ours_query(
    features: Float32,
    image_features: Float32,
    class_features: Float32,
    student_logits: Float32,
    labels: Int64,
    budget: int,
    config: cf.CCMAConfig,
) -> Picked:
    teacher = cf.Teacher(image_features, class_features, config.temperature)
    picks = cf.select(features, budget, labels=labels, teacher=teacher, student_logits=student_logits, config=config)
    return Picked(picks.indices, picks.scores, picks.report)


def _plain_query(
    features: Float32,  # unused: the student's logits are given and the teacher has features
    image_features: Float32,
    class_features: Float32,
    student_logits: Float32,
    labels: Int64,
    budget: int,
    config: cf.CCMAConfig,
) -> Picked:
    """The published steps with torch and FAISS; `config` gives their constants."""
    rng = np.random.default_rng(0)
    pool = np.flatnonzero(labels < 0)
    if config.pool_limit is not None and pool.size > config.pool_limit:
        pool = rng.choice(pool, config.pool_limit, replace=False)
    images = functional.normalize(torch.from_numpy(image_features[pool]))

    n_rows = config.subpool_rows(pool.size, budget)
    if n_rows < pool.size:
        kept = _faiss_representatives(
            images.numpy(), config.cluster_count(pool.size, n_rows), n_rows, None, config.subpool_max_iter
        )
        pool, images = pool[kept], images[torch.from_numpy(kept)]

    classes = functional.normalize(torch.from_numpy(class_features))
    a_s = _torch_nonconformity(torch.from_numpy(student_logits[pool]))
    a_t = _torch_nonconformity(images @ classes.T / config.temperature)
    q_s, q_t = _torch_threshold(a_s, config.student_set_size), _torch_threshold(a_t, config.teacher_set_size)
    if config.nonempty == "raise":
        q_s, q_t = max(q_s, float(a_s.amin(dim=1).max())), max(q_t, float(a_t.amin(dim=1).max()))
    delta = _torch_delta(a_s, a_t, q_s, q_t)

    values, candidates = torch.topk(delta, min(config.kappa * budget, len(delta)))
    picks = _faiss_representatives(
        images[candidates].numpy(),
        config.cluster_count(len(candidates), budget),
        budget,
        values.numpy() if config.weighted_coverage else None,
        config.kmeans_max_iter,
    )
    return Picked(pool[candidates.numpy()[picks]], values.numpy()[picks], None)


def _faiss_representatives(
    x: Float32, n_clusters: int, n_picks: int, weights: Float32 | None, n_iter: int
) -> npt.NDArray[np.int64]:
    """The ⌈picks / clusters⌉ rows nearest to each centroid of a k-means by FAISS, cut to `n_picks`."""
    x = np.ascontiguousarray(x)
    centroids, labels = _faiss_kmeans(x, n_clusters, weights, n_iter)
    squared = ((x - centroids[labels]) ** 2).sum(axis=1)
    order = np.lexsort((squared, labels))
    counts = np.bincount(labels, minlength=n_clusters)
    turn = np.arange(labels.size) - np.repeat(np.cumsum(counts) - counts, counts)
    first = order[np.argsort(turn, kind="stable")]
    return first[:n_picks]


QUERIES = {
    OURS: Contender(_ours_query, ""),
    "plain torch + FAISS": Contender(_plain_query, "torch, faiss", "faiss"),
}


# ---------------------------------------------------------------------------------------------------------------------
# The student


class Trained(NamedTuple):
    """A function from rows to classes, and the epochs or iterations that it took to learn it."""

    predict: Callable[[Float32], npt.NDArray[np.int64]]
    n_epochs: int


def _ours_head(x: Float32, y: Int64, n_classes: int, seed: int = 0) -> Trained:
    head = cf.LinearHead(n_classes, random_state=seed).fit(x, y)
    return Trained(head.predict, head.n_iter_)


def _torch_head(x: Float32, y: Int64, n_classes: int, seed: int = 0) -> Trained:
    """The published head's recipe by the ordinary modules of PyTorch."""
    constants = cf.CCMAConfig()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = torch.nn.Sequential(
            torch.nn.BatchNorm1d(x.shape[1], affine=False),
            torch.nn.Dropout(constants.dropout),
            torch.nn.Linear(x.shape[1], n_classes),
        )
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=constants.learning_rate, weight_decay=constants.weight_decay
        )
        inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
        best_loss, best, stale, epoch = math.inf, None, 0, 0
        while epoch < constants.max_epochs and stale < constants.patience:
            epoch += 1
            total = 0.0
            for batch in torch.randperm(len(x)).split(constants.batch_size):
                loss = functional.cross_entropy(model(inputs[batch]), targets[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item() * len(batch)
            stale += 1
            if total / len(x) < best_loss - constants.min_gain:
                best_loss, stale = total / len(x), 0
                best = {name: value.clone() for name, value in model.state_dict().items()}
    if best is not None:
        model.load_state_dict(best)
    model.eval()

    def predict(rows: Float32) -> npt.NDArray[np.int64]:
        with torch.no_grad():
            return model(torch.from_numpy(rows)).argmax(dim=1).numpy()

    return Trained(predict, epoch)


# Of the two regressions that are compared, both in the same scale: they have one optimum.
_PENALTY = 0.03


def _our_regression(penalty: float | str) -> Callable[..., Trained]:
    def run(x: Float32, y: Int64, n_classes: int) -> Trained:
        head = cf.LogisticHead(n_classes, penalty=penalty).fit(x, y)
        return Trained(head.predict, head.n_iter_)

    return run


def _sklearn_regression(x: Float32, y: Int64, n_classes: int) -> Trained:
    from sklearn.linear_model import LogisticRegression

    scaling = Scaling.of(x)
    # By default it stops earlier, with a point less of accuracy.
    model = LogisticRegression(C=1.0 / _PENALTY, fit_intercept=False, tol=1e-6, max_iter=1000)
    model.fit(scaling(x), y)
    return Trained(lambda rows: model.predict(scaling(rows)), int(model.n_iter_.max()))


HEADS = {
    OURS: Contender(_ours_head, ""),
    "plain torch": Contender(_torch_head, "torch"),
}

REGRESSIONS = {
    f"{OURS}, logistic": Contender(_our_regression("auto"), ""),
    f"{OURS}, logistic, penalty {_PENALTY}": Contender(_our_regression(_PENALTY), ""),
    f"scikit-learn, logistic, penalty {_PENALTY}": Contender(_sklearn_regression, "NumPy", "sklearn"),
}


def our_backend() -> str:
    """The backend that "auto" means here."""
    return choose_backend().describe()
