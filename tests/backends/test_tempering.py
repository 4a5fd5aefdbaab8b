"""Moments of logits under a temperature: the core, its stand-in without it, and long sums in Python."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ccma_fast import _core
from ccma_fast.backends import tempering


@pytest.mark.parametrize("beta", [1e-9, 1.0, 300.0])
@pytest.mark.parametrize(("n", "n_classes"), [(0, 3), (1, 1), (7, 2), (8, 5), (17, 10), (33, 300)])
def test_moments(n, n_classes, beta, simd):
    s = 3.0 * np.random.default_rng(n).standard_normal((n_classes, n))
    if n_classes > 3:
        s[1, ::2] = -1e9  # masked
    if n:
        s -= s.max(axis=0)
    means, variances = [], []
    for row in s.T:
        e = [math.exp(beta * value) for value in row]
        means.append(math.fsum(p * value for p, value in zip(e, row, strict=True)) / math.fsum(e))
        squares = math.fsum(p * value * value for p, value in zip(e, row, strict=True)) / math.fsum(e)
        variances.append(squares - means[-1] ** 2)
    expected = math.fsum(means), math.fsum(variances)
    scale = np.square(s).max(initial=1.0)
    for found in (tempering.tempered(s, beta), tempering._tempered(s, beta)):
        assert found[0] == pytest.approx(expected[0], rel=1e-12, abs=1e-14)
        assert found[1] == pytest.approx(expected[1], rel=1e-9, abs=1e-13 * scale)


@pytest.mark.usefixtures("restore_threads")
def test_same_bits_for_any_threads(simd):
    s = np.random.default_rng(0).standard_normal((40, 3001))
    s -= s.max(axis=0)
    found = []
    for n_threads in (1, 3):
        _core.set_num_threads(n_threads)
        found.append(_core.tempered(s, 2.0))
    assert found[0] == found[1]


@pytest.mark.parametrize("s", [np.zeros((2, 3), np.float32), np.zeros((3, 2)).T, np.zeros(3), np.zeros((0, 3))])
def test_what_the_core_does_not_take(s):
    with pytest.raises(TypeError):
        _core.tempered(s, 1.0)
