"""Rows divided by their lengths, and the greedy coverage of them: the interfaces, and the kernels of similarity."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt

from ..pool.rows import Rows

__all__ = ["Coverage", "Kernel", "ListedCoverage", "ListingBackend", "UnitRows", "listing"]


class Kernel(NamedTuple):
    """A non-decreasing function of the similarities s of unit rows."""

    kind: str = "similarity"
    """"similarity" for s, "gaussian" for exp(p · s − p), or "ball" for 1 where s > p and else 0."""
    parameter: float = 0.0
    """p, which counts as a float32."""

    @classmethod
    def gaussian(cls, sigma: float) -> Kernel:
        """exp(−‖x − x'‖² / σ²) = exp((2 s − 2) / σ²)."""
        return cls("gaussian", 2.0 / sigma**2)

    def __call__(self, similarity: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        p = np.float32(self.parameter)
        if self.kind == "gaussian":
            value: npt.NDArray[np.float32] = np.exp(p * similarity - p)
            return value
        return (similarity > p).astype(np.float32) if self.kind == "ball" else similarity


class Coverage(Protocol):
    """State of a greedy coverage: candidates, upper bounds of their gains, and the coverage so far."""

    def choose(self, n_picks: int) -> npt.NDArray[np.int64]:
        """Select the candidate of largest gain (ties: the lower), again and again; at most as many as there are.

        Returns
        -------
        ndarray, shape (n,), int64
            Candidates in the order of selection; fewer than `n_picks` where no gain is positive any more.
        """
        ...


class ListedCoverage(Protocol):
    """State of a greedy coverage on the host, of which every pair of rows with a gain is listed.

    What row j gains is Σ_i w_i · max(0, k(s_ij) − k(s_i)), of terms in float32.
    """

    def take(self, closed: npt.NDArray[np.bool_] | None = None) -> int:
        """The open row of largest gain (ties: the first), which is open no more; −1 where no gain is positive.

        Parameters
        ----------
        closed : ndarray, shape (N,), bool, optional
            Rows that are not taken; closed in later calls too.
        """
        ...

    def cover(self, row: int) -> None:
        """Select a row."""
        ...


class ListingBackend(Protocol):
    """A backend on the host with a greedy coverage over listed pairs of rows."""

    def listed_coverage(
        self,
        rows: Rows,
        scale: npt.NDArray[np.float32],
        near: npt.NDArray[np.float32],
        kernel: Kernel,
        weights: npt.NDArray[np.float32],
        open_rows: npt.NDArray[np.bool_],
        most_pairs: int,
        sum_rows: int,
    ) -> ListedCoverage | None:
        """The start of a greedy coverage of all rows by some; None where there are too many pairs to be listed.

        Parameters
        ----------
        rows, scale : Rows, shape (N, D), N > 0, and ndarray, shape (N,), float32
            Rows, and what each is multiplied with to have unit length.
        near : ndarray, shape (N,), float32
            s, the similarity of each row to the most similar of those that cover already.
        kernel : Kernel
        weights : ndarray, shape (N,), float32
        open_rows : ndarray, shape (N,), bool
            Those that may be selected.
        most_pairs : int
        sum_rows : int
            So many rows i are added up at a time, in float64; the sums then join the gain.
        """
        ...


class UnitRows(Protocol):
    """Rows of a pool divided by their lengths, which greedy coverage works on where they lie."""

    n_rows: int

    def nearest(self, others: Any, least: float) -> Any:
        """Similarity of each row to the most similar of `others`, which are of the same kind, at least `least`.

        Shape (N,), float32: an array, or a tensor where the rows lie on a device.
        """
        ...

    def coverage(
        self,
        covered: Any,
        least: float,
        candidates: npt.NDArray[np.int64],
        kernel: Kernel,
        weights: npt.NDArray[np.float32] | None,
    ) -> Coverage:
        """The start of a greedy coverage of all rows.

        Parameters
        ----------
        covered : UnitRows
            Rows that cover already, of the same kind.
        least : float
            Lower bound of the similarity to them.
        candidates : ndarray, shape (n,), int64
            Rows, ascending.
        kernel : Kernel
        weights : ndarray, shape (N,), float32, optional
            Unit weights where missing.
        """
        ...

    def most_similar(self, picks: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Position in `picks` of the most similar row, for each row, shape (N,); ties: the first."""
        ...


def listing(backend: Any) -> ListingBackend | None:
    """The backend where it lists pairs of rows."""
    return cast(ListingBackend, backend) if hasattr(backend, "listed_coverage") else None
