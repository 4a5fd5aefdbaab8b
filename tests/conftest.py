"""What the tests share: instruction sets, thread counts, time limits and small data sets."""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings


def _has_gpu() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")  # without its driver no GPU can be used: seconds earlier than PyTorch is imported
    except OSError:
        return False
    import torch

    return torch.cuda.is_available()


# Where no GPU is, its kernels run on the processor, which has to be said before Triton is first imported.
HAS_GPU = _has_gpu()
if not HAS_GPU:
    os.environ["TRITON_INTERPRET"] = "1"

# Compiled modules are kept, whatever the caller's environment says: the tests start hundreds of interpreters.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Temporary files lie in memory where that has room, so that nothing waits for a disk, unless pytest was told where.
# Some of them are libraries, which have to be loaded from there.
IN_MEMORY, ROOM = Path("/dev/shm"), 6 << 30
if "PYTEST_DEBUG_TEMPROOT" not in os.environ and IN_MEMORY.is_dir() and os.access(IN_MEMORY, os.W_OK | os.X_OK):
    _found = os.statvfs(IN_MEMORY)
    if _found.f_bavail * _found.f_frsize >= ROOM and not _found.f_flag & os.ST_NOEXEC:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(IN_MEMORY)

# The key-value store of torch.distributed looks up the names of who connects to it, and serves nobody meanwhile.
os.environ.setdefault("RES_OPTIONS", "timeout:1 attempts:1")

import ccma_fast as cf  # noqa: E402
from ccma_fast import _core, strategies  # noqa: E402
from ccma_fast.backends.choose import choose_backend  # noqa: E402
from ccma_fast.images.preprocessing import preprocessed  # noqa: E402
from ccma_fast.pool.open import open_rows  # noqa: E402
from ccma_fast.steps.trained import Trained  # noqa: E402

# The same examples in every run, and no time limit for one of them: machines differ, and a red run must be repeatable.
# `--hypothesis-profile=many` tries more of them.
for _profile, _n_examples in (("repeatable", 35), ("many", 200)):
    settings.register_profile(
        _profile,
        max_examples=_n_examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
settings.load_profile("repeatable")

# The core looks at CCMA_SIMD when it is first asked for: to be done before a test sets the instruction set.
choose_backend("cpu")
_LEVELS = ("scalar", "avx2", "avx512", "avx512_vnni")
SIMD_LEVELS = _LEVELS[: _LEVELS.index(_core.simd_level()) + 1]


@pytest.fixture(scope="session")
def dealing() -> SimpleNamespace:
    """What deals rows to several parts, see ``parts.py``."""
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("parts.py"))))


def pytest_configure(config: pytest.Config) -> None:
    if getattr(config.option, "numprocesses", None):  # workers, which inherit this, share the cores
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        os.environ.setdefault("CCMA_NUM_THREADS", "1")
        return  # this process runs no test, and an import of PyTorch in it would delay all workers
    if not HAS_GPU:
        runpy.run_path(str(Path(__file__).with_name("interpreter.py")))["prepare"]()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Modules and tests stay to the end: no garbage is looked for among them, which takes seconds."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The images first: a worker that begins with them keeps them, and no other imports their libraries for seconds."""
    images = Path(__file__).with_name("images")
    items.sort(key=lambda item: images not in item.path.parents)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Each worker has whole files, so that what their tests share is made once; who is done takes of the others'."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.getoption("dist") == "load" else None


@pytest.fixture
def simd_levels() -> Iterator[Iterator[str]]:
    """Every instruction set of this processor, in use while it is the loop's: `for level in simd_levels`."""
    before = _core.simd_level()

    def levels() -> Iterator[str]:
        for level in SIMD_LEVELS:
            _core.set_simd_level(level)
            yield level

    yield levels()
    _core.set_simd_level(before)


@pytest.fixture(params=SIMD_LEVELS)
def simd(request: pytest.FixtureRequest) -> Iterator[str]:
    """One test for each instruction set of this processor."""
    before = _core.simd_level()
    _core.set_simd_level(request.param)
    yield request.param
    _core.set_simd_level(before)


@pytest.fixture
def restore_threads() -> Iterator[None]:
    """Puts the core's and PyTorch's thread counts back."""
    import torch

    core, of_torch = cf.get_num_threads(), torch.get_num_threads()
    yield
    cf.set_num_threads(core)
    torch.set_num_threads(of_torch)


@pytest.fixture(scope="session")
def has_gpu() -> bool:
    """Whether the CUDA backend runs on a GPU, and not in Triton's interpreter, which is some 10,000 times slower."""
    return HAS_GPU


@pytest.fixture
def time_limit() -> Iterator[None]:
    """Fails a test that has not ended after ten seconds: a search that does not narrow would go on for ever."""

    def expired(*_: object) -> None:
        raise TimeoutError("the test ran for more than 10 s")

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20260323)


