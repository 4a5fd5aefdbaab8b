"""Processes among which the trials of :func:`ccma_fast.simulate` are divided: one strategy and seed each.

Workers are generic: each is sent a factory of the function that runs a trial.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.core import set_num_threads, thread_count
from ..errors import BackendUnavailableError
from ..system.file_integrity import FileInUse, reading
from ..system.processes import interrupts_blocked
from .rounds import RoundRecord

__all__ = ["FinishedRounds", "RunTrial", "Trials", "dumped", "run_by_workers"]

RunTrial = Callable[[str, int, Sequence[RoundRecord]], Iterator[RoundRecord]]
"""Computes the rounds of a (label, seed) that are not among the finished ones."""

FinishedRounds = Generator[tuple[str, int, RoundRecord], None, None]
"""The label, the seed and the record of every round, as it is finished."""

Trials = Mapping[tuple[str, int], Sequence[RoundRecord]]
"""The finished rounds of every (label, seed)."""


def run_by_workers(payload: bytes, n_workers: int, left: Sequence[tuple[str, int]], trials: Trials) -> FinishedRounds:
    """Run trials in worker processes, each one at a time. Closing the generator ends them.

    Workers write no file, so that one which outlives this process for a moment cannot disturb a later run.

    Parameters
    ----------
    payload : bytes
        A :func:`dumped` function without arguments that returns a :data:`RunTrial`; each worker calls it once.
    n_workers : int
        Each has its share of the threads of this process's core.
    left : sequence of (str, int)
        The trials to be run.
    trials : mapping
        The rounds that each of them begins with.

    Raises
    ------
    ChildProcessError
        A worker has died.
    Exception
        What a trial raised, with its own cause where that can be sent; the rounds that others have finished come first.
    """
    waiting = deque(left)
    workers: dict[Connection, Any] = {}
    running: dict[Connection, tuple[str, int]] = {}

    def give_work(connection: Connection) -> None:
        running.pop(connection, None)
        if waiting:
            running[connection] = waiting.popleft()
            with suppress(OSError):  # the worker has died, as reading from it will show
                connection.send((*running[connection], list(trials[running[connection]])))

    try:
        for _ in range(min(n_workers, len(left))):
            connection, process = _started(payload, max(1, thread_count() // n_workers))
            workers[connection] = process
            give_work(connection)
        failure: Exception | None = None
        while running:
            # After a failure the rounds that are finished are taken, but none is waited for.
            ready_now = wait_for(list(running), 0 if failure else None)
            if not ready_now:
                break
            for ready in ready_now:
                assert isinstance(ready, Connection), "only connections were waited for"
                label, seed = running[ready]
                try:
                    message = ready.recv()
                except (EOFError, OSError):
                    workers[ready].join()
                    message = _death(workers[ready].exitcode, label, seed)
                if isinstance(message, RoundRecord):
                    yield label, seed, message
                elif message is None and failure is None:
                    give_work(ready)
                else:
                    del running[ready]
                    failure = failure or _failure(message)
        if failure is not None:
            raise failure
    finally:
        for connection, process in workers.items():
            process.kill()
            process.join()
            connection.close()


def dumped(thing: Any) -> bytes:
    """A pickle in which an array that is mapped from a file is the file's name."""
    buffer = io.BytesIO()
    pickler = _Pickler(buffer, pickle.HIGHEST_PROTOCOL)
    with reading():  # whatever is not in a file of its own is sent by value
        pickler.dump(thing)
        for in_use in pickler.in_use:
            in_use.check()
    return buffer.getvalue()


def _started(payload: bytes, n_threads: int) -> tuple[Connection, Any]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, payload, n_threads), daemon=True)
    with interrupts_blocked():
        process.start()
    theirs.close()
    return ours, process


def _work(connection: Connection, payload: bytes, n_threads: int) -> None:
    """A worker process: trials come in, rounds go out, None at the end of a trial."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        with suppress(BackendUnavailableError):
            set_num_threads(n_threads)
        run_trial = _loaded(payload)()
        while True:
            label, seed, done = connection.recv()
            for record in run_trial(label, seed, done):
                connection.send(record)
            connection.send(None)
    except Exception as error:
        connection.send((_sent(error), error.__cause__ and _sent(error.__cause__), traceback.format_exc()))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs in a worker process"
    parent.join()
    os._exit(1)


def _sent(error: BaseException) -> tuple[bytes, str]:
    """A pickled exception, and its text for where it cannot be unpickled."""
    try:
        payload = pickle.dumps(error)
    except Exception:  # whatever pickling its state raises
        payload = b""
    return payload, f"{type(error).__name__}: {error}"


def _received(payload: bytes, text: str) -> Exception:
    try:
        error = _Unpickler(io.BytesIO(payload)).load()
    except Exception:  # no payload, or a constructor with other arguments than pickle kept
        return RuntimeError(text)
    assert isinstance(error, Exception), "workers catch nothing else"
    return error


def _failure(message: Any) -> Exception | None:
    """The exception of a worker, caused as it was there, with the worker's traceback at the root."""
    if message is None or isinstance(message, Exception):
        return message
    sent, cause, text = message
    error, root = _received(*sent), RuntimeError(f"in a worker process:\n{text}")
    error.__cause__ = _received(*cause) if cause else root
    if cause:
        error.__cause__.__cause__ = root
    return error


def _death(code: int | None, label: str, seed: int) -> ChildProcessError:
    return ChildProcessError(
        f"a worker process died (exit code {code}) in strategy {label!r} with seed {seed}; -9 is most often the system "
        "that ran out of memory: give fewer jobs. A script that calls simulate with several jobs must do so under "
        '`if __name__ == "__main__":`'
    )


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # What a spawned process calls the script that is __main__ here.
        return super().find_class("__main__" if module == "__mp_main__" else module, name)


class _Pickler(pickle.Pickler):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.in_use: list[FileInUse] = []

    def reducer_override(self, thing: Any) -> Any:
        if isinstance(thing, FileInUse):
            self.in_use.append(thing)
        if not isinstance(thing, np.ndarray) or not thing.flags.c_contiguous:
            return NotImplemented
        owner = thing
        while isinstance(owner.base, np.ndarray):  # a part of a memmap is one too, with the offset of the whole
            owner = owner.base
        # What was changed in mode "c" is not in the file.
        if not isinstance(owner, np.memmap) or owner.filename is None or owner.mode == "c":
            return NotImplemented
        offset = owner.offset + thing.ctypes.data - owner.ctypes.data
        return _mapped, (owner.filename, thing.dtype, thing.shape, offset)


def _mapped(file: str, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int) -> npt.NDArray[Any]:
    return np.asarray(np.memmap(file, dtype, "r", offset, shape))


def _loaded(payload: bytes) -> Callable[[], RunTrial]:
    try:
        make: Callable[[], RunTrial] = pickle.loads(payload)
    except (AttributeError, ImportError) as error:
        raise TypeError(
            f"a strategy or student cannot be found in another process ({error}); expected one at the top level of a "
            "module that can be imported, or jobs=1"
        ) from error
    return make
