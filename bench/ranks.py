"""A query on several ranks: its time beside one process on the same cores, and a model of pools of 10⁸ and 10⁹ rows.

    python -m bench.ranks --out DIR              # both, into DIR/ranks.md
    python -m bench.ranks --out DIR --repeats 0  # the model alone

Measured: two ranks with one thread each against one process with two threads, on the same two cores and the same folder
of shards, in turns; each in processes of its own, and timed is the call of ``select``. Modelled: machines like this one
on a network, by :mod:`ccma_fast.query.cost_model` and the rates that it measures here.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

import ccma_fast as cf
from ccma_fast.backends.choose import choose_backend
from ccma_fast.pool.arrays import ArrayRows
from ccma_fast.pool.rows import Chunk, Rows
from ccma_fast.query.acquisitions.table import ACQUISITIONS
from ccma_fast.query.cost_inputs import CostInputs
from ccma_fast.query.cost_model import forecast
from ccma_fast.query.rank_plan import RankPlan, Seconds
from ccma_fast.query.rates import Rates, machine_rates
from ccma_fast.query.wire_costs import Network
from ccma_fast.system.memory import Memory
from ccma_fast.system.ranks import ranks_of_environment

from . import data
from .tabulate import table

# What is measured.
ROWS, D, C, N_LABELLED, BUDGET, SHARDS = 1_000_000, 256, 100, 2_000, 100, 16
CASES = ("default", "cold start")

# What is modelled: rows and ranks of each pool, and its columns, classes, labels and picks.
POOLS = ((10**8, 8), (10**9, 64))
MODEL_D, MODEL_C, MODEL_LABELLED, MODEL_BUDGET = 768, 1_000, 10_000, 10_000

# Cores of the larger machines of the model, of which all compute as those of this one do.
MANY_CORES = 64


def main() -> None:
    arguments = _arguments()
    if arguments.one:
        _print_one(arguments.out, arguments.one)
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    texts = [f"# A query on several ranks\n\n{_machine()}\n"]
    if arguments.repeats:
        data.write_pool(arguments.out, arguments.rows, D, D, C)
        for name in ("features", "image_features"):
            data.write_shards(arguments.out / f"{name}.npy", SHARDS)
        texts += [_measured(arguments.out, case, arguments.repeats, arguments.rows) for case in CASES]
    texts.append(_modelled())
    (arguments.out / "ranks.md").write_text("\n".join(texts))
    print("\n".join(texts))


# ---------------------------------------------------------------------------------------------------------------------
# Measured


def _print_one(out: Path, case: str) -> None:
    """One query, in a process of torchrun or alone; the first rank prints what it took."""
    truth = np.load(out / "truth.npy")
    labels = data.partly_labelled(truth, N_LABELLED) if case == "default" else None
    teacher = cf.Teacher(out / "image_features", out / "class_features.npy") if case == "default" else None
    with ranks_of_environment() as ranks:
        start, before = time.perf_counter(), time.process_time()
        picks = cf.select(out / "features", BUDGET, labels=labels, teacher=teacher, group=ranks)
        seconds, cpu = time.perf_counter() - start, [time.process_time() - before]
        if ranks is not None:
            cpu = ranks.gather(cpu[0]) or []
        if cpu:
            report = picks.report
            stages = {name: stage.seconds for name, stage in report.stages.items()}
            told = {"seconds": seconds, "cpu": sum(cpu), "stages": stages, "picks": picks.indices.tolist()}
            if ranks is not None:
                told |= {"exchanged": report.bytes_exchanged, "planned": report.plan.bytes_exchanged}
            print(json.dumps(told), flush=True)


def _measured(out: Path, case: str, repeats: int, n_rows: int) -> str:
    whole = [sys.executable, "-m", "bench.ranks", "--out", str(out), "--one", case]
    of_ranks = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *whole[1:]]
    ones, twos, loads = [], [], []
    for turn in range(repeats + 1):
        pair = _ran(whole, 2), _ran(of_ranks, 1)
        assert pair[0]["picks"] == pair[1]["picks"], "ranks pick what one process picks"
        loads.append(os.getloadavg()[0])
        if turn:  # the first one brings the files into memory
            ones.append(pair[0])
            twos.append(pair[1])
        print(case, *(f"{found['seconds']:.2f}" for found in pair), f"load {loads[-1]:.1f}", flush=True)
    one, two = (median(found["seconds"] for found in of) for of in (ones, twos))
    ratios = [two["seconds"] / one["seconds"] for one, two in zip(ones, twos, strict=True)]
    rows = [
        [name, *(f"{median(found['stages'][name] for found in of):.2f}" for of in (ones, twos))]
        for name in ones[0]["stages"]
    ]
    rows.append(["whole call", f"{one:.2f}", f"{two:.2f}"])
    rows.append(["CPU, all threads", *(f"{median(found['cpu'] for found in of):.2f}" for of in (ones, twos))])
    exchanged = twos[0]["exchanged"] / 1e6
    return (
        f"## Measured: {case}\n\n{n_rows:,} rows of {D} float16 in {SHARDS} shards, C = {C}, {BUDGET} picks"
        f"{f', {N_LABELLED:,} labels and a teacher' if case == 'default' else ''}. Seconds, medians of {repeats} "
        f"turns; the ratio of each turn lies between {min(ratios):.2f} and {max(ratios):.2f}, its median is "
        f"**{median(ratios):.2f}**. {exchanged:.1f} MB exchanged, {twos[0]['planned'] / 1e6:.1f} MB expected. "
        f"The load average was {min(loads):.1f} to {max(loads):.1f}: what is above 2 is of other processes.\n\n"
        + table(["stage", "one process, two threads", "two ranks, one thread each"], rows)
        + "\n"
    )


def _ran(command: list[str], n_threads: int) -> dict[str, Any]:
    environment = {**os.environ, "CCMA_NUM_THREADS": str(n_threads), "OMP_NUM_THREADS": str(n_threads)}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Modelled


class _Planned(Rows):
    """A matrix of float16 in mapped files that is planned for, and not there."""

    is_mapped = True

    def __init__(self, name: str, n_rows: int, n_columns: int) -> None:
        self.name, self.n_rows, self.n_columns, self.bytes_read = name, n_rows, n_columns, 0

    @property
    def row_bytes(self) -> int:
        return 2 * self.n_columns

    def slice(self, start: int, stop: int) -> Chunk:
        raise NotImplementedError

    def take(self, indices: npt.NDArray[np.int64]) -> Chunk:
        raise NotImplementedError


def _plan(n_rows: int, n_ranks: int, rates: Rates, *, cold: bool) -> RankPlan:
    pool, teacher = (_Planned(name, n_rows, MODEL_D) for name in ("features", "image_features"))
    given = _given(pool, None if cold else teacher, n_ranks=n_ranks, cold=cold)
    planned = forecast(given, ACQUISITIONS["coverage"], rates, network=Network())
    assert isinstance(planned, RankPlan)
    return planned


def _given(pool: Rows, teacher: Rows | None, *, n_ranks: int, cold: bool) -> CostInputs:
    """What a plan of the default query follows from, or of a cold start."""
    n_labelled = 0 if cold else MODEL_LABELLED
    scored = () if cold else (pool,)
    n = pool.n_rows - n_labelled
    return CostInputs(
        config=cf.CCMAConfig(),
        memory=Memory(16 << 30),
        chunk_size=None,
        pool=pool,
        student_logits=None,
        teacher=teacher,
        space=pool,
        posteriors=scored,
        computed=scored,
        lazy=frozenset(scored),
        n_labelled=n_labelled,
        n_covered=n_labelled,
        n_population=pool.n_rows,
        n_unlabelled=n,
        has_labels=not cold,
        n_left=n,
        n_scored=n,
        n_classes=0 if cold else MODEL_C,
        budget=MODEL_BUDGET,
        cold=cold,
        class_bytes=0,
        has_spacing=False,
        forms_sets=False,
        head="" if cold else "distilled",
        has_brackets=True,
        n_ranks=n_ranks,
    )


def _modelled() -> str:
    rates = _rates()
    factor = MANY_CORES / _n_cores()
    texts = [
        f"## Modelled: {', '.join(f'{n_rows:.0e} rows on {n_ranks} machines' for n_rows, n_ranks in POOLS)}\n\n"
        f"x and v of {MODEL_D} float16 each, C = {MODEL_C:,}, {MODEL_BUDGET:,} picks; the default query has "
        f"{MODEL_LABELLED:,} labels and a teacher. One rank a machine, network of {Network()} for each. Nothing of "
        "this was run: it follows from the rates of this machine, shapes, and the messages that "
        "`ccma_fast/query/wire_costs.py` lists, whose payload agrees within 10 % with what is counted on small pools "
        f"(`tests/query/test_wire_costs.py`). Measured here were {rates.products / 1e9:.1f} · 10⁹ multiply-adds, "
        f"{rates.read / 1e9:.2f} GB validated from memory and {rates.scored / 1e6:.0f} · 10⁶ pairs of logits a "
        "second; storage has to read as fast. Machines of more cores are taken to read and compute their rows "
        f"{factor:.0f} times as fast as this one of {_n_cores()}, and what the first rank does alone not at all. Reads "
        "and messages of the k-means are upper bounds (20 iterations), its work is that of 10. Sending is what goes "
        "through the first machine's link, one message after the other.\n"
    ]
    header = ["query", "rows", "machines", "cores of each", "minutes", *Seconds.__dataclass_fields__]
    rows, stages = [], []
    for n_rows, n_ranks in POOLS:
        for cold in (False, True):
            plan = _plan(n_rows, n_ranks, rates, cold=cold)
            what = "cold start" if cold else "default"
            assert plan.spent is not None
            for cores, times in ((_n_cores(), 1.0), (MANY_CORES, factor)):
                of = replace(plan.spent, reading=plan.spent.reading / times, computing=plan.spent.computing / times)
                whole = sum(vars(of).values())
                shares = [f"{100 * seconds / whole:.1f} %" for seconds in vars(of).values()]
                rows.append([what, f"{n_rows:.0e}", str(n_ranks), str(cores), f"{whole / 60:,.1f}", *shares])
            stages.append(
                f"### {what}, {n_rows:.0e} rows, {n_ranks} machines of {_n_cores()} cores\n\n{_of_stages(plan)}\n"
            )
    return "\n".join([*texts, table(header, rows) + "\n", *stages])


def _rates() -> Rates:
    rows = np.random.default_rng(0).standard_normal((100_000, MODEL_D), dtype=np.float32).astype(np.float16)
    given = _given(ArrayRows(rows, "features"), None, n_ranks=1, cold=False)
    return machine_rates(given, choose_backend())


def _of_stages(plan: RankPlan) -> str:
    header = ["stage", *(f"{name} [s]" for name in Seconds.__dataclass_fields__), "GB read by each"]
    header += ["GB exchanged by the first", "GB by another", "messages", "GB of memory, first", "GB, another"]
    rows = []
    for name, stage in {**plan.stages, "total": None}.items():
        of = plan if stage is None else stage
        first, other = (plan.of_rank(which) if stage is None else getattr(stage, which) for which in ("first", "other"))
        assert of.spent is not None
        sizes = (other.bytes_read, first.bytes_exchanged, other.bytes_exchanged)
        memory = (first.peak_memory, other.peak_memory)
        rows.append(
            [
                name,
                *(f"{seconds:,.1f}" for seconds in vars(of.spent).values()),
                *(f"{size / 1e9:,.3f}" for size in sizes),
                f"{of.messages:,}",
                *(f"{size / 1e9:,.2f}" for size in memory),
            ]
        )
    return table(header, rows)


# ---------------------------------------------------------------------------------------------------------------------


def _n_cores() -> int:
    return len(os.sched_getaffinity(0))


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    import torch

    return (
        f"`python -m bench.ranks`, ccma_fast {cf.__version__}, {choose_backend().describe()}, {model}, {_n_cores()} "
        f"cores, Python {platform.python_version()}, torch {torch.__version__} (gloo over the loopback interface), "
        f"NumPy {np.__version__}."
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the pool (2 GB at the default size) and table"
    )
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of the pool that is measured (default: 1,000,000)")
    parser.add_argument("--repeats", type=int, default=5, help="turns that are measured; 0 for the model alone")
    parser.add_argument("--one", choices=CASES, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
