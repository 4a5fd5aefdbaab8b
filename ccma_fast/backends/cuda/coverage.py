"""Greedy coverage on the device, see :class:`ccma_fast.backends.protocol.UnitRows`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from ...kernels import coverage
from ...kernels import linear as products
from ...kernels.halves import Halves, prepare_halves
from ...pool.rows import Rows
from ..unit_rows import Kernel
from .reader import Reader
from .rows import check_row_lengths

__all__ = ["Coverage", "UnitRows", "unit_rows"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

# Bytes of rows that are read at once, of the similarities of one product, and most columns of one.
_ROW_BYTES, _SIMILARITY_BYTES, _COLUMNS = 64 << 20, 64 << 20, 1024

# Candidates of a window at first, bytes of its similarities to all rows, and picks for which the host launches kernels
# before it asks how many were made: it waits 20 µs for that, and launches some in vain at the end of a window.
_WIDTH, _WINDOW_BYTES, _STEPS = 512, 1 << 30, 16


class UnitRows:
    """Rows divided by their lengths, see :class:`ccma_fast.backends.protocol.UnitRows`.

    Rows that are not on the device are copied there whenever they are read.
    """

    def __init__(self, rows: Rows) -> None:
        self.n_rows = rows.n_rows
        self.reader = Reader()
        self._rows = rows
        lengths = torch.empty(rows.n_rows, dtype=torch.float64, device=self.reader.device)
        for start, (chunk,) in self.reader.chunks(rows):
            lengths[start : start + len(chunk)] = products.row_lengths(chunk)
        check_row_lengths(rows, lengths, directions=True)
        self._scale = (1.0 / lengths).float()
        self._whole = self.reader.whole(rows)
        self._piece: Halves | None = None

    def take(self, indices: torch.Tensor) -> torch.Tensor:
        """Some rows, shape (M, D), float32."""
        if self._whole is not None:
            taken = self._whole.index_select(0, indices)
        else:
            taken = self.reader.take(self._rows, indices.cpu().numpy())
        return taken.float() * self._scale[indices, None]

    def similarities(self, others: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
        """Cosine similarities to `others`, shape (M, D): (rows, (m, M) float32) pieces that are aligned to segments."""
        widest = max(_SIMILARITY_BYTES // (4 * max(1, len(others))), 1)
        step = min(_ROW_BYTES // (4 * self._rows.n_columns), widest) // coverage.SEGMENT * coverage.SEGMENT
        prepared: dict[int, products.Weight] = {}
        for part, halves in self._halves(max(step, coverage.SEGMENT)):
            n_parts = len(halves.parts)
            if n_parts not in prepared:
                prepared[n_parts] = products.prepare_weight(others, None, n_parts)
            yield part, products.linear(halves, prepared[n_parts], self._scale[part] * halves.unit)

    def _halves(self, step: int) -> Iterator[tuple[slice, Halves]]:
        """The rows as products take them, so many at a time; kept where all are one piece."""
        if self._piece is not None and self.n_rows <= step:
            yield slice(0, self.n_rows), self._piece
            return
        for start, (chunk,) in self.reader.chunks(self._rows, chunk_size=step):
            halves = prepare_halves(chunk, products.row_parts(chunk.dtype))
            if len(chunk) == self.n_rows:
                self._piece = halves
            yield slice(start, start + len(chunk)), halves

    def nearest(self, others: UnitRows, least: float) -> torch.Tensor:
        """Similarity of each row to the most similar of `others`, at least `least`; shape (N,)."""
        near = torch.full((self.n_rows,), least, dtype=torch.float32, device=self.reader.device)
        for start in range(0, others.n_rows, _COLUMNS):
            columns = torch.arange(start, min(start + _COLUMNS, others.n_rows), device=near.device)
            for part, similarity in self.similarities(others.take(columns)):
                torch.maximum(near[part], similarity.amax(dim=1), out=near[part])
        return near

    def most_similar(self, picks: Int64) -> Int64:
        """The pick, of several the first, that each row is most similar to, shape (N,)."""
        others = self.take(self.reader.tensor(picks))
        found = torch.cat([similarity.argmax(dim=1) for _, similarity in self.similarities(others)])
        most: Int64 = found.cpu().numpy()
        return most

    def coverage(
        self,
        covered: UnitRows,
        least: float,
        candidates: Int64,
        kernel: Kernel,
        weights: Float32 | None,
    ) -> Coverage:
        """The start of a greedy coverage, see :class:`ccma_fast.backends.protocol.UnitRows`."""
        near = self.nearest(covered, least)
        of_rows = torch.ones_like(near) if weights is None else self.reader.tensor(weights)
        return Coverage(self, near, self.reader.tensor(candidates), kernel, of_rows)


class Coverage:
    """See :class:`ccma_fast.backends.protocol.Coverage`; the host synchronises once for each `_STEPS` picks.

    Picks are made in a window, the candidates of largest bounds, see :mod:`ccma_fast.kernels.coverage`. How wide it is
    changes no pick: it becomes twice as wide where it held fewer picks than the host launches at once.
    """

    def __init__(
        self,
        pool: UnitRows,
        near: torch.Tensor,
        candidates: torch.Tensor,
        kernel: Kernel,
        weights: torch.Tensor,
    ) -> None:
        self._pool, self._near, self._weights, self._kernel = pool, near, weights, kernel
        self._candidates = candidates
        gains = [self.gains(candidates[start : start + _COLUMNS]) for start in range(0, len(candidates), _COLUMNS)]
        # A sentinel behind the last candidate, with a bound below all.
        self._bounds = torch.cat([*gains, near.new_full((1,), -torch.inf, dtype=torch.float64)])

    def gains(self, rows: torch.Tensor) -> torch.Tensor:
        """Marginal gain of each of `rows`, shape (M,), float64."""
        sums, gains = self._sums(len(rows))
        for part, similarity in self._pool.similarities(self._pool.take(rows)):
            of_part = sums[part.start // coverage.SEGMENT : -(-part.stop // coverage.SEGMENT)]
            coverage.segment_gains(similarity, self._near[part], self._weights[part], *self._kernel, of_part)
        coverage.gain_sums(sums, gains)
        return gains

    def _sums(self, n_columns: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Memory for the sums of segments and the gains of so many candidates."""
        n_segments = -(-self._pool.n_rows // coverage.SEGMENT)
        sums = torch.empty((n_segments, n_columns), dtype=torch.float64, device=self._near.device)
        return sums, sums.new_empty(n_columns)

    def choose(self, n_picks: int) -> Int64:
        """See :meth:`ccma_fast.backends.protocol.Coverage.choose`."""
        numbers = torch.zeros(4, dtype=torch.int64, device=self._near.device)
        state = coverage.State(numbers.new_empty(n_picks), numbers)
        width, n_chosen, is_over = _WIDTH, 0, False
        while n_chosen < n_picks and not is_over:
            first = n_chosen
            n_chosen, is_over = self._choose_in_window(state, width, n_chosen)
            if n_chosen - first < _STEPS:
                width *= 2
        picks: Int64 = state.picks[:n_chosen].cpu().numpy()
        return picks

    def _choose_in_window(self, state: coverage.State, width: int, n_chosen: int) -> tuple[int, bool]:
        """Makes the picks that lie among the `width` candidates of largest bounds: how many there are now, and whether
        there are no more.
        """
        width = min(width, max(1, _WINDOW_BYTES // (4 * self._pool.n_rows)), len(self._candidates))
        order = torch.sort(self._bounds, descending=True, stable=True).indices
        members, following = torch.sort(order[:width]).values, order[width : width + 1]
        bounds = self._bounds[members]
        similarity = self._near.new_empty((self._pool.n_rows, width))
        for part, of_part in self._pool.similarities(self._pool.take(self._candidates[members])):
            similarity[part] = of_part
        sums, gains = self._sums(width)
        state.numbers[1:2].fill_(-1)
        state.numbers[2:].fill_(1)
        runs, is_over = True, False
        while runs and n_chosen < len(state.picks):
            for _ in range(min(_STEPS, len(state.picks) - n_chosen)):
                coverage.cover(similarity, state, self._near)
                coverage.segment_gains(similarity, self._near, self._weights, *self._kernel, sums)
                coverage.gain_sums(sums, gains)
                coverage.choose(gains, members, self._bounds, following, bounds, state)
            n_chosen, _, runs, is_over = state.numbers.tolist()
        self._bounds[members] = bounds
        return n_chosen, bool(is_over)


def unit_rows(rows: Rows) -> UnitRows:
    """Rows divided by their lengths; each must be finite and have one."""
    return UnitRows(rows)
