"""`select` on a pool that lies in files: seconds, bytes and memory beside the plan, each run in its own process.

    python -m bench.out_of_core --out DIR                # a million rows: 3.6 GB of files, and of shards

The pool is seeded and made up (class structure, power-law spectrum). Every configuration is run on one file in chunks
of the default size, of 4,096 and of 65,536 rows, and on ten shards; the picks must be the same. Peak memory is what the
system says of the process's whole life (`ru_maxrss`), mapped files included.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import ccma_fast as cf

from .tabulate import table

D_STUDENT, D_TEACHER, C, N_LABELLED, BUDGET = 768, 1024, 1000, 2_000, 1000
N_SHARDS, N_AT_ONCE = 10, 20_000

CONFIGS = {"default": {}, "published": {"acquisition": "delta", "calibration": "target_size"}}
RUNS = {"one file": ("", None), "4,096": ("", 4096), "65,536": ("", 65_536), "ten shards": ("-shards", None)}


def main() -> None:
    arguments = _arguments()
    if arguments.one:
        print(json.dumps(measured(arguments.out, *arguments.one)))
        return
    make_pool(arguments.out, arguments.rows)
    rows, picks = [], {}
    for config in CONFIGS:
        for run in RUNS:
            command = [sys.executable, "-m", "bench.out_of_core", "--out", str(arguments.out), "--one", config, run]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            if picks.setdefault(config, found["picks"]) != found["picks"]:
                raise SystemExit(f"{config}, {run}: other picks than from one file")
            numbers = [found[name] / 1e9 for name in ("read", "expected_read", "most", "peak", "expected_peak")]
            rows.append([config, run, f"{found['seconds']:.1f}", *(f"{number:.2f}" for number in numbers)])
            print(" ".join(rows[-1]), found["stages"], flush=True)
    header = ["configuration", "files, chunks", "seconds", "read [GB]", "expected"]
    header += ["peak of the process [GB]", "peak of the query [GB]", "expected"]
    print(table(header, rows))


def make_pool(out: Path, n_rows: int) -> None:
    """Files and shards of features, class directions and labels, where they are not there yet."""
    if (out / "labels.npy").exists():
        return
    rng = np.random.default_rng(1)
    truth = rng.integers(0, C, n_rows)
    for name, d in (("features", D_STUDENT), ("image_features", D_TEACHER)):
        (out / f"{name}-shards").mkdir(parents=True, exist_ok=True)
        rotation = np.linalg.qr(rng.standard_normal((d, d)))[0].astype(np.float32)
        directions = (np.arange(1, d + 1, dtype=np.float32) ** -0.5)[:, None] * rotation
        centres = rng.standard_normal((C, d), dtype=np.float32) @ directions
        whole = np.lib.format.open_memmap(out / f"{name}.npy", "w+", np.float16, (n_rows, d))
        for start in range(0, n_rows, N_AT_ONCE):
            of = truth[start : start + N_AT_ONCE]
            x = 2.0 * (rng.standard_normal((of.size, d), dtype=np.float32) @ directions) + centres[of]
            whole[start : start + of.size] = x / np.linalg.norm(x, axis=1, keepdims=True)
        for i, (start, stop) in enumerate(zip(*_shards(n_rows), strict=True)):
            np.save(out / f"{name}-shards" / f"{i}.npy", whole[start:stop])
    np.save(out / "classes.npy", centres + 0.75 * (rng.standard_normal(centres.shape, dtype=np.float32) @ directions))
    labels = np.full(n_rows, -1)
    labelled = rng.choice(n_rows, min(N_LABELLED, n_rows // 2), replace=False)
    labels[labelled] = truth[labelled]
    np.save(out / "labels.npy", labels)


def _shards(n_rows: int) -> tuple[list[int], list[int]]:
    bounds = np.linspace(0, n_rows, N_SHARDS + 1).astype(int).tolist()
    return bounds[:-1], bounds[1:]


def measured(out: Path, config: str, run: str) -> dict[str, object]:
    """One query."""
    suffix, chunk_size = RUNS[run]
    x, v = (out / (f"{name}{suffix}" if suffix else f"{name}.npy") for name in ("features", "image_features"))
    teacher, labels = cf.Teacher(v, out / "classes.npy"), np.load(out / "labels.npy")
    start = time.perf_counter()
    picks = cf.select(
        x, BUDGET, labels=labels, teacher=teacher, config=cf.CCMAConfig(**CONFIGS[config]), chunk_size=chunk_size
    )
    seconds, report = time.perf_counter() - start, picks.report
    assert report.plan is not None
    return {
        "seconds": seconds,
        "stages": {name: round(stage.seconds, 2) for name, stage in report.stages.items()},
        "read": report.bytes_read,
        "expected_read": report.plan.bytes_read,
        "most": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10,
        "peak": report.peak_memory,
        "expected_peak": report.plan.peak_memory,
        "picks": picks.indices.tolist(),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the pool")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the pool (default: 1,000,000)")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
