"""Worker processes that decode images: a crash, a lack of memory or an endless loop of a decoder costs one image.

A server process (:func:`serve`) imports what is needed, and forks the workers: it has one thread, where the caller may
have many, does not import the caller's script, and starts another worker in milliseconds. Each worker writes the image
that it is at to memory shared with the caller, so that this is known however it ends; results come back in anonymous
memory too, and nothing is left in ``/dev/shm``. All of them end with the caller, however that ends.
"""

from __future__ import annotations

import gc
import mmap
import os
import pickle
import signal
import struct
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import recv_handle, send_handle
from typing import Any, Protocol

from ..system.machine import machine_memory
from ..system.processes import interrupts_blocked
from .decode import PillowSettings, reason_of

__all__ = ["CannotBeSentError", "Decoders", "Watch", "serve"]

# Batches requested ahead, for each worker.
_AHEAD = 2

# Timeout of an image in seconds, and the bytes of its file that add one more.
_SECONDS = 60
_BYTES_PER_SECOND = 1 << 20

# Memory of a pixel, twice the most that decoding and scaling took; and what an image may take besides.
_BYTES_PER_PIXEL = 64
_BYTES_BESIDES = 1 << 30

# Attempts at an image: what kills a worker may have been another one's need of memory.
_TRIES = 2

_OUT_OF_MEMORY = 77
_NO_IMAGE = -1
_AT = struct.Struct("q")
_ALIGNMENT = 64


class CannotBeSentError(Exception):
    """What decodes images cannot be sent to other processes; the text says why."""


class Watch:
    """Told of images while they are decoded."""

    def begin(self, image: int) -> None:
        """It is decoded next."""

    def out_of_memory(self) -> None:
        """It takes more memory than there is."""


class _Made(Protocol):
    def __call__(self, number: int, left_out: Collection[int], watch: Watch) -> Any: ...


