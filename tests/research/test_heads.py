"""The student as an axis of a simulation: the heads of the package, what they learn from, and what is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast.research.rounds import METRICS, SET_METRICS
from ccma_fast.steps import pool_sample, train

N, M, D, C = 220, 90, 6, 4
HEADS = ("distilled", "ridge", "published")


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    """Overlapping classes, with test rows."""
    rng = np.random.default_rng(5)
    y = rng.integers(C, size=N + M)
    x = (rng.standard_normal((N + M, D)) + 1.5 * np.eye(C, D)[y]).astype(np.float32)
    return {"features": x[:N], "labels": y[:N], "test_features": x[N:], "test_labels": y[N:]}


@pytest.fixture(scope="module")
def teacher(data: dict[str, Any]) -> cf.Teacher:
    """Right on most rows."""
    z = 2.0 * np.eye(C)[data["labels"]] + np.random.default_rng(6).standard_normal((N, C))
    return cf.Teacher.from_logits(z)


@pytest.fixture
def run(data: dict[str, Any]) -> Callable[..., cf.Results]:
    def simulated(**changes: Any) -> cf.Results:
        return cf.simulate(**{**data, "seeds": [3, 7], "rounds": 2, "progress": False, **changes})

    return simulated


def of(results: cf.Results, strategy: str) -> dict[str, list[Any]]:
    """A strategy's rows and picks, without its name; NaN equal to itself."""
    tables = ((table, table["strategy"] == strategy) for table in (results.columns, results.picks))
    return {name: list(map(repr, t[name][own].tolist())) for t, own in tables for name in t if name != "strategy"}


def test_the_head_is_an_option(run: Callable[..., cf.Results], teacher: cf.Teacher) -> None:
    """Of a strategy or of the configuration, it changes the student and not the first labels."""
    labels = [f"margins:head={head}" for head in HEADS]
    quick = cf.CCMAConfig(max_epochs=10)
    results = run(strategies=["margins", *labels], teacher=teacher, config=quick, rounds=1)
    assert [results.record["contenders"][label]["config"]["head"] for label in labels] == list(HEADS)
    assert of(results, "margins") == of(results, "margins:head=distilled")
    starts = [of(results, label)["row"][:C] for label in labels]
    assert starts[0] == starts[1] == starts[2]
    areas = [of(results, label)["macro_auroc"] for label in labels]
    assert areas[0] != areas[1] != areas[2] != areas[0]
    for head in HEADS:
        configured = run(strategies=["margins"], teacher=teacher, config=replace(quick, head=head), rounds=1)
        assert of(configured, "margins") == of(results, f"margins:head={head}")


def test_what_learns_from_the_teacher(run: Callable[..., cf.Results], teacher: cf.Teacher) -> None:
    """The distilled head does, once there are labels enough to show that it helps; the others are the same without."""
    strategies = [f"random:head={head}" for head in HEADS]
    quick = cf.CCMAConfig(max_epochs=10)
    with_teacher, without = (
        run(strategies=strategies, teacher=given, config=quick, rounds=1, n_start=6 * C) for given in (teacher, None)
    )
    test_metrics = [name for name in METRICS if name not in SET_METRICS]
    for label in strategies:
        own, other = of(with_teacher, label), of(without, label)
        assert own["row"] == other["row"]
        same = all(own[name] == other[name] for name in test_metrics)
        assert same == (label != "random:head=distilled")
    first = with_teacher.curve("random:head=distilled").accuracy[:, 0]
    assert (first > without.curve("random:head=distilled").accuracy[:, 0]).all()


def test_students_are_the_same_where_the_labels_are(run: Callable[..., cf.Results], teacher: cf.Teacher) -> None:
    """So that seeds pair: in round 0 every contender has one student, and one measurement of its sets."""
    results = run(strategies=["random", "margins", "ccma"], teacher=teacher, rounds=1)
    first = results.columns["round"] == 0
    for name in METRICS:
        values = results.columns[name][first].reshape(3, 2)
        np.testing.assert_array_equal(values, values[[0, 0, 0]], err_msg=name)


