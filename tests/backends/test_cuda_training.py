"""The student's training on the CUDA backend: the dropped inputs of the CPU's, and what it learns from them."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.optim.adamw import adamw

import ccma_fast as cf
from ccma_fast.backends.choose import choose_backend
from ccma_fast.backends.cuda import graphs
from ccma_fast.backends.cuda.device import device
from ccma_fast.backends.dropout_streams import random_bits, stream_states
from ccma_fast.pool.open import open_rows
from ccma_fast.steps import training_draws, training_on_device
from ccma_fast.steps.linear_head import LinearHead
from ccma_fast.steps.out_of_fold import out_of_fold_scores, refits

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
        states = torch.from_numpy(stream_states(n, d, of_device).view(np.int64)).to(device())
        found = training.dropout(values.to(device()), keep, states).cpu()
        masks = [
            random_bits(rng, tuple(piece.shape)) < keep
            for rng, piece in zip(of_host, values.tensor_split(n_pieces), strict=True)
        ]
        assert torch.equal(found, values * torch.from_numpy(np.concatenate(masks)))


@pytest.mark.parametrize("batch_size", [4096, 10, 25])
def test_the_same_head_as_on_the_cpu(batch_size, monkeypatch):
    """Differences are those of rounding; shuffled batches, a last row that joins the rest, several pieces a batch."""
    monkeypatch.setattr(training_draws, "_PIECE_ROWS", 16)
    monkeypatch.setattr(training_on_device._Epochs, "CHECK_EVERY", 3)
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
    monkeypatch.setattr(training_on_device._Epochs, "CHECK_EVERY", unseen)
    x, y = blobs_of(20, 5, 2)
    head = LinearHead(max_epochs=30, patience=patience, min_gain=100.0).fit_rows(open_rows(x, "X"), y, CUDA)
    first = LinearHead(max_epochs=1).fit_rows(open_rows(x, "X"), y, CUDA)
    assert head.n_iter_ == patience + 1
    assert head.loss_ == first.loss_
    np.testing.assert_array_equal(head.coef_, first.coef_)


def test_products_keep_the_digits_of_float32(monkeypatch):
    matmul = torch.backends.cuda.matmul
    seen = []
    epoch = training_on_device._Epochs._epoch
    monkeypatch.setattr(
        training_on_device._Epochs, "_epoch", lambda self: seen.append(matmul.allow_tf32) or epoch(self)
    )
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
            refits(
                LinearHead.from_config(config, 3, 0), open_rows(x, "X"), y, 3, config, np.random.default_rng(1), backend
            ),
            y,
            config,
            backend,
        )
        for backend in (CPU, CUDA)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_size", [4096, 20])
def test_an_epoch_takes_nothing_from_the_host_and_tells_it_nothing(card, batch_size, monkeypatch):
    """So that it can be recorded; the host copies the numbers of several epochs at once, and asks as seldom."""
    x, y = blobs_of(50, 6, 3)
    epochs = []
    epoch = training_on_device._Epochs._epoch

    def counted(self: object) -> None:
        with card.counted() as counts:
            epoch(self)
        epochs.append(counts)

    monkeypatch.setattr(training_on_device._Epochs, "_epoch", counted)
    costs = []
    monkeypatch.setattr(training_on_device._Epochs, "CHECK_EVERY", 3)
    for max_epochs in (3, 6):
        with card.counted() as counts:
            LinearHead(max_epochs=max_epochs, patience=100, batch_size=batch_size).fit_rows(open_rows(x, "X"), y, CUDA)
        costs.append(counts)
    n_batches = -(-50 // batch_size)
    for counts in epochs[4:]:  # of the second training, whose first epoch made the tables of dropout
        assert counts.uploads.total() == counts.downloads.total() == counts.synchronisations.total() == 0
        assert counts.launches.total() == 3 * n_batches
        assert counts.calls.total() <= 14 + 30 * n_batches
    assert costs[1].uploads.total() - costs[0].uploads.total() == 1
    assert costs[1].synchronisations.total() - costs[0].synchronisations.total() <= 2


class RecordedGraph:
    """What a GPU does with a graph, but for the work."""

    refuses = False

    def __init__(self) -> None:
        self.calls: list[str] = []

    def capture_begin(self, **_: object) -> None:
        self.calls.append("begin")

    def capture_end(self) -> None:
        self.calls.append("end")
        if self.refuses:
            raise RuntimeError("operation not permitted when stream is capturing")

    def replay(self) -> None:
        self.calls.append("replay")


@pytest.mark.parametrize("refuses", [False, True])
def test_work_is_recorded_or_launched_as_before(refuses, monkeypatch):
    stream = SimpleNamespace(wait_stream=lambda _: None)
    of_cuda = {"CUDAGraph": RecordedGraph, "current_stream": lambda *_: stream, "stream": lambda _: nullcontext()}
    for name, of in of_cuda.items():
        monkeypatch.setattr(torch.cuda, name, of)
    monkeypatch.setattr(graphs, "_stream", lambda _: stream)
    monkeypatch.setattr(RecordedGraph, "refuses", refuses)
    done = []

    def work() -> None:
        done.append(1)

    assert graphs.repeated(work, torch.device("cpu")) is work
    if refuses:
        with pytest.warns(RuntimeWarning, match="not permitted"):
            assert graphs.repeated(work, torch.device("cuda", 0)) is work
        return
    replay = graphs.repeated(work, torch.device("cuda", 0))
    assert done == [1]
    replay()
    assert replay.__self__.calls == ["begin", "end", "replay"]


@pytest.mark.parametrize("n_classes", [1, 2, 37, 1024, 1025])
def test_cross_entropy_is_that_of_pytorch(n_classes):
    generator = torch.Generator().manual_seed(n_classes)
    logits = 30.0 * torch.randn(5, n_classes, generator=generator)
    targets = torch.randint(n_classes, (5,), generator=generator)
    expected = torch.nn.functional.cross_entropy(logits.double(), targets, reduction="none")
    gradient = torch.softmax(logits.double(), dim=1) - torch.nn.functional.one_hot(targets, n_classes)
    of_device = logits.to(device())
    losses = CUDA.training().cross_entropy(of_device, targets.to(device()))
    np.testing.assert_allclose(losses.cpu(), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(of_device.cpu(), gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n", [1, 1024, 1500])
def test_adamw_is_that_of_pytorch(n):
    """Its function: the first optimiser that is made imports PyTorch's compiler, for seconds."""
    generator = torch.Generator().manual_seed(n)
    expected = torch.randn(n, generator=generator)
    moments, n_steps = (torch.zeros(n), torch.zeros(n)), torch.tensor(0.0)
    settings = {"lr": 0.02, "weight_decay": 0.3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
    parameters = expected.clone().to(device())
    first, second = torch.zeros_like(parameters), torch.zeros_like(parameters)
    for step in range(1, 4):
        gradient = torch.randn(n, generator=generator)
        adamw(
            [expected], [gradient / 7], *([of] for of in moments), [], [n_steps],
            foreach=False, amsgrad=False, maximize=False, **settings,
        )  # fmt: skip
        factors = torch.tensor(training_draws.step_factors(0.02, step), dtype=torch.float64, device=device())
        CUDA.training().adamw(parameters, gradient.to(device()), first, second, factors, 7, 0.02 * 0.3)
    assert n_steps == 3
    np.testing.assert_allclose(parameters.cpu(), expected, rtol=1e-5, atol=1e-6)


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