@pytest.fixture(scope="session")
def run_python() -> Callable[..., str]:
    """Runs a script in a new interpreter and returns what it printed; fails where the script does."""

    def run(script: str, *args: str, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", script, *args],
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


# Forks a process for each script that it reads, and prints how that ended; or its id, where it has an input to read.
FORK_SERVER = """
import json, os, sys, traceback
import numpy, torch, ccma_fast
for line in sys.stdin:
    script, arguments, given, out, error = json.loads(line)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if given:
                os.dup2(os.open(given, os.O_RDONLY), 0)
                sys.stdin = open(0, closefd=False)
            os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
            if error:
                os.dup2(os.open(error, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
            sys.argv = ["-c", *arguments]
            exec(script, {"__name__": "__main__"})
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    print(pid if given else os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.fixture(scope="session")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., int]]:
    """A small process that has imported PyTorch once, which takes longer than many a script, and forks others."""
    command = [sys.executable, "-W", "ignore", "-c", FORK_SERVER]
    folder = tmp_path_factory.mktemp("server")  # a test's own is gone before the next
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        stdin, stdout = server.stdin, server.stdout

        def ask(*request: Any) -> int:
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
            return int(stdout.readline())

        yield ask
        server.kill()  # quicker than its own way out


@pytest.fixture(scope="session")
def run_forked(tmp_path_factory: pytest.TempPathFactory, fork_server: Callable[..., int]) -> Callable[..., str]:
    """As `run_python`, from `fork_server`.

    The memory of a script is its own: the most that it ever had starts at what the small process has.
    """
    out, error = (tmp_path_factory.mktemp("forked") / name for name in ("out", "error"))

    def run(script: str, *args: str) -> str:
        assert fork_server(script, args, None, str(out), str(error)) == 0, error.read_text()
        return out.read_text()

    return run


@pytest.fixture(scope="session")
def start_forked(
    tmp_path_factory: pytest.TempPathFactory, fork_server: Callable[..., int]
) -> Callable[..., AbstractContextManager[SimpleNamespace]]:
    """As `subprocess.Popen` with pipes, from `fork_server`; what was started is killed when its context is left."""

    @contextmanager
    def start(script: str, *args: str) -> Iterator[SimpleNamespace]:
        pipes = [str(tmp_path_factory.mktemp("pipes") / name) for name in ("in", "out")]
        for pipe in pipes:
            os.mkfifo(pipe)
        pid = fork_server(script, args, *pipes, None)
        with open(pipes[0], "w") as stdin, open(pipes[1]) as stdout:
            try:
                yield SimpleNamespace(pid=pid, stdin=stdin, stdout=stdout)
            finally:
                os.kill(pid, signal.SIGKILL)

    return start


@pytest.fixture
def decoded_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """`extract` decodes in this process, which has what a test defines, and waits for no other to start."""
    embedding = importlib.import_module("ccma_fast.images.embedding")
    monkeypatch.setattr(embedding, "preprocessed", lambda *given: preprocessed(*given[:-1], workers=0))


@pytest.fixture(scope="session", autouse=True)
def away_from_the_sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A new interpreter looks for packages where it is started: there it must find the installed one."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
    yield
    os.chdir(before)


@pytest.fixture(scope="session")
def blobs() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Well separated classes: (x, y), x float32 of shape (n, d) and y of shape (n,)."""

    def make(n: int, d: int, n_classes: int, *, seed: int = 0, distance: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        centres = rng.standard_normal((n_classes, d))
        centres *= distance * 2**0.5 / np.linalg.norm(centres, axis=1, keepdims=True)
        y = rng.integers(n_classes, size=n)
        x = centres[y] + 0.3 * rng.standard_normal((n, d))
        return x.astype(np.float32), y

    return make


@pytest.fixture(scope="session")
def partly_labelled() -> Callable[..., np.ndarray]:
    """Labels of `n_labelled` random rows, −1 elsewhere."""

    def make(y: np.ndarray, n_labelled: int, *, seed: int = 0) -> np.ndarray:
        labels = np.full(y.size, -1)
        known = np.random.default_rng(seed).permutation(y.size)[:n_labelled]
        labels[known] = y[known]
        return labels

    return make


@pytest.fixture(scope="session")
def make_round() -> Callable[..., strategies.Round]:
    """A round on x, with a head that was fitted on the labelled rows unless a student is given."""

    def make(
        x: object,
        labels: np.ndarray,
        budget: int,
        *,
        student: object = None,
        n_classes: int | None = None,
        seed: int = 0,
        backend: str = "cpu",
        max_epochs: int = 40,
    ) -> strategies.Round:
        rows = open_rows(x, "features")
        n_classes = n_classes or max(2, int(labels.max()) + 1)
        if student is None:
            known = np.flatnonzero(labels >= 0)
            student = cf.LinearHead(n_classes, max_epochs=max_epochs).fit(rows.take(known), labels[known])
        return strategies.Round(
            rows,
            labels,
            n_classes,
            budget,
            Trained(student),
            None,
            cf.CCMAConfig(),
            np.random.default_rng(seed),
            choose_backend(backend),
        )

    return make
