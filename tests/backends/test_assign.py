"""The nearest centroid of each row by the kernels: exact on data of every kind, and the bound that makes it so."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ccma_fast.kernels import _configs, halves, kmeans_assign, kmeans_centroids

from ccma_fast.backends.cuda.device import device

from ..combinations import thinned
from .tensor_cores import AMPERE, HOPPER, adversarial_row

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

# Triton's interpreter computes with NumPy, which warns of what a GPU does as it is told.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def on_device(array: np.ndarray, dtype: str = "float32") -> torch.Tensor:
    return torch.from_numpy(np.asarray(array, np.float32)).to(DTYPES[dtype]).to(device())


def assign(x: torch.Tensor, centroids: np.ndarray, scale: np.ndarray | None = None) -> kmeans_assign.Assignment:
    factor = None if scale is None else on_device(scale)
    y = x.float() if factor is None else x.float() * factor[:, None]
    lengths = (y.double().norm(dim=1) * 1.000001).float()
    prepared = kmeans_assign.prepare_centroids(on_device(centroids), y.mean(dim=0))
    return kmeans_assign.nearest(x, factor, lengths, prepared)


def assert_nearest(x: torch.Tensor, centroids: np.ndarray, scale: np.ndarray | None = None) -> list[int]:
    """Labels are those of float64, the first of equals; returns how many rows each product left open."""
    found = assign(x, centroids, scale)
    y = x.float().cpu().numpy() if scale is None else x.float().cpu().numpy() * scale[:, None]
    distances = ((y.astype(np.float64)[:, None] - centroids.astype(np.float32)) ** 2).sum(axis=2)
    np.testing.assert_array_equal(found.labels.cpu().numpy(), distances.argmin(axis=1))
    squared = found.squared.double().cpu().numpy()
    np.testing.assert_allclose(squared, distances.min(axis=1), rtol=1e-6, atol=1e-12)
    n_open: list[int] = found.n_open.tolist()
    assert len(x) >= n_open[0] >= n_open[1]
    return n_open


@pytest.mark.parametrize(
    ("shape", "dtype"),
    thinned(
        2,
        [(1, 1, 1), (5, 3, 2), (131, 64, 3), (40, 65, 255), (70, 20, 256), (30, 9, 257), (9, 768, 3), (20, 130, 515)],
        list(DTYPES),
    ),
)
def test_labels_are_exact(shape, dtype):
    n_rows, n_columns, k = shape
    rng = np.random.default_rng(n_columns)
    x = on_device(rng.standard_normal((n_rows, n_columns)) / n_columns**0.5, dtype)
    centroids = (rng.standard_normal((k, n_columns)) / n_columns**0.5).astype(np.float32)
    if k < 500 and dtype == "float32":
        assert_nearest(x, centroids)
    assert_nearest(x, centroids, rng.uniform(0.5, 2.0, n_rows).astype(np.float32))


def hard(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows (60, 24) and centroids (12, 24) on which few rows are settled at once."""
    rng = np.random.default_rng(1)
    x, centroids = rng.standard_normal((60, 24)), rng.standard_normal((12, 24))
    if kind == "far":
        x, centroids = 300.0 + 0.1 * x, 300.0 + 0.1 * centroids
    elif kind in ("pairs", "triples", "equal"):
        centroids = centroids[rng.permutation(12) % {"pairs": 6, "triples": 4, "equal": 1}[kind]]
    elif kind == "near":  # pairs that differ in the last digits of float32
        centroids[1::2] = centroids[::2] * (1.0 + 1e-6 * rng.standard_normal((6, 24)))
        x = centroids[rng.integers(12, size=60)] + 1e-3 * x
    elif kind == "between":  # as near to one as to the other
        x, centroids = np.round(x), np.round(centroids)
        centroids[1::2] = -centroids[::2]
        x[:, 12:], centroids[:, :12] = 0.0, 0.0
    elif kind == "beyond":  # what float16 does not hold
        x *= 10.0 ** rng.uniform(-9, 9, x.shape)
        centroids = x[rng.integers(60, size=12)]
    elif kind == "lengths":  # rows and centroids of all lengths, some of none
        x *= 10.0 ** rng.uniform(-18, 18, (60, 1))
        centroids *= 10.0 ** rng.uniform(-9, 9, (12, 1))
        x[::7], centroids[::5] = 0.0, 0.0
    elif kind == "same":
        x[:] = centroids[:] = 0.3
    else:
        factor = {"huge": 1e18, "tiny": 1e-15, "least": 1e-37}[kind]
        x, centroids = factor * x, factor * centroids
    return x, centroids


# Of these kinds all rows go on to the distances themselves; of the others none, or those in which three are as near.
NEVER_SETTLED = {"triples", "equal", "same", "huge", "least"}
SETTLED = {"far", "pairs", "near", "between", "tiny"}


