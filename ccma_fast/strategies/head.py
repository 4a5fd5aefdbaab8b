"""Dropout passes and gradients of an affine head, for strategies."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ..pool.checked import check_lengths
from ..pool.rows import Chunk, to_float32
from ..steps.affine_head import AffineHead
from ..steps.linear_head import LinearHead
from .registry import Round

__all__ = ["affine_head", "dropout_chunks", "dropout_logits", "residuals"]

Float32 = npt.NDArray[np.float32]

# A pass writes several arrays of the size of its chunk: small ones stay in cache (four times as fast as 32 MiB).
_CHUNK_BYTES = 1 << 20


def affine_head(state: Round, strategy: str) -> AffineHead:
    """The student, which must be one of the package's heads, an affine map of the features.

    Raises
    ------
    TypeError
        It is of another class.
    """
    if not isinstance(state.student, AffineHead):
        raise TypeError(
            f"strategy {strategy} needs a LogisticHead or LinearHead as the student (for its dropout or its "
            f"gradients), got {type(state.student).__name__}"
        )
    return state.student


def dropout_logits(state: Round, head: AffineHead, chunk: Chunk) -> Float32:
    """One pass over a chunk of rows, shape (M, C), with the dropout that the head was trained with.

    A head that is trained without any has the configuration's.
    """
    dropout = head.dropout if isinstance(head, LinearHead) else state.config.dropout
    return head.dropout_logits(chunk, dropout, state.rng, state.backend)


def dropout_chunks(state: Round) -> Iterator[tuple[slice, Float32]]:
    """The unlabelled rows in small chunks, as dropout takes them, with their place.

    How many rows a chunk has decides, with the generator, which inputs are dropped: it depends on D and C alone.

    Raises
    ------
    ValueError
        NaN or infinity in a row, which is named.
    """
    rows = state.unlabelled_features
    n_rows = max(1, _CHUNK_BYTES // (4 * max(rows.n_columns, state.n_classes)))
    for start, chunk in rows.chunks(n_rows):
        check_lengths(rows, start, state.backend.row_lengths(chunk), directions=False)
        yield slice(start, start + len(chunk)), to_float32(chunk)


def residuals(logits: Float32) -> Float32:
    """p − onehot(argmax p), the gradient of the cross-entropy of the predicted class with respect to the logits.

    Parameters
    ----------
    logits : ndarray, shape (M, C), float32

    Returns
    -------
    ndarray, shape (M, C), float32
        Each row sums to zero; p_top − 1 is minus the sum of the others, not a difference that rounds to zero.
    """
    rows, top = np.arange(len(logits)), logits.argmax(axis=1)
    r: Float32 = np.exp(logits - logits.max(axis=1, keepdims=True))
    r[rows, top] = 0.0
    others = r.sum(axis=1)
    r[rows, top] = -others
    r /= (1.0 + others)[:, None]
    return r
