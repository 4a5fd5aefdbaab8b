"""Faults against every writer and reader, one process for each: ``python tests/fault_cells.py`` prints the table.

With ``all`` each meets all faults at every place; else one place is tried for each, and every other fault of readers.
Named writers and readers are tried alone.

A cell holds if, after the fault, there is the right result or a clear error, what was there before is whole, nobody
died of a signal that was not sent, and the same call succeeds when the fault is gone.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import io
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
static char part[256];
static int left = -1, kind;
/* From now on the n-th read of a path with that text fails (kind 0) or is short (kind 1). */
void fault(const char *text, int n, int how) { strncpy(part, text, 255); left = n; kind = how; }
static int hit(int fd) {
    char link[64], path[4096];
    if (left < 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return strstr(path, part) != NULL && left-- == 0;
}
#define FAULTY(name, extra, given)                                              \
    ssize_t name(int fd, void *to, size_t n extra) {                            \
        static ssize_t (*real)(int, void *, size_t extra);                      \
        if (!real) real = (ssize_t (*)(int, void *, size_t extra))dlsym(RTLD_NEXT, #name); \
        if (hit(fd)) { if (!kind) { errno = EIO; return -1; } n = n > 1 ? n / 2 : n; } \
        return real(fd, to, n given);                                           \
    }
#define COMMA ,
FAULTY(read, , )
FAULTY(pread, COMMA off_t at, COMMA at)
FAULTY(pread64, COMMA off64_t at, COMMA at)
"""
N, D = 400, 8
NOBODY = 65534
RNG = np.random.default_rng(0)
Y = np.arange(N) % 3
X = (2 * np.eye(3, D)[Y] + 0.3 * RNG.standard_normal((N, D))).astype(np.float32)
Tree = dict[str, bytes]


class Centroids:
    """A student that takes no time."""

    def fit(self, x: Any, y: Any) -> Centroids:
        self.classes_ = np.unique(y)
        self.means = np.array([x[y == c].mean(axis=0) for c in self.classes_])
        return self

    def predict_proba(self, x: Any) -> Any:
        p = np.exp(-((x[:, None] - self.means) ** 2).sum(axis=2)) + 1e-9
        return p / p.sum(axis=1, keepdims=True)


# --- writers: each writes into a folder, as a second version over a first one where `second` -------


def write_loop(folder: Path, second: bool) -> None:
    import ccma_fast as cf

    file, rows = folder / "loop.npz", np.arange(9 if second else 6)
    if file.exists():  # else it would be somebody else's
        learner = cf.ActiveLearner.load(file, X, student=Centroids())
    else:
        learner = cf.ActiveLearner(X, n_classes=3, student=Centroids())
    learner.label(rows, Y[rows], overwrite=True)
    learner.save(file)


@functools.cache
def results(second: bool) -> Any:
    return simulated(None, second)


def simulated(folder: Path | None, second: bool) -> Any:
    import ccma_fast as cf

    return cf.simulate(
        X, Y, test_features=X, test_labels=Y, strategies=["random"], seeds=[1, 2] if second else [1], rounds=2,
        budget=3, student=Centroids(), out=folder, progress=False,
    )  # fmt: skip


def command(*arguments: object) -> None:
    from ccma_fast.cli import main

    errors = io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(errors):
        code = main([str(argument) for argument in arguments])
    if code:
        raise OSError(errors.getvalue())


def picks(suffix: str) -> Callable[[Path, bool], None]:
    def write(folder: Path, second: bool) -> None:
        np.save(INPUTS / "x.npy", X)
        options = ["--budget", 7 if second else 4, "--overwrite", "-q"]
        command("select", "--features", INPUTS / "x.npy", "--out", folder / suffix, *options)

    return write


def write_report(folder: Path, second: bool) -> None:
    command("report", INPUTS / ("run2" if second else "run1"), "--out", folder)


