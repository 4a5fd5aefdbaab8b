"""The solver of penalised softmax regression: that it finds the optimum, whatever it is given and whoever computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast import reference
from ccma_fast.backends.choose import choose_backend
from ccma_fast.steps import regression_rows
from ccma_fast.steps.softmax_regression import SoftmaxRegression, Solution

CPU = choose_backend("cpu")

# Triton's interpreter computes with NumPy, which warns of what a GPU does as it is told.
pytestmark = [pytest.mark.processor, pytest.mark.filterwarnings("ignore::RuntimeWarning")]


class Problem:
    """Rows, half of them with labels, and F in float64."""

    def __init__(self, n: int, m: int, d: int, n_classes: int, *, n_labelled_classes: int | None = None) -> None:
        rng = np.random.default_rng(n + m + d)
        self.labels = rng.integers(0, n_labelled_classes or n_classes, n)
        self.x = rng.standard_normal((n + m, d)).astype(np.float32) / np.float32(d**0.5)
        self.soft = rng.dirichlet(np.ones(n_classes), m).astype(np.float32)
        self.offset = rng.standard_normal((n + m, n_classes)).astype(np.float32)
        self.label_weights = rng.random(n).astype(np.float32)
        self.n_classes = n_classes

    def regression(self, backend: Any = CPU, offset: Any = None) -> SoftmaxRegression:
        return SoftmaxRegression(
            self.x, self.labels, n_classes=self.n_classes, backend=backend, soft=self.soft, offset=offset
        )

    def solve(self, backend: Any = CPU, *, offset: Any = None, **given: Any) -> Solution:
        return self.regression(backend, offset).solve(**given)

    def loss_and_gradient(
        self, coef: Any, penalty: float, soft_weight: float, label_weights: Any = None, offset: Any = 0.0
    ) -> tuple[float, Any]:
        x, coef = self.x.astype(np.float64), np.asarray(coef, np.float64)
        z = x @ coef.T + offset
        log_p = z - np.logaddexp.reduce(z, axis=1, keepdims=True)
        targets = np.concatenate([np.eye(self.n_classes)[self.labels], self.soft])
        of_labels = np.ones(len(self.labels)) if label_weights is None else label_weights
        w = np.concatenate([of_labels, np.full(len(self.soft), soft_weight)])[:, None]
        loss = -(w * targets * log_p).sum() + 0.5 * penalty * (coef**2).sum()
        return loss, (w * (np.exp(log_p) - targets)).T @ x + penalty * coef

    def assert_solved(self, solution: Any, penalty: float, soft_weight: float, **given: Any) -> None:
        """F is strongly convex: F(W) − min F ≤ ‖∇F(W)‖² / (2 · penalty)."""
        loss, gradient = self.loss_and_gradient(solution.coef, penalty, soft_weight, **given)
        _, at_zero = self.loss_and_gradient(np.zeros_like(solution.coef), penalty, soft_weight, **given)
        assert np.square(gradient).sum() / (2.0 * penalty) <= 1e-6 * loss
        assert solution.loss == pytest.approx(loss, rel=1e-6)
        ratio = np.linalg.norm(gradient) / np.linalg.norm(at_zero)
        assert ratio <= 2e-5
        assert solution.gradient_ratio == pytest.approx(ratio, abs=5e-6)


SHAPES = [(1, 0, 3, 4), (0, 50, 8, 3), (20, 0, 6, 2), (9, 12, 17, 5)]


@pytest.mark.parametrize(
    ("shape", "backend"),
    [
        *(pytest.param(shape, "cuda", marks=pytest.mark.slow if shape == SHAPES[2] else ()) for shape in SHAPES),
        *((shape, "cpu") for shape in [*SHAPES, (90, 301, 60, 33)]),
        (SHAPES[-1], "reference"),
    ],
)
def test_the_optimum(shape, backend):
    problem, chosen = Problem(*shape), choose_backend(backend)
    for penalty in (0.3, 0.01):
        found = problem.solve(chosen, penalty=penalty, soft_weight=0.3, tolerance=1e-5)
        problem.assert_solved(found, penalty, 0.3)
    given = {"label_weights": problem.label_weights, "offset": problem.offset}
    found = problem.solve(chosen, penalty=0.1, soft_weight=0.03, tolerance=1e-5, **given)
    problem.assert_solved(found, 0.1, 0.03, **given)
    assert found.coef.dtype == np.float32
    assert found.coef.shape == (problem.n_classes, problem.x.shape[1])


def test_an_optimum_that_scikit_learn_finds():
    linear_model = pytest.importorskip("sklearn.linear_model")
    problem = Problem(200, 0, 12, 4)
    theirs = linear_model.LogisticRegression(C=1 / 0.1, fit_intercept=False, tol=1e-10, max_iter=1000)
    theirs.fit(problem.x.astype(np.float64), problem.labels)
    ours = problem.solve(penalty=0.1, tolerance=1e-6)
    np.testing.assert_allclose(ours.coef, theirs.coef_, atol=2e-5)


def test_a_soft_target_that_is_a_class():
    problem = Problem(60, 0, 9, 5)
    expected = problem.solve(penalty=0.1, tolerance=1e-6)
    for n in (0, 13):
        soft = np.eye(5, dtype=np.float32)[problem.labels[n:]]
        regression = SoftmaxRegression(problem.x, problem.labels[:n], n_classes=5, backend=CPU, soft=soft)
        found = regression.solve(penalty=0.1, soft_weight=1.0, tolerance=1e-6)
        np.testing.assert_allclose(found.coef, expected.coef, atol=1e-5)


def test_a_weight_is_a_repetition_and_none_is_a_row_that_is_missing():
    problem = Problem(60, 0, 9, 4)
    times = np.random.default_rng(0).integers(0, 4, 60)
    rows = np.repeat(np.arange(60), times)
    repeated = SoftmaxRegression(problem.x[rows], problem.labels[rows], n_classes=4, backend=CPU)
    expected = repeated.solve(penalty=0.1, tolerance=1e-6)
    found = problem.solve(penalty=0.1, label_weights=times, tolerance=1e-6)
    np.testing.assert_allclose(found.coef, expected.coef, atol=1e-5)


def test_the_start_does_not_matter_but_for_the_work():
    """F is strongly convex: ‖W − W*‖ ≤ ‖∇F(W)‖ / penalty, and ‖∇F(W)‖ is promised as a share of that at 0."""
    problem = Problem(80, 100, 20, 6)
    cold = problem.solve(penalty=0.1, soft_weight=0.3, tolerance=1e-6)
    far = problem.solve(
        penalty=0.1, soft_weight=0.3, tolerance=1e-6, start=np.random.default_rng(1).standard_normal((6, 20))
    )
    near = problem.solve(penalty=0.1, soft_weight=0.3, tolerance=1e-5, start=cold.coef)
    _, at_zero = problem.loss_and_gradient(np.zeros((6, 20)), 0.1, 0.3)
    assert max(far.gradient_ratio, cold.gradient_ratio) <= 1e-6
    assert np.linalg.norm(far.coef - cold.coef) <= 2 * 1e-6 * np.linalg.norm(at_zero) / 0.1
    np.testing.assert_array_equal(near.coef, cold.coef)
    assert near.n_evaluations == 2  # at zero and at the start


def test_one_problem_for_many_weights_and_penalties():
    """What is kept of one solution for the next changes nothing beyond the tolerance."""
    problem = Problem(80, 100, 20, 6)
    regression = SoftmaxRegression(problem.x, problem.labels, n_classes=6, backend=CPU, soft=problem.soft)
    start = None
    for penalty, soft_weight in [(0.3, 0.0), (0.1, 0.0), (0.1, 0.3), (0.01, 0.3), (0.3, 0.0)]:
        given = {"label_weights": problem.label_weights} if penalty == 0.1 else {}
        found = regression.solve(penalty=penalty, soft_weight=soft_weight, start=start, tolerance=1e-5, **given)
        problem.assert_solved(found, penalty, soft_weight, **given)
        start = found.coef


@pytest.mark.usefixtures("restore_threads", "simd")
def test_same_bits_for_any_threads():
    """Whether a thread does all of a stretch of rows, or all of them share more than one block of residuals."""
    threadpoolctl = pytest.importorskip("threadpoolctl")
    for problem in (Problem(300, 1700, 200, 30), Problem(300, 600, 10, 1000)):
        found = []
        for n_threads in (1, 5):
            cf.set_num_threads(n_threads)
            with threadpoolctl.threadpool_limits(n_threads):
                found.append(problem.solve(penalty=0.01, soft_weight=0.3, tolerance=5e-2))
        for other in found[1:]:
            np.testing.assert_array_equal(other.coef, found[0].coef)
            assert other[1:] == found[0][1:]


def test_the_metric_is_the_inverse_curvature_and_saves_evaluations(monkeypatch):
    """Of features whose variances differ as those of images do: 3,000 between the largest curvature and the penalty."""
    problem = Problem(50, 3000, 130, 10)
    problem.x *= np.geomspace(10.0, 0.1, 130, dtype=np.float32)
    rows = regression_rows.HostRows(problem.x, problem.labels, problem.soft, None, CPU)
    metric = rows.metric(1.0, 0.3, 0.02)
    assert metric is not None
    sampled = problem.x[50::11].astype(np.float64)  # the rows that tell the curvature
    of_labels = problem.x[:50].astype(np.float64)
    gram = of_labels.T @ of_labels + 0.3 * 3000 / len(sampled) * sampled.T @ sampled
    curvature = gram / 10 + 0.02 * np.eye(130)
    assert 2e3 < np.linalg.cond(curvature) < 4e3
    inverse = metric(np.eye(130, dtype=np.float32))
    np.testing.assert_allclose(np.linalg.eigvals(inverse @ curvature), 1.0, atol=0.01)
    with_metric = problem.solve(penalty=0.02, soft_weight=0.3)
    monkeypatch.setattr(regression_rows, "_SHARING", 0)
    without = problem.solve(penalty=0.02, soft_weight=0.3)
    assert 3 * with_metric.n_evaluations < without.n_evaluations


def test_a_metric_that_is_none_is_given_up(monkeypatch):
    """Whatever float32 makes of a curvature, the optimum is found."""
    problem = Problem(60, 40, 20, 5)
    monkeypatch.setattr(regression_rows.HostRows, "metric", lambda *_: lambda vector: -vector)
    problem.assert_solved(problem.solve(penalty=0.1, soft_weight=0.3, tolerance=1e-5), 0.1, 0.3)


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1e-3, 1e3, 1e6])
def test_features_of_any_scale(scale):
    problem = Problem(60, 20, 7, 3)
    problem.x *= np.float32(scale)
    found = problem.solve(penalty=0.1, soft_weight=0.3)
    assert np.isfinite(found.coef).all()
    assert found.gradient_ratio <= 1e-4
    if scale == 0.0:
        assert not found.coef.any()


def test_classes_without_a_label_are_no_more_likely_than_others():
    problem = Problem(60, 0, 7, 6, n_labelled_classes=3)
    problem.x = np.concatenate([problem.x, np.full((60, 1), 0.3, np.float32)], axis=1)
    coef = problem.solve(penalty=0.1, tolerance=1e-6).coef
    np.testing.assert_allclose(coef[3], coef[4:].mean(axis=0), atol=1e-5)
    assert (coef[3:, -1] < coef[:3, -1].min()).all()


@pytest.mark.parametrize("backend", ["cpu", "cuda"])
def test_classes_without_a_label_count_as_one(backend, monkeypatch):
    """They have the coefficients that they would have each by itself, at the price of one class."""
    rng = np.random.default_rng(0)
    problem, chosen = Problem(12, 0, 5, 40), choose_backend(backend)
    problem.labels = np.array([3, 17, 31])[rng.integers(3, size=12)]
    given = {"penalty": 0.1, "tolerance": 1e-6, "label_weights": problem.label_weights}
    each = problem.solve(chosen, offset=np.zeros((12, 40), np.float32), **given)
    sizes: list[int] = []
    of_rows = type(problem.regression(chosen)._rows)
    stack = of_rows.stack
    monkeypatch.setattr(of_rows, "stack", lambda self, n: sizes.append(len(stack(self, n)[0])) or stack(self, n))
    for start in (None, rng.standard_normal((40, 5)).astype(np.float32)):
        found = problem.solve(chosen, start=start, **given)
        np.testing.assert_allclose(found.coef, each.coef, atol=2e-5)
        assert found.loss == pytest.approx(each.loss, rel=1e-6)
    assert set(sizes) == {4}


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize(
    ("n_classes", "n", "m", "d"), [(1, 3, 0, 2), (2, 16, 1, 5), (7, 0, 33, 300), (300, 20, 700, 3), (3, 600, 40, 9)]
)
def test_gradients(n_classes, n, m, d, backend):
    problem = Problem(n, m, d, n_classes)
    coef = np.random.default_rng(1).standard_normal((n_classes, d)).astype(np.float32)
    weights = np.concatenate([problem.label_weights, np.full(m, 0.3, np.float32)])
    weights[(n + m) // 3 :][:300] = 0.0
    for offset in (None, problem.offset):
        gradient_at = choose_backend(backend).softmax_gradient(problem.x, problem.labels, problem.soft, offset)
        loss, gradient = gradient_at(coef, weights)
        expected = reference.softmax_gradient(coef, problem.x, problem.labels, problem.soft, offset, weights)
        z = problem.x.astype(np.float64) @ coef.T + (0.0 if offset is None else offset)
        log_p = z - np.logaddexp.reduce(z, axis=1, keepdims=True)
        targets = np.concatenate([np.eye(n_classes)[problem.labels], problem.soft])
        assert loss == pytest.approx(-float((weights[:, None] * targets * log_p).sum()), rel=1e-5, abs=1e-5)
        assert loss == pytest.approx(expected[0], rel=1e-6, abs=1e-6)
        np.testing.assert_allclose(gradient, (weights[:, None] * (np.exp(log_p) - targets)).T @ problem.x, atol=1e-4)
        np.testing.assert_allclose(gradient, expected[1], atol=1e-4)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_sums_of_matrices_and_the_inverse_of_a_factor(backend):
    rng, chosen = np.random.default_rng(0), choose_backend(backend)
    stack, factors = rng.standard_normal((5, 7, 30)).astype(np.float32), rng.standard_normal(5)
    np.testing.assert_allclose(
        chosen.dots(stack, stack[2]), (stack.astype(np.float64) * stack[2]).sum(axis=(1, 2)), rtol=1e-12
    )
    np.testing.assert_allclose(chosen.combination(stack, factors), np.tensordot(factors, stack, 1), atol=1e-5)
    rows = rng.standard_normal((60, 40)).astype(np.float32)
    matrix = (rows.T @ rows / 60 + 0.1 * np.eye(40)).astype(np.float32)
    inverse = chosen.inverse_factor(matrix, 0.1)
    np.testing.assert_allclose(inverse @ matrix @ inverse.T, np.eye(40), atol=1e-4)
    assert not np.triu(inverse, 1).any()


def test_a_regression_of_nearly_the_same_rows():
    """What it takes over saves the curvature, and changes nothing beyond the tolerance."""
    problem = Problem(60, 900, 40, 6)
    whole = problem.regression()
    rows = np.r_[np.arange(40), np.arange(60, 960)]
    given: dict[str, Any] = {"n_classes": 6, "backend": CPU, "soft": problem.soft}
    alone = SoftmaxRegression(problem.x[rows], problem.labels[:40], **given)
    alike = SoftmaxRegression(problem.x[rows], problem.labels[:40], like=whole, **given)
    found = [regression.solve(penalty=0.1, soft_weight=0.3, tolerance=1e-6) for regression in (alone, alike)]
    np.testing.assert_allclose(found[1].coef, found[0].coef, atol=1e-5)
    assert alike._rows._gram == {}
    assert whole._rows._gram != {}


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_numbers_at_the_ends_of_float32(backend):
    """What float32 cannot multiply is refused, and a gradient whose square it cannot tell from zero is none."""
    problem = Problem(60, 0, 7, 3)
    problem.x *= np.float32(1e20)
    with pytest.raises(
        ValueError, match=r"^x must be smaller: the gradient at W = 0 is \d.*e\+20, float32 takes 1e19$"
    ):
        problem.solve(choose_backend(backend), penalty=0.1)
    problem.x *= np.float32(1e-20) * np.float32(1e-25)
    found = problem.solve(choose_backend(backend), penalty=0.1)
    assert (found.n_evaluations, found.gradient_ratio) == (1, 0.0)
    assert not found.coef.any()


def test_no_rows():
    with pytest.raises(ValueError, match=r"^x must have rows, got shape \(0, 3\)$"):
        Problem(0, 0, 3, 4).regression()


PLAIN = Problem(6, 4, 3, 3)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"penalty": 0.0}, "penalty must be a finite number above 0, got 0.0"),
        ({"penalty": np.nan}, "penalty must be a finite number above 0, got nan"),
        ({"soft_weight": -1.0}, "weights must be finite numbers of at least 0"),
        ({"label_weights": np.ones(5)}, r"label_weights must have shape \(6,\), got \(5,\)"),
        ({"label_weights": np.full(6, np.nan)}, "weights must be finite numbers of at least 0"),
        ({"offset": np.ones((10, 2))}, r"offset must have shape \(10, 3\), got \(10, 2\)"),
        ({"start": np.ones((3, 2))}, r"start must have shape \(3, 3\), got \(3, 2\)"),
    ],
)
def test_errors(given, text):
    with pytest.raises(ValueError, match=f"^{text}$"):
        PLAIN.solve(**{"penalty": 0.1, **given})


def test_soft_targets_of_the_wrong_shape():
    with pytest.raises(ValueError, match=r"soft must have shape \(4, 3\), .*, got \(0, 3\)"):
        SoftmaxRegression(PLAIN.x, PLAIN.labels, n_classes=3, backend=CPU)


@pytest.mark.parametrize("name", ["x", "soft", "offset"])
def test_numbers_that_are_not_finite(name):
    given = {"x": PLAIN.x.copy(), "soft": PLAIN.soft.copy(), "offset": PLAIN.offset.copy()}
    given[name][-1, -1] = np.nan
    with pytest.raises(ValueError, match=f"^{name} must be finite, got NaN or infinity$"):
        SoftmaxRegression(given.pop("x"), PLAIN.labels, n_classes=3, backend=CPU, **given).solve(penalty=0.1)
