"""Active learning by feature mixing."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..backends.protocol import Backend
from ..pool.checked import check_lengths
from ..pool.derived import RowSubset
from .head import affine_head, residuals
from .registry import Round, register
from .spread import spread

__all__ = ["alfamix"]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

# ε · √D: a row is moved by ε times its distance to the anchor.
_EPSILON = 0.2


@register("alfamix")
def alfamix(state: Round) -> Int64:
    """Rows whose prediction flips when a labelled class is mixed into their features, spread by k-means (ALFA-Mix).

    Parvaneh et al., "Active Learning by Feature Mixing", CVPR 2022, arXiv 2203.07034. The anchors z* are the mean
    features of the labelled classes. With the closed form of α a row z moves to z + ε ‖z* − z‖ g / ‖g‖, g the gradient
    with respect to z of the cross-entropy of its predicted class and ε = 0.2 / √D; rows whose prediction changes for
    any anchor are candidates. :func:`~.spread.spread` chooses among them.

    Raises
    ------
    TypeError
        The student is none of the package's heads, :class:`~ccma_fast.LogisticHead` and
        :class:`~ccma_fast.LinearHead`.
    ValueError
        NaN or infinity in a row, or a candidate without a direction; the row is named.

    Notes
    -----
    Under an affine head z + t g / ‖g‖ has the logits l + t W g / ‖g‖, W g = W Wᵀ r with the residual r = p − onehot.
    The points of a ray that are predicted alike are an interval, so that a row flips for some anchor exactly when it
    does for the farthest: no row is moved, and memory is some chunks and the labelled rows. Departures: the features
    are the student's embeddings as they come, the head's batch normalisation being part of its layer; ε is fixed, as in
    Gupte et al., arXiv 2401.14555, while the authors' code raises it in steps of 1 / (32 √D) until more than B rows
    flip; a class without a label has no anchor, where that code takes the mean of all labelled rows.
    """
    head, rows, backend = affine_head(state, "alfamix"), state.unlabelled_features, state.backend
    anchors = _class_means(state)
    anchor_squares = backend.row_lengths(anchors) ** 2
    gram = backend.linear(head.coef_, head.coef_)
    epsilon = _EPSILON / math.sqrt(rows.n_columns)
    flips = np.empty(rows.n_rows, dtype=np.bool_)
    for start, chunk in rows.chunks(state.unlabelled_logits.chunk_rows()):
        lengths = backend.row_lengths(chunk)
        check_lengths(rows, start, lengths, directions=False)
        squared = (lengths**2)[:, None] + anchor_squares - 2.0 * backend.linear(chunk, anchors)
        reach = epsilon * np.sqrt(np.maximum(squared.max(axis=1), 0.0))
        logits = backend.linear(chunk, head.coef_, head.intercept_)
        flips[start : start + len(chunk)] = _flips(logits, gram, reach, backend)
    return spread(state, np.flatnonzero(flips))


def _class_means(state: Round) -> Float32:
    """The mean features of each class that has a label, shape (labelled classes, D)."""
    x, y = RowSubset(state.features, state.labelled).float32(), state.labels[state.labelled]
    return np.stack([x[y == c].mean(axis=0, dtype=np.float64) for c in np.unique(y)]).astype(np.float32)


def _flips(logits: Float32, gram: Float32, reach: Float64, backend: Backend) -> npt.NDArray[np.bool_]:
    """Whether l + reach · W g / ‖g‖ has another largest entry than l, for each row."""
    rows, top = np.arange(len(logits)), logits.argmax(axis=1)
    r = residuals(logits)
    doubt = -r[rows, top, None]
    # Only the direction counts, and the gradient of a confident row is too short to be squared in float32.
    np.divide(r, doubt, out=r, where=doubt > 0.0)
    slope = backend.linear(r, gram)
    length = np.sqrt(np.maximum(np.einsum("ij,ij->i", r, slope), 0.0))
    gain = reach[:, None] * (slope - slope[rows, top, None])
    flips: npt.NDArray[np.bool_] = (gain > (logits[rows, top, None] - logits) * length[:, None]).any(axis=1)
    return flips