@pytest.mark.parametrize(
    ("kind", "dtype"), thinned(2, ["beyond", "lengths", *sorted(NEVER_SETTLED | SETTLED)], ["float32", "bfloat16"])
)
def test_what_16_bits_cannot_settle(kind, dtype):
    x, centroids = hard(kind)
    x = np.where(np.abs(x) < 2.0**-126, 0.0, x)  # of which Triton's interpreter reads bfloat16 wrongly
    n_open = assert_nearest(on_device(x, dtype), centroids.astype(np.float32))
    if kind in NEVER_SETTLED:
        assert n_open == [60, 60]
    if kind in SETTLED:
        assert n_open[1] <= 12


def test_float16_rows_that_overflow_a_product():
    rng = np.random.default_rng(2)
    x = on_device(6e4 * rng.uniform(-1.0, 1.0, (40, 200)), "float16")
    assert assert_nearest(x, x[::5].float().cpu().numpy() * 0.9)[1] == 0


def test_rows_that_are_not_finite_stay_open():
    x = np.random.default_rng(0).standard_normal((9, 5))
    x[2, 3], x[5, 0], x[7, 4] = np.nan, np.inf, -np.inf
    rows = on_device(x)
    prepared = kmeans_assign.prepare_centroids(on_device(np.eye(5)), torch.zeros(5, device=device()))
    found = kmeans_assign.nearest(rows, None, rows.norm(dim=1), prepared)
    assert found.n_open.tolist() == [3, 3]
    assert found.labels[[2, 5, 7]].tolist() == [0, 0, 0]


def test_bounds_hold():
    """With bounds of zero labels are wrong, so that it is the bounds that make them right."""
    rng = np.random.default_rng(0)
    x = on_device(rng.standard_normal((100, 40)))
    centroids = (1.0 + 0.05 * rng.standard_normal((15, 40)))[np.arange(60) % 15]
    centroids = (centroids + 1e-5 * rng.standard_normal((60, 40))).astype(np.float32)
    assert_nearest(x, centroids)
    prepared = kmeans_assign.prepare_centroids(on_device(centroids), x.mean(dim=0))
    lengths = 1.000001 * x.norm(dim=1)
    exact = kmeans_assign.nearest(x, None, lengths, prepared).labels
    prepared.limits[:, :3] = 0.0
    assert 0 < (kmeans_assign.nearest(x, None, lengths, prepared).labels != exact).sum() < 100


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float16", marks=pytest.mark.slow)])
def test_chunks_strides_and_company_do_not_matter(dtype, monkeypatch):
    """The same bits for rows one at a time, in other chunks, and among other rows."""
    rng = np.random.default_rng(3)
    centroids = rng.standard_normal((260, 33)).astype(np.float32)
    centroids[210:] = centroids[:10].repeat(5, axis=0) * (1.0 + 1e-4 * rng.standard_normal((50, 1)))
    x = on_device(centroids[rng.integers(150, size=150) % 30] + 0.3 * rng.standard_normal((150, 33)), dtype)
    scale, lengths = on_device(rng.uniform(0.5, 2.0, 150)), x.float().norm(dim=1) * 2.001
    prepared = kmeans_assign.prepare_centroids(on_device(centroids), x.float().mean(dim=0))
    expected = kmeans_assign.nearest(x, scale, lengths, prepared)
    assert 0 < expected.n_open[0] < 150
    wide = torch.cat([x, x], dim=1)[:, 33:]
    monkeypatch.setattr(kmeans_assign, "halves_rows", lambda device, n_columns: 128)
    in_chunks = kmeans_assign.nearest(wide, scale, lengths, prepared)
    alone = [
        kmeans_assign.nearest(x[i : i + n], scale[i : i + n], lengths[i : i + n], prepared)
        for i, n in ((0, 1), (1, 129), (130, 20))
    ]
    for i, column in enumerate(expected[:2]):
        assert torch.equal(in_chunks[i], column)
        assert torch.equal(torch.cat([found[i] for found in alone]), column)
    assert torch.equal(in_chunks.n_open, expected.n_open)
    assert torch.equal(torch.stack([found.n_open for found in alone]).sum(dim=0), expected.n_open)


def test_no_rows():
    prepared = kmeans_assign.prepare_centroids(on_device(np.eye(3)), torch.zeros(3, device=device()))
    none = torch.empty((0, 3), device=device())
    found = kmeans_assign.nearest(none, None, none[:, 0], prepared)
    assert (len(found.labels), len(found.squared), found.n_open.tolist()) == (0, 0, [0, 0])


def test_chunks_of_halves_are_whole_waves():
    step = _configs.halves_rows(device(), 768)
    assert step % _configs.FAST_TILE.M == 0
    assert 2 * 768 * step <= 256 << 20
    assert _configs.halves_rows(device(), 1 << 20) >= _configs.FAST_TILE.M


