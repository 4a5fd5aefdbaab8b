"""Bytes between the ranks of a process group: the collectives of torch.distributed, in pieces of bounded size."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import numpy as np

__all__ = ["Wire"]

# Each piece has the time limit for itself, so that a slow network is not taken for a dead one.
CHUNK_BYTES = 1 << 24
CHUNKS_UNDERWAY = 4
# Of a sum, for each rank: gloo cuts the part of a rank in two, and when these are larger than 1 MiB sends some twice.
RING_BYTES = 1 << 21
UNUSED_TAG = 1
NO_TIME = timedelta(milliseconds=1)


def _chunks(pieces: Sequence[Any]) -> Iterator[np.ndarray]:
    """The memory of buffers as uint8 arrays of a chunk at most."""
    for piece in pieces:
        data = np.frombuffer(piece, dtype=np.uint8)
        for start in range(0, len(data), CHUNK_BYTES):
            yield data[start : start + CHUNK_BYTES]


def _tensor(data: np.ndarray) -> Any:
    """A tensor on the memory of a contiguous array, which may be read-only: nothing here writes to such memory."""
    import torch

    if data.flags.writeable:
        return torch.from_numpy(data)
    return torch.frombuffer((ctypes.c_uint8 * data.nbytes).from_address(data.ctypes.data), dtype=torch.uint8)


def _n_bytes(pieces: Sequence[Any]) -> int:
    return sum(memoryview(piece).nbytes for piece in pieces)


def _n_children(rank: int, size: int) -> int:
    """To how many ranks one passes on a broadcast: to those at a power of two beyond it, up to its own lowest bit."""
    reach = rank & -rank or size
    return sum(rank + step < size for step in (1 << bit for bit in range(size.bit_length())) if step < reach)


class Wire:
    """Collectives on a backend of our own, which no other traffic of the process group shares.

    Every method blocks, each rank calls the same, and a rank that is missing ends it with a RuntimeError after the time
    limit.

    Attributes
    ----------
    sent, received : int
        Bytes so far, as gloo moves them: a broadcast goes down a binomial tree, a sum around a ring and then to the
        first rank.
    """

    def __init__(self, backend: Any, device: Any, rank: int, size: int) -> None:
        self.sent = self.received = 0
        self._backend: Any = backend
        self._device = device
        self._rank = rank
        self._size = size

    @classmethod
    def connected(cls, device: Any, store: Any, rank: int, size: int, timeout: float) -> Wire:
        """Connects all ranks, by the addresses that they leave in a store.

        Parameters
        ----------
        device : torch.device
            The CPU for gloo; for NCCL the CUDA device of this rank, through which everything moves then.
        store : torch.distributed.Store
        rank, size : int
        timeout : float
            Seconds for the connection, and for each piece of a transfer.
        """
        import torch.distributed

        c10d: Any = torch.distributed
        limit = timedelta(seconds=timeout)
        if device.type == "cuda":
            torch.cuda.set_device(device)
            return cls(c10d.ProcessGroupNCCL(store, rank, size, limit), device, rank, size)
        return cls(c10d.ProcessGroupGloo(store, rank, size, limit), device, rank, size)

    def abort(self) -> None:
        """Ends what is underway with an error, from another thread."""
        backend = self._backend
        if backend is None:
            return
        if self._device.type != "cpu":
            # PyTorch 2.4 calls it by another name.
            (getattr(backend, "abort", None) or backend._shutdown)()
            return
        import torch

        # Gloo has no other way: where a transfer is late, it closes all connections. That ends other transfers, except
        # one whose bytes are on the way at this moment: that one waits until its own time is up.
        for peer in set(range(self._size)) - {self._rank}:
            with suppress(RuntimeError):
                backend.recv([torch.empty(1, dtype=torch.uint8)], peer, UNUSED_TAG).wait(NO_TIME)

    def close(self) -> None:
        """Closes all connections, when nothing is underway."""
        self._backend = None

    def broadcast(self, pieces: Sequence[Any]) -> None:
        """The bytes of the first rank, into buffers of the same sizes on the others."""
        from torch.distributed import BroadcastOptions

        first = self._rank == 0
        options = BroadcastOptions()
        options.rootRank = 0
        self._move(_chunks(pieces), lambda tensor: self._backend.broadcast([tensor], options), to=first, back=not first)
        n_bytes = _n_bytes(pieces)
        self.sent += n_bytes * _n_children(self._rank, self._size)
        self.received += n_bytes * (not first)

    def send(self, pieces: Sequence[Any]) -> None:
        """Bytes to the first rank."""
        self._move(_chunks(pieces), lambda tensor: self._backend.send([tensor], 0, 0), to=True, back=False)
        self.sent += _n_bytes(pieces)

    def receive(self, rank: int, pieces: Sequence[Any]) -> None:
        """On the first rank: the bytes of one that sends."""
        self._move(_chunks(pieces), lambda tensor: self._backend.recv([tensor], rank, 0), to=False, back=True)
        self.received += _n_bytes(pieces)

    def total(self, data: np.ndarray, out: np.ndarray | None) -> None:
        """The sum of flat int64 arrays, into `out` on the first rank."""
        from torch.distributed import ReduceOp, ReduceOptions

        options = ReduceOptions()
        options.reduceOp = ReduceOp.SUM
        options.rootRank = 0
        step = min(CHUNK_BYTES, self._size * RING_BYTES) // data.itemsize
        parts = [slice(start, start + step) for start in range(0, len(data), step)]
        summed = iter(parts)

        def keep(stage: np.ndarray) -> None:
            if out is not None:
                out[next(summed)] = stage

        # Copies: the collective computes in the memory that it is given.
        copies = (data[part].copy() for part in parts)
        self._move(copies, lambda tensor: self._backend.reduce([tensor], options), to=True, back=True, then=keep)
        around = data.nbytes * (self._size - 1) // self._size
        self.sent += data.nbytes if self._rank else around
        self.received += around if self._rank else 2 * around

    def _move(
        self,
        chunks: Iterator[np.ndarray],
        call: Callable[[Any], Any],
        *,
        to: bool,
        back: bool,
        then: Callable[[np.ndarray], None] | None = None,
    ) -> None:
        """Gives chunks to a collective, several underway at a time, through the device where that is not the CPU."""
        try:
            self._moved(chunks, call, to, back, then)
            return
        except RuntimeError as error:
            text = str(error)
        # Without what the first one holds: connections stay open for as long as there is anything underway on them.
        raise RuntimeError(text)

    def _moved(
        self,
        chunks: Iterator[np.ndarray],
        call: Callable[[Any], Any],
        to: bool,
        back: bool,
        then: Callable[[np.ndarray], None] | None,
    ) -> None:
        import torch

        on_cpu = self._device.type == "cpu"
        underway: deque[tuple[Any, Any, np.ndarray]] = deque()

        def finish() -> None:
            work, tensor, chunk = underway.popleft()
            work.wait()
            if back and not on_cpu:
                _tensor(chunk).copy_(tensor)
            if then is not None:
                then(chunk)

        for chunk in chunks:
            tensor = _tensor(chunk)
            if not on_cpu:
                tensor = tensor.to(self._device) if to else torch.empty_like(tensor, device=self._device)
            underway.append((call(tensor), tensor, chunk))
            if len(underway) >= CHUNKS_UNDERWAY:
                finish()
        while underway:
            finish()
        if not on_cpu:
            torch.cuda.synchronize(self._device)