def write_pool(folder: Path, second: bool) -> None:
    import torch
    from PIL import Image

    import ccma_fast as cf
    from ccma_fast.images.encoders import Encoder

    def made(name: str, **_: Any) -> Encoder:
        description = {"library": "none", "model": "mean", "weights": "none", "weights_sha256": "0"}
        as_tensor = lambda image: torch.from_numpy(np.array(image.resize((4, 4)), np.float32))  # noqa: E731
        return Encoder(None, as_tensor, lambda batch: batch.flatten(1), description, "cpu")

    importlib.import_module("ccma_fast.images.extract").vision_encoder = made
    images = INPUTS / ("images2" if second else "images1")
    images.mkdir(exist_ok=True)
    for i in range(7 if second else 4):
        if not (images / f"{i}.png").exists():  # the time of their last writing is kept
            Image.new("RGB", (4, 4), (30 * i, 9, 9)).save(images / f"{i}.png")
    cf.extract(images, folder, batch_size=2, shard_size=3, workers=0, progress=False)


WRITERS: dict[str, Callable[[Path, bool], object]] = {
    "ActiveLearner.save": write_loop,
    "Results.to_csv": lambda folder, second: results(second).to_csv(folder / "results.csv"),
    "Results.to_parquet": lambda folder, second: results(second).to_parquet(folder / "results.parquet"),
    "select --out csv": picks("picks.csv"),
    "select --out json": picks("picks.json"),
    "select --out npy": picks("picks.npy"),
    "simulate": lambda folder, second: simulated(folder, True),
    "extract": lambda folder, second: write_pool(folder, True),
    "report": write_report,
}
FOLDERS = ("simulate", "extract")  # which go on with what is there; of all others each file is the old or the new one


# A report names the folder in which it was written.
OUT = re.compile(rb"/\S*/(old|new|at-work)(?![^\s/<&])")


def tree(folder: Path) -> Tree:
    """The files that are seen, by their names; without the times in some."""
    files = (path for path in folder.rglob("*") if path.is_file())
    found = {str(path.relative_to(folder)): OUT.sub(b"", path.read_bytes()) for path in files}
    found = {name: content for name, content in found.items() if not re.search(r"(^|/)\.|\.jsonl$|timings.csv$", name)}
    # What a query measured, when it was, and where its file lies.
    for name, own in (("picks.json", ["report"]), ("picks.selection.json", ["report", "written", "command"])):
        if name in found:
            found[name] = json.dumps({**json.loads(found[name]), **dict.fromkeys(own)}).encode()
    return found


def killed_at_call(n: int) -> None:
    """Before the n-th opening of a file to write, rename, removal or fsync."""
    left = [n]

    def step() -> None:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, given: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link"):
            step()

    fsync = os.fsync
    os.fsync = lambda fd: (step(), fsync(fd))[1]  # type: ignore[assignment]
    sys.addaudithook(hook)


def limited(n_bytes: int, how: Any) -> None:
    """No file may become longer: the write fails in the middle, or its process dies there."""
    signal.signal(signal.SIGXFSZ, how)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))


WRITE_FAULTS: dict[str, tuple[Callable[[int], None], list[int]]] = {
    "killed at a call": (killed_at_call, list(range(40))),
    "killed in a write": (lambda n: limited(n, signal.SIG_DFL), [0, 1, 100, 700, 3000]),
    "no space": (lambda n: limited(n, signal.SIG_IGN), [0, 1, 100, 700, 3000]),
    "two writers": (lambda n: os.fork() and None, [0] * 9),  # the pipe to the first ends when both have
}


def forked(work: Callable[[], None]) -> tuple[int, str]:
    """Exit status and what went wrong: 0 done, 3 a clear error, 4 any other, or minus the signal."""
    source, sink = os.pipe()
    pid = os.fork()
    if pid == 0:
        code, text = 0, ""
        try:
            work()
        except (OSError, ValueError) as error:
            code, text = 3, str(error)
        except BaseException as error:
            code, text = 4, f"{type(error).__name__}: {error}"
        try:
            os.write(sink, text.encode(errors="replace")[:4000])
        finally:
            os._exit(code)
    os.close(sink)
    with open(source, "rb") as handle:
        text = handle.read().decode(errors="replace")
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text


