"""Student and teacher as one model: of rows that are read in chunks, and its weights."""

from __future__ import annotations

import numpy as np
import pytest

from ccma_fast.pool.arrays import ArrayRows
from ccma_fast.steps.combination import Combination, CombinedRows, combination, log_softmax

pytestmark = pytest.mark.processor


def test_chunks_do_not_change_bits():
    rng = np.random.default_rng(0)
    student, teacher = (rng.standard_normal((101, 7)).astype(np.float32) for _ in range(2))
    combined = Combination(0.25, 1.7)
    rows = CombinedRows(combined, ArrayRows(student, "student"), ArrayRows(teacher, "teacher"))
    whole = combined(student, teacher)
    np.testing.assert_allclose(whole, 1.7 * (0.25 * log_softmax(student) + 0.75 * log_softmax(teacher)), rtol=1e-5)
    for chunk_size in (1, 7, 100, 1000):
        np.testing.assert_array_equal(np.concatenate([chunk for _, chunk in rows.chunks(chunk_size)]), whole)
    some = np.array([100, 3, 3, 50])
    np.testing.assert_array_equal(rows.take(some), whole[some])


def test_the_share_is_that_of_the_model_that_knows():
    rng = np.random.default_rng(1)
    y = rng.integers(4, size=300)
    knows = (3 * np.eye(4)[y] + rng.standard_normal((300, 4))).astype(np.float32)
    noise = (3 * rng.standard_normal((300, 4))).astype(np.float32)
    assert combination(knows, noise, y).share >= 0.75
    assert combination(noise, knows, y).share <= 0.25
