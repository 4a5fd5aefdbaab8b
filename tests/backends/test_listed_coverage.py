"""Greedy coverage by listed pairs of rows chooses as by products, and as the reference does."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from ccma_fast import _core, reference
from ccma_fast.backends.choose import choose_backend
from ccma_fast.backends.unit_rows import Kernel
from ccma_fast.pool.open import open_rows
from ccma_fast.steps import coverage
from ccma_fast.steps.greedy import greedy_coverage, limited_coverage

CPU = choose_backend("cpu")
SQUARE = _core.NearerPairs.SQUARE
KERNELS = {"similarity": Kernel(), "gaussian": Kernel.gaussian(0.7), "ball": Kernel("ball", 0.6)}


class Quotas:
    """At most so many picks with the same remainder."""

    def __init__(self, n_rows: int, n_groups: int, room: int) -> None:
        self.closed = np.zeros(n_rows, np.bool_)
        self._group, self._room = np.arange(n_rows) % n_groups, np.full(n_groups, room)

    def admits(self, row: int) -> bool:
        self.closed[row] = True
        group = self._group[row]
        self._room[group] -= 1
        if self._room[group] == 0:
            self.closed |= self._group == group
        return True


@pytest.fixture
def pool(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows around some centres, two of them equal, of all lengths; rows that cover already; and weights."""
    centres = rng.standard_normal((9, 20))
    x = centres[rng.integers(9, size=SQUARE + 300)] + rng.standard_normal((SQUARE + 300, 20))
    x *= rng.uniform(0.1, 10.0, (len(x), 1))
    x[-1] = x[7]
    covered = centres[rng.integers(9, size=30)] + rng.standard_normal((30, 20))
    return x.astype(np.float32), covered.astype(np.float32), rng.random(len(x), dtype=np.float32)


def picks(
    x: np.ndarray,
    covered: np.ndarray,
    weights: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    *,
    most_pairs: int,
    kernel: Kernel | None = None,
    limits: Quotas | None = None,
    candidates: np.ndarray | None = None,
) -> list[int]:
    monkeypatch.setattr(coverage, "_MOST_PAIRS", most_pairs)
    candidates = np.arange(len(x)) if candidates is None else candidates
    rows, known = (coverage.HostUnitRows(open_rows(of, "x"), CPU) for of in (x, covered))
    start = rows.coverage(known, -1.0, candidates, kernel or Kernel(), weights)
    assert start.is_listed == (most_pairs > 0 and 2 * candidates.size >= len(x))
    if limits is not None:
        return limited_coverage(rows, known, 40, limits, weights=weights, least=-1.0).tolist()
    rng = np.random.default_rng(0)
    chosen = greedy_coverage(
        rows, known, candidates, 40, kernel=kernel or Kernel(), rng=rng, weights=weights, least=-1.0
    )
    return chosen.tolist()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_picks_are_those_by_products(
    pool: tuple[np.ndarray, np.ndarray, np.ndarray],
    simd_levels: Iterator[str],
    monkeypatch: pytest.MonkeyPatch,
    kernel: str,
    dtype: type,
) -> None:
    x, covered, weights = pool
    x = x.astype(dtype)
    for level in simd_levels:
        found = [
            picks(x, covered, weights, monkeypatch, most_pairs=most, kernel=KERNELS[kernel]) for most in (0, x.size**2)
        ]
        assert found[0] == found[1], level