def writer_cell(name: str, fault: str, folder: Path, n: int) -> str:
    """What went wrong, or how the call ended."""
    write, (inject, _) = WRITERS[name], WRITE_FAULTS[fault]
    old, new = (tree(folder / version) for version in ("old", "new"))
    at = folder / "at-work"
    shutil.rmtree(at, ignore_errors=True)
    if name in FOLDERS:
        at.mkdir()
    else:
        shutil.copytree(folder / "old", at)

    def work() -> None:
        inject(n)
        write(at, True)

    code, text = forked(work)
    if code not in (0, 3, -signal.SIGKILL, -signal.SIGXFSZ):
        return f"FAILED: ended with {code} {text}"
    if code < 0 and not fault.startswith("killed"):
        return f"FAILED: died of {-code}"
    found = tree(at)
    if name not in FOLDERS:
        for file, content in found.items():
            if content not in (old.get(file), new.get(file)):
                return f"FAILED: {file} is neither the old nor the new one"
        if lost := old.keys() - found.keys() - (set() if code else old.keys() - new.keys()):
            return f"FAILED: lost {sorted(lost)}"
    if code == 0 and found != new:
        return "FAILED: said to be done, and is not"
    again, text = forked(lambda: write(at, True) and None)
    if again != 0:
        return f"FAILED: not to be repeated: {text}"
    if tree(at) != new:
        return f"FAILED: repeated, it has other files: {sorted(tree(at).keys() ^ new.keys())}"
    return {0: "done", 3: "error"}.get(code, "killed")


# --- readers -----------------------------------------------------------------------------------------


def _lists(x: Any) -> Any:
    import pyarrow

    return pyarrow.table({"vector": pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(x.ravel()), x.shape[1])})


def make_npy(file: Path, x: Any) -> None:
    np.save(file, x)


def make_hdf5(file: Path, x: Any, **options: Any) -> None:
    import h5py

    with h5py.File(file, "w") as handle:
        handle.create_dataset("train/features", data=x, **options)


def make_parquet(file: Path, x: Any) -> None:
    import pyarrow.parquet

    pyarrow.parquet.write_table(_lists(x), file, row_group_size=100)


def make_arrow(file: Path, x: Any) -> None:
    import pyarrow.ipc

    table = _lists(x)
    with pyarrow.OSFile(str(file), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=100)


def make_safetensors(file: Path, x: Any) -> None:
    import safetensors.numpy

    safetensors.numpy.save_file({"vectors": x}, file)


def make_csv(file: Path, x: Any) -> None:
    file.write_text("index,label\n" + "".join(f"{i},{int(row[0] > 1)}\n" for i, row in enumerate(x)))


def make_tar(file: Path, x: Any) -> None:
    import tarfile

    from PIL import Image

    with tarfile.open(file, "w") as archive:
        for i, row in enumerate(x[:40]):
            buffer = io.BytesIO()
            Image.new("RGB", (4, 4), (int(40 * abs(row[0])) % 256, i, 0)).save(buffer, "png")
            entry = tarfile.TarInfo(f"{i}.png")
            entry.size = buffer.tell()
            archive.addfile(entry, io.BytesIO(buffer.getvalue()))


def make_shard(file: Path, x: Any) -> None:
    """One of two; of the other rows are read first."""
    np.save(file.with_name(file.name.replace("1", "0")), X[:50])
    np.save(file, x[50:])


def make_label_table(file: Path, x: Any) -> None:
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"label": (x[:, 0] > 1).astype(int)}), file)


def make_names(file: Path, x: Any) -> None:
    file.write_text("".join(f"class {value:.3f}\n" for value in x[:20, 0]))


def make_image(file: Path, x: Any) -> None:
    from PIL import Image

    Image.fromarray((40 * abs(x[:64])).astype(np.uint8)).convert("RGB").save(file)


def make_loop(file: Path, x: Any) -> None:
    import ccma_fast as cf

    learner = cf.ActiveLearner(X, n_classes=3, student=Centroids())
    learner.label(np.arange(20), (x[:20, 0] > 1).astype(int))
    learner.save(file, overwrite=True)


def read_rows(file: Path) -> Iterator[Any]:
    from ccma_fast.pool.open import open_rows

    rows = open_rows(file, "features")
    yield rows.read(0, 50)
    yield rows.read(50, rows.n_rows)


def read_shards(file: Path) -> Iterator[Any]:
    folder = file.parent
    if file.name.startswith("other"):  # which has no folder of its own
        yield from (X[:50], np.load(file))
    else:
        yield from read_rows(folder)


