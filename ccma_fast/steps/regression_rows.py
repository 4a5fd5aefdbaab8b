"""Rows of a softmax regression where they lie: its loss and gradient, its first metric, and sums of vectors.

A vector is a matrix of the shape of W, (C, D) float32: an array on the host, a tensor on a device. The host's sums are
formed in an order that depends on shapes alone, so not a bit depends on the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..backends.device_training import DeviceTraining
from ..backends.protocol import HostBackend

__all__ = ["DeviceRows", "HostRows", "RegressionRows"]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Metric = Callable[[Any], Any]

# Rows that tell the curvature, as a multiple of D: a sample of that size gives its large eigenvalues well enough.
_METRIC_ROWS = 2

# Solutions that share a metric: folds, and weights that differ little.
_SHARING = 3

# The least eigenvalue of a metric that float32 factors, as a share of the largest entry of its diagonal.
_LEAST_EIGENVALUE = 2.0**-12


class RegressionRows(Protocol):
    """What a solver asks of rows; numbers stay where the rows lie until they are fetched."""

    def settings(self) -> AbstractContextManager[Any]:
        """The context in which everything else is called."""
        ...

    def vector(self, array: Float32) -> Any:
        """A copy of an array, W's or the weights of rows, where the rows lie."""
        ...

    def stack(self, n: int) -> Any:
        """Room for n vectors, shape (n, C, D)."""
        ...

    def loss_and_gradient(self, coef: Any, weights: Any) -> tuple[Any, Any]:
        """Σ w CE in nats, in float64, and its gradient; `weights` is (R,)."""
        ...

    def dots(self, stack: Any, vector: Any) -> Any:
        """The product of each vector of a stack with `vector`, shape (n,), float64."""
        ...

    def combination(self, stack: Any, factors: Float64) -> Any:
        """Σ factor · vector."""
        ...

    def fetched(self, numbers: Sequence[Any]) -> Float64:
        """Numbers, or arrays of one length, as an array of the host."""
        ...

    def metric(self, label_weight: float, soft_weight: float, penalty: float) -> Metric | None:
        """The inverse of the curvature at W = 0, applied to a vector; None where it would not pay."""
        ...


def _pays(n_rows: int, n_soft: int, d: int, n_classes: int, soft_weight: float, penalty: float) -> bool:
    """Whether a metric saves more arithmetic than it takes.

    It saves about the root of the condition number, told from the mean curvature of the rows with soft targets: theirs
    stays what it was at W = 0, while rows with labels lose it once they are fitted, and W = 0 says little of them.
    """
    saved = math.sqrt(soft_weight * n_soft / (n_classes * penalty))
    return d * d * (min(n_rows, _METRIC_ROWS * d) + 4 * d) < _SHARING * saved * 2 * n_rows * d * n_classes


