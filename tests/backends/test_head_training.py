"""The training of a linear head on the host: its steps against PyTorch's modules and the reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.optim.adamw import adamw

from ccma_fast import _core, reference
from ccma_fast.backends.choose import choose_backend
from ccma_fast.backends.dropout_streams import generator, n_draws, random_bits, stream_states
from ccma_fast.backends.host_training import Normalization
from ccma_fast.steps.training_draws import step_factors

pytestmark = pytest.mark.processor

RATE, DECAY = 0.02, 0.02 * 0.3

# Rows, columns and classes on both sides of words of 64 columns, vectors, and groups of 112 classes.
SHAPES = [(2, 1, 2), (17, 63, 8), (64, 64, 9), (130, 65, 113), (66, 130, 300)]


def problem(n: int, d: int, n_classes: int, kept: float = 0.25):
    rng = np.random.default_rng(n)
    x = (3.0 + rng.standard_normal((n, d)) * np.arange(1, d + 1)).astype(np.float32)
    start = rng.uniform(-0.5, 0.5, n_classes * (d + 1)).astype(np.float32)
    return x, rng.integers(n_classes, size=n), start, Normalization(1e-5, 0.1, kept, round(kept * 2**16))


def streams_of(n_pieces: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in range(n_pieces)]


def trained(backend, shape, n_pieces, n_steps, batches=None):
    """Losses, parameters and moments after some steps."""
    x, labels, start, normalization = problem(*shape)
    streams, losses = streams_of(n_pieces), []
    training = choose_backend(backend).head_training(x, labels, start, normalization)
    for step in range(n_steps):
        chosen = None if batches is None else batches[step]
        states = stream_states(len(x if chosen is None else chosen), shape[1], streams)
        losses.append(training.step(chosen, states, *step_factors(RATE, step + 1), DECAY))
    training.keep()
    return losses, *training.kept()


class Plain:
    """The same by PyTorch: its autograd, batch normalisation and AdamW."""

    def __init__(self, shape, n_pieces):
        x, labels, start, self.normalization = problem(*shape)
        self.x, self.labels = torch.from_numpy(x).double(), torch.from_numpy(labels)
        self.weight, self.bias = (
            part.clone().requires_grad_() for part in (
                torch.from_numpy(start[: -shape[2]]).double().reshape(shape[2], shape[1]),
                torch.from_numpy(start[-shape[2] :]).double(),
            )
        )  # fmt: skip
        self.state = [(torch.zeros_like(of), torch.zeros_like(of), torch.tensor(0.0)) for of in self.parameters]
        self.moments = [torch.zeros(shape[1]).double(), torch.ones(shape[1]).double()]
        self.streams = streams_of(n_pieces)

    @property
    def parameters(self):
        return self.weight, self.bias

    def step(self, chosen=None):
        x, labels = (self.x, self.labels) if chosen is None else (self.x[chosen], self.labels[chosen])
        normal = functional.batch_norm(x, *self.moments, training=True)
        pieces = x.tensor_split(len(self.streams))
        bits = [random_bits(rng, tuple(of.shape)) for rng, of in zip(self.streams, pieces, strict=True)]
        dropped = normal * torch.from_numpy(np.concatenate(bits) < self.normalization.below) / self.normalization.kept
        loss = functional.cross_entropy(dropped @ self.weight.T + self.bias, labels)
        gradients = torch.autograd.grad(loss, self.parameters)
        for of, gradient, (first, second, n_steps) in zip(self.parameters, gradients, self.state, strict=True):
            with torch.no_grad():
                adamw(
                    [of], [gradient], [first], [second], [], [n_steps], foreach=False, amsgrad=False, maximize=False,
                    lr=RATE, weight_decay=DECAY / RATE, beta1=0.9, beta2=0.999, eps=1e-8,
                )  # fmt: skip
        return float(loss.detach()) * len(labels)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_steps_are_those_of_pytorch(shape, simd):
    n_pieces = 1 + shape[0] // 60
    plain = Plain(shape, n_pieces)
    losses, parameters, moments = trained("cpu", shape, n_pieces, 4)
    np.testing.assert_allclose(losses, [plain.step() for _ in range(4)], rtol=1e-5)
    expected = np.concatenate([of.detach().numpy().ravel() for of in plain.parameters])
    # Where a gradient is nearly zero, AdamW's step is as large as where it is not, and so is what rounding does to it.
    np.testing.assert_allclose(parameters, expected, atol=1e-4)
    np.testing.assert_allclose(moments, np.stack(plain.moments), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("in_batches", [False, True])
def test_steps_are_those_of_the_reference(in_batches):
    shape, rng = (150, 70, 20), np.random.default_rng(5)
    batches = [rng.permutation(150)[: 100 + 7 * i] for i in range(4)] if in_batches else None
    found, expected = (trained(backend, shape, 2, 4, batches) for backend in ("cpu", "reference"))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-4)
    np.testing.assert_allclose(found[2], expected[2], rtol=1e-9)


@pytest.mark.parametrize("kept", [1.0, 0.5, 2.0**-16])
def test_the_gradient_of_the_reference(kept):
    x, labels, start, _ = problem(9, 4, 3)
    x, parameters = x.astype(np.float64), torch.from_numpy(start).double().requires_grad_()
    stays = np.random.default_rng(0).random(x.shape) < kept
    found = reference.dropout_gradient(start.astype(np.float64), x, labels, stays)
    logits = torch.from_numpy(x * stays) @ parameters[:12].reshape(3, 4).T + parameters[12:]
    loss = functional.cross_entropy(logits, torch.from_numpy(labels), reduction="sum")
    loss.backward()
    assert found[0] == pytest.approx(float(loss.detach()), rel=1e-12)
    np.testing.assert_allclose(found[1], parameters.grad, atol=1e-12)


@pytest.mark.usefixtures("restore_threads")
def test_same_bits_for_any_threads(simd):
    shape, results = (700, 200, 130), []
    for n_threads in (1, 3):
        _core.set_num_threads(n_threads)
        results.append(trained("cpu", shape, 1, 2))
    assert results[0][0] == results[1][0]
    np.testing.assert_array_equal(results[0][1], results[1][1])


@pytest.mark.parametrize(("n", "d", "n_pieces"), [(3, 2, 1), (47, 13, 3), (40, 64, 2)])
def test_states_say_what_generators_draw(n, d, n_pieces):
    """Twice in a row: a generator goes on where it was."""
    streams, expected = streams_of(n_pieces), streams_of(n_pieces)
    for _ in range(2):
        states = stream_states(n, d, streams)
        for state, rng, piece in zip(states, expected, np.array_split(np.empty((n, d)), n_pieces), strict=True):
            np.testing.assert_array_equal(random_bits(generator(state), piece.shape), random_bits(rng, piece.shape))
    assert n_draws(5) == 2


@pytest.mark.parametrize(("n_classes", "value"), [(2, 3e38), (2, np.nan), (20, np.nan)])
def test_logits_that_float32_does_not_hold_give_no_small_loss(n_classes, value, simd):
    x, labels, start, normalization = problem(8, 3, n_classes, kept=1.0)
    if np.isnan(value):
        start[3] = value  # of a class that no row need have
    else:
        start[:] = np.float32(value) * np.sign(start)
    training = choose_backend("cpu").head_training(x, labels, start, normalization)
    loss = training.step(None, stream_states(8, 3, streams_of(1)), 0.01, 1.0, 0.0)
    assert not loss <= 1e30


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"labels": np.array([0, 1, 2])}, ValueError),
        ({"labels": np.array([0, 1])}, TypeError),
        ({"x": np.ones((3, 0), np.float32)}, TypeError),
        ({"x": np.ones((1, 2), np.float32), "labels": np.array([0])}, ValueError),
        ({"start": np.zeros(7, np.float32)}, TypeError),
        ({"below": -1}, ValueError),
        ({"below": 2**16 + 1}, ValueError),
        ({"kept": 0.0}, ValueError),
    ],
)
def test_what_the_core_does_not_take(changed, error):
    given = {"x": np.ones((3, 2), np.float32), "labels": np.array([0, 1, 1]), "start": np.zeros(6, np.float32)}
    given |= {"epsilon": 1e-5, "momentum": 0.1, "kept": 0.5, "below": 9, **changed}
    with pytest.raises(error):
        _core.HeadTraining(given.pop("x"), given.pop("labels"), given.pop("start"), **given)


@pytest.mark.parametrize(
    ("chosen", "n_streams", "error"),
    [
        ([0], 1, ValueError),
        ([0, 3], 1, ValueError),
        ([0, -1], 1, ValueError),
        ([0, 1], 0, ValueError),
        ([0.0, 1.0], 1, TypeError),
    ],
)
def test_steps_that_the_core_does_not_take(chosen, n_streams, error):
    x, labels, start, normalization = problem(3, 2, 2)
    training = choose_backend("cpu").head_training(x, labels, start, normalization)
    with pytest.raises(error):
        training.step(np.array(chosen), np.zeros((n_streams, 4), np.uint64), 0.1, 1.0, 0.0)
