"""The search for an order statistic on a device, with passes that are NumPy's."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from ccma_fast.kernels.threshold import N_CELLS, ROOM

from ccma_fast.backends.cuda.order_statistic import Grid, KeptCounts, Search, order_statistic, request


def search(scores: np.ndarray, step: int, capacity: int) -> tuple[Search, list[int]]:
    """Passes over scores, shape (M, C), that keep at most so many of them; and how many scores were inside each."""
    sizes: list[int] = []

    def found(rows: np.ndarray, low: float, high: float, grid: Grid, rank: int) -> KeptCounts:
        part = scores[rows].ravel()
        inside = part[(part > low) & (part <= high)]
        kept = inside[:capacity]
        cell = np.clip(((kept.view(np.int64) - grid.first) >> grid.shift) + 1, 0, N_CELLS - 1)
        cells = np.bincount(cell, minlength=N_CELLS)
        below = int((part <= low).sum())
        listed = kept[cell == np.searchsorted(np.cumsum(cells), rank - below)][::-1]
        state = request((low, high), grid, rank)
        at = len(state) - N_CELLS - ROOM
        state[5:9] = below, inside.size, kept.size, listed.size
        state[at : at + N_CELLS] = cells
        state[at + N_CELLS :][: listed.size] = listed[:ROOM].view(np.int64)
        return KeptCounts.of(state)

    def whole(low: float, high: float, grid: Grid, rank: int) -> KeptCounts:
        counts = found(np.arange(len(scores)), low, high, grid, rank)
        sizes.append(counts.inside)
        return counts

    rows = np.arange(0, len(scores), step)
    sample = None if step == 1 else lambda low, high, grid: found(rows, low, high, grid, 0)
    return Search(len(scores), sample, rows.size, whole), sizes


@pytest.mark.usefixtures("time_limit")
@pytest.mark.parametrize("capacity", [1, 30, 10**6])
@pytest.mark.parametrize("kind", ["spread", "ties", "zeros", "tiny", "huge", "lists"])
def test_any_scores_and_ranks(kind, capacity, rng):
    """Ends at the right number; each pass that did not end it has fewer scores inside, or is the other side."""
    for trial in range(12):
        n_rows, n_columns = int(rng.integers(1, 300)), int(rng.integers(2, 12))
        scores = {
            "spread": lambda shape: rng.exponential(3.0, shape) * rng.exponential(1.0, (shape[0], 1)),
            "ties": lambda shape: rng.integers(4, size=shape).astype(float),
            "zeros": lambda shape: np.where(rng.random(shape) < 0.9, 0.0, rng.random(shape)),
            "tiny": lambda shape: 1e-300 * rng.random(shape),
            "huge": lambda shape: 1e300 * rng.random(shape),
            "lists": lambda shape: 3.0 + 1e-9 * rng.random((9 * shape[0], shape[1])),
        }[kind]((n_rows, n_columns))
        ordered = np.sort(scores, axis=None)
        for rank in {1, ordered.size, int(rng.integers(1, ordered.size + 1))}:
            passes, sizes = search(scores, 1 + trial % 4, capacity)
            assert order_statistic(rank, passes) == ordered[rank - 1]
            assert len(sizes) < 2 * 64  # the bits of a number halved, either half first
            if capacity > ordered.size:
                assert len(sizes) <= 9


def test_one_pass_where_the_sample_tells():
    rng = np.random.default_rng(0)
    scores = rng.exponential(3.0, (5000, 20)) * rng.exponential(1.0, (5000, 1))
    for size in (0.1, 3.0, 17.0, 20.0):
        passes, sizes = search(scores, 16, 10**6)
        rank = int(np.ceil(size * len(scores)))
        assert order_statistic(rank, passes) == np.sort(scores, axis=None)[rank - 1]
        assert len(sizes) == 1


@pytest.mark.parametrize(("low", "high"), [(-1.0, np.inf), (-1.0, 5.0), (0.0, 1e-300), (1.0, 1.5), (300.0, np.inf)])
def test_cells_cover_a_bracket_in_order(low, high):
    grid = Grid.inside(low, high)
    ends = [grid.bracket(cell, cell, low, high) for cell in range(N_CELLS)]
    inside = [(a, b) for a, b in ends if a < b]
    assert inside[0][0] == low
    assert inside[-1][1] == high
    assert all(before[1] == after[0] for before, after in pairwise(inside))


@pytest.mark.parametrize("values", [[0.7], [0.0, 2.3], [1e-300, 0.5, 3.0, 1e300]])
def test_ties_take_few_passes(values, rng):
    """Of equal scores few can be kept, but what is kept tells the cell that holds them, eleven bits more each time."""
    scores = np.array(values)[rng.integers(len(values), size=(400, 10))]
    ordered = np.sort(scores, axis=None)
    for rank in (1, 700, ordered.size):
        passes, sizes = search(scores, 1, 40)
        assert order_statistic(rank, passes) == ordered[rank - 1]
        assert len(sizes) <= 20
