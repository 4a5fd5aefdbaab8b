"""Bayesian active learning by disagreement."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..steps.affine_head import AffineHead
from .head import affine_head, dropout_chunks, dropout_logits
from .registry import Round, register

__all__ = ["ROUNDING", "bald", "mutual_information"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

# Monte-Carlo dropout passes.
_N_PASSES = 10

# Nats below which float32 cannot tell a mutual information from zero.
ROUNDING = 2e-6


@register("bald")
def bald(state: Round) -> Int64:
    """The rows of largest mutual information between label and model (BALD); ties go to the lower index.

    Houlsby et al., arXiv 1112.5745, with Monte-Carlo dropout as in Gal, Islam and Ghahramani, "Deep Bayesian Active
    Learning with Image Data", arXiv 1703.02910. Departures: 10 passes rather than 100, and the dropout acts on the
    embeddings: a :class:`~ccma_fast.LinearHead` has its own, any other head the configuration's.

    Raises
    ------
    TypeError
        The student is none of the package's heads, :class:`~ccma_fast.LogisticHead` and
        :class:`~ccma_fast.LinearHead`.
    ValueError
        NaN or infinity in a row, which is named.
    """
    scores = mutual_information(state, affine_head(state, "bald"))
    return state.unlabelled[state.backend.top_m(scores, state.budget)]


def mutual_information(state: Round, head: AffineHead) -> Float32:
    """I_i = H(p̄_i) − (1/T) Σ_t H(p_it) over T = 10 dropout passes, p̄ their mean.

    Chunk by chunk, all passes of a chunk before the next: memory is some arrays of a chunk's posteriors.

    Returns
    -------
    ndarray, shape (U,), float32
        Nats. Not negative; rounding leaves some :data:`ROUNDING` of an information of zero.
    """
    information = np.empty(state.unlabelled.size, np.float32)
    for part, x in dropout_chunks(state):
        mean = np.zeros((len(x), state.n_classes), np.float32)
        conditional = np.zeros(len(x))
        for _ in range(_N_PASSES):
            shifted = dropout_logits(state, head, x)
            shifted -= shifted.max(axis=1, keepdims=True)
            p = np.exp(shifted)
            total = p.sum(axis=1)
            p /= total[:, None]
            mean += p
            conditional += np.log(total) - (p * shifted).sum(axis=1)
        mean /= _N_PASSES
        # Below any probability that counts, and x · ln x tends to zero there.
        entropy = -(mean * np.log(np.maximum(mean, np.finfo(np.float32).tiny))).sum(axis=1)
        information[part] = np.maximum(entropy - conditional / _N_PASSES, 0.0)
    return information
