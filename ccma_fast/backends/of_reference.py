"""The float64 reference as a backend, without chunks: it computes on whole matrices.

The names are those of :class:`ccma_fast.backends.protocol.Backend`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..pool.arrays import kept
from ..pool.checked import check_rows as check_rows_by_lengths
from ..pool.rows import BFLOAT16_BITS, Rows, to_float32
from ..reference import dropout_gradient as _dropout_gradient
from ..reference import linear as _linear
from ..reference import prediction_sets as _prediction_sets
from ..reference import raised_threshold as _raised_threshold
from ..reference import row_lengths as _row_lengths
from ..reference import row_thresholds as _row_thresholds
from ..reference import score as _score
from ..reference import softmax_gradient as _softmax_gradient
from ..reference import target_size_threshold as _target_size_threshold
from ..reference import top_m as _top_m
from ..reference import weighted_kmeans as _weighted_kmeans
from .dropout_streams import generator, random_bits
from .host_training import Normalization

__all__ = [
    "NAME",
    "ON_HOST",
    "arithmetic",
    "check_rows",
    "combination",
    "describe",
    "dots",
    "head_training",
    "inverse_factor",
    "kept",
    "linear",
    "multiplier",
    "prediction_sets",
    "raised_threshold",
    "row_lengths",
    "row_thresholds",
    "score",
    "score_at_sizes",
    "softmax_gradient",
    "target_size_threshold",
    "top_m",
    "weighted_kmeans",
]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

NAME = "reference"
ON_HOST = True


def describe() -> str:
    """The backend with its arithmetic."""
    return "reference (NumPy float64)"


arithmetic = describe


def score_at_sizes(*_: Any, **__: Any) -> None:
    """Always None: thresholds come first here, and the scores after them."""


def _on_whole(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as backends have it: rows as their storage holds them, and what chunks need is not looked at."""

    def on_whole(*args: Any, chunk_size: int | None = None, kept_bytes: int = 0, **kwargs: Any) -> Any:
        return function(*map(_decoded, args), **kwargs)

    return on_whole


def _decoded(argument: Any) -> Any:
    is_bfloat16 = isinstance(argument, np.ndarray) and argument.dtype == BFLOAT16_BITS
    return to_float32(argument) if is_bfloat16 else argument


linear = _on_whole(_linear)
prediction_sets = _on_whole(_prediction_sets)
raised_threshold = _on_whole(_raised_threshold)
row_lengths = _on_whole(_row_lengths)
row_thresholds = _on_whole(_row_thresholds)
score = _on_whole(_score)
target_size_threshold = _on_whole(_target_size_threshold)
top_m = _on_whole(_top_m)
weighted_kmeans = _on_whole(_weighted_kmeans)


def multiplier(weight: npt.NDArray[np.float32]) -> Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]:
    """x ↦ x Wᵀ."""
    return lambda x: _linear(x, weight)


def softmax_gradient(
    x: Float32, labels: Int64, soft: Float32, offset: Float32 | None = None
) -> Callable[[Float32, Float32], tuple[float, Float32]]:
    """(W, w) ↦ the weighted loss and its gradient."""
    return lambda coef, weights: _softmax_gradient(coef, x, labels, soft, offset, weights)


def inverse_factor(matrix: Float32, least: float) -> Float32:
    """L⁻¹ of L Lᵀ."""
    inverse: Float32 = np.linalg.inv(np.linalg.cholesky(matrix.astype(np.float64))).astype(np.float32)
    return inverse


def dots(stack: Float32, vector: Float32) -> npt.NDArray[np.float64]:
    """The product of each matrix of a stack with one."""
    products: npt.NDArray[np.float64] = np.einsum("kcd,cd->k", stack, vector, dtype=np.float64)
    return products


def combination(stack: Float32, factors: npt.NDArray[np.float64]) -> Float32:
    """Σ factor · matrix."""
    total: Float32 = np.einsum("kcd,k->cd", stack, factors).astype(np.float32)
    return total


class _HeadTraining:
    """A linear head's training in float64, see :class:`ccma_fast.backends.host_training.HostTraining`."""

    def __init__(self, x: Float32, labels: Int64, start: Float32, normalization: Normalization) -> None:
        self._x, self._labels, self._normalization = x.astype(np.float64), labels, normalization
        self._parameters = start.astype(np.float64)
        self._first, self._second = np.zeros_like(self._parameters), np.zeros_like(self._parameters)
        self._moments = np.stack([np.zeros(x.shape[1]), np.ones(x.shape[1])])
        self.keep()

    def step(
        self, chosen: Int64 | None, streams: npt.NDArray[np.uint64], rate: float, spread: float, decay: float
    ) -> float:
        """A step of AdamW with PyTorch's constants."""
        x, labels = (self._x, self._labels) if chosen is None else (self._x[chosen], self._labels[chosen])
        mean, variance = x.mean(axis=0), x.var(axis=0)
        n = len(x)
        self._moments += self._normalization.momentum * (np.stack([mean, variance * (n / (n - 1))]) - self._moments)
        values = (x - mean) / (np.sqrt(variance + self._normalization.epsilon) * self._normalization.kept)
        pieces = np.array_split(values, len(streams))
        bits = [random_bits(generator(state), piece.shape) for state, piece in zip(streams, pieces, strict=True)]
        stays = np.concatenate(bits) < self._normalization.below
        loss, gradient = _dropout_gradient(self._parameters, values, labels, stays)
        gradient /= n
        self._first += 0.1 * (gradient - self._first)
        self._second += 0.001 * (gradient**2 - self._second)
        self._parameters *= 1.0 - decay
        self._parameters -= rate * self._first / (spread * np.sqrt(self._second) + 1e-8)
        return loss

    def keep(self) -> None:
        """Remember the parameters and moments."""
        self._kept = self._parameters.astype(np.float32), self._moments.copy()

    def kept(self) -> tuple[Float32, npt.NDArray[np.float64]]:
        """What was remembered."""
        return self._kept


head_training = _HeadTraining


def check_rows(rows: Rows, *, directions: bool = False, chunk_size: int | None = None) -> None:
    """Every row is finite and, where `directions` are needed, long enough to have one."""
    check_rows_by_lengths(rows, row_lengths, directions=directions, chunk_size=chunk_size)
