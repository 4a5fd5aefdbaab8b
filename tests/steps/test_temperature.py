"""The likeliest temperature: the derivative changes its sign there, whatever the logits are."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ccma_fast.steps import temperature
from ccma_fast.steps.temperature import likeliest_temperature

KINDS = {
    "normal": lambda z, rng: z,
    "rounded": lambda z, rng: np.round(z),
    "a masked class": lambda z, rng: np.where(np.arange(z.shape[1]) == 0, -1e9, z),
    "rows of their own scale": lambda z, rng: z * rng.uniform(0.1, 10.0, (len(z), 1)),
    "logarithms of sparse probabilities": lambda z, rng: np.log(
        rng.dirichlet(np.full(z.shape[1], 0.05), len(z)) + 1e-300
    ),
    "long tails": lambda z, rng: z**3,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(20))
def test_the_derivative_changes_its_sign(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, n_classes = int(rng.integers(1, 200)), int(rng.integers(2, 60))
    labels = rng.integers(n_classes, size=n)
    z = rng.standard_normal((n, n_classes)) + rng.uniform(0.0, 6.0) * (np.arange(n_classes) == labels[:, None])
    z = KINDS[kind](z, rng) * 10.0 ** rng.uniform(-30.0, 30.0)
    tau = likeliest_temperature(z, labels, pseudo_rows=1.0)

    s = z - z.max(axis=1, keepdims=True)
    of_labels = (s[np.arange(n), labels].sum() * n + np.median(s, axis=1).sum()) / (n + 1)

    def slope(tau: float) -> float:
        e = np.exp(s / tau)
        return float(of_labels - ((e * s).sum(axis=1) / e.sum(axis=1)).sum())

    if math.isinf(tau):
        assert slope(1e6 * float(-s.min())) <= 0.0
    else:
        assert slope(1.00001 * tau) > 0.0 > slope(0.99999 * tau)


@pytest.mark.parametrize("n_classes", [1, 2, 3, 10, 11])
def test_medians(n_classes):
    s = np.random.default_rng(0).standard_normal((n_classes, 9))
    np.testing.assert_array_equal(temperature._medians(s), np.median(s, axis=0))


@pytest.mark.parametrize("value", [-np.inf, np.nan, -1e200])
def test_logits_that_have_no_temperature(value):
    with pytest.raises(ValueError, match=r"^logits of a row must be finite and differ by less than 1e\+150, got "):
        likeliest_temperature(np.array([[0.0, 1.0, value], [1.0, 0.0, 0.5]]), np.array([0, 0]))
