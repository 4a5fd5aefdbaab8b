"""PCoreSet, Tail First Sampling, PCB, TCM and DCoM: each against its definition in float64."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast import strategies
from ccma_fast.steps.coverage import HostUnitRows
from ccma_fast.strategies import class_balance, coreset, herding

from ..combinations import thinned

pytestmark = pytest.mark.processor

WITHOUT_LABELS = ("dcom", "tcm")
NAMES = ("pcoreset", "tfs", "pcb", *WITHOUT_LABELS)
BACKENDS = ("cpu", "reference")

MakeRound = Callable[..., strategies.Round]

# By name: importing `dcom` from a package whose functions share the modules' names reads like the function.
dcom, pcb, probcover, tcm = (
    import_module(f"ccma_fast.strategies.{name}") for name in ("dcom", "pcb", "probcover", "tcm")
)


@pytest.fixture(scope="module")
def pool(blobs: Callable[..., tuple], partly_labelled: Callable[..., np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes, 30 of 400 rows labelled."""
    x, y = blobs(400, 12, 5, distance=0.5)
    return x, partly_labelled(y, 30)


def choose(name: str, state: strategies.Round) -> list[int]:
    return strategies.pick(strategies.find(name), state).tolist()


def posteriors(state: strategies.Round) -> np.ndarray:
    """p^S of the whole pool, from the head's coefficients."""
    head = state.student
    z = np.asarray(state.features).astype(np.float64) @ head.coef_.T.astype(np.float64) + head.intercept_
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def entropies(p: np.ndarray) -> np.ndarray:
    return -(p * np.log(np.maximum(p, 1e-300))).sum(axis=1)


class Table:
    """A student that knows the probabilities of each row by its number, which is the row's first feature."""

    def __init__(self, p: np.ndarray) -> None:
        self.p = p

    def fit(self, x: np.ndarray, y: np.ndarray) -> None: ...

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        return self.p[x[:, 0].astype(int)]


# ---------------------------------------------------------------------------------------------------------------------
# pcoreset


def farthest_first(points: np.ndarray, labels: np.ndarray, budget: int) -> list[int]:
    """Every distance anew for every choice."""
    centres = np.flatnonzero(labels >= 0).tolist()
    picks: list[int] = []
    for _ in range(budget):
        squared = ((points[:, None] - points[centres]) ** 2).sum(axis=2).min(axis=1)
        squared[centres] = -1.0
        picks.append(int(squared.argmax()))
        centres.append(picks[-1])
    return picks


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("at_hand", [1, 30, 4096])
def test_pcoreset(
    at_hand: int, backend: str, make_round: MakeRound, pool: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coreset, "_CANDIDATES", at_hand)
    state = make_round(*pool, 60, backend=backend)
    expected = farthest_first(posteriors(state), pool[1], 60)
    assert choose("pcoreset", state) == expected != choose("coreset", state)


def test_pcoreset_takes_any_student(make_round: MakeRound, rng: np.random.Generator) -> None:
    p = rng.dirichlet(np.ones(3), size=60)
    labels = np.where(np.arange(60) < 5, np.arange(60) % 2, -1)
    state = make_round(np.arange(60.0, dtype=np.float32)[:, None], labels, 12, n_classes=3, student=Table(p))
    assert choose("pcoreset", state) == farthest_first(p, labels, 12)


# ---------------------------------------------------------------------------------------------------------------------
# Predicted classes in balance


def balanced(state: strategies.Round, among: np.ndarray, predicted: np.ndarray, score: np.ndarray) -> list[int]:
    """Pick after pick by the definition; `predicted` and `score` of every row of the pool."""
    counts = np.bincount(state.labels[state.labelled], minlength=state.n_classes)
    left, picks = among.tolist(), []
    while len(picks) < state.budget:
        rarest = min((counts[predicted[i]], predicted[i]) for i in left)[1]
        picks.append(min((-score[i], i) for i in left if predicted[i] == rarest)[1])
        left.remove(picks[-1])
        counts[rarest] += 1
    return picks


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("budget", [1, 23, 370])
def test_tail_first_sampling(budget: int, backend: str, make_round: MakeRound, pool: tuple) -> None:
    state = make_round(*pool, budget, n_classes=6, backend=backend)  # one class without a label
    p = posteriors(state)
    score = entropies(p).astype(np.float32)
    predicted = p.argmax(axis=1)
    picks = choose("tfs", state)
    if budget < 370:
        assert picks == balanced(state, state.unlabelled, predicted, score)
    else:
        assert sorted(picks) == state.unlabelled.tolist()