class Decoders:
    """Worker processes that make batches of images. Closing it, as a context does, ends them.

    Parameters
    ----------
    make : callable
        From the number of a batch, images to leave out of it, and a :class:`Watch`, to the result for the batch, which
        is pickled; its arrays are not copied.
    batches : list of list of int
        The images of each.
    n_bytes : callable
        The size of an image's file, or None: a larger one has a longer timeout.
    n_workers : int

    Raises
    ------
    CannotBeSentError
    """

    def __init__(
        self, make: _Made, batches: Sequence[Sequence[int]], n_bytes: Callable[[int], int | None], n_workers: int
    ) -> None:
        self._batches, self._n_bytes = batches, n_bytes
        self._n_workers = min(n_workers, len(batches))
        self._memory = _memory_of_each(self._n_workers)
        if not hasattr(os, "memfd_create"):
            raise CannotBeSentError("this system is no Linux")
        try:
            payload = pickle.dumps((PillowSettings.here(), make, self._memory), pickle.HIGHEST_PROTOCOL)
        except Exception as error:  # whatever the state of a data set raises
            raise CannotBeSentError(reason_of(error)) from error
        self._deaths: Counter[int] = Counter()
        self._lost: dict[int, str] = {}
        self._workers: list[_Worker] = []
        self._server, self._control = _server()
        try:
            self._control.send_bytes(payload)
            refusal = self._control.recv()
        except (EOFError, OSError):
            refusal = f"the process ended with exit code {self._server.wait()}"
        except BaseException:
            self.close()
            raise
        if refusal is not None:
            self.close()
            raise CannotBeSentError(refusal)

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for worker in self._workers:
            with suppress(OSError):
                os.kill(worker.pid, signal.SIGKILL)
            worker.close()
        self._control.close()  # the server then reaps the workers, and ends
        if not self._workers:  # it may be importing
            self._server.kill()
        self._server.wait()

    def results(self) -> Generator[tuple[Any, dict[int, str]], None, None]:
        """The result of each batch, in order, and why some of its images are lost.

        Raises
        ------
        ChildProcessError
            Workers die without an image to blame.
        """
        self._workers += [self._started() for _ in range(self._n_workers)]
        done: dict[int, Any] = {}
        n_given = 0
        for number, images in enumerate(self._batches):
            while n_given < min(number + _AHEAD * self._n_workers, len(self._batches)):
                self._give(min(self._workers, key=lambda worker: len(worker.numbers)), n_given)
                n_given += 1
            while number not in done:
                done |= self._received()
            yield done.pop(number), {image: self._lost[image] for image in images if image in self._lost}

    def _give(self, worker: _Worker, number: int) -> None:
        worker.numbers.append(number)
        with suppress(OSError):  # it has died, which the next read from it will show
            worker.connection.send((number, [image for image in self._batches[number] if image in self._lost]))

    def _received(self) -> dict[int, Any]:
        """The results that arrive within a second."""
        done: dict[int, Any] = {}
        by_connection: dict[Any, _Worker] = {worker.connection: worker for worker in self._workers}
        ready = wait(list(by_connection), 1.0)
        for connection in ready:
            worker = by_connection[connection]
            try:
                result = _receive(worker.connection)
            except (EOFError, OSError, RuntimeError):  # RuntimeError where it died while it was sending
                self._replace(worker)
            else:
                self._deaths.pop(_NO_IMAGE, None)
                done[worker.numbers.popleft()] = result
        if not ready:
            for worker in list(self._workers):
                image = worker.image
                if worker.waited() > self._seconds(image):
                    os.kill(worker.pid, signal.SIGKILL)
                    self._replace(worker, image)
        return done

    def _seconds(self, image: int) -> float:
        """Timeout of an image."""
        return _SECONDS + (0 if image == _NO_IMAGE else (self._n_bytes(image) or 0) / _BYTES_PER_SECOND)

    def _replace(self, worker: _Worker, stuck_at: int | None = None) -> None:
        """Start another worker with the batches of one that died, and count its death against its image."""
        code, image = self._asked(worker.pid), worker.image
        worker.close()
        self._deaths[image] += 1
        if image == _NO_IMAGE:
            if self._deaths[image] > _TRIES:
                raise ChildProcessError(f"processes that decode images end before they read one: {_ending(code)}")
        elif image == stuck_at:
            self._lost[image] = f"it was not decoded after {self._seconds(image):.0f} s"
        elif self._deaths[image] >= _TRIES:
            self._lost[image] = self._reason(code)
        other = self._started()
        self._workers[self._workers.index(worker)] = other
        for number in worker.numbers:
            self._give(other, number)

    def _reason(self, code: int) -> str:
        if code == _OUT_OF_MEMORY:
            return f"it takes more than the {self._memory / 1e9:.1f} GB of memory that its decoder may have"
        return f"its decoder crashed: {_ending(code)}"

    def _started(self) -> _Worker:
        ours, theirs = Pipe()
        shared = os.memfd_create("ccma_fast")
        try:
            os.ftruncate(shared, _AT.size)
            worker = _Worker(ours, mmap.mmap(shared, _AT.size))
            worker.pid = self._asked(None, theirs.fileno(), shared)
        finally:
            os.close(shared)
            theirs.close()
        return worker

    def _asked(self, pid: int | None, *handles: int) -> int:
        """The server's answer: the id of a new worker, or the exit code of one, which its parent alone can get."""
        try:
            self._control.send(pid)
            for handle in handles:
                send_handle(self._control, handle, self._server.pid)
            answer: int = self._control.recv()
        except (EOFError, OSError) as error:
            raise ChildProcessError(
                f"the process that starts those that decode has died (exit code {self._server.wait()})"
            ) from error
        return answer


class _Worker:
    """A worker, as its caller sees it."""

    def __init__(self, connection: Connection, shared: mmap.mmap) -> None:
        self.connection, self._shared = connection, shared
        self.pid = 0
        self.numbers: deque[int] = deque()
        self._n_waits, self._seen = 0, _NO_IMAGE
        _AT.pack_into(shared, 0, _NO_IMAGE)

    @property
    def image(self) -> int:
        """The image that it is at."""
        return int(_AT.unpack_from(self._shared)[0])

    def waited(self) -> int:
        """How often in a row this was called while it was at one image: once a second, as long as nothing arrives.

        A clock would also run while all processes are stopped, or while no result is awaited.
        """
        image = self.image
        self._n_waits = self._n_waits + 1 if self.numbers and image == self._seen else 0
        self._seen = image
        return self._n_waits

    def close(self) -> None:
        self.connection.close()
        self._shared.close()


def _memory_of_each(n_workers: int) -> int:
    """Bytes that a worker may take to decode: for the largest image that Pillow opens, if so much is free."""
    from PIL import Image

    share = machine_memory().left // (n_workers + 1)
    if Image.MAX_IMAGE_PIXELS is not None:
        share = min(share, Image.MAX_IMAGE_PIXELS * _BYTES_PER_PIXEL + _BYTES_BESIDES)
    return max(share, _BYTES_BESIDES)


