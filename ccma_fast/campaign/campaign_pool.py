"""The pool of a campaign: rows that may grow, and a teacher that grows with them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..pool.row_ids import rows_with_ids
from ..pool.rows import Rows
from ..steps.teacher import Teacher
from .places import Place, check_distinct_ids, check_no_other_has, has_ids, places_of

__all__ = ["CampaignPool"]

# What an image is called where the pool has no ids, see `names_of`.
_NUMBER = re.compile(r"0|[1-9]\d{0,17}", re.ASCII)


class CampaignPool:
    """The pool of a campaign.

    Parameters
    ----------
    rows : Rows or None
        None where a campaign was opened without.
    teacher : Teacher or None

    Raises
    ------
    PoolMismatchError, ValueError
        The teacher is of other images.
    """

    def __init__(self, rows: Rows | None, teacher: Teacher | None) -> None:
        if rows is not None and teacher is not None:
            teacher.check_rows(rows)
        self._both = (rows, teacher)  # replaced together: other threads see rows and teacher of one moment

    @property
    def rows(self) -> Rows:
        rows = self._both[0]
        if rows is None:
            raise ValueError("the campaign was opened without its pool, which this needs; expected features")
        return rows

    def grown(self) -> tuple[Rows, Teacher | None]:
        """Rows and teacher, with the rows that were added to their files meanwhile."""
        before, teacher = self.rows, self._both[1]
        rows = before.grown()
        if rows is not before:
            check_distinct_ids(rows)
            teacher = None if teacher is None else teacher.grown()
            if teacher is not None:
                teacher.check_rows(rows)
            self._both = (rows, teacher)
        return rows, teacher

    def check_no_other_has(self, former: Mapping[str, str]) -> None:
        """As :func:`.places.check_no_other_has`; of a campaign that was opened without its pool nobody can say."""
        if self._both[0] is not None:
            check_no_other_has(former, self.grown()[0])

    def places(self, images: Sequence[str]) -> dict[str, Place]:
        """Where some images are, without those that the pool does not have."""
        rows, _ = self.grown()
        if has_ids(rows):
            by_id = rows_with_ids(rows, images) or {}
            there = {image: found[0] for image, found in by_id.items() if image is not None and len(found) == 1}
        else:
            numbers = ((image, int(image)) for image in images if _NUMBER.fullmatch(image))
            there = {image: row for image, row in numbers if row < rows.n_rows}
        return dict(zip(there, places_of(rows, [*there.values()]).values(), strict=True))