def test_the_picks_are_those_of_the_reference(
    pool: tuple[np.ndarray, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, covered, weights = pool
    unit = [reference.unit_rows(rows.astype(np.float64)) for rows in (x, covered)]
    expected = reference.greedy_coverage(unit[0], unit[1], 40, weights.astype(np.float64))
    assert picks(x, covered, weights, monkeypatch, most_pairs=x.size**2) == expected.tolist()


@pytest.mark.parametrize("share", [2, 3, 10])
def test_only_candidates_are_picked(
    pool: tuple[np.ndarray, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch, share: int
) -> None:
    x, covered, weights = pool
    most = np.flatnonzero(np.arange(len(x)) % share)
    few = np.setdiff1d(np.arange(len(x)), most)
    for candidates in (most, few):
        found = [
            picks(x, covered, weights, monkeypatch, most_pairs=pairs, candidates=candidates) for pairs in (0, x.size**2)
        ]
        assert found[0] == found[1]
        assert np.isin(found[0], candidates).all()


def test_limits_hold(pool: tuple[np.ndarray, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    x, covered, weights = pool
    found = [
        picks(x, covered, weights, monkeypatch, most_pairs=most, limits=Quotas(len(x), 5, 8)) for most in (0, x.size**2)
    ]
    assert found[0] == found[1]
    np.testing.assert_array_equal(np.bincount(np.array(found[0]) % 5), 8)


def test_bad_calls_of_the_core() -> None:
    near, one = np.zeros(3000, np.float32), np.ones(3000, np.float32)
    x = np.eye(3000, 4, dtype=np.float32) + np.float32(1.0)
    panels = _core.Panels(x[:SQUARE])
    with pytest.raises(ValueError, match="there must be rows"):
        _core.NearerPairs(near[:0], 5)
    with pytest.raises(TypeError, match="near has the wrong dtype"):
        _core.NearerPairs(near.astype(np.float64), 5)
    pairs = _core.NearerPairs(near, 9_000_000)
    for others, first_other, rows, first in (
        (panels, 0, x[:100], 7),
        (panels, SQUARE, x[:100], 0),
        (panels, -SQUARE, x[:100], 0),
        (panels, 0, x, SQUARE),
        (_core.Panels(x), 0, x[:100], 0),
        (panels, 2 * SQUARE, x[:100], 2 * SQUARE),
    ):
        with pytest.raises(ValueError, match="no rows to be looked at"):
            pairs.add(others, first_other, rows, one[: len(rows)], first)
    with pytest.raises(ValueError, match="another number of columns"):
        pairs.add(panels, 0, np.ones((5, 3), np.float32), one[:5], 0)
    with pytest.raises(TypeError, match="scale"):
        pairs.add(panels, 0, x[:5], one[:4], 0)
    with pytest.raises(ValueError, match="pairs must be complete"):
        _core.ListedCoverage(pairs, near, one, one > 0, 256)
    few = _core.NearerPairs(near, 10)
    assert not few.add(panels, 0, x, one, 0)
    for call in (few.complete, lambda: few.add(panels, 0, x, one, 0)):
        with pytest.raises(ValueError, match=r"too many|no rows"):
            call()
    for first_other in range(0, 3000, SQUARE):
        others = _core.Panels(x[first_other : first_other + SQUARE])
        assert pairs.add(others, first_other, x[first_other:], one[first_other:], first_other)
    values = pairs.complete()
    with pytest.raises(ValueError, match="complete"):
        pairs.complete()
    assert sum(map(len, values)) == 9_000_000
    listed = _core.ListedCoverage(pairs, near, one, one > 0, 256)
    del pairs  # what it works on stays
    for row in (-1, 3000):
        for call in (listed.gain, listed.cover):
            with pytest.raises(IndexError):
                call(row)
    with pytest.raises(TypeError, match="closed"):
        listed.take(one[:5] > 0)
    expected = x.astype(np.float64) @ x.astype(np.float64).sum(axis=0)
    assert listed.gain(2) == pytest.approx(expected[2], rel=1e-5)
    closed = np.arange(3000) != 5
    assert [listed.take(closed), listed.take(closed)] == [5, -1]


def test_similarities_need_an_end_where_nothing_covers(
    pool: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    x, _, _ = pool
    rows, none = (coverage.HostUnitRows(open_rows(of, "x"), CPU) for of in (x, x[:0]))
    with pytest.raises(ValueError, match="least must be finite where no row covers"):
        greedy_coverage(rows, none, np.arange(len(x)), 5, kernel=Kernel(), rng=np.random.default_rng(0))
