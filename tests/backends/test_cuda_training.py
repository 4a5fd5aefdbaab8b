"""The student's training on the CUDA backend: the dropped inputs of the CPU's, and what it learns from them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ccma_fast as cf
from ccma_fast.backends.choose import choose_backend
from ccma_fast.backends.cuda.device import device
from ccma_fast.pool.open import open_rows
from ccma_fast.steps import training as head_training
from ccma_fast.steps.linear_head import LinearHead
from ccma_fast.steps.out_of_fold import out_of_fold_scores

CUDA, CPU = choose_backend("cuda"), choose_backend("cpu")

# Triton's interpreter computes with NumPy, which warns of what a GPU does as it is told.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def blobs_of(n: int, d: int, n_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    return (rng.standard_normal((n_classes, d))[y] + rng.standard_normal((n, d))).astype(np.float32), y


@pytest.mark.parametrize(("n", "d", "n_pieces"), [(3, 2, 1), (50, 37, 1), (47, 13, 3), (40, 64, 2)])
def test_the_dropped_inputs_are_those_of_the_host(n, d, n_pieces):
    """Twice in a row, so that the streams go on where they were."""
    keep = 20_000
    of_device, of_host = ([np.random.default_rng(seed) for seed in range(n_pieces)] for _ in range(2))
    values = torch.from_numpy(1.0 + np.random.default_rng(0).random((n, d), dtype=np.float32))
    training = CUDA.training()
    for _ in range(2):
        found = training.dropout(values.to(device()), keep, of_device).cpu()
        masks = [
            head_training.random_bits(rng, tuple(piece.shape)) < keep
            for rng, piece in zip(of_host, values.tensor_split(n_pieces), strict=True)
        ]
        assert torch.equal(found, values * torch.from_numpy(np.concatenate(masks)))


@pytest.mark.parametrize("batch_size", [4096, 10, 25])
def test_the_same_head_as_on_the_cpu(batch_size, monkeypatch):
    """Differences are those of rounding; shuffled batches, a last row that joins the rest, several pieces a batch."""
    monkeypatch.setattr(head_training, "_PIECE_ROWS", 16)
    monkeypatch.setattr(head_training._DeviceGradients, "CHECK_EVERY", 3)
    x, y = blobs_of(51, 9, 4)
    expected, found = (
        LinearHead(max_epochs=7, dropout=0.5, batch_size=batch_size, random_state=3).fit_rows(
            open_rows(x, "X"), y, backend
        )
        for backend in (CPU, CUDA)
    )
    for name in ("coef_", "intercept_", "mean_"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-4, atol=2e-5, err_msg=name)
    assert found.n_iter_ == expected.n_iter_ == 7
    assert found.loss_ == pytest.approx(expected.loss_, rel=1e-5)
    assert (found.predict(x) != expected.predict(x)).sum() == 0


@pytest.mark.parametrize(("patience", "unseen"), [(1, 16), (4, 1), (4, 3), (4, 16)])
def test_what_is_trained_after_the_end_changes_nothing(patience, unseen, monkeypatch):
    monkeypatch.setattr(head_training._DeviceGradients, "CHECK_EVERY", unseen)
    x, y = blobs_of(20, 5, 2)
    head = LinearHead(max_epochs=30, patience=patience, min_gain=100.0).fit_rows(open_rows(x, "X"), y, CUDA)
    first = LinearHead(max_epochs=1).fit_rows(open_rows(x, "X"), y, CUDA)
    assert head.n_iter_ == patience + 1
    assert head.loss_ == first.loss_
    np.testing.assert_array_equal(head.coef_, first.coef_)


def test_products_keep_the_digits_of_float32(monkeypatch):
    matmul = torch.backends.cuda.matmul
    seen = []
    loss = head_training._loss
    monkeypatch.setattr(head_training, "_loss", lambda *args: seen.append(matmul.allow_tf32) or loss(*args))
    x, y = blobs_of(8, 4, 2)
    before = matmul.allow_tf32
    try:
        matmul.allow_tf32 = True
        LinearHead(max_epochs=1).fit_rows(open_rows(x, "X"), y, CUDA)
        assert seen == [False]
        assert matmul.allow_tf32
    finally:
        matmul.allow_tf32 = before


def test_refits_on_the_device():
    x, y = blobs_of(24, 6, 3)
    config = cf.CCMAConfig(max_epochs=4, n_folds=3)
    expected, found = (
        out_of_fold_scores(
            LinearHead.from_config(config, 3, 0), open_rows(x, "X"), y, 3, config, np.random.default_rng(1), backend
        )
        for backend in (CPU, CUDA)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_that_are_not_finite_are_named(value):
    x, y = blobs_of(8, 4, 2)
    x[5, 1] = value
    messages = []
    for backend in (CPU, CUDA):
        with pytest.raises(ValueError, match="row 5") as raised:
            LinearHead(max_epochs=1).fit_rows(open_rows(x, "X"), y, backend)
        messages.append(str(raised.value))
    assert messages[0] == messages[1]
