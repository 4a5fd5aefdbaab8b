"""Picks by class where the scores lie on a device: chosen there at once, clustered on the core where that is little."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

import ccma_fast as cf
from ccma_fast.backends.choose import backend_for_small, choose_backend
from ccma_fast.backends.cuda import kmeans
from ccma_fast.backends.cuda.device import device
from ccma_fast.backends.cuda.sorting import best_of_classes, class_sizes
from ccma_fast.query import picks as query_picks

# Triton's interpreter computes with NumPy, which warns of what a GPU does as it is told.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@cache
def of_core(temperature: float, *, is_cold: bool) -> cf.Selection:
    return selected("cpu", temperature, is_cold=is_cold)


def selected(backend: str, temperature: float = 0.01, *, is_cold: bool = False) -> cf.Selection:
    """Picks that are led by a teacher who is better than the student, of seven classes of uneven size."""
    rng = np.random.default_rng(4)
    y = np.minimum(rng.integers(9, size=150), 6)
    centres = rng.standard_normal((7, 6)).astype(np.float32)
    x = (0.2 * centres[y][:, :4] + rng.standard_normal((150, 4))).astype(np.float32)
    v = (centres[y] + 0.7 * rng.standard_normal((150, 6))).astype(np.float32)
    labels = None if is_cold else np.where(np.arange(150) < 30, y, -1)
    config = cf.CCMAConfig(acquisition="trust", head="published", max_epochs=2, kappa=4, kmeans_max_iter=2)
    rows, images = (torch.from_numpy(m).to(device()) for m in (x, v)) if backend == "cuda" else (x, v)
    return cf.select(
        rows,
        24,
        teacher=cf.Teacher(images, centres, temperature),
        config=config,
        backend=backend,
        labels=labels,
    )


def assert_picks_of_the_core(**given: object) -> None:
    expected, found = of_core(**given), selected("cuda", **given)
    assert given["is_cold"] or found.report.trust > 0.3
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.represents, expected.represents)


# At cold start the order of picks is that of confidences: none so near 1 that their rounding decides.
@pytest.mark.parametrize(
    ("is_cold", "temperature", "small", "block_bytes"),
    [
        (False, 0.01, 1 << 24, 200),
        (True, 0.05, 150, 16 << 20),
        *(
            pytest.param(*of, marks=pytest.mark.slow)
            for of in ((False, 0.01, 150, 16 << 20), (True, 0.05, 1 << 24, 200))
        ),
    ],
)
def test_the_picks_of_the_core(is_cold, temperature, small, block_bytes, monkeypatch):
    """Wherever the clusterings run, and however many classes are read at once."""
    monkeypatch.setattr(query_picks, "_SMALL", small)
    monkeypatch.setattr(query_picks, "_BLOCK_BYTES", block_bytes)
    assert_picks_of_the_core(temperature=temperature, is_cold=is_cold)


def test_small_clusterings_of_a_query_launch_nothing(monkeypatch):
    """And find the core's picks."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a clustering on the device")

    monkeypatch.setattr(kmeans, "ClusteredRows", refuse)
    assert_picks_of_the_core(temperature=0.01, is_cold=False)


def test_what_is_small_goes_to_the_core_where_there_is_one(monkeypatch):
    on_device = choose_backend("cuda")
    assert backend_for_small(choose_backend("reference")).NAME == "reference"
    assert backend_for_small(on_device).NAME == "cpu"

    def not_built() -> None:
        raise ImportError

    monkeypatch.setattr("ccma_fast.backends.choose.load_core", not_built)
    assert backend_for_small(on_device) is on_device


def test_the_best_of_each_class():
    rng = np.random.default_rng(0)
    classes = rng.integers(5, size=60)
    classes[classes == 3] = 2  # one has no rows
    scores = rng.integers(-2, 3, size=60).astype(np.float32)  # ties
    scores[scores == 0] *= rng.choice([-1.0, 1.0], size=(scores == 0).sum())  # and both zeros
    of_rows, of_classes = (torch.from_numpy(values).to(device()) for values in (scores, classes))
    sizes = class_sizes(of_classes, 6)
    np.testing.assert_array_equal(sizes, np.bincount(classes, minlength=6))
    for wanted in (sizes, np.minimum(sizes, [3, 0, 4, 1, 1, 1]), np.zeros_like(sizes)):
        found = best_of_classes(of_rows, of_classes, sizes, wanted)
        expected = [
            np.sort(rows[np.lexsort((rows, -scores[rows]))][:n])
            for rows, n in zip((np.flatnonzero(classes == c) for c in range(6)), wanted.tolist(), strict=True)
        ]
        np.testing.assert_array_equal(found, np.concatenate(expected))
