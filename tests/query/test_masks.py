"""Rows that may not be picked: never picked, covered where they are pending, unread where they are excluded."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast.pool.labels import ReadLabels
from ccma_fast.pool.open import open_rows

from ..combinations import thinned

BACKENDS = ("cpu", "reference")
CONFIGS = {
    "default": {},
    "coverage": {"acquisition": "coverage", "head": "ridge"},
    "trust": {"acquisition": "trust", "head": "published", "max_epochs": 5},
    "delta": {"acquisition": "delta", "head": "published", "max_epochs": 5, "calibration": "target_size"},
    "a subpool": {"subpool_size": 40, "pool_limit": 100},
}
N, C = 180, 4
LABELLED = np.arange(0, N, 9)


@pytest.fixture(scope="module")
def pool(blobs):
    """180 rows of 4 classes: features, a teacher, and 20 labels."""
    x, y = blobs(N, 10, C)
    labels = np.full(N, -1)
    labels[LABELLED] = y[LABELLED]
    v = x @ np.random.default_rng(1).standard_normal((10, 6), dtype=np.float32)
    t = np.stack([v[y == c].mean(axis=0) for c in range(C)])
    z = np.random.default_rng(2).standard_normal((N, C), dtype=np.float32)
    return SimpleNamespace(x=x, y=y, v=v, t=t, teacher=cf.Teacher(v, t), labels=labels, z=z)


def select(pool: Any, budget: int, config: str = "default", **given: Any) -> cf.Selection:
    given = {"labels": pool.labels, "teacher": pool.teacher, **given}
    return cf.select(pool.x, budget, config=cf.CCMAConfig(**CONFIGS[config]), **given)


def changed(pool: Any, x: np.ndarray[Any, Any]) -> SimpleNamespace:
    return SimpleNamespace(**{**vars(pool), "x": x})


def same(found: cf.Selection, expected: cf.Selection) -> None:
    for name in ("indices", "scores", "represents"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize(("config", "backend", "cold"), thinned(2, list(CONFIGS), BACKENDS, [False, True]))
def test_none_of_them_is_picked_even_where_all_others_are(pool: Any, config: str, backend: str, cold: bool) -> None:
    given: dict[str, Any] = {"backend": backend}
    if cold:
        given["labels"] = None
    rest = np.setdiff1d(np.arange(N), LABELLED)
    exclude, pending, include = rest[1:60], rest[50:90], rest[:130]
    free = [rest[0], *rest[90:130]]
    for budget in (7, N):
        picks = select(pool, budget, config, exclude=exclude, pending=pending, include=include, **given)
        assert len(picks) == min(budget, len(free)) == np.unique(picks.indices).size
        assert np.isin(picks.indices, free).all()
    report = picks.report
    assert (report.n_unlabelled, report.n_pending, report.n_vanished) == (len(free), 30, 0)
    counted = report.n_labelled + report.n_pending + report.n_excluded + report.n_unlabelled
    assert counted == report.n_rows == N
    assert "30 being labelled" in str(report)


@pytest.mark.parametrize(("config", "cold", "backend"), thinned(2, list(CONFIGS), [False, True], BACKENDS))
def test_masks_that_change_nothing_change_nothing(pool: Any, config: str, cold: bool, backend: str) -> None:
    given: dict[str, Any] = {"backend": backend}
    if cold:
        given["labels"] = None
    expected = select(pool, 9, config, **given)
    none, every = np.zeros(N, bool), np.arange(N)[::-1]
    found = select(pool, 9, config, exclude=none, pending=[], include=every, **given)
    same(found, expected)
    assert found.report.to_dict().keys() == expected.report.to_dict().keys()
    assert "excluded" not in str(found.report)
    assert "being labelled" not in str(found.report)


@pytest.mark.parametrize("config", CONFIGS)
def test_every_form_gives_the_same_picks(pool: Any, config: str) -> None:
    exclude, pending, include = np.arange(5, 50), np.arange(45, 70, 2), np.arange(3, 150)
    named = {"exclude": exclude, "pending": pending, "include": include}
    expected = select(pool, 9, config, **named)
    masks = {name: np.isin(np.arange(N), rows) for name, rows in named.items()}
    same(select(pool, 9, config, **masks), expected)
    rng = np.random.default_rng(0)
    same(select(pool, 9, config, **{name: rng.permutation(rows).tolist() for name, rows in named.items()}), expected)


def test_a_label_wins_over_exclude_and_that_over_pending_and_include(pool: Any) -> None:
    expected = select(pool, 9, exclude=[1, 2], pending=[3], include=np.arange(1, 120))
    found = select(
        pool, 9, exclude=[1, 2, *LABELLED], pending=[2, 3, *LABELLED], include=[*range(1, 120), *LABELLED[-3:]]
    )
    same(found, expected)
    assert (found.report.n_pending, found.report.n_labelled) == (1, LABELLED.size)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("config", ["coverage", "trust"])
def test_pending_rows_cover_as_labelled_ones_do(pool: Any, config: str, backend: str) -> None:
    """With ready-made logits and no teacher the labels have no other part in the picks."""
    pending = np.arange(1, N, 7)
    labels = pool.labels.copy()
    labels[pending] = pool.y[pending]
    given: dict[str, Any] = {"teacher": None, "student_logits": pool.z, "backend": backend}
    found = select(pool, 12, config, pending=pending, **given)
    same(found, select(pool, 12, config, labels=labels, **given))
    alone = select(pool, 12, config, exclude=pending, **given)
    assert found.indices.tolist() != alone.indices.tolist()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n_labelled", [0, 4])
def test_pending_rows_cover_at_a_cold_start(pool: Any, n_labelled: int, backend: str) -> None:
    of_one_class = np.flatnonzero(pool.y == 2)[:15]
    first, pending = of_one_class[:n_labelled], of_one_class[n_labelled:]
    labels = np.full(N, -1)
    labels[of_one_class] = 2
    expected = select(pool, 12, labels=labels, backend=backend)
    labels[pending] = -1
    found = select(pool, 12, labels=labels if first.size else None, pending=pending, backend=backend)
    assert found.report.mode == "cold start"
    same(found, expected)
    assert found.indices.tolist() != select(pool, 12, labels=None, exclude=of_one_class).indices.tolist()


@pytest.mark.parametrize(("config", "cold", "backend"), thinned(2, list(CONFIGS), [False, True], BACKENDS))
def test_excluded_rows_are_never_read(pool: Any, config: str, cold: bool, backend: str) -> None:
    """Whatever lies there, NaN included: neither student nor teacher learns from it, and nothing checks it."""
    excluded = np.setdiff1d(np.arange(2, N, 3), LABELLED)
    x, v = pool.x.copy(), pool.v.copy()
    x[excluded], v[excluded] = np.nan, np.nan
    given: dict[str, Any] = {"labels": None if cold else pool.labels, "backend": backend, "exclude": excluded}
    expected = select(pool, 9, config, **given)
    found = select(changed(pool, x), 9, config, teacher=cf.Teacher(v, pool.t), **given)
    same(found, expected)
    assert found.report.penalty == pytest.approx(expected.report.penalty, nan_ok=True)


@pytest.mark.parametrize("name", ["pending", "include"])
def test_the_student_learns_softly_from_the_other_rows(pool: Any, name: str) -> None:
    """Pending rows and those that are not included are in its sample."""
    x = pool.x.copy()
    others = np.setdiff1d(np.arange(0, N, 2), LABELLED)
    x[others] *= 30.0  # in length alone: what covers as before
    given = {name: others if name == "pending" else np.setdiff1d(np.arange(N), others)}
    expected = select(pool, 9, **given)
    found = select(changed(pool, x), 9, **given)
    assert found.scores.tolist() != expected.scores.tolist()


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("cold", [False, True])
def test_a_pending_row_that_is_not_finite_is_named(pool: Any, cold: bool, config: str) -> None:
    x = pool.x.copy()
    x[5, 3] = np.nan
    with pytest.raises(ValueError, match="features must be finite, got NaN or infinity at row 5"):
        select(changed(pool, x), 9, config, teacher=None, pending=[4, 5], labels=None if cold else pool.labels)


@pytest.mark.parametrize("named", [{"exclude": np.ones(N, bool)}, {"pending": np.arange(N)}, {"include": []}])
@pytest.mark.parametrize("cold", [False, True])
def test_where_nothing_is_left_nothing_is_picked(pool: Any, cold: bool, named: dict[str, Any]) -> None:
    picks = select(pool, 9, labels=None if cold else pool.labels, **named)
    assert len(picks) == picks.report.n_unlabelled == 0
    assert cf.plan(pool.x, 9, labels=pool.labels, teacher=pool.teacher, **named).stages.keys() == {"check"}


def test_what_is_wrong_is_said_by_its_name(pool: Any) -> None:
    for name in ("exclude", "pending", "include"):
        with pytest.raises(ValueError, match=f"{name} has 3 rows but features has {N}"):
            select(pool, 9, **{name: [True, False, True]})
        with pytest.raises(TypeError, match=f"{name} must be a mask of booleans, row numbers .* got dtype float64"):
            cf.plan(pool.x, 9, **{name: [np.nan]})
        with pytest.raises(ValueError, match=f"{name} must be distinct, got row 4 more than once"):
            select(pool, 9, **{name: [4, 4]})


def test_row_numbers_need_no_ids(pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = open_rows(pool.x, "features")

    def read() -> None:
        raise AssertionError("ids were read")

    monkeypatch.setattr(rows, "row_ids", read)
    picks = cf.select(
        rows,
        5,
        labels=ReadLabels(pool.labels),
        exclude=np.array([1, 2]),
        pending=np.array([4]),
        include=np.arange(100),
    )
    assert len(picks) == 5


def test_memory_follows_the_smaller_part_of_the_pool() -> None:
    from ccma_fast.pool.derived import AllBut
    from ccma_fast.query.selectable_rows import selectable_rows

    few, nothing = np.array([3, 500, 70]), np.empty(0, np.int64)
    rows = selectable_rows(1000, nothing, nothing, exclude=None, pending=None, include=few)
    assert isinstance(rows.selectable, np.ndarray)
    assert rows.selectable.tolist() == [3, 70, 500]
    assert isinstance(rows.population, AllBut)
    assert rows.population.smaller.size == 0
    rows = selectable_rows(1000, nothing, nothing, exclude=few, pending=None, include=None)
    assert isinstance(rows.selectable, AllBut)
    assert (rows.selectable.size, rows.selectable.smaller.size, rows.n_excluded) == (997, 3, 3)