def _ending(code: int) -> str:
    if code >= 0:
        return f"its process ended with exit code {code}"
    with suppress(ValueError):
        return f"its process was ended by signal {-code} ({signal.Signals(-code).name})"
    return f"its process was ended by signal {-code}"


def _server() -> tuple[subprocess.Popen[bytes], Connection]:
    ours, theirs = Pipe()
    fd = theirs.fileno()
    code = f"import sys; sys.path[:] = {sys.path!a}; from ccma_fast.images.decoder_processes import serve; serve({fd})"
    command = [sys.executable, "-X", f"utf8={sys.flags.utf8_mode}", "-c", code]
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    with theirs, interrupts_blocked():
        process = subprocess.Popen(
            command, pass_fds=[fd], stdin=subprocess.DEVNULL, stdout=2, env={**os.environ, **one_thread}
        )
    return process, ours


def serve(fd: int) -> None:
    """The server process: it forks workers, and reports their exit codes, until its caller is gone."""
    control = Connection(fd)
    workers: set[int] = set()
    with suppress(EOFError, OSError):
        payload = control.recv_bytes()
        try:
            settings, make, memory = pickle.loads(payload)
            settings.set()
        except Exception as error:  # whatever its modules raise when they are imported
            control.send(reason_of(error))
            return
        control.send(None)
        del payload
        gc.freeze()  # keeps memory shared with the workers
        try:
            while True:
                ended: int | None = control.recv()
                if ended is None:
                    handles = recv_handle(control), recv_handle(control)
                    pid = os.fork()
                    if pid == 0:
                        _decode(control, handles, make, memory)
                    workers.add(pid)
                    for handle in handles:
                        os.close(handle)
                    control.send(pid)
                else:
                    workers.remove(ended)
                    control.send(os.waitstatus_to_exitcode(os.waitpid(ended, 0)[1]))
        finally:
            for pid in workers:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _decode(control: Connection, handles: tuple[int, int], make: _Made, memory: int) -> None:
    """A worker: numbers of batches come in, results go out. It does not return."""
    code = 1
    try:
        control.close()
        connection, shared = Connection(handles[0]), mmap.mmap(handles[1], _AT.size)
        _limit(memory)
        watch = _Worked(shared)
        while True:
            number, left_out = connection.recv()
            result = make(number, left_out, watch)
            watch.begin(_NO_IMAGE)
            _send(connection, result)
    except (EOFError, BrokenPipeError):
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


class _Worked(Watch):
    def __init__(self, shared: mmap.mmap) -> None:
        self._shared = shared

    def begin(self, image: int) -> None:
        _AT.pack_into(self._shared, 0, image)

    def out_of_memory(self) -> None:
        os._exit(_OUT_OF_MEMORY)  # the cause may be what earlier images have left unreleased


def _limit(memory: int) -> None:
    """Limit the memory of this process to so many bytes beyond what it has; and write no core dump of it."""
    import resource  # which not every system has

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open("/proc/self/status") as lines:
        has = next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmData:")), None)
    if has is None:  # in some sandboxes
        return
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = has + memory
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))


def _send(connection: Connection, result: Any) -> None:
    """Send what :func:`_receive` returns; arrays are in anonymous memory, freed when the last process closes it."""
    buffers: list[pickle.PickleBuffer] = []
    whole = pickle.dumps(result, 5, buffer_callback=buffers.append)
    parts = [memoryview(whole), *(buffer.raw() for buffer in buffers)]
    handle = os.memfd_create("ccma_fast")
    try:
        with open(handle, "wb", closefd=False) as file:
            for part in parts:
                file.write(part)
                file.write(bytes(-part.nbytes % _ALIGNMENT))
        connection.send([part.nbytes for part in parts])
        send_handle(connection, handle, os.getppid())
    finally:
        os.close(handle)


def _receive(connection: Connection) -> Any:
    sizes: list[int] = connection.recv()
    handle = recv_handle(connection)
    try:
        shared = memoryview(mmap.mmap(handle, 0))
    finally:
        os.close(handle)
    parts, at = [], 0
    for size in sizes:
        parts.append(shared[at : at + size])
        at += size + -size % _ALIGNMENT
    return pickle.loads(parts[0], buffers=parts[1:])
