"""Greedy coverage on the CUDA backend: the picks of the CPU, and sums that depend on nothing but their rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ccma_fast as cf
from ccma_fast.backends.choose import choose_backend
from ccma_fast.backends.cuda import coverage as cuda_coverage
from ccma_fast.backends.cuda.device import device
from ccma_fast.backends.protocol import Backend
from ccma_fast.backends.unit_rows import Kernel
from ccma_fast.pool.open import open_rows
from ccma_fast.steps import coverage, distillation, teacher_correction
from ccma_fast.steps.coverage import unit_rows
from ccma_fast.steps.greedy import greedy_coverage

from ..combinations import thinned

CUDA, CPU = choose_backend("cuda"), choose_backend("cpu")
KERNELS = {"similarity": Kernel(), "gaussian": Kernel.gaussian(0.7), "ball": Kernel("ball", 0.5)}
LEAST = {"similarity": -1.0, "gaussian": -np.inf, "ball": 0.5}

# Triton's interpreter computes with NumPy, which warns of what a GPU does as it is told.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several batches, several blocks of columns, and a product for each segment."""
    for module, name, value in (
        (coverage, "_FIRST_EVALUATED", 5),
        (coverage, "_MOST_EVALUATED", 9),
        (coverage, "_BATCH", 9),
        (cuda_coverage, "_COLUMNS", 70),
        (cuda_coverage, "_WIDTH", 3),
        (cuda_coverage, "_STEPS", 2),
        (cuda_coverage, "_ROW_BYTES", 256 * 4 * 7),
    ):
        monkeypatch.setattr(module, name, value)


def picks_of(
    backend: Backend, x: object, covered: np.ndarray, candidates: np.ndarray, n_picks: int, kind: str
) -> np.ndarray:
    rows, known = (unit_rows(open_rows(of, "x"), backend) for of in (x, covered))
    weights = np.random.default_rng(3).random(rows.n_rows, dtype=np.float32)
    return greedy_coverage(
        rows, known, candidates, n_picks,
        kernel=KERNELS[kind], rng=np.random.default_rng(0), weights=weights, least=LEAST[kind],
    )  # fmt: skip


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize(("n_rows", "kind"), thinned(2, [150, 40], list(KERNELS)))
def test_the_picks_of_the_cpu(n_rows, kind):
    """Differences are counted, and none is allowed: no two candidates add as much but for rounding."""
    rng, n_covered = np.random.default_rng(n_rows), {150: 3, 40: 0}[n_rows]
    x, covered = (rng.standard_normal((m, 7)).astype(np.float32) for m in (n_rows, n_covered))
    candidates = np.arange(n_rows) if n_rows == 40 else np.sort(rng.choice(n_rows, 25, replace=False))
    expected = picks_of(CPU, x, covered, candidates, 6, kind)
    for source in (x, torch.from_numpy(x).to(device())):
        found = picks_of(CUDA, source, covered, candidates, 6, kind)
        assert np.count_nonzero(found != expected) == 0


def test_ties_go_to_the_lower_row_and_what_adds_nothing_is_drawn():
    x = np.repeat(np.eye(3, 5, dtype=np.float32), 4, axis=0)[np.random.default_rng(1).permutation(12)]
    none = np.empty((0, 5), np.float32)
    rows, known = (unit_rows(open_rows(of, "x"), CUDA) for of in (x, none))
    picks = greedy_coverage(
        rows, known, np.arange(12), 9, kernel=Kernel(), rng=np.random.default_rng(0), least=-1.0
    )  # fmt: skip
    firsts = [int((x == unit).all(axis=1).argmax()) for unit in np.eye(3, 5)]
    assert picks[:3].tolist() == sorted(firsts)
    assert np.unique(picks).size == 9
    on_host = [unit_rows(open_rows(of, "x"), CPU) for of in (x, none)]
    expected = greedy_coverage(
        *on_host, np.arange(12), 9, kernel=Kernel(), rng=np.random.default_rng(0), least=-1.0
    )  # fmt: skip
    np.testing.assert_array_equal(picks, expected)
    np.testing.assert_array_equal(rows.most_similar(picks), on_host[0].most_similar(picks))