def test_query_and_diagnosis_share_the_models(
    run: Callable[..., cf.Results], teacher: cf.Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One training for each round, folds included, whatever asks for out-of-fold scores."""
    calls = []

    def counted(*given: Any, **options: Any) -> Any:
        calls.append(given)
        return distilled(*given, **options)

    distilled = train.distilled
    monkeypatch.setattr(train, "distilled", counted)
    run(strategies=["ccma:acquisition=trust"], teacher=teacher, seeds=[3], rounds=3)
    assert len(calls) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"student": cf.LogisticHead(), "strategies": ["margins:head=ridge"]},
            "'margins:head=ridge': head is a constant of the default student, but a student was given",
        ),
        (
            {"strategies": ["margins:head=forest"]},
            "head of strategy .* must be 'distilled' or 'ridge' or 'published', got",
        ),
        (
            {"strategies": ["margins:max_epochs=5"]},
            "max_epochs is a constant of the published head, expected head=published beside it, got head=distilled",
        ),
        ({"strategies": ["badge:head=ridge,patience=5"]}, "patience is a constant of the published head, .*head=ridge"),
    ],
)
def test_options_without_a_use_are_refused(
    run: Callable[..., cf.Results], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run(**changes)


def test_constants_of_the_published_head_beside_it(run: Callable[..., cf.Results]) -> None:
    label = "bald:max_epochs=5,head=published"
    config = run(strategies=[label, "bald:dropout=0.5"], rounds=1).record["contenders"][label]["config"]
    assert (config["head"], config["max_epochs"]) == ("published", 5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": cf.CCMAConfig(head="ridge")}, 'its arguments.config.head is "distilled", got "ridge"'),
        ({"strategies": {"random": "random:head=ridge"}}, 'contenders.random.config.head is "distilled", got "ridge"'),
        ({"config": cf.CCMAConfig(acquisition="trust")}, 'config.acquisition is "auto", got "trust"'),
        ({"student": cf.LogisticHead()}, "its student is null, got .*LogisticHead"),
    ],
)
def test_a_run_does_not_go_on_with_another_student(
    run: Callable[..., cf.Results], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    run(strategies=["random"], out=tmp_path, rounds=1)
    with pytest.raises(ValueError, match=message):
        run(**{"strategies": ["random"], **changes}, out=tmp_path, rounds=1)


def test_a_given_student_is_known_by_its_parameters(run: Callable[..., cf.Results], tmp_path: Path) -> None:
    def given(penalty: float, random_state: int) -> cf.LogisticHead:
        return cf.LogisticHead(penalty=penalty, random_state=random_state)

    first = run(strategies=["badge"], student=given(0.1, 1), out=tmp_path, rounds=1)
    again = run(strategies=["badge"], student=given(0.1, 2), out=tmp_path, rounds=1)
    assert of(first, "badge") == of(again, "badge")
    with pytest.raises(ValueError, match=r"holds another run: its student.*penalty"):
        run(strategies=["badge"], student=given(0.3, 1), out=tmp_path, rounds=1)


@pytest.mark.parametrize("head", ["distilled", "ridge"])
def test_few_labels_and_rows(run: Callable[..., cf.Results], data: dict[str, Any], head: str) -> None:
    """Two classes, two labels to begin with, and a pool of twelve rows up to the last label."""
    small = {name: data[name][:12] % 2 if name == "labels" else data[name][:12] for name in ("features", "labels")}
    small["test_labels"] = data["test_labels"] % 2
    z = np.random.default_rng(0).standard_normal((12, 2))
    strategies = ["ccma", "margins", "badge", "uncertainty-herding", "ccma:start=ccma"]
    results = run(
        **small,
        strategies=strategies,
        teacher=cf.Teacher.from_logits(z),
        config=cf.CCMAConfig(head=head),
        n_start=2,
        budget=5,
    )
    assert results.columns["n_labels"].reshape(-1, 3).tolist() == [[2, 7, 12]] * 10
    for label in strategies:
        rows = results.picks["row"][results.picks["strategy"] == label].reshape(2, 12)
        assert np.sort(rows, axis=1).tolist() == [list(range(12))] * 2


def test_a_class_without_labels(run: Callable[..., cf.Results], data: dict[str, Any], teacher: cf.Teacher) -> None:
    """Nobody ever labels it, and its test rows count all the same."""
    labels = np.where(data["labels"] == 2, 1, data["labels"])
    results = run(labels=labels, strategies=["ccma", "margins:head=ridge"], teacher=teacher)
    assert np.isfinite(results.columns["macro_auroc"]).all()
    # A teacher that tells the class apart is corrected: those rows are named like their labels.
    assert (results.columns["accuracy"] < 1.0 - (data["test_labels"] == 2).mean()).all()


def test_a_sample_smaller_than_the_pool(
    run: Callable[..., cf.Results], teacher: cf.Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_sample, "_SAMPLE_ROWS", 64)
    first, again = (
        run(strategies=["ccma", "ccma:head=ridge"], teacher=teacher, n_start=4 * C, rounds=1) for _ in range(2)
    )
    assert of(first, "ccma") == of(again, "ccma")
    with_teacher, alone = (first.curve(name).accuracy[:, 0] for name in ("ccma", "ccma:head=ridge"))
    assert (with_teacher >= alone - 2 / 90).all()  # of 90 test rows; so few soft labels are of little use
    assert (with_teacher > alone).any()
