"""What the acquisitions say of themselves fits what they do."""

from __future__ import annotations

import dataclasses
from typing import get_args, get_type_hints

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast.query.acquisitions.table import ACQUISITIONS

C = 4


def test_the_table_has_those_that_a_configuration_takes() -> None:
    assert ("auto", *ACQUISITIONS) == get_args(get_type_hints(cf.CCMAConfig)["acquisition"])
    for name in ACQUISITIONS:
        assert cf.CCMAConfig(acquisition=name).acquisition == name


SIZES = {"calibration": "target_size", "student_set_size": 2, "teacher_set_size": 2}


@pytest.mark.parametrize(
    ("config", "student", "name"),
    [
        ({}, "none", "coverage"),
        ({}, "estimator", "trust"),
        ({}, "logits", "trust"),
        ({"head": "ridge"}, "none", "trust"),
        ({"head": "published", "max_epochs": 3}, "none", "trust"),
        ({**SIZES, "head": "ridge"}, "none", "coverage"),
        (SIZES, "logits", "coverage"),
    ],
)
@pytest.mark.parametrize("n_labelled", [0, 40])
def test_auto_is_coverage_where_the_student_learns_from_the_teacher(n_labelled, config, student, name):
    """Or where sets of a wanted size do not tell how far the teacher is to be trusted."""
    if n_labelled == 0 and student == "estimator":
        pytest.skip("it needs labels")
    rng = np.random.default_rng(5)
    y = rng.integers(C, size=200)
    x = (2.0 * np.eye(C, 8)[y] + rng.standard_normal((200, 8))).astype(np.float32)
    teacher = cf.Teacher.from_logits((3.0 * np.eye(C)[y] + rng.standard_normal((200, C))).astype(np.float32))
    given = {
        "none": {},
        "estimator": {"student": cf.LogisticHead(C)},
        "logits": {"student_logits": rng.standard_normal((200, C)).astype(np.float32)},
    }[student]
    labels = np.where(np.arange(200) < n_labelled, y, -1)
    auto, chosen = (
        cf.select(
            x, 9, labels=labels, teacher=teacher, config=cf.CCMAConfig(acquisition=acquisition, **config), **given
        )
        for acquisition in ("auto", name)
    )
    np.testing.assert_array_equal(auto.indices, chosen.indices)
    np.testing.assert_array_equal(auto.scores, chosen.scores)
    if auto.report.mode == "query":
        assert np.isfinite(auto.report.trust) == (name == "trust")


def test_first_labels_cover_the_rows_of_the_student_with_a_teacher_as_without() -> None:
    """Only "trust" lets the teacher choose them."""
    rng = np.random.default_rng(6)
    x, v = (rng.standard_normal((80, 8)).astype(np.float32) for _ in range(2))
    teacher = cf.Teacher(v, rng.standard_normal((C, 8)))
    alone = cf.select(x, 9)
    for acquisition in ("auto", "coverage"):
        picks = cf.select(x, 9, teacher=teacher, config=cf.CCMAConfig(acquisition=acquisition))
        np.testing.assert_array_equal(picks.indices, alone.indices)
    picks = cf.select(x, 9, teacher=teacher, config=cf.CCMAConfig(acquisition="trust"))
    assert picks.indices.tolist() != alone.indices.tolist()


@pytest.mark.parametrize("has_teacher", [False, True])
@pytest.mark.parametrize("name", ACQUISITIONS)
def test_the_cost_model_counts_the_columns_that_are_kept(name: str, has_teacher: bool) -> None:
    columns = ACQUISITIONS[name].columns(has_teacher, C)
    assert set(columns) <= set(cf.reference.RowScores._fields)
    assert ACQUISITIONS[name].score_bytes(has_teacher) == sum(np.dtype(dtype).itemsize for dtype in columns.values())


@pytest.mark.parametrize("n_labelled", [0, 30])
@pytest.mark.parametrize("with_teacher", [False, True])
@pytest.mark.parametrize("name", ACQUISITIONS)
def test_a_report_tells_sets_where_they_are_formed(name: str, with_teacher: bool, n_labelled: int) -> None:
    rng = np.random.default_rng(3)
    z, labels = rng.standard_normal((200, C)).astype(np.float32), np.full(200, -1)
    labels[:n_labelled] = rng.integers(0, C, n_labelled)
    teacher = cf.Teacher.from_logits(rng.standard_normal((200, C)).astype(np.float32)) if with_teacher else None
    config = cf.CCMAConfig(acquisition=name)
    if name == "delta":
        config = dataclasses.replace(config, calibration="target_size", student_set_size=2, teacher_set_size=2)
    report = cf.select(z, 5, labels=labels, student_logits=z, teacher=teacher, config=config).report
    compared = with_teacher and n_labelled > 0  # told from a sample where the picks do not depend on it
    is_formed = compared or ACQUISITIONS[name].forms_sets(with_teacher, n_labelled)
    assert (report.calibration == config.calibration) == is_formed
    assert np.isfinite([report.q_student, report.mean_student_set]).all() == is_formed
    assert np.isfinite(report.mean_teacher_set) == (is_formed and with_teacher)


def test_where_the_student_alone_picks_a_sample_of_the_teacher_is_read() -> None:
    """The picks are those without a teacher, and the report's means those of all rows within five standard errors."""
    rng = np.random.default_rng(7)
    n, m = 30_000, 4096
    y = rng.integers(C, size=n)
    z, z_teacher = ((2 * np.eye(C)[y] + rng.standard_normal((n, C))).astype(np.float32) for _ in range(2))
    labels = np.where(np.arange(n) < 60, y, -1)
    of_sample, of_all = (
        cf.select(
            z,
            5,
            labels=labels,
            student_logits=z,
            teacher=cf.Teacher.from_logits(z_teacher),
            config=cf.CCMAConfig(acquisition=name),
        )
        for name in ("coverage", "trust")
    )
    alone = cf.select(z, 5, labels=labels, student_logits=z, config=cf.CCMAConfig(acquisition="coverage"))
    np.testing.assert_array_equal(of_sample.indices, alone.indices)
    sampled, exact = of_sample.report, of_all.report
    assert (sampled.q_student, sampled.q_teacher) == (exact.q_student, exact.q_teacher)
    for name, most in (
        ("mean_student_set", C),
        ("mean_teacher_set", C),
        ("mean_overlap", C),
        ("top1_disagreement", 1),
    ):
        found, expected = getattr(sampled, name), getattr(exact, name)
        assert found != expected  # of a sample
        assert abs(found - expected) < 5 * most / 2 / m**0.5
    assert sampled.stages["check"].bytes_read >= z_teacher.nbytes  # every row is validated
    assert sampled.stages["disagreement"].bytes_read < z.nbytes + m * C * 4


@pytest.mark.parametrize("name", ACQUISITIONS)
def test_rows_of_the_pool_need_a_direction_where_coverage_runs_among_them(name: str) -> None:
    rng = np.random.default_rng(4)
    x, v = (rng.standard_normal((60, 8)).astype(np.float32) for _ in range(2))
    x[7] = 0.0
    labels = np.where(np.arange(60) < 20, np.arange(60) % C, -1)
    teacher = cf.Teacher(v, rng.standard_normal((C, 8)))
    config = cf.CCMAConfig(acquisition=name, max_epochs=3)
    if ACQUISITIONS[name].covers_pool:
        with pytest.raises(ValueError, match="zero-length vector at row 7"):
            cf.select(x, 5, labels=labels, teacher=teacher, config=config)
    else:
        assert len(cf.select(x, 5, labels=labels, teacher=teacher, config=config)) == 5
