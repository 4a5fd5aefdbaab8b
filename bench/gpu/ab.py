"""Two variants of one kernel in turn, each in a process of its own that holds its data, in one call."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["KERNELS", "Variant", "compare", "serve", "variant"]

ROOT = Path(__file__).resolve().parents[2]

# A setting of what `_configs` holds: NAME=VALUE.
_SETTING = re.compile(r"([A-Z_][A-Z_0-9]*)=(.+)", re.S)


class Variant(NamedTuple):
    """A package to measure."""

    name: str
    path: Path
    """The folder that has ``ccma_fast`` in it."""
    setting: str
    """What to execute in the kernels' ``_configs``, or nothing."""


def compare(kernel: str, variants: list[Variant], *, rounds: int, small: bool, options: dict[str, str]) -> int:
    """Prints the median, the fastest and the spread of each variant, and the ratio of the medians.

    Rounds alternate, so that what the card's clocks do in the meantime happens to both. Each is the mean of as many
    runs as take some 20 ms.
    """
    with contextlib.ExitStack() as stack:
        served = [stack.enter_context(_served(kernel, of, small=small, options=options)) for of in variants]
        times: list[list[float]] = [[] for _ in variants]
        for number in range(rounds):
            # First the one, then the other.
            for i in range(len(variants)) if number % 2 == 0 else reversed(range(len(variants))):
                times[i].append(served[i]())
    medians = [statistics.median(of) for of in times]
    for of, found, median in zip(variants, times, medians, strict=True):
        low, _, high = statistics.quantiles(found, n=4) if len(found) > 1 else (median,) * 3
        line = {"variant": of.name, "ms": median, "quartiles": [low, high], "fastest": min(found), "rounds": rounds}
        print(json.dumps({"kernel": kernel, **line}), flush=True)
    print(f"{variants[0].name} / {variants[1].name} = {medians[0] / medians[1]:.4f}")
    return 0


@contextlib.contextmanager
def _served(kernel: str, of: Variant, *, small: bool, options: dict[str, str]) -> Iterator[Callable[[], float]]:
    command = [sys.executable, "-m", "bench.gpu", "ab-serve", kernel, "--setting", of.setting]
    command += [f"--{name}={value}" for name, value in options.items()] + (["--small"] if small else [])
    with tempfile.TemporaryDirectory() as folder:
        # Python looks for packages where it is started: there it must find the benchmarks, and not the sources.
        (Path(folder) / "bench").symlink_to(ROOT / "bench")
        path = os.pathsep.join([str(of.path), *filter(None, [os.environ.get("PYTHONPATH")])])
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder,
            env={**os.environ, "PYTHONPATH": path},
        ) as process:  # fmt: skip
            stdin, stdout = process.stdin, process.stdout
            assert stdin is not None
            assert stdout is not None

            def once() -> float:
                stdin.write("\n")
                stdin.flush()
                line = stdout.readline()
                if not line:
                    raise RuntimeError(f"{of.name} ended: see what it printed above")
                return float(line)

            try:
                yield once
            finally:
                stdin.close()  # it ends with its input


def serve(kernel: str, *, small: bool, setting: str, options: dict[str, Any]) -> None:
    """Prints the ms of one round for each line that comes in."""
    from .launches import prepare

    prepare()
    if setting:
        configs = importlib.import_module("ccma_fast.kernels._configs")
        exec(setting, configs.__dict__)  # before the kernels take their tiles
    from .problems import seconds, sizes

    run = KERNELS[kernel](sizes(small=small), options)
    took = seconds(run, rounds=3)
    repeats = 1 if small else max(1, int(0.02 / took))

    def several() -> None:
        for _ in range(repeats):
            run()

    for _ in sys.stdin:
        print(1e3 * seconds(several, rounds=1) / repeats, flush=True)