def test_the_tail_is_first_and_its_picks_count(make_round: MakeRound) -> None:
    """Classes 0, 1, 2 have 3, 1 and 0 labels, and 4, 3 and 2 rows; class 3 has no label and no row."""
    predicted = np.array([0, 0, 0, 1, 0, 1, 2, 0, 1, 2, 0, 1, 0])
    top = np.array([9, 9, 9, 9, 5, 6, 7, 8, 9, 9, 6, 5, 7]) / 10.0
    p = np.full((13, 4), (1.0 - top[:, None]) / 3.0)
    p[np.arange(13), predicted] = top
    p = np.where(p < top[:, None], p, top[:, None])
    labels = np.where(np.arange(13) < 4, predicted, -1)
    x = np.arange(13.0, dtype=np.float32)[:, None]
    state = make_round(x, labels, 9, n_classes=4, student=Table(p))
    #                             labels of 0, 1, 2: 3 1 0 → 2, 3 1 1 → 1 (lower), 3 2 1 → 2, then class 2 has no row
    assert choose("tfs", state) == [6, 11, 9, 5, 4, 8, 10, 12, 7]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("budget", [1, 17, 60])
def test_pseudo_class_balance(budget: int, backend: str, make_round: MakeRound, pool: tuple) -> None:
    state = make_round(*pool, budget, n_classes=6, seed=4, backend=backend)
    p = posteriors(state)
    score, predicted = entropies(p), p.argmax(axis=1)
    n_candidates = max(40, budget)  # a tenth of the pool
    candidates = np.sort(state.unlabelled[np.argsort(-score[state.unlabelled], kind="stable")[:n_candidates]])
    lots = np.zeros(400, np.float32)
    lots[candidates] = np.random.default_rng(4).random(n_candidates, dtype=np.float32)
    assert choose("pcb", state) == balanced(state, candidates, predicted, lots)


def test_rows_of_a_class_come_equally_often(make_round: MakeRound, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcb, "_CANDIDATE_SHARE", 0.5)
    p = np.array([[0.6, 0.4]] * 6 + [[0.1, 0.9]] * 6)
    labels = np.where(np.arange(12) == 11, 1, -1)
    x = np.arange(12.0, dtype=np.float32)[:, None]
    first = [choose("pcb", make_round(x, labels, 1, student=Table(p), seed=seed))[0] for seed in range(600)]
    counts = np.bincount(first, minlength=12)
    assert counts[6:].sum() == 0, "the uncertain rows are of class 0"
    assert (np.abs(counts[:6] - 100) < 4.5 * (600 / 6 * 5 / 6) ** 0.5).all()


def test_ties_between_classes_and_rows_go_to_the_lower(make_round: MakeRound) -> None:
    labels = np.array([0, 1] + [-1] * 6)
    state = make_round(np.eye(8, dtype=np.float32), labels, 6, student=object())
    classes = np.array([1, 0, 1, 0, 0, 0], np.int32)
    picks = class_balance.rarest_class_first(state, classes, np.zeros(6, np.float32))
    assert picks.tolist() == [1, 0, 3, 2, 4, 5]


# ---------------------------------------------------------------------------------------------------------------------
# tcm


def test_typical_rows_first_then_the_smallest_margin(make_round: MakeRound, blobs: Callable[..., tuple]) -> None:
    x, y = blobs(300, 8, 2, distance=0.5)
    for n_labelled, name in ((39, "typiclust"), (40, "margins")):  # 20 labels for each of two classes
        labels = np.where(np.arange(300) < n_labelled, y, -1)
        expected = choose(name, make_round(x, labels, 9, n_classes=2, seed=3))
        other = choose("margins" if name == "typiclust" else "typiclust", make_round(x, labels, 9, n_classes=2, seed=3))
        assert choose("tcm", make_round(x, labels, 9, n_classes=2, seed=3)) == expected != other


# ---------------------------------------------------------------------------------------------------------------------
# dcom


def distances(x: np.ndarray) -> np.ndarray:
    unit = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    return np.sqrt(np.maximum(2.0 - 2.0 * unit @ unit.T, 0.0))


def bisected_radius(distance: np.ndarray, same: np.ndarray, threshold: float) -> float:
    """The published code's search around one labelled row."""
    low, high = 0.0, 1.1
    while high - low > 0.05:
        middle = (low + high) / 2.0
        inside = distance < middle
        if inside.any() and same[inside].mean() >= threshold:
            low = middle
        else:
            high = middle
    return (low + high) / 2.0


