"""The next batch of a campaign: a query that knows what is labelled, what is out and what was refused."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..pool.rows import Rows
from ..query.report import Selection
from ..system import display
from ..system.output_files import locked_file
from .log import events as kinds
from .log.class_list import ClassList
from .log.database import Log
from .log.events import NewEvent, as_text, now
from .log.state import Batch, State
from .pick_records import records_of
from .places import check_no_other_has, known_places, located, names_of

__all__ = ["Issued", "Snapshot", "in_order_of", "issue", "snapshot"]

Int64 = npt.NDArray[np.int64]


class Snapshot(NamedTuple):
    """What a query needs to know of a campaign, as rows and classes of today's pool.

    Attributes
    ----------
    codes : ndarray, shape (N,), int64
        The class of each row that people agree on, −1 for all others.
    refused, pending : ndarray, int64
        Rows that are never to be offered again, and rows that are out; ascending.
    classes : ClassList
        Which the log may change while a query goes on.
    renamed : dict of str to str
        What images that were found by a former name are called now.
    seed, audit_seed : int
        Of the next query, and of the next audit.
    digest : str
        Of the log.
    """

    codes: Int64
    refused: Int64
    pending: Int64
    classes: ClassList
    renamed: dict[str, str]
    seed: int
    audit_seed: int
    digest: str

    def left(self, pool: Rows) -> Int64:
        """The rows that could be chosen, ascending."""
        is_left = self.codes < 0
        for rows in (self.refused, self.pending, pool.vanished()):
            is_left[rows] = False
        return np.flatnonzero(is_left)


def snapshot(state: State, pool: Rows, time: datetime) -> Snapshot:
    """What the log says of the rows of a pool.

    Raises
    ------
    PoolMismatchError
        It is not the pool of the campaign.
    """
    check_no_other_has(state.names.former, pool)
    places = known_places(state)
    rows, renamed = located(places, pool)
    row_of = dict(zip(places, rows.tolist(), strict=True))
    codes = np.full(pool.n_rows, -1, dtype=np.int64)
    position = {label: c for c, label in enumerate(state.classes.live)}
    refused = []
    for image, (_, result) in state.tallies().items():
        row = row_of[image]
        if row < 0 or result.vote is None:
            continue
        if result.is_refused:
            refused.append(row)
        else:
            codes[row] = position[result.vote]
    pending = [row_of[image] for image in state.pending(time) if row_of[image] >= 0]
    n_audits = len(state.batches) - state.n_queries
    return Snapshot(
        codes,
        np.array(sorted(refused), dtype=np.int64),
        np.array(sorted(pending), dtype=np.int64),
        deepcopy(state.classes),
        renamed,
        _seed(state, state.n_queries),
        _seed(state, n_audits, 1),
        state.digest,
    )


def _seed(state: State, *numbers: int) -> int:
    # The first two as ActiveLearner has them, so that both choose the same.
    entropy = [state.settings["random_state"], *numbers]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])


@dataclass(frozen=True, eq=False)
class Issued:
    """A batch that was issued, and the query that chose it.

    Attributes
    ----------
    batch : Batch
    selection : Selection
    parent : str or None
        Digest of what the query before said, by which the log knows it; None for the first.
    """

    batch: Batch
    selection: Selection
    parent: str | None

    @property
    def number(self) -> int:
        """Number of the batch, from 1."""
        return self.batch.number

    @property
    def images(self) -> tuple[str, ...]:
        """Ids of the images, in the order of choice."""
        return self.batch.images

    @property
    def rows(self) -> Int64:
        """Their rows in the pool, shape (B,)."""
        return self.selection.indices

    def __len__(self) -> int:
        return len(self.batch.images)

    def __repr__(self) -> str:
        return display.line("Issued", *self.batch.summary())

    def _repr_html_(self) -> str:
        title = f"Batch {self.number}: {', '.join(self.batch.summary()[1:])}"
        return display.notebook_html(title, *self.selection.html_parts())


def issue(
    log: Log,
    pool: Rows,
    query: Callable[[Snapshot], Selection],
    *,
    expires: timedelta | None,
    annotator: str = "",
    is_audit: bool = False,
) -> Issued:
    """Choose images and reserve them: nobody else is offered them until they are answered or the batch expires.

    One query at a time: others, of any process, wait for it. Answers may come in meanwhile; where somebody then has
    answered about an image that the query chose, it is asked again.

    Parameters
    ----------
    log : Log
    pool : Rows
    query : callable
        Chooses rows of the pool.
    expires : timedelta or None
        How long images without an answer stay reserved; None for ever.
    annotator : str
        By whom.
    is_audit : bool
        The images were drawn at random.

    Raises
    ------
    ValueError
        No image is left.
    """
    with locked_file(log.file):
        while True:
            time = now()
            with log.reading() as state:
                known = snapshot(state, pool, time)
            if known.renamed:
                with log.writing() as writing:
                    writing.add(NewEvent(kinds.IMAGES_RENAMED, annotator, data={"names": known.renamed}))
                continue
            selection = query(known)
            if not len(selection):
                raise ValueError(
                    f"no image is left to label: of {pool.n_rows} rows {int((known.codes >= 0).sum())} have a label, "
                    f"{known.refused.size} were refused and {known.pending.size} are out"
                )
            told = selection.explanation
            assert told is not None, "a campaign asks for explanations"
            records = records_of(selection, pool, state.settings["n_rows"], [*known.classes.live])
            images = names_of(pool, selection.indices)
            with log.writing() as writing:
                pending = writing.state.pending(time)
                if any(image in pending or writing.state.outcome(image).vote is not None for image in images):
                    continue
                event = writing.add(
                    NewEvent(
                        kinds.AUDIT_DRAWN if is_audit else kinds.BATCH_ISSUED,
                        annotator,
                        data={
                            "images": images,
                            "rows": selection.indices.tolist(),
                            "digests": [pick.digest for pick in told.picks],
                            "expires": "" if expires is None else as_text(time + expires),
                        },
                        saw=known.digest,
                    ),
                    records,
                )
                *before, batch = writing.state.batches
                assert batch.event == event.number, "the last batch is this one"
            return Issued(batch, selection, before[-1].records if before else None)


def in_order_of(selection: Selection, rows: Int64) -> Selection:
    """The same picks in the order of `rows`, which are the same."""
    sorter = np.argsort(selection.indices)
    order = sorter[np.searchsorted(selection.indices, rows, sorter=sorter)]
    ids = None if selection.ids is None else [selection.ids[k] for k in order.tolist()]
    told = selection.explanation
    return replace(
        selection,
        explanation=None if told is None else replace(told, picks=tuple(told.picks[k] for k in order.tolist())),
        indices=selection.indices[order],
        scores=selection.scores[order],
        represents=selection.represents[order],
        ids=ids,
    )
