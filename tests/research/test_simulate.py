"""The loop for research: its protocol, what is written down, resuming, worker processes, and the command line."""

from __future__ import annotations

import csv
import fcntl
import functools
import importlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast import reference
from ccma_fast.cli import main
from ccma_fast.pool.open import open_rows
from ccma_fast.research import rounds, workers
from ccma_fast.research.metrics import macro_auroc, macro_f1
from ccma_fast.research.report import figures, report
from ccma_fast.research.rounds import METRICS
from ccma_fast.research.run_folder import RunFolder, read_map, read_results
from ccma_fast.strategies import registry
from ccma_fast.system import bounded_read

N, M, D, C = 240, 80, 6, 4

# A student that needs no PyTorch and no seed, and strategies, in a module that worker processes can import.
MODULE = '''
import os, signal, time
import numpy as np

class Centroids:
    """Posteriors by the distance to the classes' mean rows."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.means = np.array([X[y == c].mean(axis=0, dtype=np.float64) for c in self.classes_])
        return self

    def predict_proba(self, X):
        logits = -((X[:, None] - self.means) ** 2).sum(axis=2)
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        return p / p.sum(axis=1, keepdims=True)

class Noisy(Centroids):
    """The same with noise from a seed, as scikit-learn's estimators take it."""

    def __init__(self, random_state=None):
        self.random_state = random_state

    def get_params(self, deep=True):
        return {"random_state": self.random_state}

    def set_params(self, random_state):
        self.random_state = random_state

    def fit(self, X, y):
        super().fit(X, y)
        self.means += np.random.default_rng(self.random_state).standard_normal(self.means.shape)

def first(round):
    return round.unlabelled[: round.budget]

def dies(round):
    os.kill(os.getpid(), signal.SIGKILL)

def fails(round):
    raise ValueError("no such luck")

class Unlucky(LookupError):
    """An exception that is made of something else than a text."""

    def __init__(self, row, column):
        super().__init__(f"nothing at {row}, {column}")
        self.row = row

class Unsendable(Exception):
    def __reduce__(self):
        raise TypeError("not for others")

def looks_up(round):
    return {}["key"]

def divides(round):
    return 1 / 0

def stops(round):
    return next(iter([]))

def is_unlucky(round):
    raise Unlucky(3, 4)

def is_unsendable(round):
    raise Unsendable("secret")

def decodes(round):
    return b"\\xff".decode()

def sleeps(round):
    time.sleep(60)

def chance(round):
    return round.rng.choice(round.unlabelled, round.budget, replace=False)

def leaves(file, round):
    open(file, "w").close()
    return chance(round)
'''


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The module of that student and those strategies."""
    folder = tmp_path_factory.mktemp("module")
    (folder / "simulated_things.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    import simulated_things  # type: ignore[import-not-found]

    yield simulated_things
    sys.path.remove(str(folder))
    del sys.modules["simulated_things"]


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    rng = np.random.default_rng(5)
    y = rng.integers(C, size=N + M)
    x = (rng.standard_normal((N + M, D)) + 1.5 * np.eye(C, D)[y]).astype(np.float32)
    v = (rng.standard_normal((N, 5)) + np.eye(C, 5)[y[:N]]).astype(np.float32)
    return {"x": x[:N], "y": y[:N], "tx": x[N:], "ty": y[N:], "v": v, "t": np.eye(C, 5, dtype=np.float32)}


@pytest.fixture
def run(data: dict[str, Any], mine: Any) -> Callable[..., cf.Results]:
    """simulate on that data with that student."""

    def simulated(**changes: Any) -> cf.Results:
        given: dict[str, Any] = {
            "test_features": data["tx"],
            "test_labels": data["ty"],
            "student": mine.Centroids(),
            "seeds": [3, 7],
            "rounds": 3,
            "progress": False,
            **changes,
        }
        pool, labels = given.pop("features", data["x"]), given.pop("labels", data["y"])
        return cf.simulate(pool, labels, **given)

    return simulated


@pytest.fixture
def registered() -> Iterator[Callable[[str, Any], None]]:
    """Registers strategies that need no labels, and forgets them afterwards."""
    before = dict(registry._strategies), set(registry._without_labels)

    def register(name: str, strategy: Any) -> None:
        cf.strategies.register(name, needs_labels=False)(strategy)

    yield register
    for known, old in zip((registry._strategies, registry._without_labels), before, strict=True):
        known.clear()
        known.update(old)


def teacher(data: dict[str, Any]) -> cf.Teacher:
    return cf.Teacher(data["v"], data["t"], temperature=0.2)


def same(a: cf.Results, b: cf.Results) -> bool:
    """All but the timings are the same bits."""
    pairs = [(one[name], other[name]) for one, other in ((a.columns, b.columns), (a.picks, b.picks)) for name in one]
    return all(p.dtype == q.dtype and p.tobytes() == q.tobytes() for p, q in pairs)


def of(results: cf.Results, strategy: str, seed: int, columns: str = "columns") -> dict[str, Any]:
    """The rows of one strategy and seed."""
    table = getattr(results, columns)
    own = (table["strategy"] == strategy) & (table["seed"] == seed)
    return {name: column[own] for name, column in table.items()}


# --- the protocol -----------------------------------------------------------------------------------------------------


def test_the_paper_is_the_default(data: Any) -> None:
    import inspect

    defaults = {name: p.default for name, p in inspect.signature(cf.simulate).parameters.items()}
    assert defaults["seeds"] == (1, 10, 100, 1000, 10000)
    assert defaults["rounds"] == 20
    assert defaults["start"] == "random"


def test_labels_and_picks(run: Any, data: Any) -> None:
    results = run(strategies=["ccma", "random", "margins"], teacher=teacher(data), rounds=4)
    assert results.strategies == ("ccma", "random", "margins")
    assert results.seeds == (3, 7)
    assert list(results.columns) == ["strategy", "seed", "round", "n_labels", *METRICS]
    starts = {}
    for strategy in results.strategies:
        for seed in results.seeds:
            rows, picks = of(results, strategy, seed), of(results, strategy, seed, "picks")
            assert rows["round"].tolist() == [0, 1, 2, 3, 4]
            assert rows["n_labels"].tolist() == [C * (r + 1) for r in range(5)]  # budget and first labels are C
            assert picks["round"].tolist() == np.repeat(range(5), C).tolist()
            assert picks["rank"].tolist() == list(range(C)) * 5
            assert np.unique(picks["row"]).size == 5 * C  # never a labelled row
            starts[strategy, seed] = tuple(picks["row"][:C])
    assert all(starts[strategy, seed] == starts["ccma", seed] for strategy, seed in starts)
    assert starts["ccma", 3] != starts["ccma", 7]
    stages = results.timings["stage"].reshape(-1, 4)
    assert (stages == ["select", "fit", "evaluate", "diagnose"]).all()
    assert (results.timings["seconds"] >= 0).all()


@pytest.mark.parametrize("with_teacher", [False, True])
@pytest.mark.parametrize("nonempty", ["top1", "raise"])
def test_every_number_of_a_round(run: Any, data: Any, mine: Any, with_teacher: bool, nonempty: str) -> None:
    """Recomputed from the picks with the public functions and the reference."""
    config = cf.CCMAConfig(
        acquisition="delta",
        calibration="target_size",
        student_set_size=1.5,
        teacher_set_size=1.2,
        nonempty=nonempty,
    )
    given = teacher(data) if with_teacher else None
    results = run(strategies=["random"], teacher=given, config=config, rounds=2, budget=9, n_start=11)
    rows, picks = of(results, "random", 7), of(results, "random", 7, "picks")
    assert rows["n_labels"].tolist() == [11, 20, 29]
    for r in range(3):
        labelled = np.sort(picks["row"][picks["round"] <= r])
        unlabelled = np.setdiff1d(np.arange(N), labelled)
        student = mine.Centroids().fit(data["x"][labelled], data["y"][labelled])

        def log_p(x: Any, student: Any = student) -> Any:
            whole = np.full((len(x), C), 1e-30)
            whole[:, student.classes_] = np.maximum(student.predict_proba(x), 1e-30)
            return np.log(whole).astype(np.float32)

        z = log_p(data["tx"])
        assert rows["accuracy"][r] == (z.argmax(axis=1) == data["ty"]).mean()
        assert rows["macro_f1"][r] == macro_f1(z.argmax(axis=1), data["ty"])
        assert rows["macro_auroc"][r] == macro_auroc(-reference.nonconformity(z).astype(np.float32), data["ty"])

        z, truth = log_p(data["x"][unlabelled]), data["y"][unlabelled]
        q = cf.target_size_threshold(z, 1.5, nonempty=nonempty)
        sets = cf.prediction_sets(z, q)
        assert rows["q_student"][r] == q
        assert rows["student_set_size"][r] == sets.sum(axis=1).mean()
        assert rows["student_coverage"][r] == sets[np.arange(truth.size), truth].mean()
        if not with_teacher:
            assert all(np.isnan(rows[name][r]) for name in METRICS if "teacher" in name or name == "overlap")
            assert np.isnan(rows["top1_disagreement"][r])
            continue
        images = data["v"][unlabelled] / np.linalg.norm(data["v"][unlabelled], axis=1, keepdims=True)
        zt = (images @ data["t"].T / 0.2).astype(np.float32)
        teacher_sets = cf.prediction_sets(zt, cf.target_size_threshold(zt, 1.2, nonempty=nonempty))
        assert rows["q_teacher"][r] == pytest.approx(cf.target_size_threshold(zt, 1.2, nonempty=nonempty), rel=1e-5)
        assert rows["teacher_set_size"][r] == teacher_sets.sum(axis=1).mean()
        assert rows["overlap"][r] == (sets & teacher_sets).sum(axis=1).mean()
        assert rows["teacher_coverage"][r] == teacher_sets[np.arange(truth.size), truth].mean()
        assert rows["top1_disagreement"][r] == (z.argmax(axis=1) != zt.argmax(axis=1)).mean()


@pytest.mark.parametrize("score", ["lac", "aps", "raps"])
@pytest.mark.parametrize("reweight", [False, True])
def test_coverage_calibration(run: Any, data: Any, score: str, reweight: bool) -> None:
    config = cf.CCMAConfig(alpha=0.2, n_folds=3, nonconformity=score, reweight=reweight)
    results = run(strategies=["random"], teacher=teacher(data), config=config, n_start=40, budget=20)
    labelled = np.sort(of(results, "random", 3, "picks")["row"][:40])
    unlabelled = np.setdiff1d(np.arange(N), labelled)
    directions = data["v"] / np.linalg.norm(data["v"], axis=1, keepdims=True)
    zt = (directions @ data["t"].T / 0.2).astype(np.float32)
    scores = cf.nonconformity_scores(zt[labelled], data["y"][labelled], score=score)
    if reweight:
        weights = cf.stratified_weights(zt[labelled].argmax(axis=1), zt[unlabelled].argmax(axis=1))
        q = cf.weighted_coverage_threshold(scores, 0.2, *weights)
    else:
        q = np.full(unlabelled.size, cf.coverage_threshold(scores, 0.2))
    sets = cf.prediction_sets(zt[unlabelled], q, score=score)
    truth, rows = data["y"][unlabelled], of(results, "random", 3)
    assert rows["q_teacher"][0] == pytest.approx(np.median(q), rel=1e-5)
    # One row's score may fall on either side: products are rounded in another order.
    assert rows["teacher_set_size"][0] == pytest.approx(sets.sum(axis=1).mean(), abs=2 / truth.size)
    assert rows["teacher_coverage"][0] == pytest.approx(sets[np.arange(truth.size), truth].mean(), abs=2 / truth.size)
    # Random rows are exchangeable with the rest; 4 standard deviations of a share of 40, and sets are whole classes.
    assert (rows["student_coverage"] > 0.8 - 4 * (0.16 / 40) ** 0.5).all()
    assert (rows["teacher_coverage"] > 0.8 - 4 * (0.16 / 40) ** 0.5).all()


def test_few_scores_promise_nothing(run: Any) -> None:
    strict = cf.CCMAConfig(acquisition="delta", calibration="coverage", alpha=0.1)
    few = run(strategies=["random"], config=strict, n_start=3, budget=1, rounds=1)
    assert (few.columns["q_student"] == np.inf).all()
    assert (few.columns["student_coverage"] == 1).all()


def test_the_default_student_is_seeded(run: Any) -> None:
    first, again = (run(student=None, strategies=["margins"], rounds=2) for _ in range(2))
    assert same(first, again)
    assert len({tuple(of(first, "margins", seed)["macro_auroc"]) for seed in (3, 7)}) == 2
    template = run(student=cf.LinearHead(max_epochs=5, random_state=99), strategies=["random"], rounds=2)
    other = run(student=cf.LinearHead(max_epochs=5, random_state=98), strategies=["random"], rounds=2)
    assert same(template, other)


def test_a_student_with_a_random_state_is_seeded_for_each_round(run: Any, mine: Any) -> None:
    given = mine.Noisy(random_state=5)
    results = run(student=given, strategies=["random"])
    assert same(results, run(student=mine.Noisy(random_state=6), strategies=["random"]))
    assert given.random_state == 5
    assert not hasattr(given, "means")
    assert np.unique(results.columns["q_student"]).size == results.columns["q_student"].size


def test_other_strategies_and_their_order_change_nothing(run: Any, data: Any) -> None:
    several = run(strategies=["margins", "ccma", "random", "entropy"], seeds=[7, 3], teacher=teacher(data))
    for strategy in ("ccma", "margins"):
        alone = run(strategies=[strategy], seeds=[3], teacher=teacher(data))
        for table in ("columns", "picks"):
            mine, theirs = of(alone, strategy, 3, table), of(several, strategy, 3, table)
            assert all(repr(mine[name].tolist()) == repr(theirs[name].tolist()) for name in mine)


@pytest.mark.usefixtures("restore_threads")
def test_jobs_and_threads_change_nothing(run: Any, data: Any, mine: Any, tmp_path: Path, registered: Any) -> None:
    registered("mine", mine.chance)  # a name that worker processes do not know
    given = {"strategies": ["ccma", "mine", mine.chance], "teacher": teacher(data), "start": "mine"}
    cf.set_num_threads(1)
    one = run(**given, out=tmp_path / "one")
    cf.set_num_threads(3)
    two = run(**given, out=tmp_path / "two", jobs=2)
    assert same(one, two)
    for name in ("results.csv", "picks.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_labels_can_run_out(run: Any) -> None:
    results = run(strategies=["random"], n_start=40, budget=100, rounds=2)
    assert results.columns["n_labels"].tolist() == [40, 140, 240] * 2
    assert np.isfinite(results.columns["q_student"]).tolist() == [True, True, False] * 2
    assert np.isfinite(results.columns["accuracy"]).all()


def test_the_first_labels_are_drawn_until_there_are_two_classes(run: Any) -> None:
    rare = np.where(np.arange(N) < 12, 1, 0)
    results = run(labels=rare, test_labels=np.arange(M) % 2, n_start=2, budget=1, rounds=1, seeds=range(8))
    for seed in range(8):
        start = of(results, "random", seed, "picks")["row"][:2]
        assert set(rare[start]) == {0, 1}
        assert tuple(of(results, "margins", seed, "picks")["row"][:2]) == tuple(start)


def test_a_start_that_never_finds_two_classes_says_so(run: Any, mine: Any, registered: Any) -> None:
    registered("lowest", mine.first)
    with pytest.raises(ValueError, match="the first 3 labels, chosen by 'lowest', were of one class 100 times"):
        run(labels=(np.arange(N) > 100).astype(int), test_labels=np.arange(M) % 2, n_start=3, start="lowest")
    results = run(start="lowest", n_start=20, strategies=["random"])
    assert of(results, "random", 3, "picks")["row"][:20].tolist() == list(range(20))


# --- strategies -------------------------------------------------------------------------------------------------------


def test_options_of_a_strategy(run: Any) -> None:
    strategies = [
        "ccma",
        "ccma:kappa=5,alpha=0.25,pool_limit=none,weighted_coverage=false,pick=highest",
        "ccma:paper,max_clusters=7",
        "margins:start=ccma",
    ]
    results = run(strategies=strategies, config=cf.CCMAConfig(pool_limit=200), rounds=1)
    configs = [results.record["contenders"][label]["config"] for label in strategies]
    plain = cf.CCMAConfig(pool_limit=200)
    changed = {"kappa": 5, "alpha": 0.25, "pool_limit": None, "weighted_coverage": False, "pick": "highest"}
    assert configs[0] == vars(plain)
    assert configs[1] == {**vars(plain), **changed}
    assert configs[2] == {**vars(cf.CCMAConfig.paper()), "max_clusters": 7}
    assert [results.record["contenders"][label]["start"] for label in strategies] == ["random"] * 3 + ["ccma"]
    starts = [of(results, label, 3, "picks")["row"][:C].tolist() for label in strategies]
    assert starts[0] == starts[1] == starts[2]
    assert starts[3] != starts[0]


def test_options_reach_the_strategy_and_the_diagnosis(run: Any, data: Any) -> None:
    strategies = ["ccma:paper", "ccma:paper,kappa=1", "ccma:paper,student_set_size=1.5,nonempty=top1"]
    results = run(strategies=strategies, teacher=teacher(data), rounds=1)
    picks = [of(results, label, 3, "picks")["row"].tolist() for label in results.strategies]
    assert picks[0] != picks[1]
    sizes = [of(results, label, 3)["student_set_size"][0] for label in strategies]
    assert sizes[0] == sizes[1] == C  # 5 classes are wanted, there are 4
    assert sizes[2] == pytest.approx(1.5, abs=0.1)


def test_callables_and_labels(run: Any, mine: Any) -> None:
    def last(state: cf.strategies.Round) -> Any:
        assert state.labels.flags.writeable is False
        return state.unlabelled[-state.budget :]

    class Chooser:
        def __call__(self, state: cf.strategies.Round) -> Any:
            return state.unlabelled[: state.budget]

    results = run(strategies=[mine.first, last, Chooser(), "random"], rounds=1)
    assert results.strategies == ("first", "last", "Chooser", "random")
    assert of(results, "first", 3, "picks")["row"].tolist() == of(results, "Chooser", 3, "picks")["row"].tolist()
    named = run(strategies={"a, b": mine.first, 'the "last"': last, "c": "random"}, rounds=1)
    assert named.strategies == ("a, b", 'the "last"', "c")
    assert of(named, 'the "last"', 3, "picks")["row"].tolist() == of(results, "last", 3, "picks")["row"].tolist()
    assert run(strategies="random", rounds=1).strategies == ("random",)


def test_a_name_of_the_package_is_not_taken_unnoticed(mine: Any, registered: Any) -> None:
    with pytest.warns(
        cf.StrategyReplacedWarning, match="own strategy ccma_fast.strategies.random.* means simulated_.*first"
    ):
        registered("random", mine.first)
    assert cf.strategies.find("random") is mine.first
    with pytest.warns(cf.StrategyReplacedWarning, match=r"'random' is the name of .* now means functools\.partial"):
        registered("random", functools.partial(mine.first))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        registered("mine", mine.first)
        registered("mine", mine.chance)  # one's own may change as often as one likes
        registered("mine", cf.strategies.find("ccma"))
        registered("mine", mine.first)
    own = registry.built_in["random"]
    registered("random", own)  # back again
    assert cf.strategies.find("random") is own


def test_a_replaced_name_is_another_run(run: Any, mine: Any, registered: Any, tmp_path: Path) -> None:
    run(strategies=["random"], rounds=1, out=tmp_path)
    with pytest.warns(cf.StrategyReplacedWarning):
        registered("random", mine.first)
    with pytest.raises(
        ValueError, match=r"its contenders.random.strategy is .*strategies.*, got .*simulated_things.first"
    ):
        run(strategies=["random"], rounds=1, out=tmp_path)


def masking(state: Any) -> Any:
    return np.ma.masked_array(state.unlabelled[: state.budget], np.arange(state.budget) == 0)


def unsure(state: Any) -> Any:
    return np.zeros(state.budget, int)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"strategies": ["nothing"]}, ValueError, "strategy must be one of .*'random'.*, got 'nothing'"),
        ({"strategies": []}, ValueError, "strategies must name at least one strategy, got none"),
        ({"strategies": 5}, TypeError, "strategies must be a sequence or a mapping, got int"),
        ({"strategies": [5]}, TypeError, "a strategy must be a name or callable with a Round, got int"),
        ({"strategies": {5: "random"}}, TypeError, "a strategy's label must be a string, got int"),
        ({"strategies": {"a\nb": "random"}}, ValueError, "label must be printable and not empty"),
        ({"strategies": ["random", "random"]}, ValueError, "distinct labels, got 'random' twice"),
        ({"strategies": ["ccma:kapa=5"]}, ValueError, "options among paper, start=, .*kappa=.*, got 'kapa=5'"),
        ({"strategies": ["ccma:"]}, ValueError, "options among paper, .* got ''"),
        ({"strategies": ["ccma:kappa"]}, ValueError, "options among paper, .* got 'kappa'"),
        ({"strategies": ["ccma:temperature=1"]}, ValueError, "options among paper, .* got 'temperature=1'"),
        ({"strategies": ["ccma:kappa=many"]}, ValueError, "kappa of strategy .* must be an integer, got 'many'"),
        ({"strategies": ["ccma:kappa=1_0"]}, ValueError, "kappa of strategy .* must be an integer, got '1_0'"),
        ({"strategies": ["ccma:alpha=٣"]}, ValueError, "alpha of strategy .* must be a number, got"),
        ({"strategies": ["ccma:alpha=low"]}, ValueError, "alpha of strategy .* must be a number, got 'low'"),
        ({"strategies": ["ccma:pick=best"]}, ValueError, "must be 'nearest' or 'highest', got 'best'"),
        ({"strategies": ["ccma:pool_limit=all"]}, ValueError, "must be an integer or 'none', got 'all'"),
        ({"strategies": ["ccma:weighted_coverage=1"]}, ValueError, "must be 'true' or 'false', got '1'"),
        ({"strategies": ["ccma:kappa=0"]}, ValueError, "kappa must be at least 1, got 0"),
        ({"strategies": ["ccma:dropout=0.5"]}, ValueError, "dropout is a constant of the default student"),
        ({"strategies": ["ccma:start=margins"]}, ValueError, "start of strategy .* must be one of .* got 'margins'"),
        ({"start": "entropy"}, ValueError, "start must be one of .*'random'.*, got 'entropy'"),
        ({"seeds": []}, ValueError, r"seeds must be at least one and distinct, got \[\]"),
        ({"seeds": [1, 1]}, ValueError, r"seeds must be at least one and distinct, got \[1, 1\]"),
        ({"seeds": [-1]}, ValueError, "seeds must be at least 0, got -1"),
        ({"seeds": [0.5]}, TypeError, "seeds must be an integer, got float"),
        ({"seeds": 5}, TypeError, "seeds must be a sequence of integers, got int"),
        ({"rounds": 0}, ValueError, "rounds must be at least 1, got 0"),
        ({"budget": 0}, ValueError, "budget must be at least 1, got 0"),
        ({"n_start": 1}, ValueError, "n_start must be at least 2, got 1"),
        ({"jobs": 0}, ValueError, "jobs must be at least 1, got 0"),
        ({"budget": 79}, ValueError, r"at most the 240 rows of the pool, got 4 \+ 3 × 79 = 241"),
        ({"labels": np.zeros(N, int)}, ValueError, "labels must be of at least two classes, got class 0 alone"),
        (
            {"labels": np.r_[np.arange(N - 1) % 4, -1]},
            ValueError,
            "labels must be known for every row, got none at",
        ),
        ({"labels": np.arange(N - 1) % 4}, ValueError, "labels has 239 rows but features has 240"),
        ({"test_labels": np.arange(M - 1) % 4}, ValueError, "test_labels has 79 rows but test_features has 80"),
        ({"test_labels": np.full(M, 0.5)}, ValueError, "test_labels must be whole numbers or NaN, got 0.5"),
        ({"test_features": np.ones((M, D + 1))}, ValueError, "test_features must have 6 columns as features, got 7"),
        ({"test_features": np.full((M, D), np.nan)}, ValueError, "test_features must be finite, got NaN .* at row 0"),
        ({"test_features": np.ones((0, D)), "test_labels": []}, ValueError, "test_labels must"),
        (
            {"teacher": cf.Teacher.from_logits(np.ones((N, 3)))},
            ValueError,
            "labels must be .* from 0 to 2, got 3",
        ),
        ({"teacher": cf.Teacher.from_logits(np.ones((9, C)))}, ValueError, "teacher_logits has 9 rows but features"),
        ({"teacher": cf.Teacher(np.zeros((N, 2)), np.eye(4, 2) + 1)}, ValueError, "zero-length vector at row 0"),
        ({"student": cf.LinearHead(3)}, ValueError, "labels must be classes from 0 to 2, got 3"),
        ({"student": object()}, TypeError, "student must have the methods fit and predict_proba"),
        ({"backend": "tpu"}, ValueError, "backend must be one of"),
        ({"strategies": [unsure]}, ValueError, "strategy 'unsure' with seed 3 in round 1: strategy unsure must return"),
        ({"strategies": [masking]}, ValueError, "in round 1: picks of strategy masking must have no masked"),
    ],
)
def test_mistakes(run: Any, changes: dict[str, Any], error: type[Exception], message: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(error, match=message):
        run(**changes, out=out)
    # Only a strategy's own mistake is found after the beginning.
    assert out.exists() == ("in round" in message)


# --- what is written, and resuming ------------------------------------------------------------------------------------


def contents(folder: Path, *, but: tuple[str, ...] = ()) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in but)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_files_hold_the_tables(run: Any, data: Any, tmp_path: Path) -> None:
    results = run(out=tmp_path / "run", teacher=teacher(data), strategies={"a, b": "ccma", "r": "random"})
    assert not list((tmp_path / "run").rglob("*.part"))
    for name, columns in (("results", results.columns), ("picks", results.picks), ("timings", results.timings)):
        with open(tmp_path / "run" / f"{name}.csv", newline="") as file:
            header, *rows = csv.reader(file)
        assert header == list(columns)
        for column, texts in zip(columns.values(), zip(*rows, strict=True), strict=True):
            assert np.array(texts).astype(column.dtype).tobytes() == column.tobytes()
    whole = json.loads((tmp_path / "run" / "results.json").read_text())
    assert whole.pop("results") == {name: column.tolist() for name, column in results.columns.items()}
    assert whole == json.loads((tmp_path / "run" / "run.json").read_text())
    assert whole["versions"]["numpy"] == np.__version__
    assert whole["data"]["features"]["shape"] == [N, D]
    assert set(whole["data"]) == {"features", "labels", "test_features", "test_labels", "teacher", "teacher_classes"}
    assert whole["contenders"]["a, b"]["config"]["kappa"] == cf.CCMAConfig().kappa


def test_json_has_null_for_nan_and_text_for_infinity(run: Any, tmp_path: Path) -> None:
    config = cf.CCMAConfig(acquisition="delta", calibration="coverage")
    run(strategies=["random"], config=config, n_start=3, budget=1, rounds=1, out=tmp_path / "run")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    whole = json.loads((tmp_path / "run" / "results.json").read_text(), parse_constant=refuse)
    assert set(whole["results"]["q_student"]) == {"inf"}
    assert set(whole["results"]["q_teacher"]) == {None}
    assert (read_results(tmp_path / "run").columns["q_student"] == np.inf).all()


def test_the_map(run: Any, data: Any, tmp_path: Path) -> None:
    results = run(out=tmp_path / "run", strategies=["random"])
    found = read_map(tmp_path / "run")
    assert found is not None
    assert found["rows"].tolist() == list(range(N))  # a small pool is shown whole
    assert found["classes"].tolist() == data["y"].tolist()
    centred = data["x"] - data["x"].mean(axis=0, dtype=np.float64)
    values = np.sort(np.linalg.eigvalsh(centred.T @ centred))[::-1]
    np.testing.assert_allclose((found["coordinates"] ** 2).sum(axis=0), values[:2], rtol=1e-6)
    assert results.columns["accuracy"].size
    assert read_map(tmp_path) is None


def test_the_map_of_one_column(run: Any, data: Any, tmp_path: Path) -> None:
    run(features=data["x"][:, :1], test_features=data["tx"][:, :1], strategies=["random"], out=tmp_path)
    found = read_map(tmp_path)
    assert found is not None
    assert found["coordinates"].shape == (N, 2)
    assert not found["coordinates"][:, 1].any()


def test_a_large_pool_is_shown_in_part_with_every_pick(run: Any, data: Any, tmp_path: Path) -> None:
    x, y = np.tile(data["x"], (40, 1)), np.tile(data["y"], 40)
    results = run(features=x, labels=y, strategies=["random"], out=tmp_path)
    found = read_map(tmp_path)
    assert found is not None
    assert 5000 <= found["rows"].size <= 5000 + results.picks["row"].size
    assert np.isin(results.picks["row"], found["rows"]).all()
    assert (np.diff(found["rows"]) > 0).all()


def test_a_map_that_would_fill_the_memory_is_not_unpacked(run: Any, tmp_path: Path) -> None:
    run(strategies=["random"], out=tmp_path)
    with np.load(tmp_path / "map.npz") as archive:
        content = {**archive, "rows": np.zeros(10**6, dtype=np.int64)}
    np.savez_compressed(tmp_path / "map.npz", **content)
    size = (tmp_path / "map.npz").stat().st_size
    with pytest.raises(
        cf.FileReadError, match=f"cannot read '.*map.npz': rows would have 8000000 bytes .* most {size}"
    ):
        read_map(tmp_path)


@pytest.mark.parametrize("name", ["run.json", "rounds/random-1.jsonl"])
def test_files_of_a_run_that_are_too_large_to_be_some(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    run(strategies=["random"], seeds=[1], out=tmp_path)
    with open(tmp_path / name, "ab") as file:
        file.write(b" " * 10_000)
    with monkeypatch.context() as patch:
        patch.setattr(bounded_read, "MOST_BYTES", (tmp_path / name).stat().st_size - 1)
        with pytest.raises(cf.FileReadError, match=f"cannot read '.*{name}': it has .* bytes, expected at most"):
            read_results(tmp_path)
    (tmp_path / "run.json").write_text("[" * 100_000)
    with pytest.raises(cf.FileReadError, match=r"cannot read '.*run.json': "):
        read_results(tmp_path)


class Halting:
    """A strategy that is stopped at its n-th call and chooses at random otherwise."""

    __name__ = "halting"

    def __init__(self, n: float) -> None:
        self.n, self.calls = n, 0

    def __getstate__(self) -> dict[str, Any]:
        return {}  # when it is stopped is no part of what it chooses

    def __call__(self, state: Any) -> Any:
        self.calls += 1
        if self.calls == self.n:
            raise KeyboardInterrupt
        return state.rng.choice(state.unlabelled, state.budget, replace=False)


@pytest.mark.parametrize(("is_distilled", "stops"), [(False, range(1, 7)), (True, [5])])
def test_resuming(run: Any, data: Any, tmp_path: Path, is_distilled: bool, stops: Any) -> None:
    """Stopped at each of its queries in turn, it calls the strategy no more often than needed, and ends the same."""
    if is_distilled:
        run = functools.partial(run, student=None, teacher=teacher(data))
    run(strategies={"s": Halting(np.inf), "random": "random"}, out=tmp_path / "whole")
    expected = contents(tmp_path / "whole", but=("timings.csv", ".lock"))
    for n in stops:  # of 2 seeds × 3 queries
        out = tmp_path / f"stopped {n}"
        with pytest.raises(KeyboardInterrupt):
            run(strategies={"s": Halting(n), "random": "random"}, out=out)
        finished = read_results(out)
        assert finished.columns["round"].size == n + (n - 1) // 3
        with pytest.raises(ValueError, match="the run has not ended"):
            finished.curve("s")
        again = Halting(np.inf)
        results = run(strategies={"s": again, "random": "random"}, out=out)
        assert again.calls == 6 - (n - 1)
        found = contents(out, but=("timings.csv", ".lock"))
        for name in expected:
            if not name.startswith("rounds"):  # they hold seconds
                assert found[name] == expected[name], name
        assert same(results, read_results(out))


def test_a_finished_run_is_only_read(run: Any, mine: Any, tmp_path: Path) -> None:
    first = run(strategies={"s": Halting(np.inf)}, out=tmp_path)
    before = contents(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.csv")}
    again = Halting(1)
    assert same(first, run(strategies={"s": again}, out=tmp_path))
    assert again.calls == 0
    assert contents(tmp_path) == before
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.csv")} == times
    (tmp_path / "results.csv").unlink()
    run(strategies={"s": again}, out=tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("damage", ["cut", "cut at a line", "flipped", "other seed", "swapped", "no text", "empty"])
def test_a_damaged_file_of_rounds_is_noticed(run: Any, tmp_path: Path, damage: str) -> None:
    run(strategies=["random"], out=tmp_path)
    expected = contents(tmp_path, but=("timings.csv", "random-3.jsonl"))
    file = tmp_path / "rounds" / "random-3.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    at = len(lines[0]) + 30
    whole = b"".join(lines)
    digit = next(i for i in range(at, len(whole)) if whole[i : i + 1] in b"123456")
    changed = {
        "cut": whole[:-20],
        "cut at a line": b"".join(lines[:2]),
        "flipped": whole[:digit] + bytes([whole[digit] + 1]) + whole[digit + 1 :],
        "other seed": (tmp_path / "rounds" / "random-7.jsonl").read_bytes(),
        "swapped": lines[0] + lines[2] + lines[1] + lines[3],
        "no text": lines[0] + b"\xff\x00" * 50 + b"\n" + lines[1],
        "empty": b"",
    }[damage]
    file.write_bytes(changed)
    good = {"cut": 3, "flipped": 1, "other seed": 0, "swapped": 1, "no text": 1}.get(damage)
    if good is None:  # nothing but rounds that were never finished
        run(strategies=["random"], out=tmp_path)
    else:
        with pytest.warns(RuntimeWarning, match=f"is damaged after {good} good rounds"):
            run(strategies=["random"], out=tmp_path)
    assert contents(tmp_path, but=("timings.csv", "random-3.jsonl")) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rounds": 2}, "its arguments.rounds is 3, got 2"),
        ({"seeds": [3]}, r"its arguments.seeds is \[3, 7\], got \[3\]"),
        ({"strategies": ["margins"]}, r"its arguments.strategies is \[.random.\], got \[.margins.\]"),
        ({"strategies": {"random": "margins"}}, "its contenders.random.strategy is .*, got "),
        ({"config": cf.CCMAConfig(kappa=3)}, "its arguments.config.kappa is 20, got 3"),
        ({"strategies": {"random": "random:kappa=3"}}, "its contenders.random.config.kappa is 20, got 3"),
        ({"budget": 5}, "its arguments.budget is 4, got 5"),
        ({"n_start": 5}, "its arguments.n_start is 4, got 5"),
        ({"backend": "reference"}, 'its arguments.backend is "cpu", got "reference"'),
        ({"student": cf.LinearHead()}, "its student.type is .*Centroids.*, got .*LinearHead"),
        ({"features": "changed"}, "its data.features.sha256 is "),
        ({"test_labels": "changed"}, "its data.test_labels.sha256 is "),
        ({"teacher": "given"}, "its data.teacher is null, got "),
    ],
)
def test_another_run_is_refused(run: Any, data: Any, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    run(strategies=["random"], out=tmp_path)
    before = contents(tmp_path)
    if changes.get("features"):
        changes = {"features": np.where(np.arange(N)[:, None] == 17, 0, data["x"])}
    if isinstance(changes.get("test_labels"), str):
        changes = {"test_labels": np.where(np.arange(M) == 17, 0, data["ty"] + (np.arange(M) == 17)) % C}
        assert (changes["test_labels"] != data["ty"]).any()
    if changes.get("teacher"):
        changes = {"teacher": teacher(data)}
    with pytest.raises(ValueError, match=message):
        run(**{"strategies": ["random"], **changes}, out=tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.filterwarnings("ignore::ccma_fast.TeacherWarning")  # of its classes' order
def test_another_teacher_is_refused(run: Any, data: Any, tmp_path: Path) -> None:
    run(strategies=["random"], teacher=teacher(data), out=tmp_path)
    others = {
        "data.teacher.temperature is 0.2, got 0.3": cf.Teacher(data["v"], data["t"], temperature=0.3),
        "data.teacher_classes.sha256": cf.Teacher(data["v"], data["t"][::-1], temperature=0.2),
        "data.teacher.sha256": cf.Teacher(data["v"] + 1, data["t"], temperature=0.2),
    }
    for message, other in others.items():
        with pytest.raises(ValueError, match=message):
            run(strategies=["random"], teacher=other, out=tmp_path)


def test_a_folder_of_something_else_is_refused(run: Any, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match=r"holds files but no run\.json"):
        run(out=tmp_path)
    (tmp_path / "run.json").write_text('{"format": ')
    with pytest.raises(cf.FileReadError, match=r"cannot read .*run\.json"):
        run(out=tmp_path)
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(cf.FileReadError, match="it is not the record of a run"):
        read_results(tmp_path)
    with pytest.raises(cf.FileReadError, match="no run in"):
        read_results(tmp_path / "nowhere")
    with pytest.raises(OSError, match="is not a directory"):
        run(out=tmp_path / "thesis.tex")


def test_other_versions_are_warned_of_and_written_down(run: Any, tmp_path: Path) -> None:
    run(strategies=["random"], out=tmp_path)
    record = json.loads((tmp_path / "run.json").read_text())
    now = record["versions"]
    record["versions"] = {**now, "numpy": "1.0"}
    (tmp_path / "run.json").write_text(json.dumps(record))
    (tmp_path / "rounds" / "random-7.jsonl").unlink()
    with pytest.warns(RuntimeWarning, match=rf'goes on with numpy "{np.__version__}" instead of "1.0"'):
        results = run(strategies=["random"], out=tmp_path)
    assert results.record["versions"]["numpy"] == "1.0"
    assert json.loads((tmp_path / "results.json").read_text())["resumed_with"] == [now]
    run(strategies=["random"], out=tmp_path)  # says it once


def test_two_processes_do_not_share_a_folder(run: Any, tmp_path: Path) -> None:
    run(strategies=["random"], out=tmp_path)
    with open(tmp_path / ".lock", "wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError, match="another process is working in"):
            run(strategies=["random"], out=tmp_path)
        assert read_results(tmp_path).columns["round"].size == 8  # reading is free
    run(strategies=["random"], out=tmp_path)


def test_leftovers_of_a_killed_process_are_removed(run: Any, tmp_path: Path) -> None:
    run(strategies=["random"], out=tmp_path)
    mark = "0123456789abcdef.ccma-part"
    ours = [tmp_path / f".results.csv.{mark}", tmp_path / "rounds" / f".random-3.jsonl.{mark}"]
    theirs = [
        tmp_path / ".results.csv.part",
        tmp_path / f".film.mkv.{mark}",
        tmp_path / "more" / f".results.csv.{mark}",
    ]
    (tmp_path / "more").mkdir()
    for part in (*ours, *theirs):
        part.write_text("half")
    run(strategies=["random"], out=tmp_path)
    assert not any(part.exists() for part in ours)
    assert all(part.read_text() == "half" for part in theirs)


@pytest.mark.parametrize("name", [".lock", "results.csv", "results.json"])
def test_links_in_the_folder_of_a_run_are_not_followed(run: Any, tmp_path: Path, name: str) -> None:
    kept = tmp_path / "kept"
    kept.write_text("somebody's")
    if name != ".lock":
        run(strategies=["random"], rounds=1, out=tmp_path / "run")
        (tmp_path / "run" / name).unlink()
    else:
        (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(kept)
    with pytest.raises(FileExistsError, match=r"is a symbolic link to '.*kept'"):
        run(strategies=["random"], rounds=2, out=tmp_path / "run")
    assert kept.read_text() == "somebody's"
    assert (tmp_path / "run" / name).is_symlink()


# --- what decides results ---------------------------------------------------------------------------------------------


@pytest.fixture
def chooser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Imports a module `chosen` of the given text anew, as another session would."""
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "modules").mkdir()

    def imported(text: str) -> Any:
        (tmp_path / "modules" / "chosen.py").write_text(text)
        sys.modules.pop("chosen", None)
        importlib.invalidate_caches()
        return importlib.import_module("chosen")

    yield imported
    sys.modules.pop("chosen", None)


