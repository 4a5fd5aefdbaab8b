"""What the CUDA backend costs the host: launches, copies and synchronisations, none of which may grow with the pool."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ccma_fast as cf
from ccma_fast.backends.choose import choose_backend
from ccma_fast.backends.cuda.transfers import Later, Uploads
from ccma_fast.pool.derived import AllBut, LinearRows, RowSubset
from ccma_fast.pool.open import open_rows
from ccma_fast.reference import Cumulative
from ccma_fast.steps import distillation, teacher_correction
from ccma_fast.steps.softmax_regression import SoftmaxRegression

CUDA = choose_backend("cuda")

# Triton's interpreter computes with NumPy, which warns of what a GPU does as it is told.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

# ---------------------------------------------------------------------------------------------------------------------
# The card that counts


def test_the_card_counts_what_would_wait(card):
    x = card.put(torch.arange(12.0).reshape(3, 4))
    assert x.is_cuda
    with card.counted() as counts:
        y = x[1:] * 2.0
        y[:, 0] = 1.0
        assert y.is_cuda
    assert (counts.calls, counts.synchronisations.total()) == ({"mul": 1, "fill_": 1}, 0)
    with card.counted() as counts:
        assert float(y.sum()) == 2 * (5 + 6 + 7 + 9 + 10 + 11) + 2
        assert y.tolist()[0] == [1.0, 10.0, 12.0, 14.0]
        assert y[y > 20.0].shape == (1,)
        torch.tensor([1, 2], device=x.device)
        torch.from_numpy(np.ones(3)).to(x.device)
    assert counts.synchronisations == {"_local_scalar_dense": 1, "download": 1, "mask": 1, "upload": 2}
    assert (counts.uploads, counts.upload_bytes) == ({"pageable": 2}, 40)
    with card.counted() as counts:
        later = Later(Uploads(x.device)(np.arange(3)) + 1)
        assert not counts.synchronisations
        assert later.tolist() == [1, 2, 3]
    assert (counts.uploads, counts.downloads) == ({"pinned": 1}, {"pinned": 1})
    assert counts.synchronisations == {"event": 1}


def test_the_card_refuses_what_a_gpu_refuses(card):
    x = card.put(torch.ones(3, 4))
    with pytest.raises(AssertionError, match="two devices"):
        x + torch.ones(3, 4)
    with pytest.raises((TypeError, RuntimeError)):
        x.numpy()


def test_the_card_counts_kernels(card):
    with card.counted() as counts:
        CUDA.check_rows(open_rows(card.put(torch.ones(50, 7)), "x"), directions=True)
    assert counts.launches == {"_row_lengths_kernel": 1}
    assert counts.synchronisations.total() == 1


# ---------------------------------------------------------------------------------------------------------------------
# Budgets


@pytest.mark.parametrize("n_rows", [300, 600])
def test_a_threshold_waits_twice(card, n_rows):
    """Once for a sample, once for the pass over all rows, whatever the number of these."""
    z = torch.from_numpy(np.random.default_rng(0).standard_normal((n_rows, 12), dtype=np.float32))
    rows = open_rows(card.put(z), "z")
    with card.counted() as counts:
        q = CUDA.target_size_threshold(rows, 3.0)
    assert q == CUDA.target_size_threshold(open_rows(z, "z"), 3.0, chunk_size=200)
    assert counts.launches == {"_keep_kernel": 2, "_count_kernel": 2, "_list_kernel": 1}
    assert counts.calls == {"zeros": 2}
    assert (counts.uploads, counts.downloads) == ({"pinned": 2}, {"pinned": 2})
    assert counts.synchronisations == {"event": 2}


@pytest.mark.parametrize("rule", [None, Cumulative(0.05, 2)], ids=["lac", "raps"])
def test_no_chunk_of_a_threshold_waits(card, rule):
    """Neither where logits are copied chunk by chunk, nor where scores are formed in memory."""
    z = np.random.default_rng(0).standard_normal((600, 12), dtype=np.float32)
    synchronisations = []
    for chunk_size in (300, 100):
        with card.counted() as counts:
            CUDA.target_size_threshold(open_rows(z, "z"), 3.0, rule, chunk_size=chunk_size)
        assert "pageable" not in counts.uploads
        # Pinned memory is used again once the copy before has left it, which is long ago.
        reused = max(0, 600 // chunk_size + 1 - 4)
        synchronisations.append(counts.synchronisations.total() - reused)
    assert synchronisations == [2, 2]


def test_some_rows_of_a_matrix_on_the_device_are_gathered_there(card):
    """Their numbers are formed on the device, once; what is uploaded are those that are missing."""
    x = card.put(torch.from_numpy(np.random.default_rng(0).standard_normal((5000, 4), dtype=np.float32)))
    labelled = np.arange(3, 4000, 100)
    z = LinearRows(open_rows(x, "x"), "z", CUDA, np.ones((3, 4), np.float32))
    some = RowSubset(z, AllBut(5000, labelled))
    with card.counted() as counts:
        kept = CUDA.kept(some, 1 << 30)
    np.testing.assert_allclose(
        card.get(kept.tensor).numpy(),
        np.delete(card.get(x).numpy(), labelled, axis=0) @ np.ones((4, 3), np.float32),
        rtol=1e-5,
        atol=1e-5,
    )
    assert counts.launches == {"_halves_kernel": 1, "_linear_kernel": 1}
    assert counts.calls["index_select"] == counts.calls["searchsorted"] == 1
    assert counts.upload_bytes == 8 * labelled.size + 4 * 12
    assert not counts.synchronisations


def test_a_step_of_a_regression_asks_the_device_twice(card):
    """For the loss and the slope, and for what the next direction is made of; nothing else waits."""
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((20, 5)).astype(np.float32), rng.integers(0, 3, 8)
    soft = rng.dirichlet(np.ones(3), 12).astype(np.float32)
    for tolerance in (1e-1, 1e-5):
        regression = SoftmaxRegression(x, labels, n_classes=3, backend=CUDA, soft=soft)
        with card.counted() as counts:
            solution = regression.solve(penalty=0.1, soft_weight=0.3, tolerance=tolerance)
        # The steps, F at zero, the memory's start, and the result.
        assert counts.downloads.total() <= 2 * (solution.n_evaluations - 1) + 3
        assert counts.synchronisations.total() - counts.synchronisations["event"] == counts.downloads.total()
        assert counts.launches == {"_cross_entropy_kernel": solution.n_evaluations}
        assert counts.calls.total() < 20 + 50 * solution.n_evaluations


# Launches of Triton's kernels, PyTorch's operations, copies to the device and synchronisations of a query: what they
# were when these were written, and some more. None depends on the pool's size.
BUDGETS = {
    "published": (155, 310, 65, 58),
    "trust": (85, 720, 75, 65),
    "informative": (70, 720, 75, 70),
}


@pytest.mark.parametrize("n_rows", [pytest.param(60, marks=pytest.mark.slow), 120])
@pytest.mark.parametrize("kind", BUDGETS)
def test_what_a_query_costs_the_host_does_not_grow_with_the_pool(card, blobs, partly_labelled, kind, n_rows):
    rng = np.random.default_rng(5)
    x, y = blobs(n_rows, 12, 5, distance=1.0)
    labels = partly_labelled(y, 15)
    first = [np.flatnonzero(y == c)[0] for c in range(5)]
    classes = x[first, :9] if kind == "informative" else rng.standard_normal((5, 9)).astype(np.float32)
    config = cf.CCMAConfig(
        acquisition="delta" if kind == "published" else "trust",
        calibration="target_size" if kind == "published" else "coverage",
        head="published",
        max_epochs=2,
        kappa=3,
        student_kappa=6,
        kmeans_max_iter=1,
    )
    pool = card.put(torch.from_numpy(x))
    teacher = cf.Teacher(card.put(torch.from_numpy(x[:, :9].copy())), classes)
    with card.counted() as counts:
        found = cf.select(pool, 5, labels=labels, teacher=teacher, config=config, backend="cuda")
    assert found.indices.size == 5
    launches, calls, uploads, synchronisations = BUDGETS[kind]
    assert counts.launches.total() <= launches
    assert counts.calls.total() <= calls
    assert counts.uploads.total() <= uploads
    assert counts.synchronisations.total() <= synchronisations


@pytest.mark.parametrize("n_rows", [pytest.param(30, marks=pytest.mark.slow), 60])
def test_what_the_default_query_costs_the_host(card, blobs, partly_labelled, monkeypatch, n_rows):
    """Training waits twice for each evaluation of a loss, however many rows there are; the rest as with others."""
    for name in (distillation, teacher_correction):
        monkeypatch.setattr(name, "TOLERANCE", 0.3)  # few evaluations: the interpreter is slow
    x, y = blobs(n_rows, 8, 3, distance=1.0)
    pool = card.put(torch.from_numpy(x))
    teacher = cf.Teacher(card.put(torch.from_numpy(x[:, :5].copy())), np.eye(3, 5))
    config = cf.CCMAConfig(student_kappa=6, n_folds=2)
    with card.counted() as counts:
        found = cf.select(pool, 5, labels=partly_labelled(y, 12), teacher=teacher, config=config, backend="cuda")
    assert found.indices.size == 5
    n_evaluations = counts.launches["_cross_entropy_kernel"]
    assert n_evaluations <= 75
    assert counts.launches.total() <= n_evaluations + 140
    assert counts.calls.total() <= 50 * n_evaluations + 600
    assert counts.uploads.total() <= 2 * n_evaluations + 130
    assert counts.downloads.total() <= 2 * n_evaluations + 85
    assert counts.synchronisations.total() <= 4 * n_evaluations + 120
