"""Sums that are the same in any order, and what is drawn by them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ccma_fast import reference
from ccma_fast.backends import exact_sums, kmeans_part, kmeans_start, positional_random
from ccma_fast.backends.exact_sums import FixedPoint
from ccma_fast.backends.parts import OnePart
from ccma_fast.pool.derived import Runs


def of_any_size(rng: np.random.Generator, n: int) -> np.ndarray:
    values = np.exp2(rng.uniform(-148, 127, n)).astype(np.float32)
    values[rng.random(n) < 0.1] = 0.0
    return values


@pytest.mark.parametrize("n", [0, 1, 2, 5000])
def test_a_sum_is_rounded_once(n, monkeypatch):
    """As by math.fsum, by the core and without it, in one go and in parts."""
    monkeypatch.setattr(exact_sums, "_SLAB", 700)
    rng = np.random.default_rng(n)
    for _ in range(5):
        w, x = of_any_size(rng, n), of_any_size(rng, n)
        limbs = exact_sums.exact_sum(w, x)
        assert exact_sums.rounded_sum(limbs) == math.fsum((w.astype(np.float64) * x).tolist())
        assert exact_sums.rounded_sum(exact_sums.exact_total(w)) == math.fsum(w.tolist())
        assert exact_sums.rounded_sum(exact_sums._exact_sum(w, x)) == exact_sums.rounded_sum(limbs)
        cut = n // 3
        parts = exact_sums.exact_sum(w[:cut], x[:cut]) + exact_sums.exact_sum(w[cut:], x[cut:])
        assert exact_sums.rounded_sum(parts) == exact_sums.rounded_sum(limbs)


def test_what_is_not_finite_is_no_number():
    w, x = np.array([1.0, 0.0, 2.0], np.float32), np.array([1.0, np.inf, 3.0], np.float32)
    with np.errstate(invalid="ignore"):
        for found in (exact_sums.exact_sum(w, x), exact_sums._exact_sum(w, x)):
            assert found[-1] == 1
            assert exact_sums.rounded_sum(found) == math.inf


@pytest.mark.parametrize("spread", [0.0, 10.0, 270.0])
def test_the_weight_of_labels_is_rounded_once(spread):
    """However far weights are apart, and as in the reference."""
    rng = np.random.default_rng(0)
    weights = np.exp2(rng.uniform(-148, -148 + spread, 400)).astype(np.float32)
    weights[::7] = 0.0
    labels = rng.integers(6, size=400).astype(np.int32)
    labels[labels == 2] = 5
    found = exact_sums.mass_of_labels(labels, weights, 6)
    np.testing.assert_array_equal(found, reference.mass_of_labels(labels, weights, 6))
    assert found[3] == math.fsum(weights[labels == 3].tolist())


def test_fixed_point_holds_what_it_is_made_for():
    """Terms stay below 2^51 units and sums below 2^63, and the last limb is as fine as asked."""
    rng = np.random.default_rng(1)
    for _ in range(200):
        largest, n_rows = 2.0 ** rng.uniform(-200, 200), int(2 ** rng.uniform(0, 40))
        total, finest = largest * rng.uniform(1, n_rows), int(rng.integers(-200, 400))
        fixed = FixedPoint.covering(largest, total, finest, n_rows)
        assert largest * fixed.scale < 2.0**51
        assert total * fixed.scale + n_rows < 2.0**62
        assert n_rows * 2.0 ** (fixed.step - 1) < 2.0**62
        assert fixed.step > 20
        assert fixed.exponent + fixed.step * (fixed.n_limbs - 1) >= finest


@pytest.mark.parametrize("kind", [np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.SFC64])
def test_uniform_numbers_by_position(kind, monkeypatch):
    """Those of a whole, at any of its rows; the generator goes on as if all had been drawn, its kept bits included."""
    monkeypatch.setattr(exact_sums, "_SLAB", 5)
    rng, other = np.random.Generator(kind(3)), np.random.Generator(kind(3))
    for generator in (rng, other):
        generator.integers(9, dtype=np.int32)
    numbers = Runs([2, 9, 40], [4, 30, 41])
    drawn = np.concatenate([values for _, values in positional_random.uniforms(rng, numbers)])
    whole = other.random(60)
    np.testing.assert_array_equal(drawn, whole[numbers[np.arange(numbers.size)]])
    positional_random.skip(rng, 60)
    np.testing.assert_array_equal(rng.integers(9, size=3, dtype=np.int32), other.integers(9, size=3, dtype=np.int32))
    np.testing.assert_array_equal(rng.random(3), other.random(3))


def test_a_row_is_drawn_as_by_the_reference(monkeypatch):
    """First its block, then the row; rows of weight zero never."""
    for module in (kmeans_part, kmeans_start):
        monkeypatch.setattr(module, "ROWS_OF_BLOCK", 8)
    rng = np.random.default_rng(2)
    for n in (1, 8, 100):
        weights = np.where(rng.random(n) < 0.4, 0.0, rng.exponential(size=n)).astype(np.float32)
        weights[rng.integers(n)] = 1.0

        class Rows:
            n_rows, lengths = n, (1.0, 1.0)

        parts = OnePart(kmeans_part.ClusterPart(Rows(), Runs([0], [n]), weights), n)
        facts = kmeans_part.facts_of(parts)
        for uniform in [0.0, 1.0 - 2.0**-53, *rng.random(20)]:
            row = kmeans_start._drawn_row(parts, facts, uniform)
            assert row == reference.draw(weights, uniform)
            assert weights[row] > 0.0
            share = np.cumsum(weights.astype(np.float64)) / weights.sum(dtype=np.float64)
            assert share[row] >= uniform - 1e-12
            assert row == 0 or share[row - 1] <= uniform + 1e-12