def read_labels(file: Path) -> Iterator[Any]:
    from ccma_fast.pool.labels import read_labels as labels_of
    from ccma_fast.pool.open import open_rows

    yield np.zeros(0)
    yield labels_of(file, open_rows(X, "features"))


def read_tar(file: Path) -> Iterator[Any]:
    from ccma_fast.images.decode import UnreadableImageError
    from ccma_fast.images.sources import open_images

    images = open_images(file)
    try:
        yield np.asarray(images.load(0))
        yield np.array([np.asarray(images.load(i)) for i in range(len(images.ids))])
    except (UnreadableImageError, OSError) as error:  # which tell of one image, whose id is known
        raise ValueError(f"{file.name}: {error}") from error


def read_names(file: Path) -> Iterator[Any]:
    from ccma_fast.pool.class_names import read_class_names

    yield np.zeros(0)
    yield np.array(read_class_names(file))


def read_image(file: Path) -> Iterator[Any]:
    from ccma_fast.images.decode import UnreadableImageError
    from ccma_fast.images.sources import open_images

    images = open_images(file.parent)
    yield np.zeros(0)
    try:
        yield np.asarray(images.load(images.ids.index(file.name)))
    except (UnreadableImageError, OSError) as error:
        raise ValueError(f"{file.name}: {error}") from error


def read_loop(file: Path) -> Iterator[Any]:
    import ccma_fast as cf

    yield np.zeros(0)
    yield cf.ActiveLearner.load(file, X, student=Centroids()).labels


READERS: dict[str, tuple[str, Callable[[Path, Any], None], Callable[[Path], Iterator[Any]]]] = {
    "npy": ("x.npy", make_npy, read_rows),
    "hdf5": ("x.h5", make_hdf5, read_rows),
    "hdf5 in chunks": ("x.hdf5", lambda file, x: make_hdf5(file, x, chunks=(50, D)), read_rows),
    "parquet": ("x.parquet", make_parquet, read_rows),
    "arrow": ("x.arrow", make_arrow, read_rows),
    "safetensors": ("x.safetensors", make_safetensors, read_rows),
    "labels csv": ("labels.csv", make_csv, read_labels),
    "tar": ("x.tar", make_tar, read_tar),
    "shard of a folder": ("part-1.npy", make_shard, read_shards),
    "labels parquet": ("labels.parquet", make_label_table, read_labels),
    "class names": ("names.txt", make_names, read_names),
    "image png": ("x.png", make_image, read_image),
    "image jpeg": ("x.jpg", make_image, read_image),
    "saved loop": ("loop.npz", make_loop, read_loop),
}


def replaced(file: Path, content: bytes) -> None:
    file.with_name("other").write_bytes(content)
    os.replace(file.with_name("other"), file)


def eio(file: Path, n: int, how: int) -> None:
    ctypes.CDLL(None).fault(str(file).encode(), n, how)


