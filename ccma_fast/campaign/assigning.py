"""Which images go to which annotator."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from .answering import join
from .exchange.assignment import Assignment, Task
from .log import events as kinds
from .log.database import Log
from .log.events import NewEvent, now
from .log.state import Batch, State
from .pick_records import PickRecord
from .undoing import undo

__all__ = ["assign", "assigned_for_file"]


def assign(log: Log, annotator: str, n: int | None) -> Assignment:
    """The images that are out and that an annotator may answer about, and a note in the log of who was asked.

    First those that the annotator was asked about before and has not answered; then, up to `n` in all, those for which
    people are still missing, the ones that others were asked about counting as people.

    Parameters
    ----------
    log : Log
    annotator : str
        Empty for whoever does it; counts as one person.
    n : int or None
        None for all.

    Returns
    -------
    Assignment
        Without tasks where there is nothing to do; the log then stays as it is.
    """
    return _assign(log, annotator, n).assignment


@contextmanager
def assigned_for_file(log: Log, annotator: str, n: int | None) -> Iterator[Assignment]:
    """What :func:`assign` assigns, while it is written to a file; undone where that fails, for nobody got it then.

    Raises
    ------
    ValueError
        There is nothing to do.
    """
    assigned = _assign(log, annotator, n)
    if not assigned.assignment.tasks:
        whom = f"{annotator!r}" if annotator else "anybody without a name"
        n_answered = assigned.n_out - assigned.n_of_others
        raise ValueError(
            f"there is no image for {whom} to label: of {assigned.n_out} that are out {assigned.n_of_others} were "
            f"given to others and {n_answered} have an answer of {whom}; expected a new batch, or an assignment that "
            "is undone, first"
        )
    try:
        yield assigned.assignment
    except BaseException:
        if assigned.event is not None:
            undo(log, [assigned.event], annotator)
        raise


class _Assigned(NamedTuple):
    """An assignment, and what it was made of."""

    assignment: Assignment
    event: int | None
    """Its number; None where nothing is new in the assignment."""
    n_out: int
    n_of_others: int


def _assign(log: Log, annotator: str, n: int | None) -> _Assigned:
    with log.writing() as writing:
        state, time = writing.state, now()
        own, free, n_of_others = [], [], 0
        pending, batch_of = state.pending(time), state.batch_of()
        for image in _in_order(state, pending, batch_of):
            asked = state.assigned(image, time)
            if annotator in state.votes(image):
                continue
            if annotator in asked:
                own.append(image)
            elif len(asked) < pending[image]:
                free.append(image)
            else:
                n_of_others += 1
        chosen = own + (free if n is None else free[: max(0, n - len(own))])
        if chosen:
            join(writing, annotator)
        new = [image for image in chosen if image not in set(own)]
        number = None
        if new:
            # Each as long as its batch: what expired may be in another one, and others be asked about it.
            until = [batch_of[image].expires if image in batch_of else "" for image in new]
            number = writing.add(NewEvent(kinds.ASSIGNED, annotator, data={"images": new, "expires": until})).number
        tasks = _tasks(log, state, chosen, batch_of)
        classes = tuple(state.classes.live.values())
        assignment = Assignment(str(state.settings["campaign"]), annotator, classes, tuple(tasks), state.digest)
        return _Assigned(assignment, number, len(pending), n_of_others)


def _in_order(state: State, pending: Iterable[str], batch_of: Mapping[str, Batch]) -> list[str]:
    """Images by batch and rank; behind them those that somebody answered about unasked."""
    wanted = set(pending)
    issued = [image for batch in state.batches for image in batch.images if batch_of[image] is batch]
    return [image for image in issued if image in wanted] + sorted(wanted - batch_of.keys())


def _tasks(log: Log, state: State, images: Iterable[str], batch_of: Mapping[str, Batch]) -> Iterator[Task]:
    """What an annotator gets to know of each image."""
    of_batch: dict[int, dict[str, tuple[int, int, PickRecord]]] = {}
    for image in images:
        batch = batch_of.get(image)
        if batch is None:
            place = state.images[image].place
            yield Task(image, -1 if place is None else place[0], 0, 0, math.nan)
            continue
        if batch.number not in of_batch:
            records = map(PickRecord.of_json, log.records(batch.event).picks)
            entries = zip(batch.images, batch.rows, records, strict=True)
            of_batch[batch.number] = {
                name: (rank, row, record) for rank, (name, row, record) in enumerate(entries, start=1)
            }
        rank, row, record = of_batch[batch.number][image]
        yield Task(image, row, batch.number, rank, record.score, record.shortlist.now(state.classes))
