"""How the ranks of a process group meet: connections to its key-value store, and what all must have alike."""

from __future__ import annotations

import json
import platform
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import numpy as np

from ..errors import RankError
from .rank_board import Board

__all__ = [
    "CONNECT_SECONDS",
    "Meeting",
    "Member",
    "check_alike",
    "gathered",
    "longest_meeting",
    "meet",
    "name_of",
    "reaching",
]

# Longer than any wait; the store takes no more milliseconds than an int holds.
NO_LIMIT = timedelta(days=20)
CONNECT_SECONDS = 60.0
SHORTEST_POLL, LONGEST_POLL = 0.005, 0.5
# So long the first rank stays for the others to read who did not come.
LINGER = 5.0
ALL_CAME = b"all"
MOST_LISTED = 8


@dataclass(frozen=True)
class Member:
    """What a rank tells the others of itself.

    Attributes
    ----------
    host : str
    silence, idleness, patience : float
        Of which those of the first rank count.
    identity : dict of str to str
        What all ranks must have alike.
    """

    host: str
    silence: float
    idleness: float
    patience: float
    identity: Mapping[str, str]

    @classmethod
    def this_process(cls, identity: Mapping[str, str], silence: float, idleness: float, patience: float) -> Member:
        import torch

        everywhere = {
            "Python": ".".join(platform.python_version_tuple()[:2]),
            "NumPy": np.__version__,
            "torch": torch.__version__,
            "byte order": sys.byteorder,
        }
        return cls(socket.gethostname(), silence, idleness, patience, {**identity, **everywhere})


@dataclass(frozen=True)
class Meeting:
    """Connections to the store, for each of three purposes, the prefix of all keys, and the ranks."""

    heartbeats: Any
    messages: Any
    transfers: Any
    prefix: str
    address: str
    members: list[Member]


def meet(group: Any, rank: int, size: int, member: Member, limit: float) -> Meeting:
    """Waits for all ranks of a group; it may block for as long as the store does not answer.

    Raises
    ------
    RankError
        Where ranks have not come within `limit` seconds, or the store is lost.
    """
    end = time.monotonic() + limit
    store = _store_of(group)
    open_store, address = _opener(store)
    with reaching(rank, member.host, address):
        heartbeats, messages, transfers = open_store(), open_store(), open_store()
        for unlimited in (heartbeats, messages):
            unlimited.set_timeout(NO_LIMIT)
        # Our connections lack the prefix that the store of a group may have. A token tells the keys of this meeting
        # from those of any other.
        token = uuid.uuid4().hex if rank == 0 else ""
        if rank == 0:
            Board.prepare(messages, _prefix(token), size)
        number = store.add(f"ccma_fast/meetings/{rank}", 1)
        about = {**asdict(member), "token": token}
        found = gathered(store, f"ccma_fast/meetings/{number}", rank, size, about, end, limit)
    tokens = [one.pop("token") for one in found]
    return Meeting(heartbeats, messages, transfers, _prefix(tokens[0]), address, [Member(**one) for one in found])


def gathered(
    store: Any, prefix: str, rank: int, size: int, about: Mapping[str, Any], end: float, limit: float
) -> list[dict[str, Any]]:
    """What all ranks say about themselves, their host among it, when all have come; or for all the same error.

    Raises
    ------
    RankError
        Where ranks have not come until `end`, `limit` seconds after this one began to wait.
    """
    keys = [f"{prefix}/member/{r}" for r in range(size)]
    outcome = f"{prefix}/outcome"
    store.set(keys[rank], json.dumps(about))
    poll = SHORTEST_POLL
    # By asking: a call that waits would hold the connection of others. The first outcome stays.
    while not store.check([outcome]):
        if store.check(keys):
            store.compare_set(outcome, "", ALL_CAME)
        elif time.monotonic() > end:
            store.compare_set(outcome, "", json.dumps(_absence(_hosts(store, keys), size, limit)))
        else:
            time.sleep(poll)
            poll = min(2 * poll, LONGEST_POLL)
    found = store.get(outcome)
    if found == ALL_CAME:
        return [json.loads(text) for text in store.multi_get(keys)]
    store.set(f"{prefix}/told/{rank}", "")
    if rank == 0:
        # The store may live in this process: the others read it before.
        told = [f"{prefix}/told/{r}" for r in _hosts(store, keys)]
        end = time.monotonic() + LINGER
        while not store.check(told) and time.monotonic() < end:
            time.sleep(SHORTEST_POLL)
    raise RankError(**json.loads(found))


