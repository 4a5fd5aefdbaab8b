"""One query on many processes: messages between the ranks of a ``torch.distributed`` process group.

Waiting never happens inside a collective, so that a rank that dies, hangs or raises ends all ranks within a time limit,
with one error that names it.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np

from ..errors import RankError
from .pickled import packed, unpacked
from .rank_exchange import Exchange, OrderError, Worker
from .rank_launch import number_of, store_of_launched
from .rank_meeting import CONNECT_SECONDS, Meeting, Member, check_alike, longest_meeting, meet, name_of
from .rank_watch import Released, Watch
from .rank_wire import Wire

__all__ = ["Ranks", "Traffic", "ranks_of_environment", "told"]

SILENCE = 60.0
IDLENESS = 600.0
PATIENCE = 6 * 3600.0
# The limit of torch.distributed for a first meeting; before it, programs may do something on some ranks.
ARRIVAL = 1800.0
# Processes that a launcher starts do nothing before: that of torchrun for its machines.
ARRIVAL_OF_LAUNCHED = 600.0
# Seconds for the thread of messages to end: when these ranks are closed or have failed, and again at exit.
END_OF_WORKER = 1.0
END_AT_EXIT = 5.0


@dataclass(frozen=True)
class Traffic:
    """Messages of one rank so far, and the bytes of them that it sent and received, without what protocols add.

    A message of up to 32 KiB goes through the key-value store: from each rank that sends, to each that receives. Of n
    bytes more than that among P ranks:

    - a broadcast goes down a binomial tree: the first rank sends n · ⌈log₂ P⌉, every other receives n
    - a sum goes around a ring, where every rank sends and receives n · (P − 1) / P; then each sends n / P to the first

    Attributes
    ----------
    sent, received : int
    messages : int
    """

    sent: int = 0
    received: int = 0
    messages: int = 0

    def __sub__(self, before: Traffic) -> Traffic:
        return Traffic(self.sent - before.sent, self.received - before.received, self.messages - before.messages)


class _Link:
    """What ties one rank to the others: its watch, the thread of its messages, and what that thread works on."""

    def __init__(self, group: Any, rank: int, size: int, member: Member, arrival: float) -> None:
        import torch.distributed

        c10d: Any = torch.distributed

        self.rank = rank
        self._condition = threading.Condition()
        self._worker = Worker(self._condition, "ccma_fast messages")
        try:
            meeting: Meeting = self._worker.answer(
                lambda: meet(group, rank, size, member, arrival), longest_meeting(arrival, member.silence)
            )
            check_alike(meeting.members)
        except BaseException:
            self._worker.end(0)
            raise
        self._silence = meeting.members[0].silence
        self.watch = Watch(meeting, rank, self._condition)
        self.watch.start()
        atexit.register(self._at_exit)
        device = torch.device("cpu")
        if c10d.get_backend(group) == "nccl":
            device = torch.device("cuda", torch.cuda.current_device())
        store = c10d.PrefixStore(f"{meeting.prefix}/wire", meeting.transfers)
        self._wire: Wire | None = None
        try:
            self._wire = self.call(lambda: Wire.connected(device, store, rank, size, self._silence))
        except BaseException:
            self._worker.end(0)
            raise
        self.exchange = Exchange(meeting.messages, meeting.prefix, rank, size, self._wire, self.watch)
        # With the threads that the connections have brought.
        self.watch.work.rest()

    def call(self, step: Callable[[], Any]) -> Any:
        """Makes a call in the thread of messages, and waits for it and for any failure."""
        self.watch.check()
        try:
            return self._called(step)
        except RankError:
            self._abandon()
            raise
        except Exception as error:
            self.fail(error)
            raise

    def fail(self, error: BaseException) -> None:
        """Ends all ranks with an error of this one."""
        self.watch.post(self.rank, self._told(error))
        self._abandon()

    def close(self) -> None:
        if self.watch.failure is None:
            with suppress(RankError):
                self.call(self.exchange.flush)
            self.watch.leave(stay=self.rank == 0)
        if self._worker.end(END_OF_WORKER):
            atexit.unregister(self._at_exit)

    def _called(self, step: Callable[[], Any]) -> Any:
        job = self._worker.submit(step)
        self.watch.until(lambda: job.done)
        if job.error is None:
            return job.result
        if isinstance(job.error, OrderError):
            self.watch.post(job.error.rank, str(job.error))
        elif isinstance(job.error, (Released, RuntimeError)):
            # A connection broke: that of a rank which fell silent, or which has ended because of a failure elsewhere.
            self.watch.explain(job.error)
        self.watch.check()
        raise job.error

    def _told(self, error: BaseException) -> str:
        """What the other ranks hear of an error on this one."""
        if isinstance(error, RankError):
            return str(error)
        return told(self.watch.names[self.rank], error)

    def _abandon(self) -> None:
        """Closes the connections after a failure, which ends the transfers of other ranks too."""
        if self._wire is not None:
            self._worker.submit(self._wire.close)
            self._wire.abort()
            self._wire = None
            self._worker.end(END_OF_WORKER)

    def _at_exit(self) -> None:
        """A thread that comes out of torch while the interpreter ends would abort the process.

        After a failure the thread of messages may be in a transfer that no call of gloo can end: of closed connections
        it does not tell the transfer whose bytes were on the way, which waits for its time limit. A process whose
        ranks have failed is not to live so long, so that it leaves such a thread behind.
        """
        self.watch.leave(stay=False)
        self._worker.end(min(self._silence, END_AT_EXIT))


class Ranks:
    """The processes of a ``torch.distributed`` group as the ranks of one query; :meth:`of_group` makes it.

    All ranks call the same methods in the same order. The *first rank* is rank 0 of the group.

    Attributes
    ----------
    rank : int
        Of this process in the group.
    size : int
        Number of ranks.
    hosts : list of str
        Of each rank.
    names : list of str
        What error messages call each rank: "rank 3 on host gpu07".
    """

    def __init__(self, rank: int, hosts: list[str], link: _Link | None) -> None:
        self.rank = rank
        self.size = len(hosts)
        self.hosts, self.names = hosts, [name_of(r, host) for r, host in enumerate(hosts)]
        self._link = link
        self._n_messages = 0
        self._closed = False

    @classmethod
    def of_group(
        cls,
        group: Any = None,
        *,
        identity: Mapping[str, str] | None = None,
        silence: float = SILENCE,
        idleness: float = IDLENESS,
        patience: float = PATIENCE,
        arrival: float = ARRIVAL,
    ) -> Ranks:
        """The ranks of a process group; every member of it calls this.

        Parameters
        ----------
        group : torch.distributed.ProcessGroup, optional
            The default group where it is None.
        identity : mapping of str to str, optional
            What all ranks must have alike besides the versions of Python, NumPy and torch, such as the instruction set.
        silence : float
            Seconds after which a rank that gives no sign of life ends all ranks. That of the first rank counts.
        idleness : float
            Seconds that ranks wait for one that lives, but uses no processor time, such as one that waits for a file
            system that does not answer. That of the first rank counts.
        patience : float
            Seconds that ranks wait for one that works, but does not come to a message. That of the first rank counts.
        arrival : float
            Seconds within which all ranks call this.

        Raises
        ------
        RankError
            A rank did not come, or differs from the first.
        ValueError
            There is no process group, or this process is not a member.
        TypeError
            `group` is no process group.
        """
        import torch.distributed as dist

        _check_limits(silence=silence, idleness=idleness, patience=patience, arrival=arrival)
        if not (dist.is_available() and dist.is_initialized()):
            raise ValueError("there is no process group; call torch.distributed.init_process_group, or use torchrun")
        group = dist.group.WORLD if group is None else group
        if not isinstance(group, dist.ProcessGroup) and group != dist.GroupMember.NON_GROUP_MEMBER:
            raise TypeError(f"group must be a process group of torch.distributed, got {type(group).__name__}")
        rank = dist.get_rank(group)
        if rank < 0:
            raise ValueError("this process is not a member of the process group")
        member = Member.this_process(identity or {}, silence, idleness, patience)
        size = dist.get_world_size(group)
        if size == 1:
            return cls(0, [member.host], None)
        link = _Link(group, rank, size, member, arrival)
        return cls(rank, link.watch.hosts, link)

    @property
    def traffic(self) -> Traffic:
        """Payload so far; take the difference of two for what lay between them."""
        sent, received = (0, 0) if self._link is None else self._link.exchange.moved()
        return Traffic(sent, received, self._n_messages)

    def broadcast(self, value: Any = None) -> Any:
        """The first rank's object on every rank, pickled for the others; what they give is ignored."""
        self._n_messages += 1
        if self._link is None:
            return value
        exchange = self._link.exchange
        if self.rank == 0:
            pieces = packed(value)
            self._link.call(lambda: exchange.broadcast(pieces))
            return value
        return unpacked(self._link.call(lambda: exchange.broadcast(None)))

    def gather(self, value: Any) -> list[Any] | None:
        """The objects of all ranks in the order of ranks, on the first rank; None elsewhere."""
        self._n_messages += 1
        if self._link is None:
            return [value]
        exchange = self._link.exchange
        pieces = packed(value)
        gathered = self._link.call(lambda: exchange.gather(pieces))
        return [value, *map(unpacked, gathered[1:])] if self.rank == 0 else None

    def total(self, array: np.ndarray) -> np.ndarray | None:
        """The elementwise sum of an int64 array over all ranks, on the first rank; None elsewhere.

        Sums wrap around modulo 2⁶⁴, as those of NumPy do.
        """
        if not isinstance(array, np.ndarray) or array.dtype != np.int64:
            kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise TypeError(f"total() takes an array of int64, got {kind}")
        self._n_messages += 1
        if self._link is None:
            total: np.ndarray | None = array.copy()
            return total
        exchange = self._link.exchange
        array = np.asarray(array, order="C")
        summed: np.ndarray | None = self._link.call(lambda: exchange.total(array))
        return summed

    def check(self) -> None:
        """Raises the failure of any rank that is known here; between messages, in long work of a rank by itself."""
        if self._link is not None:
            self._link.watch.check()

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """What is raised inside ends all ranks: it is raised here, and :class:`RankError` with its text elsewhere."""
        try:
            yield
        except BaseException as error:
            ended_well = isinstance(error, SystemExit) and not error.code
            if self._link is not None and not ended_well:
                self._link.fail(error)
            raise

    def close(self) -> None:
        """Ends the heartbeat and the connections; the first rank waits for the others to close theirs.

        It raises nothing where ranks have failed. The process group stays as it is.
        """
        if self._link is not None and not self._closed:
            self._closed = True
            self._link.close()


