"""The queries of a campaign: the next batch, an audit sample, and the models that the labels so far train."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from ..config import CCMAConfig
from ..pool.labels import ReadLabels
from ..pool.rows import Rows
from ..query.report import Selection
from ..query.select import select
from ..steps.teacher import Teacher
from .audit import drawn_rows
from .campaign_pool import CampaignPool
from .given import check_duration
from .issuing import Issued, Snapshot, in_order_of, issue, snapshot
from .learner import ActiveLearner
from .log.database import Log
from .log.events import now
from .teacher_classes import teacher_of

__all__ = ["Queries"]


class Queries:
    """What a campaign asks of its pool, by what its log says.

    Parameters
    ----------
    log : Log
    pool : CampaignPool
    backend, memory_limit
        As for :func:`ccma_fast.select`.
    """

    def __init__(self, log: Log, pool: CampaignPool, backend: str, memory_limit: int | str | None) -> None:
        self._log, self._pool = log, pool
        self._backend, self._memory_limit = backend, memory_limit

    def next(self, budget: int, expires: timedelta | None, annotator: str, **more: Any) -> Issued:
        """Issue the images that the acquisition chooses; `more` are arguments of select, None for its own."""
        rows, teacher = self._pool.grown()

        def query(known: Snapshot) -> Selection:
            return self._select(rows, teacher, known, budget, known.seed, **more)

        return issue(self._log, rows, query, expires=self._expiry(expires), annotator=annotator)

    def audit(self, n: int, expires: timedelta | None, annotator: str) -> Issued:
        """Issue images that are drawn at random, in the order of the draw."""
        rows, teacher = self._pool.grown()

        def query(known: Snapshot) -> Selection:
            left = known.left(rows)
            if left.size < n:
                raise ValueError(f"n must be at most the number of images that could be chosen, {left.size}, got {n}")
            drawn = drawn_rows(left, n, known.audit_seed)
            return in_order_of(self._select(rows, teacher, known, n, known.audit_seed, include=drawn), drawn)

        return issue(self._log, rows, query, expires=self._expiry(expires), annotator=annotator, is_audit=True)

    def snapshot(self) -> Snapshot:
        """What the log says of the rows of the pool now."""
        rows, _ = self._pool.grown()
        with self._log.reading() as state:
            return snapshot(state, rows, now())

    def learner(self) -> ActiveLearner:
        """The models that the labels so far train."""
        rows, teacher = self._pool.grown()
        with self._log.reading() as state:
            known, settings = snapshot(state, rows, now()), {**state.settings}
        learner = ActiveLearner(
            rows,
            labels=ReadLabels(known.codes),
            teacher=teacher_of(teacher, known.classes),
            class_names=_names(known),
            config=CCMAConfig(**settings["config"]),
            random_state=settings["random_state"],
            backend=self._backend,
            memory_limit=self._memory_limit,
        )
        learner._pool.refused = known.refused
        return learner

    def _select(
        self, rows: Rows, teacher: Teacher | None, known: Snapshot, budget: int, seed: int, **more: Any
    ) -> Selection:
        with self._log.reading() as state:
            config = CCMAConfig(**state.settings["config"])
        return select(
            rows,
            budget,
            labels=ReadLabels(known.codes),
            class_names=_names(known),
            teacher=teacher_of(teacher, known.classes),
            exclude=known.refused,
            pending=known.pending,
            config=config,
            random_state=seed,
            backend=self._backend,
            memory_limit=self._memory_limit,
            explain=True,
            **{name: value for name, value in more.items() if value is not None},
        )

    def _expiry(self, given: timedelta | None) -> timedelta | None:
        if given is not None:
            return timedelta(seconds=check_duration("expires", given))
        with self._log.reading() as state:
            seconds = state.settings["expires"]
        return None if seconds is None else timedelta(seconds=seconds)


def _names(known: Snapshot) -> list[str] | None:
    """The names of the classes, where there are two of them: fewer are none that a model could be trained on."""
    names = [*known.classes.live.values()]
    return names if len(names) > 1 else None