def dynamic_coverage(
    x: np.ndarray, state: strategies.Round, first_radius: float, among: np.ndarray
) -> tuple[list[int], float]:
    """The published code's selection, and the competence."""
    distance, labels, known = distances(x), state.labels, state.labelled
    p = posteriors(state)
    predicted = p.argmax(axis=1)
    second, top = np.sort(p, axis=1)[:, -2:].T
    threshold = 0.4 + 0.2 * (distance[known] < first_radius).any(axis=0).mean()
    radii = np.array([bisected_radius(distance[i], predicted == labels[i], threshold) for i in known])
    covered = (distance[known] < radii[:, None]).any(axis=0)
    competence = (1 + np.exp(-50 * (1 - 0.8))) / (1 + np.exp(-50 * (covered.mean() - 0.8)))
    ball = distance < radii.mean()
    doubt = (top - second).max() - (top - second)
    picks: list[int] = []
    for _ in range(state.budget):
        left = np.setdiff1d(among, picks)
        added = (ball[left] & ~covered).sum(axis=1)
        mixed = competence * doubt[left] / doubt[left].max() + (1 - competence) * added / max(1, added.max())
        picks.append(int(left[mixed.argmax()]))
        covered |= ball[picks[-1]]
    return picks, float(competence)


def first_radius(state: strategies.Round) -> float:
    """That of ProbCover, which has tests of its own."""
    pool = HostUnitRows(state.features, state.backend)
    return float(np.sqrt(2.0 - 2.0 * probcover.ball_similarity(state, pool)))


