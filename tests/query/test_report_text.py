"""The words of a report."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

import ccma_fast as cf

WITH_TEACHER = cf.Report(
    mode="query",
    config={"head": "distilled"},
    n_rows=100,
    n_labelled=20,
    soft_weight=100.0,
    teacher_temperature=1.5,
    correction_penalty=math.inf,
    student_share=0.6,
    top1_disagreement=0.1,
    likeliest_temperature=0.05,
)


@pytest.mark.parametrize(
    ("change", "first", "rest"),
    [
        (
            {},
            "believed: its answers weigh as much as 100 labels",
            ["counts 40 % in what both together predict\n", "0.05"],
        ),
        (
            {"correction_penalty": 0.1},
            "believed after a correction by the labels: its answers",
            ["predict after a correction by the labels\n"],
        ),
        ({"soft_weight": 0.0}, "left out of the student's training: ", ["counts 40 %"]),
        (
            {"likeliest_temperature": 1e-6},
            "believed: ",
            ["right on every labelled row, so that these tell no likeliest"],
        ),
    ],
)
def test_what_the_teacher_counts(change, first, rest):
    text = str(replace(WITH_TEACHER, **change))
    assert f"\nteacher    {first}" in text
    for part in rest:
        assert part in text


def test_a_teacher_of_even_guesses_is_not_called_believed():
    """Whatever its weight: even soft labels only smooth the student, and have no part in predictions."""
    text = str(replace(WITH_TEACHER, teacher_temperature=math.inf, likeliest_temperature=math.inf))
    assert "\nteacher    of no use: even guesses fit the labels better than its answers" in text
    assert "believed" not in text
    assert "counts" not in text
    assert "likeliest" not in text
