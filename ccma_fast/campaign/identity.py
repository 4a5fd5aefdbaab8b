"""Which images and classes labels are of: ids and digests of rows, and digests of a teacher's class directions."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import FileReadError, LabelWarning
from ..pool.row_digests import DIGEST_BYTES, Digests, digests_of, row_digests
from ..pool.rows import RowId, Rows
from ..steps.teacher import Teacher

__all__ = ["Identity", "RowDigests", "class_digests", "known_rows"]

Int64 = npt.NDArray[np.int64]

_UNREADABLE = bytes(DIGEST_BYTES)


@dataclass(frozen=True, eq=False)
class Identity:
    """Which images the labelled and chosen rows of a pool are.

    Attributes
    ----------
    n_columns : int
    ids : list or None
        The id of each of these rows; None where the pool has no ids.
    row_digests : ndarray, shape (n, 16), uint8
        Of the values of each of these rows; zeros where a row could not be read any more.
    """

    n_columns: int
    ids: list[RowId] | None
    row_digests: Digests

    @property
    def is_unreadable(self) -> npt.NDArray[np.bool_]:
        """Which rows could not be read any more, shape (n,)."""
        unreadable: npt.NDArray[np.bool_] = np.logical_not(self.row_digests.any(axis=1))
        return unreadable


class RowDigests:
    """Ids and digests of rows, taken when the rows are labelled or chosen.

    So the labels can be saved even after the pool was damaged.
    """

    def __init__(self) -> None:
        self._of_row: dict[int, tuple[RowId, bytes]] = {}
        self._has_ids = False

    def add(self, rows: Rows, numbers: Int64) -> None:
        """Read those of some rows that were not read before.

        Raises
        ------
        FileReadError
            They cannot be read any more.
        """
        new = np.array([row for row in numbers.tolist() if row not in self._of_row], dtype=np.int64)
        ids, digests = rows.ids_at(new), row_digests(rows, new)
        self._has_ids = ids is not None
        for row, row_id, digest in zip(new.tolist(), ids or [None] * new.size, digests, strict=True):
            self._of_row[row] = row_id, digest.tobytes()

    def identity(self, rows: Rows, labels: Int64, chosen: Int64) -> Identity:
        """The identity of the labelled and chosen rows of a pool.

        Warns
        -----
        LabelWarning
            The pool cannot be read any more, and the values of some of these rows are unknown.
        """
        known = known_rows(labels, chosen)
        try:
            self.add(rows, known)
        except FileReadError as error:
            unknown = [row for row in known.tolist() if row not in self._of_row]
            if unknown:
                warnings.warn(
                    f"the labels are saved, but of {len(unknown)} of {known.size} rows that were labelled or chosen, "
                    f"first row {unknown[0]}, nobody can say what they held: {error}",
                    LabelWarning,
                    stacklevel=4,  # the caller of ActiveLearner.save
                )
        found = [self._of_row.get(row, (None, _UNREADABLE)) for row in known.tolist()]
        digests = np.frombuffer(b"".join(digest for _, digest in found), dtype=np.uint8).reshape(-1, DIGEST_BYTES)
        return Identity(rows.n_columns, [row_id for row_id, _ in found] if self._has_ids else None, digests)


def known_rows(labels: Int64, chosen: Int64) -> Int64:
    """The rows that were labelled or chosen, ascending."""
    known: Int64 = np.union1d(np.flatnonzero(labels >= 0), chosen)
    return known


def class_digests(teacher: Teacher | None) -> Digests | None:
    """Digests of a teacher's class directions; None where it has none."""
    if teacher is None or teacher.class_directions is None:
        return None
    return digests_of(teacher.class_directions)
