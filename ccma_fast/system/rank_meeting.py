"""How the ranks of a process group meet: connections to its key-value store, and what all must have alike."""

from __future__ import annotations

import json
import platform
import socket
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import numpy as np

from ..errors import RankError
from .rank_board import Board

__all__ = ["Meeting", "Member", "check_alike", "meet"]

# Longer than any wait; the store takes no more milliseconds than an int holds.
NO_LIMIT = timedelta(days=20)
CONNECT_SECONDS = 60.0
SHORTEST_POLL, LONGEST_POLL = 0.005, 0.5


@dataclass(frozen=True)
class Member:
    """What a rank tells the others of itself.

    Attributes
    ----------
    host : str
    silence, patience : float
        Of which those of the first rank count.
    identity : dict of str to str
        What all ranks must have alike.
    """

    host: str
    silence: float
    patience: float
    identity: Mapping[str, str]

    @classmethod
    def this_process(cls, identity: Mapping[str, str], silence: float, patience: float) -> Member:
        import torch

        everywhere = {
            "Python": ".".join(platform.python_version_tuple()[:2]),
            "NumPy": np.__version__,
            "torch": torch.__version__,
            "byte order": sys.byteorder,
        }
        return cls(socket.gethostname(), silence, patience, {**identity, **everywhere})


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
        Where ranks have not come within `limit` seconds.
    """
    end = time.monotonic() + limit
    store = _store_of(group)
    # The keys of one meeting are told from those of any other in the same store by a token of the first rank.
    number = store.add(f"ccma_fast/meetings/{rank}", 1)
    token_key = f"ccma_fast/meetings/token/{number}"
    if rank == 0:
        store.set(token_key, uuid.uuid4().hex)
    _wait(store, {0: token_key}, end, limit)
    prefix = f"ccma_fast/{store.get(token_key).decode()}"
    open_store, address = _opener(store)
    heartbeats, messages, transfers = open_store(), open_store(), open_store()
    for unlimited in (heartbeats, messages):
        unlimited.set_timeout(NO_LIMIT)
    Board.prepare(messages, prefix, rank)
    messages.set(f"{prefix}/member/{rank}", json.dumps(asdict(member)))
    keys = {r: f"{prefix}/member/{r}" for r in range(size)}
    try:
        _wait(messages, keys, end, limit)
    except RankError as error:
        # For those that come when the others have given up.
        Board(messages, prefix, rank, [""] * size).post(error)
        raise
    texts = messages.multi_get(list(keys.values()))
    if rank == 0:
        store.delete_key(token_key)
    return Meeting(heartbeats, messages, transfers, prefix, address, [Member(**json.loads(text)) for text in texts])


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
                    f"rank {rank} on host {member.host}: {what} {own}, but rank 0 on host {first.host}: {expected}; "
                    "expected the same on all ranks",
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


def _wait(store: Any, keys: Mapping[int, str], end: float, limit: float) -> None:
    """Waits until the store has keys of ranks. By asking: a call that waits would hold the connection of others."""
    poll = SHORTEST_POLL
    while not store.check(list(keys.values())):
        if time.monotonic() > end:
            missing = [rank for rank, key in keys.items() if not store.check([key])]
            if missing:
                names = ", ".join(f"rank {rank}" for rank in missing)
                raise RankError(f"{names} of {max(keys) + 1} did not come within {limit:g} s", missing[0])
            return
        time.sleep(poll)
        poll = min(2 * poll, LONGEST_POLL)
