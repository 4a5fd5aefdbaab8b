"""A query on the ranks of a process group: who leads, who serves, and that all were asked the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

from ...backends.protocol import Backend, over_parts
from ...errors import BackendUnavailableError
from ...pool.derived import Runs
from ...pool.logits import open_logits
from ...pool.rows import Rows
from ...steps.teacher import Teacher
from ...system.memory import LEAST_LIMIT, check_memory_limit
from ...system.ranks import Ranks
from ...version import __version__
from ..arguments import Arguments
from ..report import Selection
from .agreement import check_agreement
from .backend import SpreadBackend
from .holder import Holder
from .places import dealt
from .serving import executed
from .session import Session, Transport
from .shipping import dumped, loaded

__all__ = ["identity", "led", "on_group", "opened", "sources_of"]


def on_group(
    group: Any,
    backend: Backend,
    checked: Callable[..., Arguments],
    memory_limit: Any,
    run: Callable[[Arguments], Selection],
) -> tuple[Selection, bool]:
    """A query on all ranks of a process group, each of which calls this.

    Parameters
    ----------
    group : torch.distributed.ProcessGroup or Ranks
    backend : Backend
        Of this rank; all must compute alike.
    checked : callable
        The arguments of the query, given `memory_limit`. On the other ranks than the first what is read, and the memory
        limit, count.
    memory_limit : int, str or None
        As for :func:`ccma_fast.select`; by default the ranks of a machine share what one process would take.
    run : callable
        The query in one process.

    Returns
    -------
    Selection, bool
        The picks, and whether this is the first rank.
    """
    own = not isinstance(group, Ranks)
    ranks = Ranks.of_group(group, identity=identity(backend)) if own else group
    try:
        return _on_ranks(ranks, partial(checked, memory_limit=_own_limit(ranks, memory_limit)), run), ranks.rank == 0
    finally:
        if own:
            ranks.close()


def _own_limit(ranks: Ranks, memory_limit: Any) -> Any:
    """The memory limit of this rank."""
    if memory_limit is not None:
        return memory_limit
    n_here = ranks.hosts.count(ranks.hosts[ranks.rank])
    return max(LEAST_LIMIT, check_memory_limit(None).limit // n_here)


def identity(backend: Backend) -> dict[str, str]:
    """What ranks must have alike, for their numbers to be the same bit for bit."""
    return {"ccma_fast": __version__, "backend": backend.arithmetic()}


def _on_ranks(ranks: Ranks, checked: Callable[[], Arguments], run: Callable[[Arguments], Selection]) -> Selection:
    with ranks.guarded():
        arguments = opened(checked())
        here = over_parts(arguments.backend)
        if here is None:
            raise BackendUnavailableError(
                f"backend {arguments.backend.NAME!r} computes on one rank alone; expected 'cpu' or 'cuda'"
            )
        sources = sources_of(arguments)
        check_agreement(ranks, arguments, sources)
        pool = arguments.pool
        runs = ranks.broadcast(dealt(pool.n_rows, pool.shard_files, ranks.size) if ranks.rank == 0 else None)
        holder = Holder(sources, here, runs[ranks.rank], arguments.memory)
        if ranks.rank:
            return _served(ranks, holder)
        found = led(_OverRanks(ranks, holder), holder, arguments, runs, run)
        ranks.broadcast(("end", found))
        selection: Selection = loaded(found, holder.resolve)
        return selection


def led(
    transport: Transport,
    holder: Holder,
    arguments: Arguments,
    runs: Sequence[Runs],
    run: Callable[[Arguments], Selection],
) -> bytes:
    """The first rank's part: the query, and its outcome as bytes, see :func:`~.shipping.loaded`."""
    session = Session(transport, holder.sources, runs)
    backend = cast(Backend, SpreadBackend(session, holder.backend))
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
        self.bytes_exchanged = 0
        """Between all ranks. A sum goes around a ring, as :class:`ccma_fast.system.ranks.Traffic` says."""

    def each(self, command: bytes) -> list[Any]:
        self._send("each", command)
        before = self._ranks.traffic.received
        found = self._ranks.gather(executed(self._holder, command))
        assert found is not None, "this is the first rank"
        self.bytes_exchanged += self._ranks.traffic.received - before
        return found

    def total(self, command: bytes) -> Any:
        self._send("total", command)
        found = self._ranks.total(executed(self._holder, command))
        assert found is not None, "this is the first rank"
        n_ranks = self._ranks.size
        self.bytes_exchanged += found.nbytes * (n_ranks - 1) * (n_ranks + 1) // n_ranks
        return found

    def _send(self, kind: str, command: bytes) -> None:
        self._ranks.broadcast((kind, command))
        self.bytes_exchanged += len(command) * (self._ranks.size - 1)


def _served(ranks: Ranks, holder: Holder) -> Selection:
    """Executes what the first rank sends until it sends the outcome."""
    while True:
        kind, content = ranks.broadcast()
        if kind == "end":
            selection: Selection = loaded(content, holder.resolve)
            return selection
        found = executed(holder, content)
        if kind == "each":
            ranks.gather(found)
        else:
            ranks.total(found)
        del found


def opened(arguments: Arguments) -> Arguments:
    """The arguments, with all that is read as rows."""
    given = arguments.student_logits
    return arguments if given is None else replace(arguments, student_logits=open_logits(given, "student_logits"))


def sources_of(arguments: Arguments) -> list[Rows]:
    """All that is read, once each."""
    of_teacher = None if arguments.teacher is None else arguments.teacher.source
    given = (arguments.pool, arguments.student_logits, of_teacher)
    return list({id(rows): rows for rows in given if rows is not None}.values())
