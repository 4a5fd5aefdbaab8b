"""A query on the ranks of a process group: who leads, who serves, and that all were asked the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ...pool.derived import Runs
from ...pool.logits import open_logits
from ...pool.rows import Rows
from ...steps.teacher import Teacher
from ..arguments import Arguments
from ..report import Selection
from .backend import SpreadBackend
from .holder import Holder
from .places import dealt
from .session import Session, Transport
from .shipping import dumped, loaded
Ranks=Any

__all__ = ["led", "on_group", "run_on_ranks"]


def on_group(
    group: Any, arguments: Arguments, run: Callable[[Arguments], Selection]
) -> tuple[Selection, bool]:
    """A query on the ranks of a process group, or on :class:`Ranks`; and whether this is the first of them."""
    if isinstance(group, Ranks):
        return run_on_ranks(group, arguments, run), group.rank == 0
    ranks = Ranks.of_group(group, identity={"processor": arguments.backend.arithmetic()})
    try:
        return run_on_ranks(ranks, arguments, run), ranks.rank == 0
    finally:
        ranks.close()


def run_on_ranks(ranks: Ranks, arguments: Arguments, run: Callable[[Arguments], Selection]) -> Selection:
    """A query on all ranks, each of which calls this.

    Parameters
    ----------
    ranks : Ranks
    arguments : Arguments
        On the first rank those of the query. On the others what is read, and their own memory limit, count.
    run : callable
        The query in one process.
    """
    with ranks.guarded():
        if arguments.student_logits is not None:
            arguments = replace(arguments, student_logits=open_logits(arguments.student_logits, "student_logits"))
        sources = _sources(arguments)
        _check_agreement(ranks, arguments, sources)
        pool = arguments.pool
        runs = ranks.broadcast(dealt(pool.n_rows, list(pool.shard_files), ranks.size) if ranks.rank == 0 else None)
        holder = Holder(
            sources, arguments.backend, runs[ranks.rank], arguments.memory, arguments.config, arguments.chunk_size
        )
        if ranks.rank:
            return _served(ranks, holder)
        found = led(_OverRanks(ranks, holder), arguments, sources, runs, run)
        ranks.broadcast(("end", found))
        selection: Selection = loaded(found, holder.resolve)
        return selection


def led(
    transport: Transport,
    arguments: Arguments,
    sources: Sequence[Rows],
    runs: Sequence[Runs],
    run: Callable[[Arguments], Selection],
) -> bytes:
    """The first rank's part: the query, and its outcome as bytes, see :func:`~.shipping.loaded`."""
    session = Session(transport, sources, runs)
    backend = SpreadBackend(session, arguments.backend)
    session.each("configure", arguments.config, arguments.chunk_size)
    teacher = arguments.teacher
    spread = replace(
        arguments,
        pool=session.spread(arguments.pool),
        student_logits=None if arguments.student_logits is None else session.spread(arguments.student_logits),
        teacher=None if teacher is None else _reading(teacher, session.spread(teacher.source)),
        backend=backend,
    )
    return dumped(run(spread), session.reference)


def _reading(teacher: Teacher, source: Rows) -> Teacher:
    """The teacher, whose rows lie elsewhere."""
    spread = teacher.reading(source)
    if spread.features is not None:
        spread.features = source
    return spread


class _OverRanks:
    """Commands by messages, see :class:`~.session.Transport`; the first rank executes them as well."""

    def __init__(self, ranks: Ranks, holder: Holder) -> None:
        self._ranks, self._holder = ranks, holder

    def each(self, command: bytes) -> list[Any]:
        self._ranks.broadcast(("each", command))
        found = self._ranks.gather(self._holder.run(command))
        assert found is not None, "this is the first rank"
        return found

    def total(self, command: bytes) -> Any:
        self._ranks.broadcast(("total", command))
        return self._ranks.total(self._holder.run(command))


def _served(ranks: Ranks, holder: Holder) -> Selection:
    """Executes what the first rank sends until it sends the outcome."""
    while True:
        kind, content = ranks.broadcast()
        if kind == "end":
            selection: Selection = loaded(content, holder.resolve)
            return selection
        found = holder.run(content)
        if kind == "each":
            ranks.gather(found)
        else:
            ranks.total(found)
        del found


def _sources(arguments: Arguments) -> list[Rows]:
    """All that is read, once each."""
    of_teacher = None if arguments.teacher is None else arguments.teacher.source
    given = (arguments.pool, arguments.student_logits, of_teacher)
    return list({id(rows): rows for rows in given if rows is not None}.values())


def _check_agreement(ranks: Ranks, arguments: Arguments, sources: Sequence[Rows]) -> None:
    """Every rank was asked the same of the same files."""
    config = arguments.config.to_dict()
    told = {
        "budget": arguments.budget,
        "random_state": arguments.random_state,
        **{f"config.{name}": value for name, value in config.items()},
    }
    for rows in sources:
        told[f"the shape of {rows.name}"] = (rows.n_rows, rows.n_columns)
        told[f"the bytes of a row of {rows.name}"] = rows.row_bytes
        told[f"the shards of {rows.name}"] = [(shard.file.name, shard.n_rows) for shard in rows.shard_files]
    everyone = ranks.gather(told)
    for rank, others in enumerate(everyone or ()):
        for name in {**told, **others}:
            if told.get(name) != others.get(name):
                raise ValueError(
                    f"every rank must be asked the same: {name} is {told.get(name)!r:.200} on {ranks.names[0]} and "
                    f"{others.get(name)!r:.200} on {ranks.names[rank]}"
                )
