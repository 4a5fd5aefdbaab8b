"""What a process keeps resident while each reader streams a million rows.

    python -m bench.resident --out DIR                          # every format, 1,000,000 × 768 float16
    python -m bench.resident --out DIR --formats .npy datasets --rows 100000

Each format is written, read in a process of its own and deleted. That process opens the rows, reads all of them in
order twice, once as a query reads the unlabelled ones (all but every thousandth), and then the others; its peak is
``VmHWM`` of /proc, everything included: interpreter, libraries, and the pages of mapped files.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import ccma_fast as cf
from ccma_fast.pool.derived import RowSubset
from ccma_fast.pool.open import open_rows

from . import formats
from .tabulate import table

D = 768


def main() -> None:
    arguments = _arguments()
    if arguments.one:
        print(json.dumps(measured(*arguments.one)))
        return
    rows = []
    for name in arguments.formats or formats.FORMATS:
        if not formats.is_installed(name):
            continue
        folder = arguments.out / "resident"
        folder.mkdir(parents=True)
        # In a process of its own as well, so that what it keeps does not matter.
        for step in ("write", "read"):
            command = [sys.executable, "-m", "bench.resident", "--out", str(arguments.out), "--one", step, name]
            done = subprocess.run([*command, str(arguments.rows)], stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        rows.append([name, *(f"{found[key]:.2f}" for key in ("start", "peak")), f"{found['seconds']:.1f}"])
        print(" | ".join(rows[-1]), flush=True)
        formats.remove(folder)
    header = ["format", "resident at start [GB]", "peak resident [GB]", "four passes [s]"]
    heading = (
        f"# Resident memory while {arguments.rows:,} × {D} float16 are streamed\n\nccma_fast {cf.__version__}.\n\n"
    )
    (arguments.out / "resident.md").write_text(heading + table(header, rows) + "\n")


def measured(step: str, name: str, n_rows: str) -> dict[str, float]:
    """Write a format, or read it and tell the peak."""
    folder = _arguments().out / "resident"
    if step == "write":
        stored = formats.store(name, folder, int(n_rows), D)
        source = str(folder / "dataset") if name == "datasets" else str(stored.source)
        (folder / "source.txt").write_text(source)
        return {}
    source: Any = (folder / "source.txt").read_text()
    if name == "datasets":
        import datasets

        source = datasets.load_from_disk(source)
    start = _resident("VmRSS")
    begin = time.perf_counter()
    rows = open_rows(source, "features")
    total = sum(float(chunk[:, 0].sum(dtype=np.float64)) for _ in range(2) for _, chunk in rows.chunks())
    for step_ in (np.arange(rows.n_rows) % 1000 != 0, np.arange(rows.n_rows) % 1000 == 0):
        for _, chunk in RowSubset(rows, np.flatnonzero(step_)).chunks():
            total -= 2 * float(chunk[:, 0].sum(dtype=np.float64))
    assert abs(total) < 1e-3 * rows.n_rows, "all rows were read as often"
    return {"start": start, "peak": _resident("VmHWM"), "seconds": time.perf_counter() - begin}


def _resident(key: str) -> float:
    """GB that this process has, or had at its peak, in memory."""
    found = re.search(rf"{key}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None, "Linux has it"
    return int(found[1]) * 1024 / 1e9


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the files (3 GB at a time) and the table")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows (default: 1,000,000)")
    parser.add_argument("--formats", nargs="+", choices=list(formats.FORMATS), help="some of them (default: all)")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