class HostRows:
    """Rows on the host, packed for the backend's products."""

    def __init__(self, x: Float32, labels: Int64, soft: Float32, offset: Float32 | None, backend: HostBackend) -> None:
        self._x, self._n_labels, self._backend = np.ascontiguousarray(x, np.float32), len(labels), backend
        self._n_classes = soft.shape[1]
        self._gradient = backend.softmax_gradient(self._x, labels, soft, offset)
        self._gram: dict[bool, Float32] = {}

    def settings(self) -> AbstractContextManager[Any]:
        """None are needed."""
        return nullcontext()

    def vector(self, array: Float32) -> Float32:
        """A copy."""
        return np.array(array, np.float32)

    def stack(self, n: int) -> Float32:
        """Room for n vectors."""
        return np.empty((n, self._n_classes, self._x.shape[1]), np.float32)

    def loss_and_gradient(self, coef: Float32, weights: Float32) -> tuple[Any, Float32]:
        """Σ w CE and its gradient."""
        return self._gradient(coef, weights)

    def dots(self, stack: Float32, vector: Float32) -> Float64:
        """Products of vectors."""
        return self._backend.dots(stack, vector)

    def combination(self, stack: Float32, factors: Float64) -> Float32:
        """Σ factor · vector, in their order."""
        return self._backend.combination(stack, factors)

    def fetched(self, numbers: Sequence[Any]) -> Float64:
        """They are here."""
        return np.array(numbers, np.float64)

    def metric(self, label_weight: float, soft_weight: float, penalty: float) -> Metric | None:
        """Gram matrices are kept, for other weights and penalties."""
        n_rows, d = self._x.shape
        if not _pays(n_rows, n_rows - self._n_labels, d, self._n_classes, soft_weight, penalty):
            return None
        curvature = np.zeros((d, d), np.float32)
        for is_soft, weight in ((False, label_weight), (True, soft_weight)):
            if weight > 0.0:
                curvature += np.float32(weight / self._n_classes) * self._gram_of(is_soft)
        diagonal = np.einsum("ii->i", curvature)  # a view
        least = max(penalty, _LEAST_EIGENVALUE * float(diagonal.max()))
        diagonal += np.float32(least)
        factor = np.ascontiguousarray(self._backend.inverse_factor(curvature, least).T)
        return self._backend.multiplier(self._backend.linear(factor, factor))

    def _gram_of(self, is_soft: bool) -> Float32:
        """Σ x xᵀ of the rows with labels or of the others, told from a sample of them."""
        if is_soft not in self._gram:
            rows = self._x[self._n_labels :] if is_soft else self._x[: self._n_labels]
            step = max(1, len(rows) // (_METRIC_ROWS * rows.shape[1]))
            columns = np.ascontiguousarray(rows[::step].T)
            gram = self._backend.linear(columns, columns) if len(rows) else np.zeros((len(columns),) * 2, np.float32)
            gram *= np.float32(len(rows) / max(1, columns.shape[1]))
            self._gram[is_soft] = gram
        return self._gram[is_soft]


class DeviceRows:
    """Rows on a device, by PyTorch's products and the kernels of the student's training."""

    def __init__(self, x: Any, labels: Int64, soft: Float32, offset: Float32 | None, device: DeviceTraining) -> None:
        self._device, self._n_classes = device, soft.shape[1]
        self._x = device.tensor(np.ascontiguousarray(x, np.float32)) if isinstance(x, np.ndarray) else x
        self._labels, self._soft = device.tensor(labels), device.tensor(soft)
        self._offset = None if offset is None else device.tensor(offset)
        self._gram: dict[bool, Any] = {}

    @contextmanager
    def settings(self) -> Iterator[None]:
        """No TF32, no autograd."""
        import torch

        with torch.inference_mode(), self._device.full_precision():
            yield

    def vector(self, array: Float32) -> Any:
        """A copy."""
        return self._device.tensor(np.ascontiguousarray(array, np.float32)).clone()

    def stack(self, n: int) -> Any:
        """Room for n vectors."""
        return self._x.new_empty((n, self._n_classes, self._x.shape[1]))

    def loss_and_gradient(self, coef: Any, weights: Any) -> tuple[Any, Any]:
        """Σ w CE, a tensor, and its gradient."""
        import torch

        n = len(self._labels)
        logits = self._x @ coef.T if self._offset is None else torch.addmm(self._offset, self._x, coef.T)
        losses = torch.empty_like(weights)
        losses[:n] = self._device.cross_entropy(logits[:n], self._labels)
        log_p = torch.log_softmax(logits[n:], dim=1)
        losses[n:] = -torch.linalg.vecdot(self._soft, log_p)
        torch.sub(log_p.exp_(), self._soft, out=logits[n:])
        logits *= weights[:, None]
        return (losses.double() * weights).sum(), logits.T @ self._x

    def dots(self, stack: Any, vector: Any) -> Any:
        """Products of vectors: in float32 over a class, then in float64."""
        import torch

        return torch.linalg.vecdot(stack, vector).sum(dim=1, dtype=torch.float64)

    def combination(self, stack: Any, factors: Float64) -> Any:
        """Σ factor · vector."""
        import torch

        return torch.tensordot(self.vector(factors.astype(np.float32)), stack, dims=1)

    def fetched(self, numbers: Sequence[Any]) -> Float64:
        """Waits for the device."""
        import torch

        array: Float64 = torch.stack(list(numbers)).cpu().numpy()
        return array

    def metric(self, label_weight: float, soft_weight: float, penalty: float) -> Metric | None:
        """Gram matrices are kept, for other weights and penalties."""
        import torch

        n, x = len(self._labels), self._x
        if not _pays(len(x), len(self._soft), x.shape[1], self._n_classes, soft_weight, penalty):
            return None
        curvature = x.new_zeros((x.shape[1], x.shape[1]))
        for is_soft, rows, weight in ((False, x[:n], label_weight), (True, x[n:], soft_weight)):
            if weight > 0.0:
                if is_soft not in self._gram:
                    self._gram[is_soft] = rows.T @ rows
                curvature += weight / self._n_classes * self._gram[is_soft]
        diagonal = curvature.diagonal()
        diagonal += (_LEAST_EIGENVALUE * diagonal.max()).clamp(min=penalty)
        inverse = torch.linalg.inv_ex(curvature).inverse  # inv waits for the device, to see whether there is one
        return lambda vector: vector @ inverse