def longest_meeting(arrival: float, silence: float) -> float:
    """Seconds after which ranks that gather for `arrival` seconds have no store that answers."""
    return arrival + LINGER + silence


@contextmanager
def reaching(rank: int, host: str, address: str) -> Iterator[None]:
    """Says of errors of the key-value store whose they are."""
    try:
        yield
    except RankError:
        raise
    except RuntimeError as error:
        why = str(error).partition("\n")[0]
        raise RankError(
            f"rank 0 cannot be reached from {name_of(rank, host)}: the key-value store of the process group at "
            f"{address}: {why}",
            0,
        ) from error


def _hosts(store: Any, keys: Sequence[str]) -> dict[int, str]:
    """The hosts of the ranks that have come, by rank."""
    return {rank: json.loads(store.get(key))["host"] for rank, key in enumerate(keys) if store.check([key])}


def _absence(hosts: Mapping[int, str], size: int, limit: float) -> dict[str, Any]:
    """The rank and the text of an error that says who has not come, and who has."""
    missing = [rank for rank in range(size) if rank not in hosts]
    names = _listed([f"rank {rank}" for rank in missing])
    there = _listed([name_of(rank, host) for rank, host in hosts.items()])
    return {"rank": missing[0], "text": f"{names} of {size} did not come within {limit:g} s; there were {there}"}


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_LISTED]) + (f" and {n} others" if (n := len(names) - MOST_LISTED) > 0 else "")


def _prefix(token: str) -> str:
    return f"ccma_fast/{token}"


def name_of(rank: int, host: str) -> str:
    """What error messages call a rank."""
    return f"rank {rank} on host {host}"


def check_alike(members: Sequence[Member]) -> None:
    """Refuses ranks whose versions or instruction sets differ: the same numbers are not promised between them.

    Raises
    ------
    RankError
        The same on every rank.
    """
    first = members[0]
    for rank, member in enumerate(members):
        for what in {**first.identity, **member.identity}:
            own, expected = (m.identity.get(what, "not given") for m in (member, first))
            if own != expected:
                raise RankError(
                    f"{name_of(rank, member.host)}: {what} {own}, but {name_of(0, first.host)}: {expected}; expected "
                    "the same on all ranks",
                    rank,
                    member.host,
                )


def _store_of(group: Any) -> Any:
    """The key-value store in which the members of a group met."""
    if hasattr(group, "get_group_store"):
        return group.get_group_store()
    from torch.distributed.distributed_c10d import _get_process_group_store

    return _get_process_group_store(group)


def _opener(store: Any) -> tuple[Callable[[], Any], str]:
    """What opens connections of our own, without a prefix, to the store of a group; and where that is.

    A connection serves one call at a time, and a call can wait for hours.
    """
    import torch.distributed

    c10d: Any = torch.distributed

    while isinstance(store, c10d.PrefixStore):
        store = store.underlying_store
    limit = timedelta(seconds=CONNECT_SECONDS)
    if isinstance(store, c10d.TCPStore):
        host, port = store.host, store.port
        return (
            lambda: c10d.TCPStore(host, port, is_master=False, timeout=limit, wait_for_workers=False),
            f"{host}:{port}",
        )
    if isinstance(store, c10d.FileStore):
        path = store.path
        return lambda: c10d.FileStore(path, -1), path
    raise TypeError(
        f"the process group keeps its keys in a {type(store).__name__}, expected a TCPStore or a FileStore, as "
        "init_process_group makes them for env://, tcp:// and file://"
    )
