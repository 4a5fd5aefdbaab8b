"""Batch active learning by diverse gradient embeddings."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..backends.protocol import Backend
from ..pool.checked import check_lengths
from ..pool.rows import Chunk, to_float32
from ..steps.affine_head import AffineHead
from .head import affine_head, residuals
from .registry import Round, register

__all__ = ["badge"]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

# Rows drawn at once. A whole batch is rejected where fewer than some 5 % of draws are accepted.
_PROPOSALS = 64

# Chosen rows that wait for a pass over the pool: as many columns has a chunk's matrix of distances.
_PENDING = 256

# Squared distances below this share of the squared lengths are taken from differences, not from products.
_NEAR = 1e-3


@register("badge")
def badge(state: Round) -> Int64:
    """k-means++ on the gradient embeddings g_i = (p^S_i − onehot(argmax p^S_i)) ⊗ x_i.

    Ash et al., "Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds", arXiv 1906.03671. As in their
    code the first row is that of the longest gradient (ties: the lower index); every other one is drawn with
    probability proportional to its squared distance to the nearest row chosen before. Where nothing can be drawn, the
    lowest row left is taken.

    Raises
    ------
    TypeError
        The student is none of the package's heads, :class:`~ccma_fast.LogisticHead` and
        :class:`~ccma_fast.LinearHead`.
    ValueError
        NaN or infinity in a row, which is named.

    Notes
    -----
    The C · D numbers of an embedding are never formed: ⟨g_i, g_j⟩ = ⟨r_i, r_j⟩ · ⟨x_i, x_j⟩ with the residuals r of the
    posteriors. Nor is the pool passed over for every choice. Distances only shrink as rows are chosen, so those of the
    last pass bound them from above, and drawing by a bound and accepting with probability distance / bound draws by the
    distance itself. A new pass is made when 64 draws in a row were rejected, or when 256 choices have gathered. Memory
    is 16 bytes per pool row and some chunks.
    """
    head, rows, backend = affine_head(state, "badge"), state.unlabelled_features, state.backend
    squares = np.empty(rows.n_rows)
    for start, chunk in rows.chunks(state.unlabelled_logits.chunk_rows()):
        check_lengths(rows, start, backend.row_lengths(chunk), directions=False)
        squares[start : start + len(chunk)] = _Gradients(chunk, head, backend).squares
    chosen = [int(squares.argmax())]
    bounds = np.full(rows.n_rows, np.inf)  # squared distances to the nearest row that was chosen before the last pass
    n_passed = 0
    while len(chosen) < state.budget:
        centres = _Gradients(rows.take(np.asarray(chosen[n_passed:])), head, backend)
        for start, chunk in rows.chunks(state.unlabelled_logits.chunk_rows()):
            part = slice(start, start + len(chunk))
            np.minimum(bounds[part], _Gradients(chunk, head, backend).nearest(centres), out=bounds[part])
        bounds[chosen] = 0.0
        n_passed = len(chosen)
        cumulative = np.cumsum(bounds)
        if cumulative[-1] == 0.0:
            left = np.setdiff1d(np.arange(rows.n_rows), chosen)
            chosen.extend(left[: state.budget - len(chosen)].tolist())
            break
        last = int(np.flatnonzero(bounds)[-1])  # where rounding carries a draw onto the total
        while len(chosen) < min(state.budget, n_passed + _PENDING):
            places, levels = state.rng.random((2, _PROPOSALS))
            drawn = np.minimum(np.searchsorted(cumulative, places * cumulative[-1], side="right"), last)
            squared = bounds[drawn]
            if len(chosen) > n_passed:
                pending = _Gradients(rows.take(np.asarray(chosen[n_passed:])), head, backend)
                squared = np.minimum(squared, _Gradients(rows.take(drawn), head, backend).nearest(pending))
                squared[np.isin(drawn, chosen)] = 0.0
            accepted = np.flatnonzero(levels * bounds[drawn] < squared)
            if accepted.size == 0:
                break
            chosen.append(int(drawn[accepted[0]]))
    return state.unlabelled[chosen]


class _Gradients:
    """The gradient embeddings r ⊗ x of some rows, as their factors.

    Attributes
    ----------
    squares : ndarray, shape (M,), float64
        ‖r ⊗ x‖² = ‖r‖² ‖x‖².
    """

    def __init__(self, x: Chunk, head: AffineHead, backend: Backend) -> None:
        self._x, self._backend = x, backend
        self._r = residuals(backend.linear(x, head.coef_, head.intercept_))
        self.squares: Float64 = (backend.row_lengths(x) * backend.row_lengths(self._r)) ** 2

    def nearest(self, centres: _Gradients) -> Float64:
        """The squared distance of each row to the nearest of `centres`, shape (M,); zero between equal rows."""
        centre_x = to_float32(centres._x)
        products = self._backend.linear(self._x, centre_x).astype(np.float64)
        products *= self._backend.linear(self._r, centres._r)
        sums = self.squares[:, None] + centres.squares
        squared = sums - 2.0 * products
        # Between embeddings this close the products cancel.
        near = squared < _NEAR * sums
        for centre in np.flatnonzero(near.any(axis=0)):
            rows = np.flatnonzero(near[:, centre])
            x, r = to_float32(self._x[rows]).astype(np.float64), self._r[rows].astype(np.float64)
            squared[rows, centre] = _squared_difference(x, r, centre_x[centre], centres._r[centre])
        nearest: Float64 = squared.min(axis=1)
        return nearest


def _squared_difference(x: Float64, r: Float64, centre_x: Float32, centre_r: Float32) -> Float64:
    """‖r_i ⊗ x_i − r ⊗ x‖² = ‖(r_i − r) ⊗ x_i + r ⊗ (x_i − x)‖², by the differences of the factors."""
    dx, dr, r_j = x - centre_x, r - centre_r, np.broadcast_to(centre_r.astype(np.float64), r.shape)

    def dot(a: Float64, b: Float64) -> Float64:
        products: Float64 = np.einsum("ij,ij->i", a, b)
        return products

    squared = dot(dr, dr) * dot(x, x) + dot(r_j, r_j) * dot(dx, dx) + 2.0 * dot(dr, r_j) * dot(x, dx)
    return np.maximum(squared, 0.0)
