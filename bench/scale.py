"""What each strategy costs on a pool of a million rows: seconds of one query and peak memory, each in its own process.

    python -m bench.scale --out DIR                      # every registered strategy
    python -m bench.scale --out DIR --strategies ccma badge --rows 100000

The pool is seeded and made up (class structure, power-law spectrum): float16 .npy files, memory-mapped. The student is
fitted beforehand; what is timed is the strategy's answer. Memory is the process's own, without the pages of the pool
files that the system maps and can drop (`VmHWM` would count those), sampled while the strategy runs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

import ccma_fast as cf
from ccma_fast import strategies
from ccma_fast.backends.choose import choose_backend
from ccma_fast.pool.open import open_rows
from ccma_fast.steps.train import train

from . import data
from .tabulate import table

D, C, N_LABELLED, BUDGET = 512, 100, 2_000, 100


def main() -> None:
    arguments = _arguments()
    if arguments.one:
        print(json.dumps(measured(arguments.out, arguments.one)))
        return
    data.write_pool(arguments.out, arguments.rows, D, D, C)
    rows = []
    for name in arguments.strategies or sorted(strategies.names()):
        command = [sys.executable, "-m", "bench.scale", "--out", str(arguments.out), "--one", name]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            rows.append([name, f"failed with exit code {done.returncode}", "", ""])
        else:
            found = json.loads(done.stdout.splitlines()[-1])
            rows.append([name, f"{found['seconds']:.1f}", f"{found['cpu_seconds']:.1f}", f"{found['gib']:.2f}"])
        print(" ".join(rows[-1]), flush=True)
    header = ["strategy", "seconds", "CPU seconds, all threads", "peak own memory [GiB]"]
    heading = (
        f"# One query on {arguments.rows:,} rows\n\nD = {D} float16, C = {C}, {N_LABELLED:,} labels, {BUDGET} picks; "
        f"{choose_backend().describe()}, ccma_fast {cf.__version__}, NumPy {np.__version__}.\n\n"
    )
    (arguments.out / "scale.md").write_text(heading + table(header, rows) + "\n")


def measured(out: Path, name: str) -> dict[str, float]:
    """One query of one strategy."""
    features = open_rows(out / "features.npy", "features")
    labels = data.partly_labelled(np.load(out / "truth.npy"), N_LABELLED)
    labelled, backend = np.flatnonzero(labels >= 0), choose_backend()
    teacher = cf.Teacher(out / "image_features.npy", out / "class_features.npy")
    state = strategies.Round(
        features=features,
        labels=labels,
        n_classes=C,
        budget=BUDGET,
        trained=train(
            None,
            features,
            labelled,
            labels[labelled],
            C,
            teacher=teacher,
            teacher_source=teacher.source,
            config=cf.CCMAConfig(),
            rng=np.random.default_rng(0),
            backend=backend,
        ),
        teacher=teacher,
        config=cf.CCMAConfig(),
        rng=np.random.default_rng(0),
        backend=backend,
    )
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[1]))

    watcher = threading.Thread(target=watch)
    watcher.start()
    start, before = time.perf_counter(), os.times()
    strategies.pick(strategies.find(name), state)
    seconds, after = time.perf_counter() - start, os.times()
    done.set()
    watcher.join()
    cpu = after.user + after.system - before.user - before.system
    return {"seconds": seconds, "cpu_seconds": cpu, "gib": peak / 2**20}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the pool (4 GB at the default size) and table"
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the pool (default: 1,000,000)")
    parser.add_argument("--strategies", nargs="+", help="some of them (default: all)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