def _check_limits(**limits: float) -> None:
    for name, seconds in limits.items():
        if not seconds > 0:
            raise ValueError(f"{name} must be a positive number of seconds, got {seconds!r}")


def told(name: str, error: BaseException) -> str:
    """What all ranks are told of an error on the one of this name."""
    message = str(error)
    return f"{name}: {type(error).__name__}{': ' if message else ''}{message}"


@contextmanager
def ranks_of_environment(
    *,
    backend: str = "cpu",
    identity: Mapping[str, str] | None = None,
    silence: float = SILENCE,
    idleness: float = IDLENESS,
    patience: float = PATIENCE,
    arrival: float = ARRIVAL_OF_LAUNCHED,
) -> Iterator[Ranks | None]:
    """The ranks that ``torchrun`` started, by its environment variables; None in a process on its own.

    Initialises ``torch.distributed``, unless the process has done so, and then destroys the process group at the end.

    Parameters
    ----------
    backend : {"cpu", "cuda"}
        Of the query: NCCL between GPUs, each rank on the one of its local rank, or gloo.
    identity, silence, idleness, patience, arrival
        See :meth:`Ranks.of_group`.

    Raises
    ------
    RankError
        See :meth:`Ranks.of_group`.
    ValueError
        The environment is incomplete, or there are fewer GPUs than local ranks.
    """
    size = number_of("WORLD_SIZE")
    if size == 0:
        raise ValueError("the environment variable WORLD_SIZE must be at least 1, got 0")
    if size is None or size == 1:
        yield None
        return
    import torch.distributed as dist

    own = not dist.is_initialized()
    if own:
        missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
        if missing:
            raise ValueError(
                f"WORLD_SIZE is {size}, but of RANK, MASTER_ADDR and MASTER_PORT there is no {', '.join(missing)}; "
                "torchrun sets all of them, and a process that runs by itself has none"
            )
        _check_limits(silence=silence, arrival=arrival)
        if backend == "cuda":
            _take_device()
        store, rank = store_of_launched(size, silence, arrival)
        # All are there now.
        arrival = max(silence, CONNECT_SECONDS)
        dist.init_process_group(
            "nccl" if backend == "cuda" else "gloo",
            store=store,
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=arrival),
        )
    try:
        ranks = Ranks.of_group(
            identity=identity, silence=silence, idleness=idleness, patience=patience, arrival=arrival
        )
        try:
            with ranks.guarded():
                yield ranks
        finally:
            ranks.close()
    finally:
        if own:
            dist.destroy_process_group()


def _take_device() -> None:
    import torch

    local, n_devices = number_of("LOCAL_RANK") or 0, torch.cuda.device_count()
    if local >= n_devices:
        raise ValueError(f"local rank {local} has no GPU of its own: there are {n_devices}; start one process per GPU")
    torch.cuda.set_device(local)