@contextlib.contextmanager
def variant(text: str) -> Iterator[Variant]:
    """The variant that an argument of the command line names: a folder, a setting, or a commit."""
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        if Path(text).is_dir():
            if not (Path(text) / "ccma_fast").is_dir():
                raise ValueError(f"there is no ccma_fast in the folder {text}")
            yield Variant(text, _package(Path(text).resolve(), site), "")
        elif setting := _SETTING.fullmatch(text):
            configs = (ROOT / "kernels" / "_configs.py").read_text("utf-8")
            if not re.search(rf"^{setting[1]}\b.* = ", configs, re.M):  # both variants would be the same
                raise ValueError(f"there is no {setting[1]} in kernels/_configs.py")
            yield Variant(text, _package(ROOT, site), text)
        else:
            tree = Path(folder) / "tree"
            tree.mkdir()
            command = ["git", "archive", text]
            try:
                archive = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
            except (OSError, subprocess.CalledProcessError) as error:
                raise ValueError(f"{text} is neither a folder, nor NAME=VALUE, nor a commit") from error
            subprocess.run(["tar", "-x", "-C", str(tree)], input=archive, check=True)
            yield Variant(text, _package(tree, site), "")


def _package(source: Path, site: Path) -> Path:
    """A folder with the package of a source folder, whose kernels lie beside it, and the core that is installed."""
    package = site / "ccma_fast"
    package.mkdir(parents=True)
    for path in (source / "ccma_fast").iterdir():
        (package / path.name).symlink_to(path)
    if not (package / "kernels").exists():
        (package / "kernels").symlink_to(source / "kernels")
    elsewhere = [path for path in sys.path if Path(path or ".").resolve() != ROOT]
    found = PathFinder.find_spec("ccma_fast", elsewhere)
    for folder in (found.submodule_search_locations or []) if found else []:
        for core in Path(folder).glob("_core*.so"):
            if not (package / core.name).exists():
                (package / core.name).symlink_to(core.resolve())
    return site


def _assign(size: Any, options: dict[str, Any]) -> Callable[[], Any]:
    import torch
    from ccma_fast.kernels import kmeans_assign

    from .problems import random_rows

    x, centroids = _rows(size, options), 0.7 * random_rows(size.clusters, options["columns"], 1, torch.float32)
    prepared = kmeans_assign.prepare_centroids(centroids, x[:2048].float().mean(dim=0))
    lengths = torch.full((len(x),), 1.01, device=x.device)
    return lambda: kmeans_assign.nearest(x, None, lengths, prepared)


def _update(size: Any, options: dict[str, Any]) -> Callable[[], Any]:
    import torch

    from .clusters import means

    x = _rows(size, options)
    labels = torch.randint(size.clusters, (len(x),), device=x.device, dtype=torch.int32)
    weights, start = torch.rand(len(x), device=x.device), torch.zeros((size.clusters, x.shape[1]), device=x.device)
    return lambda: means(x, weights, labels, start)


def _logits(size: Any, options: dict[str, Any]) -> tuple[Any, Any]:
    from .problems import random_logits

    n_rows = max(35, size.logits // options["classes"])
    student, teacher = (random_logits(n_rows, options["classes"], _dtype(options), seed) for seed in (0, 1))
    return student, teacher


def _score(size: Any, options: dict[str, Any]) -> Callable[[], Any]:
    import torch
    from ccma_fast.kernels import conformal_score

    student, teacher = _logits(size, options)
    into = conformal_score.Scores.empty(len(student), student.device, with_teacher=True)
    cut = torch.tensor([5.0], dtype=torch.float64, device=student.device)
    bad = torch.full((1,), 2**63 - 1, device=student.device)
    return lambda: conformal_score.conformal_score(student, teacher, cut, cut, into, bad)


def _threshold(size: Any, options: dict[str, Any]) -> Callable[[], Any]:
    from ccma_fast.backends import cuda
    from ccma_fast.pool.open import open_rows

    rows = open_rows(_logits(size, options)[0], "z")
    return lambda: cuda.target_size_threshold(rows, 5.0)


def _features(size: Any, options: dict[str, Any]) -> Callable[[], Any]:
    from .scores import pool_score

    return pool_score(size)


def _rows(size: Any, options: dict[str, Any]) -> Any:
    from .problems import random_rows

    return random_rows(size.rows, options["columns"], 0, _dtype(options))


def _dtype(options: dict[str, Any]) -> Any:
    import torch

    return getattr(torch, options["dtype"])


KERNELS: dict[str, Callable[[Any, dict[str, Any]], Callable[[], Any]]] = {
    "assign": _assign, "update": _update, "score": _score, "threshold": _threshold, "features": _features,
}  # fmt: skip
"""What can be compared: each makes its data and gives what to run."""
