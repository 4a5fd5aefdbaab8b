"""ProbCover."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..backends.unit_rows import Kernel
from ..steps.coverage import HostUnitRows
from .herding import herd
from .registry import Round, register

__all__ = ["ball_similarity", "probcover"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

# Share of the balls that must be pure.
PURITY = 0.95

# Rows whose balls are looked at.
_BALLS = 2000

# Centres of balls in one product.
_BATCH = 1024


@register("probcover", needs_labels=False)
def probcover(state: Round) -> Int64:
    """Again and again the row in whose ball, of radius δ, most rows lie that are in no labelled or chosen row's ball.

    Yehuda, Dekel, Hacohen and Weinshall, "Active Learning Through a Covering Lens", arXiv 2205.11320, on the
    L2-normalised embeddings. δ is computed as they do, see :func:`ball_similarity`. Ties go to the lower index. Once
    every row is covered, the rest is drawn at random (their code goes on with the lowest index).

    Raises
    ------
    ValueError
        NaN, infinity or a zero vector in a row, which is named.

    Notes
    -----
    The edges of the δ-ball graph are counted, never kept; :func:`~.herding.herd` says what is done with
    pools of more than some 46,000 rows.
    """
    least = ball_similarity(state, HostUnitRows(state.features, state.backend))
    return herd(state, Kernel("ball", least), least=least)


def ball_similarity(state: Round, pool: HostUnitRows) -> float:
    """1 − δ²/2 of the largest radius δ at which the open balls {x : ‖x − x_i‖ < δ} of 95 % of the rows i are pure.

    A ball is pure where all rows in it have the pseudo-label of its centre. Pseudo-labels are the clusters of k-means
    with C clusters on the unit rows. The paper reads δ off a grid; here it is the exact quantile, over all rows or,
    where there are more than 2,000, that many drawn at random.

    Returns
    -------
    float
        Rows of a larger cosine similarity lie in the ball; −∞ where all rows have one pseudo-label.
    """
    labels = state.backend.weighted_kmeans(
        state.features,
        min(state.n_classes, pool.n_rows),
        max_iter=state.config.kmeans_max_iter,
        tol=state.config.kmeans_tol,
        random_state=state.rng,
        unit=True,
        kept_bytes=state.sketch_bytes,
    ).labels
    centres = np.arange(pool.n_rows)
    if centres.size > _BALLS:
        centres = np.sort(state.rng.choice(centres, _BALLS, replace=False))
    # The similarity at which a growing ball meets the first row of another pseudo-label.
    meets = np.full(centres.size, -np.inf, np.float32)
    for start in range(0, centres.size, _BATCH):
        batch = centres[start : start + _BATCH]
        for part, similarity in pool.similarities(pool.take(batch)):
            similarity[labels[part, None] == labels[batch]] = -np.inf
            np.maximum(meets[start : start + _BATCH], similarity.max(axis=0), out=meets[start : start + _BATCH])
    # A ball of that radius is open, hence pure still: as many as may be impure meet another label before.
    impure = int((1.0 - PURITY) * centres.size + 1e-9)
    return float(np.partition(meets, centres.size - 1 - impure)[centres.size - 1 - impure])