CHOSEN = """
from simulated_things import Centroids

def best(rows, budget):
    return rows[:budget]

def choose(state, k=2):
    return best(state.unlabelled, state.budget)

class Sharper(Centroids):
    power = 1.0

    def predict_proba(self, X):
        p = super().predict_proba(X) ** self.power
        return p / p.sum(axis=1, keepdims=True)
"""


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (("rows[:budget]", "rows[-budget:]"), "contenders.choose.code.chosen.best"),
        (("k=2", "k=3"), "contenders.choose.code.chosen.choose, defaults"),
        (("power = 1.0", "power = 2.0"), "student.code.chosen.Sharper.power"),
        (("** self.power", "* self.power"), "student.code.chosen.Sharper.predict_proba"),
    ],
)
def test_another_body_is_another_run(run: Any, chooser: Any, tmp_path: Path, change: Any, part: str) -> None:
    out = tmp_path / "run"

    def again(text: str) -> cf.Results:
        module = chooser(text)
        results: cf.Results = run(strategies=[module.choose], student=module.Sharper(), out=out, rounds=1)
        return results

    first = again(CHOSEN)
    before = contents(out)
    assert same(again("# a comment\n" + CHOSEN), first)
    with pytest.raises(ValueError, match=f"holds another run: its {part} is .*, got "):
        again(CHOSEN.replace(*change))
    assert contents(out) == before


