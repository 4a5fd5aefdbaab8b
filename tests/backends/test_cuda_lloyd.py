"""Lloyd's algorithm on the device beside its assignment: the outcome of an iteration, means, and what it launches."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ccma_fast.kernels import kmeans_outcome, kmeans_update

from ccma_fast.backends.choose import choose_backend
from ccma_fast.backends.cuda import kmeans_rows
from ccma_fast.backends.cuda.device import device
from ccma_fast.backends.exact_sums import rounded_sum
from ccma_fast.pool.open import open_rows

CUDA = choose_backend("cuda")

# Triton's interpreter computes with NumPy, which warns of what a GPU does as it is told.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def outcome_of(labels, squared, weights, n_clusters):
    """The limbs of the objective, the number of empty clusters, and whether each owns a row."""
    of_rows = (torch.from_numpy(values).to(device()) for values in (labels, squared, weights))
    found = kmeans_outcome.outcome(*of_rows, n_clusters).cpu().numpy()
    n_limbs, owned = kmeans_outcome.LIMBS, kmeans_outcome.OWNED
    return found[:n_limbs], int(found[kmeans_outcome.N_EMPTY]), found[owned:]


@pytest.mark.parametrize("n_clusters", [1, 7, 2500])
@pytest.mark.parametrize("n_rows", [1, 2048, 5000])
def test_the_outcome_of_an_iteration(n_rows, n_clusters):
    rng = np.random.default_rng(n_rows)
    labels = rng.integers(n_clusters, size=n_rows).astype(np.int32)
    labels[labels == 5] = 0
    squared, weights = (rng.random(n_rows, dtype=np.float32) for _ in range(2))
    limbs, n_empty, owned = outcome_of(labels, squared, weights, n_clusters)
    assert rounded_sum(limbs) == math.fsum((weights.astype(np.float64) * squared).tolist())
    np.testing.assert_array_equal(owned, np.bincount(labels, minlength=n_clusters) > 0)
    assert n_empty == n_clusters - np.unique(labels).size


@pytest.mark.parametrize("n_rows", [1, 4000])
def test_an_objective_of_numbers_of_any_size(n_rows):
    rng = np.random.default_rng(n_rows)
    squared, weights = (np.exp2(rng.uniform(-149, 127.9, n_rows)).astype(np.float32) for _ in range(2))
    squared[n_rows // 3 :: 7] = 0.0
    squared[-1] = weights[-1] = np.finfo(np.float32).max
    limbs, _, _ = outcome_of(np.zeros(n_rows, np.int32), squared, weights, 1)
    assert rounded_sum(limbs) == math.fsum((weights.astype(np.float64) * squared).tolist())
    squared[n_rows // 2] = np.inf
    limbs, _, _ = outcome_of(np.zeros(n_rows, np.int32), squared, weights, 1)
    assert rounded_sum(limbs) == np.inf


def test_a_cluster_of_no_mass_keeps_its_centroid():
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((9, 130)).astype(np.float32)).to(device())
    centroids = torch.from_numpy(rng.standard_normal((3, 130)).astype(np.float32)).to(device())
    labels = torch.tensor([0, 2] * 4 + [0], dtype=torch.int32, device=device())
    weights = torch.where(labels == 0, 0.0, torch.arange(9.0, device=device()))
    units = kmeans_update.Units.of(device(), 40, 40, 40, n_limbs=1, n_mass_limbs=1)
    sums = kmeans_update.Sums.empty(3, 130, units)
    kmeans_update.accumulate(x, None, weights, labels, sums)
    means = kmeans_update.means(sums, centroids)
    assert torch.equal(means[:2], centroids[:2])
    rows = x.double()[1:8:2]
    of_third = (rows * weights.double()[1:8:2, None]).sum(dim=0) / 16.0
    np.testing.assert_allclose(means[2].cpu(), of_third.float().cpu(), rtol=1e-6, atol=1e-7)


def test_what_an_iteration_costs(card, monkeypatch):
    """Beside the assignment six launches and five calls; the host asks once how it went."""
    rng = np.random.default_rng(0)
    x, start = (rng.standard_normal(shape).astype(np.float32) for shape in ((60, 8), (4, 8)))
    rows = open_rows(card.put(torch.from_numpy(x)), "x")
    assignments, assign = [], kmeans_rows.ClusteredRows.assign

    def counted(*arguments: object) -> object:
        with card.counted() as counts:
            found = assign(*arguments)
        assignments.append(counts)
        return found

    monkeypatch.setattr(kmeans_rows.ClusteredRows, "assign", counted)
    costs = []
    for max_iter in (1, 3):
        with card.counted() as counts:
            CUDA.weighted_kmeans(
                rows, 4, init=start, max_iter=max_iter, tol=0.0, random_state=np.random.default_rng(0)
            )  # fmt: skip
        costs.append(counts)
    assert len(assignments) == 2 + 4  # of which those before the first iteration are one each

    def per_iteration(of: str) -> float:
        return (getattr(costs[1], of).total() - getattr(costs[0], of).total()) / 2

    assert per_iteration("launches") <= 6
    assert per_iteration("calls") <= 5
    assert per_iteration("uploads") == 0
    assert per_iteration("synchronisations") == 1
    assert all(counts.synchronisations.total() == 0 for counts in assignments)
