"""A query on several ranks, all of them in this process: the picks are those of one."""

from __future__ import annotations

import re
import warnings
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import ccma_fast as cf
from ccma_fast.backends.cuda.device import device
from ccma_fast.backends.protocol import over_parts
from ccma_fast.pool.derived import Runs
from ccma_fast.query import select as select_module
from ccma_fast.query.arguments import checked_arguments
from ccma_fast.query.ranks.holder import Holder
from ccma_fast.query.ranks.run import led, opened, sources_of
from ccma_fast.query.ranks.serving import executed
from ccma_fast.query.ranks.shipping import loaded
from ccma_fast.system.pickled import packed

_NOT_GIVEN = ("labels", "class_names", "teacher", "student", "student_logits", "config", "chunk_size", "memory_limit")
_NO_LIMITS = ("exclude", "pending", "include", "min_distance", "class_distribution")
_DEFAULTS: dict[str, Any] = {**dict.fromkeys(_NOT_GIVEN + _NO_LIMITS), "random_state": 0, "backend": "auto"}


class InProcess:
    """Every rank's commands, one after the other; counts as :class:`ccma_fast.system.ranks.Ranks` does."""

    def __init__(self, holders: list[Holder]) -> None:
        self.holders = holders
        self.bytes_exchanged = self.n_messages = 0

    def each(self, command: bytes) -> list[Any]:
        found = [executed(holder, command) for holder in self.holders]
        self._count(("each", command), *map(_n_bytes, found[1:]))
        return found

    def total(self, command: bytes) -> npt.NDArray[np.int64]:
        found = [executed(holder, command) for holder in self.holders]
        # gloo adds pieces of arrays around a ring, and then sends each piece's sum to the first rank.
        self._count(("total", command), *(array.nbytes + array.nbytes // len(found) for array in found[1:]))
        total: npt.NDArray[np.int64] = np.sum(found, axis=0)
        return total

    def _count(self, sent: tuple[str, bytes], *received: int) -> None:
        self.bytes_exchanged += _n_bytes(sent) * len(received) + sum(received)
        self.n_messages += 2


def _n_bytes(value: Any) -> int:
    return sum(piece.nbytes for piece in packed(value))


def dealt_anyhow(n_rows: int, n_ranks: int, rng: np.random.Generator, n_runs: int = 12) -> list[Runs]:
    """Runs of rows, each given to any rank; some may have none."""
    bounds = np.unique(np.concatenate([[0, n_rows], rng.integers(0, n_rows + 1, n_runs)]))
    owner = rng.integers(0, n_ranks, bounds.size - 1)
    return [Runs(bounds[:-1][owner == rank], bounds[1:][owner == rank]) for rank in range(n_ranks)]


def selected(runs: list[Runs], features: Any, budget: int, **options: Any) -> cf.Selection:
    return counted(runs, features, budget, **options)[0]


def counted(
    runs: list[Runs], features: Any, budget: int, *, explain: bool = False, **options: Any
) -> tuple[cf.Selection, InProcess]:
    """The picks, and what has counted the bytes between the ranks."""
    arguments = opened(checked_arguments(features, budget, **{**_DEFAULTS, **options}))
    sources = sources_of(arguments)
    backend = over_parts(arguments.backend)
    assert backend is not None
    holders = [Holder(sources, backend, of_rank, arguments.memory) for of_rank in runs]
    run = partial(select_module._with_ids, explain=explain)
    transport = InProcess(holders)
    return loaded(led(transport, holders[0], arguments, runs, run), holders[0].resolve), transport


def assert_same(found: cf.Selection, expected: cf.Selection) -> None:
    assert np.array_equal(found.indices, expected.indices)
    assert np.array_equal(found.scores, expected.scores, equal_nan=True)
    assert np.array_equal(found.represents, expected.represents)
    assert found.ids == expected.ids
    assert repr(told(found)) == repr(told(expected))


def told(picks: cf.Selection) -> dict[str, Any]:
    """All that a selection tells, but for the backend, times, reads, memory and the plan."""
    report = {**vars(picks.report)}
    for name in ("backend", "n_ranks", "stages", "plan"):
        report.pop(name)
    if picks.explanation is not None:
        report |= {name: value for name, value in vars(picks.explanation).items() if name != "combined"}
    return report


class Case:
    def __init__(self, seed: int, n: int = 600) -> None:
        rng = np.random.default_rng(seed)
        self.y = rng.integers(0, 5, n)
        self.x = rng.standard_normal((n, 16), dtype=np.float32) + 2 * np.eye(5, 16, dtype=np.float32)[self.y]
        self.v = rng.standard_normal((n, 12), dtype=np.float32) + 2 * np.eye(5, 12, dtype=np.float32)[self.y]
        self.t = np.eye(5, 12, dtype=np.float32)
        self.labels = np.full(n, -1)
        some = rng.choice(n, 40, replace=False)
        self.labels[some] = self.y[some]

    def teacher(self) -> cf.Teacher:
        return cf.Teacher(self.v, self.t, class_names=list("abcde"))


_DELTA = cf.CCMAConfig(acquisition="delta")

OPTIONS: dict[str, Any] = {
    "default": {},
    "no-teacher": {"teacher": None},
    "trust": {"config": cf.CCMAConfig(acquisition="trust")},
    "delta": {"config": _DELTA},
    "published": {"config": cf.CCMAConfig.paper("cifar100")},
    "sizes": {"config": cf.CCMAConfig(acquisition="delta", calibration="target_size")},
    "aps": {"config": cf.CCMAConfig(acquisition="delta", nonconformity="aps")},
    "raise": {"config": cf.CCMAConfig(acquisition="delta", nonempty="raise")},
    "reweight": {"config": cf.CCMAConfig(acquisition="delta", reweight=True)},
    "subpool": {"config": cf.CCMAConfig(acquisition="delta", subpool_size=100)},
    "subpool-sample": {"config": cf.CCMAConfig(acquisition="delta", subpool_size=100, subpool_method="sample")},
    "subpool-two-level": {"config": cf.CCMAConfig(acquisition="delta", subpool_size=100, subpool_method="two-level")},
    "spaced": {"min_distance": 0.6},
    "spaced-far": {"min_distance": 1.1},
    "shares": {"class_distribution": [0.5, 0.2, 0.1, 0.1, 0.1]},
    "shares-delta": {"class_distribution": [0.5, 0.2, 0.1, 0.1, 0.1], "config": _DELTA},
    "masks": {"exclude": np.arange(0, 600, 7), "pending": np.arange(1, 600, 50), "include": np.arange(0, 450)},
    "cold": {"labels": None, "teacher": None},
    "cold-teacher": {"labels": None},
    "cold-trust": {"labels": None, "config": cf.CCMAConfig(acquisition="trust")},
    "cold-shares": {"labels": None, "class_distribution": [0.5, 0.2, 0.1, 0.1, 0.1]},
    "cold-covered": {"labels": np.where(np.arange(600) % 60 == 3, 2, -1), "teacher": None},
    "cold-spaced": {"labels": None, "teacher": None, "min_distance": 0.9},
}


_N_RANKS = (1, 2, 3, 7)


@pytest.mark.parametrize(
    ("name", "n_ranks"),
    [
        # One number of ranks for each option, all numbers in turn.
        pytest.param(name, n_ranks, marks=() if i % len(_N_RANKS) == k else pytest.mark.slow)
        for i, name in enumerate(OPTIONS)
        for k, n_ranks in enumerate(_N_RANKS)
    ],
)
def test_picks_are_those_of_one_process(name: str, n_ranks: int) -> None:
    case = Case(0)
    options = {"labels": case.labels, "teacher": case.teacher(), **OPTIONS[name]}
    expected = cf.select(case.x, 20, explain=True, **options)
    runs = dealt_anyhow(len(case.x), n_ranks, np.random.default_rng(n_ranks))
    found = selected(runs, case.x, 20, explain=True, **options)
    assert_same(found, expected)


@pytest.mark.parametrize("seed", range(3))
def test_one_pass_gives_thresholds_and_scores_of_many_rows(seed: int) -> None:
    case = Case(seed, n=3000)
    options = {"labels": case.labels, "teacher": case.teacher(), **OPTIONS["sizes"]}
    runs = dealt_anyhow(len(case.x), 3, np.random.default_rng(seed))
    assert_same(selected(runs, case.x, 20, **options), cf.select(case.x, 20, **options))


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 112))])
def test_any_pool(seed: int, tmp_path: Path) -> None:
    """A pool of any size, in uneven shards, asked for anything."""
    rng = np.random.default_rng([22, seed])
    n, n_classes, n_columns = int(rng.integers(8, 500)), int(rng.integers(2, 7)), int(rng.integers(3, 24))
    y = rng.integers(0, n_classes, n)
    dtype = rng.choice([np.float16, np.float32])
    x = (rng.standard_normal((n, n_columns)) + 3 * rng.standard_normal((n_classes, n_columns))[y]).astype(dtype)
    if rng.random() < 0.2:
        x[rng.integers(0, n, n // 2)] = x[0]  # equal rows
    cuts = np.sort(rng.integers(0, n + 1, rng.integers(0, 6)))
    for k, part in enumerate(np.split(x, cuts)):
        np.save(tmp_path / f"part-{k:02d}.npy", part)
    labels = np.full(n, -1)
    n_labelled = int(rng.choice([0, 1, n // 10, n // 3]))
    some = rng.choice(n, n_labelled, replace=False)
    labels[some] = y[some]
    options: dict[str, Any] = {"labels": labels, "random_state": seed}
    logits = (rng.standard_normal((n, n_classes)) + 2 * np.eye(n_classes)[y]).astype(np.float32)
    if (kind := rng.integers(0, 3)) == 1:
        features = (rng.standard_normal((n, 8)) + 3 * np.eye(n_classes, 8)[y]).astype(np.float32)
        options["teacher"] = cf.Teacher(features, np.eye(n_classes, 8, dtype=np.float32))
    elif kind == 2:
        options["teacher"] = cf.Teacher.from_logits(logits)
    config: dict[str, Any] = {"acquisition": str(rng.choice(["auto", "delta", "coverage", "trust"]))}
    if config["acquisition"] == "delta":
        config["calibration"] = str(rng.choice(["coverage", "target_size"]))
        config["nonempty"] = str(rng.choice(["top1", "raise"]))
        config["nonconformity"] = str(rng.choice(["lac", "aps", "raps"]))
        if n > 60 and rng.random() < 0.5:
            config |= {"subpool_size": int(n // 3), "pool_limit": int(rng.choice([n // 2, n]))}
    options["config"] = cf.CCMAConfig(**config)
    if rng.random() < 0.2:
        options["student_logits"] = logits + rng.standard_normal(logits.shape).astype(np.float32)
    if rng.random() < 0.3:
        options["exclude"] = rng.random(n) < 0.3
    if rng.random() < 0.3:
        options["include"] = rng.random(n) < 0.6
    if rng.random() < 0.3:
        options["pending"] = np.flatnonzero(rng.random(n) < 0.05)
    if rng.random() < 0.3:
        options["min_distance"] = float(rng.choice([0.05, 0.5, 1.2]))
    if rng.random() < 0.2 and ("teacher" in options or "student_logits" in options):
        options["class_distribution"] = rng.dirichlet(np.ones(n_classes)).round(3) + 0.01
    budget = int(rng.integers(1, 40))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cf.TeacherWarning)
        try:
            expected: Any = cf.select(tmp_path, budget, explain=True, **options)
        except ValueError as error:
            expected = error
        for n_ranks in (1, 2, 3, 7):
            runs = dealt_anyhow(n, n_ranks, rng)
            if isinstance(expected, ValueError):
                with pytest.raises(ValueError, match=re.escape(str(expected))):
                    selected(runs, tmp_path, budget, explain=True, **options)
            else:
                assert_same(selected(runs, tmp_path, budget, explain=True, **options), expected)


@pytest.fixture
def exact_products(has_gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter multiplies tiles with NumPy, whose rounding depends on where in a tile a row lies.

    That of a GPU does not. Sums in float64 of products of float16 numbers are as good as exact.
    """
    if has_gpu:
        return
    interpreter = import_module("triton.runtime.interpreter")

    def create_dot(_: Any, a: Any, b: Any, total: Any, *__: Any) -> Any:
        found = np.matmul(a.data.astype(np.float64), b.data.astype(np.float64)) + total.data
        return interpreter.TensorHandle(found.astype(total.data.dtype), total.dtype.scalar)

    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_dot", create_dot)


# Few iterations, and below few picks: the interpreter takes its time for each.
_SHORT = {"cold, short": {**OPTIONS["cold"], "config": cf.CCMAConfig(kmeans_max_iter=2)}}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", [*_SHORT, *(pytest.param(name, marks=pytest.mark.slow) for name in OPTIONS)])
def test_picks_are_those_of_one_device(exact_products: None, name: str) -> None:
    n = 60 if name in _SHORT else 100
    case = Case(1, n=n)
    rows, images = (torch.from_numpy(m).to(device()) for m in (case.x, case.v))
    options: dict[str, Any] = {"labels": case.labels, "backend": "cuda", "teacher": cf.Teacher(images, case.t)}
    options |= {**OPTIONS, **_SHORT}[name]
    options |= {key: options[key][options[key] < n] for key in ("exclude", "pending", "include") if key in options}
    if options["labels"] is not None:
        options["labels"] = options["labels"][:n]
    budget, dealt = (3, (2,)) if name in _SHORT else (8, (1, 3))
    expected = cf.select(rows, budget, explain=True, **options)
    for n_ranks in dealt:
        runs = dealt_anyhow(len(case.x), n_ranks, np.random.default_rng(n_ranks))
        assert_same(selected(runs, rows, budget, explain=True, **options), expected)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_target_sizes_on_a_device(exact_products: None) -> None:
    case, rng = Case(2, n=60), np.random.default_rng(2)
    student, teacher = (rng.standard_normal((60, 5), dtype=np.float32) + 2 * np.eye(5)[case.y] for _ in range(2))
    logits = [torch.from_numpy(z.astype(np.float32)).to(device()) for z in (student, teacher)]
    config = cf.CCMAConfig(acquisition="delta", calibration="target_size", kmeans_max_iter=2)
    options: dict[str, Any] = {"labels": case.labels, "backend": "cuda", "config": config}
    options |= {"student_logits": logits[0], "teacher": cf.Teacher.from_logits(logits[1])}
    rows = torch.from_numpy(case.x).to(device())
    runs = dealt_anyhow(60, 2, rng)
    assert_same(selected(runs, rows, 3, **options), cf.select(rows, 3, **options))


def test_a_student_that_cannot_be_sent_is_refused() -> None:
    class Student:
        """Local classes cannot be pickled."""

        def fit(self, x: Any, y: Any) -> None:
            self.classes_ = np.unique(y)

        def predict_proba(self, x: Any) -> Any:
            return np.full((len(x), self.classes_.size), 1 / self.classes_.size)

    case = Case(0)
    runs = dealt_anyhow(len(case.x), 2, np.random.default_rng(0))
    with pytest.raises(TypeError, match="sent to other ranks must be possible to pickle, such as the student"):
        selected(runs, case.x, 8, labels=case.labels, student=Student())


def test_a_student_of_another_library() -> None:
    from sklearn.linear_model import LogisticRegression

    case = Case(0)
    runs = dealt_anyhow(len(case.x), 3, np.random.default_rng(0))
    options = {"labels": case.labels, "teacher": case.teacher(), "student": LogisticRegression()}
    assert_same(selected(runs, case.x, 12, **options), cf.select(case.x, 12, **options))


@pytest.mark.parametrize("n_ranks", [2, 3])
def test_what_is_exchanged_does_not_grow_with_the_pool(n_ranks: int) -> None:
    """But for what is said to."""
    exchanged = []
    for n in (6000, 24_000):
        case = Case(0, n=n)
        runs = [Runs([k * n // n_ranks], [(k + 1) * n // n_ranks]) for k in range(n_ranks)]
        labels = np.where(np.arange(n) < 60, case.y, -1)
        config = cf.CCMAConfig(candidate_limit=200)
        exchanged.append(selected(runs, case.x, 10, labels=labels, config=config).report.bytes_exchanged)
    assert exchanged[1] < 1.1 * exchanged[0]