# Few labels cover little, and coverage decides; many cover most, and margins do; between them both.
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("n_labelled", "bounds"), [(12, (0.0, 0.01)), (31, (0.7, 0.9)), (90, (0.99, 1.0))])
def test_dynamic_coverage_and_margin_mix(
    n_labelled: int,
    bounds: tuple[float, float],
    backend: str,
    make_round: MakeRound,
    blobs: Callable[..., tuple],
    partly_labelled: Callable[..., np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, y = blobs(400, 12, 5, distance=0.3)
    labels = partly_labelled(y, n_labelled)
    monkeypatch.setattr(dcom, "_BATCH", 64)
    monkeypatch.setattr(dcom, "_PLACED", 37)
    state, twin = (make_round(x, labels, 80, n_classes=5, seed=2, backend=backend) for _ in range(2))
    expected, competence = dynamic_coverage(x, state, first_radius(twin), state.unlabelled)
    assert choose("dcom", state) == expected
    assert bounds[0] < competence <= bounds[1]


def test_a_competent_student_decides_by_its_margin(make_round: MakeRound, pool: tuple) -> None:
    """Every row in a ball: what is left is the margin."""
    x = pool[0] + np.float32(20.0)
    state = make_round(x, pool[1], 12, seed=2)
    assert choose("dcom", state) == choose("margins", make_round(x, pool[1], 12, student=state.student))


def test_radii_are_those_of_the_published_search(make_round: MakeRound, pool: tuple) -> None:
    x, labels = pool
    state = make_round(x, labels, 1)
    predicted = posteriors(state).argmax(axis=1)
    rows = HostUnitRows(state.features, state.backend)
    distance = distances(x)
    for purity in (0.0, 0.4, 0.55, 0.9, 1.0):
        expected = [bisected_radius(distance[i], predicted == labels[i], purity) for i in state.labelled]
        found = dcom.pure_radii(state, rows, predicted.astype(np.int32), purity)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    wrong = np.full(400, 4, np.int32)  # no ball around a row of another class is pure at all
    smallest = dcom.pure_radii(state, rows, wrong, 0.4)[labels[state.labelled] != 4]
    np.testing.assert_allclose(smallest, 1.1 / 64)


def test_without_labels_it_is_probcover(make_round: MakeRound, pool: tuple) -> None:
    x, unknown = pool[0], np.full(400, -1)
    state, twin = (make_round(x, unknown, 9, n_classes=5, seed=1, student=object()) for _ in range(2))
    assert choose("dcom", state) == choose("probcover", twin)


def test_in_a_large_pool_the_candidates_are_drawn_and_every_row_is_covered(
    make_round: MakeRound, pool: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(herding, "_PAIRS", 400 * 60)
    state, twin = (make_round(*pool, 10, seed=6) for _ in range(2))
    radius = first_radius(twin)
    drawn = np.sort(twin.rng.choice(twin.unlabelled, 60, replace=False))
    assert choose("dcom", state) == dynamic_coverage(pool[0], twin, radius, drawn)[0]


# ---------------------------------------------------------------------------------------------------------------------
# All of them


def degenerate_pools() -> dict[str, tuple[np.ndarray, np.ndarray, int]]:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((40, 6)).astype(np.float32)
    some = np.where(np.arange(40) % 5 == 0, np.arange(40) % 3, -1)
    one_left, one_each = np.arange(40) % 3, np.full(40, -1)
    one_left[17], one_each[[4, 30]] = -1, (1, 0)
    return {
        "all rows equal": (np.ones_like(x), some, 7),
        "one unlabelled row": (x, one_left, 1),
        "budget is all": (x, some, 32),
        "one column": (x[:, :1].copy(), some, 6),
        "one label of two classes": (x, one_each, 5),
        "duplicated rows": (np.tile(x[:5], (8, 1)), some, 12),
        "two classes": (x, np.minimum(some, 1), 9),
    }


@pytest.mark.parametrize(("name", "case", "backend"), thinned(2, NAMES, list(degenerate_pools()), BACKENDS))
def test_degenerate_pools(name: str, case: str, backend: str, make_round: MakeRound) -> None:
    x, labels, budget = degenerate_pools()[case]
    n_classes = 2 if case == "two classes" else 4  # one without a label
    picks = choose(name, make_round(x, labels, budget, n_classes=n_classes, backend=backend, max_epochs=5))
    if case == "budget is all":
        assert sorted(picks) == np.flatnonzero(labels < 0).tolist()
    if case == "one unlabelled row":
        assert picks == [17]
    if case == "all rows equal" and name not in ("pcb", "tcm"):
        assert picks == np.flatnonzero(labels < 0)[:budget].tolist()


@pytest.mark.parametrize("name", WITHOUT_LABELS)
@pytest.mark.parametrize("n_rows", [1, 2, 30])
def test_the_first_labels(name: str, n_rows: int, make_round: MakeRound, rng: np.random.Generator) -> None:
    x = rng.standard_normal((n_rows, 3)).astype(np.float32)
    for budget in {1, n_rows}:
        picks = choose(name, make_round(x, np.full(n_rows, -1), budget, student=object()))
        assert len(picks) == budget


@pytest.mark.parametrize("name", NAMES)
def test_any_student_with_probabilities(name: str, make_round: MakeRound, rng: np.random.Generator) -> None:
    p = rng.dirichlet(np.ones(4), size=90)
    labels = np.where(np.arange(90) < 85, np.arange(90) % 4, -1)
    x = np.stack([np.arange(90.0), rng.standard_normal(90)], axis=1).astype(np.float32)
    picks = choose(name, make_round(x, labels, 3, student=Table(p)))
    assert set(picks) < {85, 86, 87, 88, 89}


@pytest.mark.usefixtures("restore_threads")
@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_picks(name: str, make_round: MakeRound, pool: tuple) -> None:
    picks = []
    for threads in (1, 3):
        cf.set_num_threads(threads)
        picks.append(choose(name, make_round(*pool, 25, seed=2)))
    assert picks[0] == picks[1]


@pytest.mark.parametrize("name", NAMES)
def test_storage_types(name: str, make_round: MakeRound, pool: tuple) -> None:
    import torch

    x = torch.from_numpy(pool[0]).to(torch.bfloat16)
    head = make_round(*pool, 1).student
    values = x.float().numpy()
    expected = choose(name, make_round(values, pool[1], 11, student=head))
    assert choose(name, make_round(x, pool[1], 11, student=head)) == expected


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite(name: str, value: float, make_round: MakeRound, pool: tuple) -> None:
    x, labels = pool[0].copy(), pool[1]
    state = make_round(x, labels, 4)
    row = int(state.unlabelled[123])
    x[row, 2] = value
    with pytest.raises(ValueError, match=f"must be finite, got NaN or infinity at row {row}$"):
        choose(name, state)


@pytest.mark.parametrize("name", WITHOUT_LABELS)
def test_rows_without_a_direction_are_refused(name: str, make_round: MakeRound, pool: tuple) -> None:
    x = pool[0].copy()
    state = make_round(x, pool[1], 4)
    row = int(state.unlabelled[123])
    x[row] = 0.0
    with pytest.raises(ValueError, match=f"zero-length vector at row {row}$"):
        choose(name, state)


def test_which_of_them_can_choose_the_first_labels() -> None:
    assert set(NAMES) <= set(strategies.names())
    assert set(NAMES) & set(strategies.names(needs_labels=False)) == set(WITHOUT_LABELS)
