"""Step 4: the scores of rows, given the thresholds of their sets."""

from __future__ import annotations

from ..backends.protocol import on_device, on_ranks
from ..pool.arrays import ReadRows
from ..pool.rows import in_step
from ..steps.cuts import Cuts
from .logits import Logits
from .scores import Columns, Scores
from .settings import Settings

__all__ = ["scored_rows"]


def scored_rows(settings: Settings, logits: Logits, cuts: Cuts, columns: Columns) -> Scores:
    """The scores of every row; each logit is read once."""
    backend, chunk_size = settings.backend, settings.chunk_size
    spread = on_ranks(backend)
    if spread is not None:
        found = spread.score_columns(*logits, cuts.student, cuts.teacher, columns, chunk_size=chunk_size)
        return Scores.of(logits.student.n_rows, *found)
    scores = Scores(logits.student.n_rows, columns)
    device = on_device(backend)
    if device is not None:
        every = slice(0, scores.n_rows)
        scores.put_tensors(device.score_here(*logits, *cuts.of_rows(every), chunk_size=chunk_size))
        return scores
    matrices = logits.matrices
    for start, chunks in in_step(*matrices, chunk_size=chunk_size):
        rows = slice(start, start + len(chunks[0]))
        pieces = Logits(*(ReadRows(of, chunk, start) for of, chunk in zip(matrices, chunks, strict=True)))
        scores.put(rows, backend.score(*pieces, *cuts.of_rows(rows)))
        del chunks, pieces  # before the next are computed
    return scores