def test_what_a_row_adds_has_the_same_bits_in_any_company(monkeypatch, has_gpu):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((260, 9)).astype(np.float32)
    if not has_gpu:  # Triton's interpreter leaves products to BLAS: rows of length 2, so that no sum of them rounds
        x = rng.permuted(np.where(np.arange(9) < 4, np.sign(x), 0.0), axis=1).astype(np.float32)
    weights = rng.random(260, dtype=np.float32)

    def gains(rows: list[int]) -> torch.Tensor:
        unit = cuda_coverage.unit_rows(open_rows(x, "x"))
        covered = cuda_coverage.unit_rows(open_rows(x[:3], "x"))
        state = unit.coverage(covered, -1.0, np.arange(1), Kernel.gaussian(1.0), weights)
        return state.gains(torch.tensor(rows, device=device()))

    together = gains(list(range(40)))
    monkeypatch.setattr(cuda_coverage, "_ROW_BYTES", 256 * 4 * 9)
    assert torch.equal(gains([7, 30]), together[[7, 30]])
    assert torch.equal(gains([30]), together[[30]])


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if kind == "gaussian" else ()) for kind in KERNELS]
)
def test_how_wide_a_window_is_changes_no_pick(kind, monkeypatch):
    """Nor how many picks are launched at once, and where a window's similarities would be too many, it is narrower."""
    rng = np.random.default_rng(8)
    x = np.round(2.0 * rng.standard_normal((30, 3))).astype(np.float32)  # with equal rows, whose gains are equal
    x[np.abs(x).sum(axis=1) == 0.0] = 1.0
    expected = picks_of(CPU, x, x[:2], np.arange(30), 8, kind)
    for width, steps, window_bytes in ((1, 1, 1 << 30), (64, 3, 4 * 30 * 5), (512, 16, 1 << 30)):
        for name, value in (("_WIDTH", width), ("_STEPS", steps), ("_WINDOW_BYTES", window_bytes)):
            monkeypatch.setattr(cuda_coverage, name, value)
        found = picks_of(CUDA, torch.from_numpy(x).to(device()), x[:2], np.arange(30), 8, kind)
        np.testing.assert_array_equal(found, expected)


def test_what_a_pick_costs(card):
    """Four launches, a look of the host at 16 of them, and a share of what a window costs."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((60, 8)).astype(np.float32)
    costs = []
    for n_picks in (16, 16 + 32):
        rows, known = (cuda_coverage.unit_rows(open_rows(card.put(torch.from_numpy(of)), "x")) for of in (x, x[:5]))
        with card.counted() as counts:
            greedy_coverage(rows, known, np.arange(60), n_picks, kernel=Kernel(), rng=rng, least=-1.0)
        costs.append(
            np.array([counts.launches.total() + counts.calls.total(), counts.synchronisations.total()], np.int64)
        )
    launched, waited = costs[1] - costs[0]
    assert launched <= 32 * 6
    assert waited <= 32 / 8


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_rows_without_a_direction_are_named(value):
    x = np.ones((6, 3), np.float32)
    x[4] = value
    messages = []
    for backend in (CPU, CUDA):
        with pytest.raises(ValueError, match="row 4") as raised:
            unit_rows(open_rows(x, "x"), backend)
        messages.append(str(raised.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("teacher", [True, False])
def test_a_query_picks_what_the_cpu_picks(teacher, monkeypatch):
    for module in (distillation, teacher_correction):
        monkeypatch.setattr(module, "TOLERANCE", 0.3)  # few evaluations: the interpreter is slow
    rng = np.random.default_rng(5)
    y = np.arange(42) % 3
    x = (rng.standard_normal((3, 8))[y] + rng.standard_normal((42, 8))).astype(np.float32)
    v = (rng.standard_normal((3, 6))[y] + 0.5 * rng.standard_normal((42, 6))).astype(np.float32)
    labels = np.where(np.arange(42) < 12, y, -1)
    given = cf.Teacher(v, rng.standard_normal((3, 6)).astype(np.float32)) if teacher else None
    config = cf.CCMAConfig(max_epochs=5)
    expected, found = (
        cf.select(x, 6, labels=labels, teacher=given, config=config, backend=backend) for backend in ("cpu", "cuda")
    )
    assert np.count_nonzero(found.indices != expected.indices) == 0
    np.testing.assert_array_equal(found.represents, expected.represents)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4, atol=1e-5)