class Weighted(cf.CCMAConfig):
    """A configuration with a method of its own, which decides what is clustered."""

    def cluster_count(self, n_rows: int, wanted: int) -> int:
        return max(1, min(wanted, n_rows) // self.divisor)

    divisor = 1


class Sharpened(cf.Teacher):
    """A teacher with a value that the package's own does not have."""

    sharpness = 1.0

    def logits(self, backend: Any) -> Any:
        return cf.Teacher.from_logits(np.asarray(super().logits(backend)), 1 / self.sharpness).logits(backend)


@pytest.mark.filterwarnings("ignore::ccma_fast.TeacherWarning")  # it is too sure
def test_a_derived_configuration_and_teacher_count_with_their_code_and_values(
    run: Any, data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def again(**changes: Any) -> cf.Results:
        given = {"config": Weighted(), "teacher": Sharpened(data["v"], data["t"]), **changes}
        results: cf.Results = run(strategies=["ccma"], rounds=1, out=tmp_path, **given)
        return results

    assert same(again(), again())
    with pytest.raises(ValueError, match=r"another run: its contenders\.ccma\.code\..*Weighted is "):
        again(config=cf.CCMAConfig())
    monkeypatch.setattr(Weighted, "divisor", 2)
    with pytest.raises(ValueError, match=r'its contenders\.ccma\.code\..*Weighted\.divisor is "1", got "2"'):
        again()
    monkeypatch.undo()
    sharper = Sharpened(data["v"], data["t"])
    sharper.sharpness = 3.0
    with pytest.raises(ValueError, match=r"another run: its data\.teacher\.code\..*sharpness is "):
        again(teacher=sharper)


def test_the_code_of_the_start_counts_for_all(run: Any, chooser: Any, registered: Any, tmp_path: Path) -> None:
    registered("mine", chooser(CHOSEN).choose)
    run(strategies=["random"], start="mine", n_start=20, rounds=1, out=tmp_path / "run")
    registered("mine", chooser(CHOSEN.replace("rows[:budget]", "rows[-budget:]")).choose)
    with pytest.raises(ValueError, match=r"its contenders\.random\.code\.chosen\.best is "):
        run(strategies=["random"], start="mine", n_start=20, rounds=1, out=tmp_path / "run")


def test_what_cannot_be_compared_is_said_at_once_and_refused_later(run: Any, mine: Any, tmp_path: Path) -> None:
    class Locked:
        def __init__(self) -> None:
            self.lock = threading.Lock()

        def __call__(self, state: Any) -> Any:
            return mine.first(state)

    with pytest.warns(RuntimeWarning, match=r"cannot be gone on with once it has stopped: .*Locked\(\).lock \(cannot"):
        first = run(strategies={"s": Locked()}, rounds=1, out=tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"nobody knows whether it is this one: .*Locked\(\).lock .*another folder"):
        run(strategies={"s": Locked()}, rounds=1, out=tmp_path)
    assert contents(tmp_path) == before
    assert same(first, run(strategies={"s": Locked()}, rounds=1))  # without a folder there is nothing to say


@pytest.mark.parametrize("where", ["version", "sha256"])
def test_another_version_of_the_package_does_not_go_on(run: Any, tmp_path: Path, where: str) -> None:
    run(strategies=["random"], out=tmp_path)
    record = json.loads((tmp_path / "run.json").read_text())
    record["package"][where] = "0.0.1"
    (tmp_path / "run.json").write_text(json.dumps(record))
    before = contents(tmp_path)
    by = "version 0.0.1" if where == "version" else "other sources"
    with pytest.raises(ValueError, match=f"holds a run by {by} of ccma_fast, this is {cf.__version__}: "):
        run(strategies=["random"], out=tmp_path)
    assert contents(tmp_path) == before
    assert read_results(tmp_path).columns["round"].size == 8


def test_another_instruction_set_does_not_go_on_but_other_threads_do(run: Any, tmp_path: Path) -> None:
    from ccma_fast import _core

    level, threads = _core.simd_level(), cf.get_num_threads()
    run(strategies=["random"], out=tmp_path)
    try:
        cf.set_num_threads(threads + 1)
        run(strategies=["random"], out=tmp_path)
        other = "scalar" if level != "scalar" else _core.detected_simd_level()
        if other == level:
            pytest.skip("this processor has one instruction set")
        _core.set_simd_level(other)
        with pytest.raises(ValueError, match=rf'its arithmetic is "cpu \({level}\)", got "cpu \({other}\)"'):
            run(strategies=["random"], out=tmp_path)
    finally:
        _core.set_simd_level(level)
        cf.set_num_threads(threads)


OLD_KEYS = ("package", "arithmetic", "threads")


def test_a_run_of_the_first_format_is_reported_and_not_gone_on_with(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = run(strategies=["random"], out=tmp_path)
    record = json.loads((tmp_path / "run.json").read_text())
    record = {key: value for key, value in record.items() if key not in OLD_KEYS}
    record |= {
        "format": 1,
        "backend": "cpu (avx2, 2 threads)",
        "versions": {"ccma-fast": "0.1.0", **record["versions"]},
    }
    record["student"] = {"type": "simulated_things.Centroids", "parameters": {}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"earlier version of ccma_fast \(0.1.0\), .* can be reported, but not"):
        run(strategies=["random"], out=tmp_path)
    assert contents(tmp_path) == before
    assert same(read_results(tmp_path), results)
    for file in (tmp_path / "rounds").iterdir():  # before the ends of intervals were measured
        lines = [json.loads(line) for line in file.read_bytes().splitlines()]
        for line in lines:
            del line["sha256"], line["metrics"]["student_coverage_low"]
        file.write_bytes(b"".join(rounds._with_checksum(line) for line in lines))
    assert np.isnan(read_results(tmp_path).columns["student_coverage_low"]).all()
    with monkeypatch.context() as quick:
        quick.setattr(report, "_png", lambda *figure: b"a picture")
        quick.setattr(figures, "pictures", lambda *given, of=figures.pictures: of(*given)[:1])
        assert main(["report", str(tmp_path), "--out", str(tmp_path / "report")]) == 0


@pytest.mark.parametrize(
    ("format", "message"),
    [
        (
            3,
            rf"newer version of ccma_fast \(9.1\), got format 3, which this version \({cf.__version__}\) does not know",
        ),
        ("2", "its format must be a number from 1 to 2, got '2'"),
        (True, "its format must be a number from 1 to 2, got True"),
        (0, "its format must be a number from 1 to 2, got 0"),
        (1, "it is not the record of a run, without 'contenders'"),
    ],
)
def test_a_file_of_another_format_says_who_wrote_it(run: Any, tmp_path: Path, format: Any, message: str) -> None:
    run(strategies=["random"], out=tmp_path)
    record = json.loads((tmp_path / "run.json").read_text())
    record |= {"format": format, "package": {"version": "9.1"}, "added": 1}
    del record["contenders"], record["versions"]  # a newer version may call them something else
    (tmp_path / "run.json").write_text(json.dumps(record))
    before = contents(tmp_path)
    for use in (lambda: run(strategies=["random"], out=tmp_path), lambda: read_results(tmp_path)):
        with pytest.raises(cf.FileReadError, match=message):
            use()
    assert contents(tmp_path) == before


def test_numpy_numbers_are_written_as_numbers(run: Any, tmp_path: Path) -> None:
    config = cf.CCMAConfig(
        kappa=np.int64(7),
        alpha=np.float32(0.25),
        reweight=np.bool_(False),
        max_clusters=np.uint8(9),
        dropout=np.float64(0),
    )
    assert {type(value) for value in vars(config).values()} == {int, float, bool, str, type(None)}
    numbers = {"rounds": np.int64(1), "budget": np.int32(4), "n_start": np.uint8(4), "jobs": np.int64(1)}
    results = run(strategies=["random"], config=config, seeds=np.array([3]), out=tmp_path, **numbers)
    plain = cf.CCMAConfig(kappa=7, alpha=0.25, max_clusters=9, dropout=0.0)
    assert same(results, run(strategies=["random"], config=plain, seeds=[3], rounds=1, out=tmp_path))
    with pytest.raises(TypeError, match="reweight must be true or false, got int 1"):
        cf.CCMAConfig(reweight=1)


# --- runs that grow ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    [
        pytest.param({"seeds": [7]}, marks=pytest.mark.slow),
        {"seeds": [9, 3]},
        {"rounds": 1},
        pytest.param({"strategies": ["margins"]}, marks=pytest.mark.slow),
        {"strategies": ["ccma:kappa=5", "random"]},
        {"seeds": [3], "rounds": 1, "strategies": ["random"]},
    ],
)
def test_a_run_that_grows_is_the_whole_run(
    run: Any, data: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, first: dict[str, Any]
) -> None:
    whole = {"strategies": ["random", "margins", "ccma:kappa=5"], "seeds": [3, 7, 9], "rounds": 2}
    whole["teacher"] = teacher(data)
    run(**{**whole, **first}, out=tmp_path / "grown")
    small = read_results(tmp_path / "grown")
    kept = {file.name: file.read_bytes() for file in (tmp_path / "grown" / "rounds").iterdir()}
    grown = run(**whole, out=tmp_path / "grown", jobs=2 if len(first) > 1 else 1)
    at_once = tmp_path_factory.getbasetemp() / "grown at once"  # is only read where it is already there
    assert same(grown, run(**whole, out=at_once))
    expected = contents(at_once, but=("timings.csv", ".lock"))
    found = contents(tmp_path / "grown", but=("timings.csv", ".lock"))
    for name in expected:
        if not name.startswith("rounds"):  # they hold seconds
            assert found[name] == expected[name], name
    for name, content in kept.items():  # nothing was computed again
        assert found[f"rounds/{name}"].startswith(content)
    assert same(grown, read_results(tmp_path / "grown"))
    assert small.columns["round"].size < grown.columns["round"].size


def interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


def test_growing_can_be_stopped_at_any_moment(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also between the last round and the tables, where every file of the smaller run is still there."""
    expected = run(strategies=["random"], rounds=3, out=tmp_path / "whole")
    for moment in ("write_rounds", "write_results"):
        out = tmp_path / moment
        run(strategies=["random"], rounds=1, out=out)
        with monkeypatch.context() as stopped:
            stopped.setattr(RunFolder, moment, interrupted)
            with pytest.raises(KeyboardInterrupt):
                run(strategies=["random"], rounds=3, out=out)
        assert same(run(strategies=["random"], rounds=3, out=out), expected)
        for name in ("results.csv", "picks.csv", "results.json", "map.npz", "run.json"):
            assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), (moment, name)


def test_the_order_of_seeds_and_strategies_is_that_of_the_last_call(run: Any, tmp_path: Path) -> None:
    run(strategies=["random", "margins"], seeds=[3, 7], rounds=1, out=tmp_path / "a")
    turned = run(strategies=["margins", "random"], seeds=[7, 3], rounds=1, out=tmp_path / "a")
    assert same(turned, run(strategies=["margins", "random"], seeds=[7, 3], rounds=1, out=tmp_path / "b"))
    assert (tmp_path / "a" / "results.json").read_bytes() == (tmp_path / "b" / "results.json").read_bytes()


def test_a_run_does_not_shrink(run: Any, tmp_path: Path) -> None:
    run(strategies=["random", "margins"], rounds=2, out=tmp_path)
    before = contents(tmp_path)
    for fewer, message in (
        ({"seeds": [3, 9]}, r"its arguments.seeds is \[3, 7\], got \[3, 9\]"),
        ({"strategies": ["margins", "ccma"]}, r"its arguments.strategies is .*, got \[.margins., .ccma.\]"),
        ({"rounds": 1}, "its arguments.rounds is 2, got 1"),
    ):
        with pytest.raises(ValueError, match=f"{message}; .*more strategies, seeds or rounds are welcome"):
            run(**{"strategies": ["random", "margins"], "rounds": 2, **fewer}, out=tmp_path)
    with pytest.raises(ValueError, match="must be at most the 240 rows of the pool"):
        run(strategies=["random", "margins"], rounds=1000, out=tmp_path)
    assert contents(tmp_path) == before


# --- labels and their names -------------------------------------------------------------------------------------------

NAMES = ["ant", "bee", "cat", "dog"]


def test_labels_may_be_names(run: Any, data: Any, tmp_path: Path) -> None:
    text, test_text = np.array(NAMES)[data["y"]], [NAMES[c] for c in data["ty"]]
    numbers = run(strategies=["random"])
    named = run(strategies=["random"], labels=text, test_labels=test_text, class_names=NAMES, out=tmp_path)
    assert same(numbers, named)
    assert named.record["data"]["class_names"] == NAMES
    by_name = {name: c for c, name in enumerate(NAMES)}
    assert same(numbers, run(strategies=["random"], labels=text, test_labels=data["ty"], class_names=by_name))
    with pytest.raises(ValueError, match=r"its data\.class_names is "):
        run(strategies=["random"], class_names=NAMES[::-1], out=tmp_path)
    with pytest.raises(ValueError, match=r"its data\.labels\.sha256 is "):
        run(
            strategies=["random"],
            labels=text,
            test_labels=test_text,
            class_names=[*NAMES[:2], "dog", "cat"],
            out=tmp_path,
        )


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"labels": ["ant", "bee"] * 120},
            TypeError,
            "labels must be integers .* got 'ant' at row 0; give class_names",
        ),
        ({"labels": ["ant", "bes"] * 120, "class_names": NAMES}, ValueError, "got 'bes' at row 1; did you mean 'bee'"),
        ({"class_names": NAMES[:3]}, ValueError, "labels must be .* a class from 0 to 2, got 3"),
        ({"test_labels": ["eel"] * M, "class_names": NAMES}, ValueError, "test_labels must be class names"),
        ({"class_names": ["ant", "ant", "bee", "cat"]}, ValueError, "class_names must be all different, got 'ant'"),
        ({"class_names": {"ant"}}, TypeError, "class_names must be in the order of the classes"),
        (
            {"class_names": NAMES[:3], "teacher": cf.Teacher.from_logits(np.ones((N, C)))},
            ValueError,
            "class_names must be one for each of the teacher's 4 classes, got 3",
        ),
        (
            {"class_names": NAMES, "student": cf.LinearHead(5)},
            ValueError,
            "student was made for 5 classes, but labels, teacher or logits have 4",
        ),
        (
            {"labels": np.ma.masked_array(np.arange(N) % C, np.arange(N) == 17)},
            ValueError,
            "labels must be known for every row, got none at row 17",
        ),
        (
            {"test_labels": np.ma.masked_array(np.arange(M) % C, np.arange(M) == 5)},
            ValueError,
            "test_labels must be known for every row, got none at row 5",
        ),
        (
            {"labels": np.ma.masked_array(np.array(NAMES)[np.arange(N) % C], np.arange(N) == 3), "class_names": NAMES},
            ValueError,
            "labels must be known for every row, got none at row 3",
        ),
        (
            {"features": np.ma.masked_array(np.ones((N, D)), np.arange(N * D).reshape(N, D) == D)},
            ValueError,
            "features must have no masked entries, got 1, the first at row 1",
        ),
        (
            {"test_features": np.ma.masked_array(np.ones((M, D)), np.arange(M * D).reshape(M, D) == 0)},
            ValueError,
            "test_features must have no masked entries, got 1, the first at row 0",
        ),
    ],
)
def test_labels_that_nobody_can_be_sure_of(
    run: Any, tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(**changes, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# --- what is never overwritten ----------------------------------------------------------------------------------------


def test_a_lock_of_somebody_else_is_not_cut(run: Any, tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("somebody's")
    run(strategies=["random"], rounds=1, out=tmp_path)
    assert (tmp_path / ".lock").read_text() == "somebody's"


def test_a_refused_folder_is_left_as_it_was(run: Any, tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text("somebody's")
    with pytest.raises(ValueError, match=r"holds files but no run\.json, such as 'results.csv'"):
        run(strategies=["random"], out=tmp_path)
    assert contents(tmp_path) == {"results.csv": b"somebody's"}


@pytest.mark.parametrize("method", ["to_csv", "to_parquet"])
def test_tables_replace_tables_alone(run: Any, data: Any, tmp_path: Path, method: str) -> None:
    if method == "to_parquet":
        pytest.importorskip("pyarrow", reason="pyarrow, of the extra data, is not installed")
    results, suffix = run(strategies=["random"], rounds=1), f".{method.removeprefix('to_')}"
    write = getattr(results, method)
    np.save(tmp_path / "x.npy", data["x"])
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match=rf"x\.npy' is there and no {suffix} file"):
        write(tmp_path / "x.npy")
    assert contents(tmp_path) == before
    (tmp_path / f"labels{suffix}").write_text("index,label\n0,cat\n")
    with pytest.raises(FileExistsError, match=rf"labels{suffix}' is there and holds something else; expected a new"):
        write(tmp_path / f"labels{suffix}")
    assert (tmp_path / f"labels{suffix}").read_text() == "index,label\n0,cat\n"
    getattr(run(strategies=["random"], rounds=2), method)(tmp_path / f"old{suffix}")
    write(tmp_path / f"old{suffix}")
    write(tmp_path / "new")
    assert (tmp_path / f"old{suffix}").read_bytes() == (tmp_path / "new").read_bytes()


# --- Results ----------------------------------------------------------------------------------------------------------


def test_curves_and_areas(run: Any) -> None:
    results = run(strategies=["random", "margins"], budget=10, n_start=6)
    curve = results.curve("margins", "macro_f1")
    assert curve.name == "margins"
    assert curve.n_labels.tolist() == [6, 16, 26, 36]
    for i, seed in enumerate((3, 7)):
        values = of(results, "margins", seed)["macro_f1"]
        assert curve.accuracy[i].tolist() == values.tolist()
        by_hand = 10 * (values[0] / 2 + values[1] + values[2] + values[3] / 2) / 30
        assert results.area("margins", "macro_f1")[i] == pytest.approx(by_hand, rel=1e-14)
    with pytest.raises(ValueError, match="strategy must be one of 'random', 'margins', got 'ccma'"):
        results.curve("ccma")
    with pytest.raises(ValueError, match=r"metric must be one of 'accuracy', .* got 'loss'"):
        results.area("random", "loss")


def test_to_csv(run: Any, tmp_path: Path) -> None:
    results = run(strategies=["random"], out=tmp_path / "run")
    results.to_csv(tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_bytes() == (tmp_path / "run" / "results.csv").read_bytes()
    with pytest.raises(OSError, match="there is no directory"):
        results.to_csv(tmp_path / "no" / "table.csv")


def test_parquet(run: Any, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow, of the extra data, is not installed")
    results = run(strategies=["random"])
    results.to_parquet(tmp_path / "table.parquet")
    table = parquet.read_table(tmp_path / "table.parquet")
    for name, column in results.columns.items():
        assert repr(table[name].to_pylist()) == repr(column.tolist()), name
    assert json.loads(table.schema.metadata[b"ccma_fast"])["arguments"]["seeds"] == [3, 7]


def test_pandas(run: Any) -> None:
    pytest.importorskip("pandas", reason="pandas, of the extra data, is not installed")
    results = run(strategies=["random"])
    frame = results.to_pandas()
    assert list(frame.columns) == list(results.columns)
    for name, column in results.columns.items():
        assert repr(frame[name].tolist()) == repr(column.tolist()), name


@pytest.mark.parametrize(("method", "package"), [("to_parquet", "pyarrow"), ("to_pandas", "pandas")])
def test_what_a_missing_extra_is_called(run: Any, monkeypatch: Any, tmp_path: Path, method: str, package: str) -> None:
    results = run(strategies=["random"], rounds=1)
    monkeypatch.setitem(sys.modules, package, None)
    given = (tmp_path / "table.parquet",) if method == "to_parquet" else ()
    with pytest.raises(ImportError, match=rf"needs {package} .*pip install 'ccma-fast\[data\]'"):
        getattr(results, method)(*given)
    assert not list(tmp_path.iterdir())


# --- worker processes -------------------------------------------------------------------------------------------------


def test_a_strategy_that_cannot_travel(run: Any, tmp_path: Path) -> None:
    def local(state: Any) -> Any:
        return state.unlabelled[: state.budget]

    with pytest.raises(TypeError, match=r"strategy 'local' cannot be sent to another process .* or jobs=1"):
        run(strategies=["random", local], jobs=2, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_student_that_cannot_travel(run: Any, mine: Any) -> None:
    student = mine.Centroids()
    student.trick = lambda: 0
    with pytest.raises(TypeError, match=r"data or student cannot be sent to another process .* expected jobs=1"):
        run(student=student, jobs=2)


def test_a_worker_that_dies(run: Any, mine: Any, tmp_path: Path) -> None:
    with pytest.raises(ChildProcessError, match=r"a worker process died \(exit code -9\) in strategy 'dies'"):
        run(strategies=["random", mine.dies], seeds=[3], jobs=2, out=tmp_path)
    # What was finished is there, the lock is free.
    assert of(read_results(tmp_path), "dies", 3)["round"].tolist() == [0]


def test_an_error_in_a_worker(run: Any, mine: Any) -> None:
    with pytest.raises(ValueError, match="strategy 'fails' with seed 3 in round 1: no such luck") as caught:
        run(strategies=[mine.fails, mine.first], seeds=[3], jobs=2)
    assert repr(caught.value.__cause__) == repr(ValueError("no such luck"))
    assert "in fails" in str(caught.value.__cause__.__cause__)


EXCEPTIONS = [
    ("looks_up", KeyError, "KeyError('key')", "'key'"),
    ("stops", Exception, "StopIteration()", "round 1: "),
    ("divides", ZeroDivisionError, "ZeroDivisionError('division by zero')", "division by zero"),
    ("is_unlucky", LookupError, "Unlucky('nothing at 3, 4')", "nothing at 3, 4"),
    ("is_unsendable", Exception, "Unsendable('secret')", "secret"),
    ("decodes", UnicodeError, "UnicodeDecodeError", "can't decode byte"),
]
# From a worker as that of `test_an_error_in_a_worker`, or as one that is not made again for another reason.
PLAIN = ("looks_up", "stops", "divides", "is_unlucky")


@pytest.mark.parametrize(
    ("jobs", "strategy", "kind", "cause", "text"),
    [
        pytest.param(jobs, *case, marks=pytest.mark.slow if jobs == 2 and case[0] in PLAIN else ())
        for jobs in (1, 2)
        for case in EXCEPTIONS
    ],
)
def test_an_exception_of_a_strategy_names_it(
    run: Any, mine: Any, tmp_path: Path, jobs: int, strategy: str, kind: type[Exception], cause: str, text: str
) -> None:
    with pytest.raises(kind) as caught:
        run(strategies=["random", getattr(mine, strategy)], seeds=[3], rounds=1, jobs=jobs, out=tmp_path)
    (message,) = caught.value.args
    assert f"strategy '{strategy}' with seed 3 in round 1: " in message
    assert text in message
    if jobs == 1 or strategy not in ("is_unlucky", "is_unsendable"):
        assert type(caught.value) in (kind, mine.Unsendable)
        assert cause in repr(caught.value.__cause__)
    else:  # what cannot be made again on this side is told
        assert cause.partition("(")[0] in repr(caught.value.__cause__)
        assert f"in {strategy}" in str(caught.value.__cause__.__cause__)
    if jobs == 1:
        found = read_results(tmp_path)
        assert of(found, "random", 3)["round"].tolist() == [0, 1]
        assert of(found, strategy, 3)["round"].tolist() == [0]


@pytest.mark.parametrize("what", ["file", "value"])
def test_a_worker_does_not_run_other_code(run: Any, chooser: Any, tmp_path: Path, what: str) -> None:
    """It would import what was changed since, and leave out what was changed here."""
    module = chooser(CHOSEN.replace("return best", "return FIRST or best") + "\nFIRST = None\n")
    if what == "file":
        chosen = Path(module.__file__)
        chosen.write_text(chosen.read_text().replace("rows[:budget]", "rows[-budget:]"))
        part = r"chosen\.best is .*, but .* where it was sent"
    else:
        module.FIRST = np.arange(C)
        part = r"chosen\.FIRST is .*null.*, but .* where it was sent"
    with pytest.raises(ValueError, match=f"in a worker process contenders.choose.{part}; expected modules that are as"):
        run(strategies=[module.choose, "random"], jobs=2, rounds=1)


IN_A_SCRIPT = """
import sys, numpy as np
sys.path.insert(0, sys.argv[1])
import ccma_fast as cf, simulated_things as mine

class Mine(Exception):
    pass

def fails(state):
    raise Mine("of the script")

if __name__ == "__main__":
    x = np.arange(400.0).reshape(100, 4) % 7
    try:
        cf.simulate(x, np.arange(100) % 3, test_features=x, test_labels=np.arange(100) % 3, jobs=2,
                    strategies=[fails], student=mine.Centroids(), progress=False, seeds=[1, 2], rounds=1)
    except Mine as error:
        print(error, repr(error.__cause__), sep="; ")
"""


def test_an_exception_of_the_script_itself_comes_back_as_it_was(mine: Any, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(IN_A_SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), str(Path(mine.__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "strategy 'fails' with seed " in done.stdout
    assert done.stdout.endswith("in round 1: of the script; Mine('of the script')\n")


def test_what_other_workers_have_finished_is_kept(
    run: Any, mine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rounds of another run are on their way when this process learns that one has failed."""
    write = RunFolder.write_rounds

    chosen = tmp_path / "chosen"

    def slow(folder: RunFolder, label: str, *rest: Any) -> None:
        write(folder, label, *rest)
        if label == "fails":  # meanwhile its next round fails, and the other run ends
            deadline = time.monotonic() + 60
            while not chosen.exists():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            time.sleep(1)

    monkeypatch.setattr(RunFolder, "write_rounds", slow)
    strategies = {"fails": mine.fails, "other": functools.partial(mine.leaves, str(chosen))}
    with pytest.raises(ValueError, match="strategy 'fails' with seed 3 in round 1: no such luck"):
        run(strategies=strategies, seeds=[3], rounds=1, jobs=2, out=tmp_path / "run")
    assert of(read_results(tmp_path / "run"), "other", 3)["round"].tolist() == [0, 1]


def test_files_travel_as_their_names(data: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.tile(data["x"], (100, 1)))
    rows = open_rows(str(tmp_path / "x.npy"), "features")
    payload = workers.dumped(rows)
    assert len(payload) < 1000
    again = pickle.loads(payload)
    np.testing.assert_array_equal(np.asarray(again), np.asarray(rows))
    part = np.load(tmp_path / "x.npy", mmap_mode="r")[7:19]
    np.testing.assert_array_equal(pickle.loads(workers.dumped(part)), part)
    assert len(workers.dumped(part)) < 1000
    changed = np.load(tmp_path / "x.npy", mmap_mode="c")
    changed[0] = 5
    np.testing.assert_array_equal(pickle.loads(workers.dumped(changed)), changed)


INTERRUPTED = """
import signal, sys, numpy as np
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the shell that runs the tests ignores
sys.path.insert(0, sys.argv[1])
import ccma_fast as cf, simulated_things as mine
if __name__ == "__main__":
    x = np.arange(400.0).reshape(100, 4) % 7
    try:
        cf.simulate(x, np.arange(100) % 3, test_features=x, test_labels=np.arange(100) % 3, jobs=int(sys.argv[3]),
                    strategies=[mine.sleeps], student=mine.Centroids(), out=sys.argv[2], progress=False, seeds=[1, 2])
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@pytest.mark.parametrize(("jobs", "how"), [(1, signal.SIGINT), (2, signal.SIGINT), (2, signal.SIGKILL)])
def test_stopping_ends_every_process(mine: Any, tmp_path: Path, jobs: int, how: signal.Signals) -> None:
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED)
    command = [sys.executable, str(script), str(Path(mine.__file__).parent), str(tmp_path / "run"), str(jobs)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("run/rounds/*.jsonl"))) < jobs:  # every worker is in its first query
            assert time.monotonic() < deadline
            assert child.poll() is None
            time.sleep(0.05)
        begin = time.monotonic()
        child.send_signal(how)  # to the parent alone
        out, _ = child.communicate(timeout=30)
        assert time.monotonic() - begin < 5
        assert out == ("interrupted\n" if how == signal.SIGINT else "")
        while group_lives(child.pid):
            assert time.monotonic() - begin < 5
            time.sleep(0.05)
        found = read_results(tmp_path / "run")
        assert found.columns["round"].tolist() == [0] * jobs
    finally:
        if group_lives(child.pid):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


def group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(data: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, array in data.items():
        np.save(f"{name}.npy", array)
    return tmp_path


GIVEN = ("--features", "x.npy", "--labels", "y.npy", "--test-features", "tx.npy", "--test-labels", "ty.npy")
QUICK = ("--rounds", "2", "--seeds", "1", "2", "-q")


def test_the_command_is_the_call(files: Path, data: Any, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--strategies", "random", "margins:start=ccma", "--n-start", "6", "--budget", "3", "--config", "paper")
    teachers = ("--teacher-images", "v.npy", "--teacher-classes", "t.npy", "--temperature", "0.2")
    assert main(["simulate", *GIVEN, *QUICK, *options, *teachers, "--out", "run"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    expected = cf.simulate(
        data["x"],
        data["y"],
        test_features=data["tx"],
        test_labels=data["ty"],
        strategies=["random", "margins:start=ccma"],
        seeds=[1, 2],
        rounds=2,
        budget=3,
        n_start=6,
        teacher=teacher(data),
        config=cf.CCMAConfig.paper(),
        progress=False,
    )
    assert same(read_results("run"), expected)
    lines = out.splitlines()
    assert lines[0] == "Test accuracy in %, 6 to 12 labels, mean ± standard error over 2 seeds"
    assert lines[2].split() == ["strategy", "area", "under", "the", "curve", "at", "12", "labels"]
    order = sorted(expected.strategies, key=lambda name: -float(expected.area(name).mean()))
    for line, strategy in zip(lines[3:], order, strict=True):
        area, ends = expected.area(strategy), expected.curve(strategy).accuracy[:, -1]
        cells = [f"{100 * v.mean():.1f} ± {100 * v.std(ddof=1) / 2**0.5:.1f}" for v in (area, ends)]
        assert [cell.strip() for cell in line.split("   ") if cell.strip()] == [strategy, *cells]


def test_the_head_that_is_asked_for_is_that_of_every_strategy(files: Path) -> None:
    def accuracies(*options: str) -> list[Any]:
        folder = "run" + "".join(options)
        assert main(["simulate", *GIVEN, "--rounds", "1", "--seeds", "1", "-q", *options, "--out", folder]) == 0
        results = read_results(folder)
        return [results.curve(name).accuracy.tolist() for name in results.strategies]

    asked = accuracies("--head", "published", "--strategies", "random", "random:head=ridge")
    assert asked == accuracies("--strategies", "random:head=published", "random:head=ridge")
    assert asked[0] != accuracies("--strategies", "random")[0]


def test_the_command_takes_names_of_classes(files: Path, data: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for file, labels in (("y.csv", data["y"]), ("ty.csv", data["ty"])):
        Path(file).write_text("label\n" + "".join(f"{NAMES[c]}\n" for c in labels))
    Path("names.txt").write_text("\n".join(NAMES))
    options = ["--strategies", "random", *QUICK]
    assert main(["simulate", *GIVEN, *options, "--out", "numbers"]) == 0
    named = ["simulate", *(given.replace("y.npy", "y.csv") for given in GIVEN), *options]
    assert main([*named, "--class-names", "names.txt", "--out", "names"]) == 0
    assert same(read_results("numbers"), read_results("names"))
    capsys.readouterr()
    assert main(named) == 2
    assert "labels must be integers (-1 = not labelled) where there are no class_names, got" in capsys.readouterr().err


def test_the_command_extends_a_run(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["simulate", *GIVEN, "-q", "--strategies", "random"]
    assert main([*command, "--rounds", "1", "--seeds", "2", "--out", "grown"]) == 0
    more = ["margins", "--rounds", "2", "--seeds", "1", "2"]
    assert main([*command, *more, "--out", "grown"]) == 0
    assert main([*command, *more, "--out", "whole"]) == 0
    assert Path("grown/results.json").read_bytes() == Path("whole/results.json").read_bytes()
    capsys.readouterr()
    assert main([*command, "--rounds", "1", "--seeds", "2", "--out", "grown"]) == 2
    assert "holds another run: its arguments.strategies is" in capsys.readouterr().err


def test_all_strategies_by_one_word(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["simulate", *GIVEN, "--seeds", "1", "--rounds", "1", "--strategies", "all", "--out", "run", "-q"]
    assert main(command) == 0
    assert read_results("run").strategies == cf.strategies.names()
    assert "one seed" in capsys.readouterr().out


def test_the_bar_is_on_stderr_alone(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["simulate", *GIVEN, "--seeds", "1", "--rounds", "1", "--strategies", "random"]
    assert main([*command, "-q"]) == 0
    quiet, nothing = capsys.readouterr()
    assert nothing == ""
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert out == quiet
    assert "random, seed 1" in err
    assert "2/2" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--features", "missing.npy"), "features: no file 'missing.npy'"),
        (("--labels", "missing.npy"), "labels: no file 'missing.npy'"),
        (("--test-labels", "y.npy"), "test_labels has 240 rows but test_features has 80"),
        (("--test-features", "t.npy"), "test_features must have 6 columns as features, got 5"),
        (("--strategies", "nothing"), "strategy must be one of"),
        (("--strategies", "ccma:kappa=0"), "kappa must be at least 1, got 0"),
        (("--strategies", "random", "all"), "distinct labels, got 'random' twice"),
        (("--seeds", "1", "1"), "seeds must be at least one and distinct"),
        (("--seeds", "one"), "argument --seeds: must be an integer, got 'one'"),
        (("--rounds", "0"), "argument --rounds: must be at least 1, got 0"),
        (("--rounds", "1000"), "must be at most the 240 rows of the pool"),
        (("--n-start", "1"), "n_start must be at least 2, got 1"),
        (("--start", "margins"), "start must be one of"),
        (("--jobs", "0"), "argument --jobs: must be at least 1"),
        (("--config", "papre"), "argument --config: must be one of default, paper"),
        (("--temperature", "1"), "--temperature needs a teacher"),
        (("--teacher-images", "v.npy"), "--teacher-images and --teacher-classes must be given together"),
        (
            ("--teacher-logits", "v.npy", "--teacher-images", "v.npy"),
            "give either --teacher-logits or",
        ),
        (("--out", "x.npy"), "is not a directory"),
        (("--out", "full"), "holds files but no run.json"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    files: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    Path("full").mkdir()
    Path("full/file").touch()
    before = contents(files, but=(".lock",))
    given = ["simulate", "-q"]
    for option in ("--rounds", "2"), ("--seeds", "1", "2"):  # as QUICK, each given once
        given += [] if option[0] in arguments else option
    for name, value in (*zip(GIVEN[::2], GIVEN[1::2], strict=True), ("--out", "run")):
        if name not in arguments:
            given += [name, value]
    assert main([*given, *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("ccma-fast simulate: error: ")
    assert message in err
    assert contents(files, but=(".lock",)) == before


def test_the_command_resumes_and_refuses(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["simulate", *GIVEN, *QUICK, "--strategies", "random", "--out", "run"]
    assert main(command) == 0
    expected, first = contents(files / "run", but=("timings.csv", ".lock")), capsys.readouterr().out
    shutil.rmtree("run/rounds")
    for name in ("results.json", "map.npz"):
        Path("run", name).unlink()
    assert main(command) == 0
    found = contents(files / "run", but=("timings.csv", ".lock"))
    assert all(found[name] == expected[name] for name in expected if not name.startswith("rounds"))
    assert capsys.readouterr().out == first
    assert main([*command, "--budget", "3"]) == 2
    assert "holds another run: its arguments.budget is 4, got 3" in capsys.readouterr().err