# The bound on what a matrix unit's sums err by


@pytest.mark.parametrize("unit", [HOPPER, AMPERE], ids=["Hopper", "Ampere"])
@pytest.mark.parametrize("n_columns", [16, 64, 768, 4096])
def test_the_bound_holds_for_the_matrix_units(n_columns, unit):
    """On rows made against it, of which a bound by the additions alone, n / 8, would be wrong, and on others."""
    bound = kmeans_centroids.sum_error(n_columns, unit.generation)
    row = adversarial_row(n_columns, unit.bits).astype(np.float64)[None]
    exact = (row * row).sum()
    error = abs(unit.dot(row, row)[0] - exact) / exact
    assert error <= bound
    if n_columns >= 768:
        assert error > 1.6 * (n_columns / 8.0 + 16.0) * 2.0**-23
        assert error > 0.7 * bound  # which is not much wider than it must be
    rng = np.random.default_rng(n_columns)
    for spread in (0.0, 4.0, 8.0):
        a, b = (
            (rng.standard_normal((50, n_columns)) * 2.0 ** rng.uniform(-spread, 0.0, (50, n_columns)))
            .astype(np.float16)
            .astype(np.float64)
            for _ in range(2)
        )
        start = rng.standard_normal(50).astype(np.float32).astype(np.float64)
        terms = np.abs(start) + np.abs(a * b).sum(axis=1)
        errors = np.abs(unit.dot(a, b, start) - (start + (a * b).sum(axis=1))) / terms
        assert errors.max() <= bound
        of_one_sign = np.abs(unit.dot(np.abs(a), np.abs(b), np.abs(start)) - terms) / terms
        assert of_one_sign.max() <= bound


def test_the_model_cuts_where_the_unit_does():
    one, least = np.eye(1, 16), np.full((1, 16), 2.0**-12)
    assert HOPPER.dot(one, one, 2.0**-23)[0] == 1.0 + 2.0**-23
    assert HOPPER.dot(one, one, 2.0**-24)[0] == 1.0
    # Fifteen times 2⁻²⁴ are kept until they are added up, fifteen times 2⁻²⁶ are not.
    least[0, 0] = 1.0
    assert HOPPER.dot(least, least)[0] == 1.0 + 7.0 * 2.0**-23
    least[0, 1:] = 2.0**-13
    assert HOPPER.dot(least, least)[0] == 1.0
    assert AMPERE.dot(least, least, -1.0)[0] == 8.0 * 2.0**-26  # of the second step


@pytest.mark.parametrize("kind", ["adversarial", "random", "far"])
def test_scores_of_a_matrix_unit_are_within_the_bound(kind, monkeypatch):
    """The fast product as a Hopper would form it: by a model of its units, from the parts that the kernel gets."""
    monkeypatch.setattr(kmeans_centroids, "capability", lambda device: (9, 0))
    rng = np.random.default_rng(4)
    n_columns = 768
    if kind == "adversarial":
        x = np.tile(adversarial_row(n_columns, 25).astype(np.float64), (6, 1)) * rng.uniform(0.9, 1.1, (6, 1))
        centroids = x[:4] * rng.uniform(0.5, 1.0, (4, 1))
    else:
        x, centroids = rng.standard_normal((6, n_columns)), rng.standard_normal((4, n_columns))
        if kind == "far":
            x, centroids = 30.0 + x, 30.0 + centroids
    rows, origin = on_device(x), on_device(x.mean(axis=0) if kind == "far" else np.zeros(n_columns))
    prepared = kmeans_assign.prepare_centroids(on_device(centroids), origin)
    of_rows = halves.prepare_halves(rows, 1)
    parts, of_units = (tensor.double().cpu().numpy() for tensor in (prepared.parts[0, :4], of_rows.parts[0]))
    bias, (a, c, b, unit, _) = prepared.bias[:4].double().cpu().numpy(), prepared.limits[0].tolist()
    y, m = rows.double().cpu().numpy(), on_device(centroids).double().cpu().numpy() - origin.double().cpu().numpy()
    h = m @ origin.double().cpu().numpy() + 0.5 * (m**2).sum(axis=1)
    h -= 0.5 * (h.max() + h.min())
    for i in range(6):
        factor = float(of_rows.unit[i]) * unit
        start = (bias / factor).astype(np.float32).astype(np.float64)
        scores = HOPPER.dot(np.broadcast_to(of_units[i], parts.shape), parts, start).astype(np.float32)
        packed = ((scores.view(np.int32) & -32) | np.array([31, 0, 31, 0], np.int32)).view(np.float32)
        error = np.abs(factor * packed.astype(np.float64) - (m @ y[i] - h))
        bound = np.linalg.norm(y[i]) * a + float(of_rows.lost[i]) * c + b
        assert (error <= bound).all()
        assert kind != "adversarial" or error.max() > 0.05 * bound