CHANGES: dict[str, Callable[[Path, int], object]] = {
    "EIO": lambda file, n: eio(file, n, 0),
    "short read": lambda file, n: eio(file, n, 1),
    "removed": lambda file, n: file.unlink(),
    "a folder instead": lambda file, n: (file.unlink(), file.mkdir()),
    "no permission": lambda file, n: (file.chmod(0), os.geteuid() or os.seteuid(NOBODY)),
    "shrinks": lambda file, n: os.truncate(file, file.stat().st_size * n // 8),
    "grows": lambda file, n: file.write_bytes(file.read_bytes() + b"\1" * (1 + 100 * n)),
    "replaced by zeros": lambda file, n: replaced(file, bytes(file.stat().st_size)),
    "replaced by another": lambda file, n: replaced(file, (INPUTS / f"other {file.name}").read_bytes()),
}
NUMBERED = {"EIO": range(12), "short read": range(12), "shrinks": range(8), "grows": range(3)}
MIDDLE = " in the middle"
# A list or a folder that is shorter or longer is one too: nothing in it tells.
LEFT_OUT = {(kind, "shrinks" + where) for kind in ("labels csv", "class names") for where in ("", MIDDLE)}
LEFT_OUT |= {("class names", "grows"), ("class names", "grows" + MIDDLE), ("shard of a folder", "removed")}


def reader_cell(name: str, fault: str, folder: Path, n: int) -> str:
    file_name, make, read = READERS[name]
    file = folder / file_name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    make(file, X)
    make(INPUTS / f"other {file_name}", X[::-1].copy())
    expected, other = (list(read(path)) for path in (file, INPUTS / f"other {file_name}"))
    content = file.read_bytes()

    def work() -> None:
        change = CHANGES[fault.removesuffix(MIDDLE)]
        if fault.endswith(MIDDLE):
            reading = read(file)
            found = [next(reading)]
            change(file, n)
            found += reading
        else:
            change(file, n)
            found = list(read(file))
        right = [expected] if "another" not in fault else [expected, other]
        if not any(all(map(np.array_equal, found, of)) for of in right):
            raise AssertionError("a wrong result")

    code, text = forked(work)
    if code not in (0, 3):
        return f"FAILED: ended with {code} {text}"
    if code == 3 and file_name not in text and str(folder) not in text and not text.startswith("labels must"):
        return f"FAILED: the error does not name the file: {text}"
    if file.is_dir():
        file.rmdir()
    elif file.exists():
        file.chmod(0o644)
    file.write_bytes(content)
    if not all(map(np.array_equal, read(file), expected)):
        return "FAILED: not to be repeated"
    return {0: "right", 3: "error"}[code]


def cells(every: bool, chosen: list[str]) -> Iterator[tuple[str, str, str]]:
    """Writer or reader, fault, and what came of each try: `every` of them, or the places in turn, one for each."""
    # Readers first: of the writers, extract brings PyTorch, and every later fork takes longer.
    for turn, name in enumerate(READERS):
        for i, fault in enumerate(CHANGES):
            if (chosen and name not in chosen) or not (every or (turn + i) % 2):
                continue
            for where in ("", MIDDLE):
                if (name, fault + where) in LEFT_OUT or (where and fault in ("EIO", "short read")):
                    continue
                if not (every or where or fault in ("EIO", "short read")):  # what is opened later is the easier case
                    continue
                if fault in ("EIO", "short read") and not hasattr(ctypes.CDLL(None), "fault"):
                    continue
                numbers = list(NUMBERED.get(fault, range(1)))
                some = numbers[::6]
                for n in numbers if every else some[turn % len(some) :][:1]:
                    yield name, fault + where, reader_cell(name, fault + where, INPUTS / "reading", n)
    for turn, (name, write) in enumerate(WRITERS.items()):
        if name not in (chosen or WRITERS) or (name == "report" and not every):  # whose pictures take seconds each time
            continue
        folder = INPUTS / name.replace(" ", "-")
        for version in ("old", "new"):
            (folder / version).mkdir(parents=True)
            write(folder / version, version == "new")
        for fault, (_, numbers) in WRITE_FAULTS.items():
            for n in numbers if every else [numbers[2 * (turn % 2)]]:
                yield name, fault, writer_cell(name, fault, folder, n)


def main() -> None:
    """Starts itself again with the shim, where a C compiler is; prints a line of JSON for each cell, then the table."""
    os.environ["OMP_NUM_THREADS"] = "1"
    compiler = shutil.which("cc")
    every, chosen = "all" in sys.argv, [name for name in sys.argv[1:] if name != "all"]
    if compiler and "FAULT_SHIM" not in os.environ and chosen != ["extract"]:  # which is no reader
        source, shim = INPUTS / "shim.c", INPUTS / "shim.so"
        source.write_text(SHIM)
        subprocess.run([compiler, "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
        environment = {**os.environ, "LD_PRELOAD": str(shim), "FAULT_SHIM": "1"}
        sys.exit(subprocess.run([sys.executable, *sys.argv], env=environment, check=False).returncode)
    warnings.simplefilter("ignore")
    simulated(INPUTS / "run1", False)
    simulated(INPUTS / "run2", True)
    for (name, fault), group in groupby(cells(every, chosen), lambda cell: cell[:2]):
        print(json.dumps([name, fault, Counter(result for *_, result in group)]), flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        INPUTS = Path(temporary)
        INPUTS.chmod(0o755)  # for who is nobody
        main()
