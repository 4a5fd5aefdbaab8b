"""The marks: what the benchmarks are to show, each a number of one run. Defined here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

OURS = "ccma_fast"
OURS_AVX2 = "ccma_fast, AVX2"

_DISTURBED = 10.0  # per cent

Benchmark = dict[str, Any]


class Measured(NamedTuple):
    """A number and the range that the quartiles of its times give."""

    value: float
    low: float
    high: float


def disturbed(*benchmarks: Benchmark) -> bool:
    """Whether other processes took so much of the machine that a ratio of these times says nothing."""
    return any((b["extra_info"].get("others_cpu_percent") or 0.0) > _DISTURBED for b in benchmarks)


def ratio(theirs: Benchmark, ours: Benchmark) -> Measured:
    """Their median time over ours."""
    a, b = theirs["stats"], ours["stats"]
    return Measured(a["median"] / b["median"], a["q1"] / b["q3"], a["q3"] / b["q1"])


def _times_faster(ours: Benchmark, peer: Benchmark) -> Measured:
    return ratio(peer, ours)


def _times_as_long(ours: Benchmark, peer: Benchmark) -> Measured:
    return ratio(ours, peer)


def _seconds(ours: Benchmark) -> Measured:
    stats = ours["stats"]
    return Measured(stats["median"], stats["q1"], stats["q3"])


def _million_rows_a_second(ours: Benchmark) -> Measured:
    seconds, millions = _seconds(ours), ours["extra_info"]["shape"]["M"] / 1e6
    return Measured(millions / seconds.value, millions / seconds.high, millions / seconds.low)


def _quality(name: str) -> Callable[[Benchmark], Measured]:
    return lambda ours: _exactly(ours["extra_info"]["quality"][name])


def _inertia(ours: Benchmark, peer: Benchmark) -> Measured:
    return _exactly(ours["extra_info"]["quality"][DISTANCE] / peer["extra_info"]["quality"][DISTANCE])


def _exactly(value: float) -> Measured:
    return Measured(value, value, value)


@dataclass(frozen=True)
class Mark:
    """A number to reach."""

    what: str
    """The number, with its unit."""
    title: str
    """Of the benchmarks that it comes from."""
    shape: Mapping[str, Any]
    """Which of those: the part of their shape that tells."""
    of: Callable[..., Measured]
    """The number of one benchmark, or of ours and the peer's."""
    peer: str | None = None
    ours: str = OURS
    at_least: float | None = None
    at_most: float | None = None

    @property
    def wanted(self) -> str:
        return f"≤ {self.at_most:g}" if self.at_least is None else f"≥ {self.at_least:g}"

    @property
    def bound(self) -> float:
        """The value that just meets the mark."""
        value = self.at_most if self.at_least is None else self.at_least
        assert value is not None, "a mark has one bound"
        return value

    def is_met(self, value: float) -> bool:
        """Whether `value` is on the right side."""
        return value >= self.bound if self.at_most is None else value <= self.bound


BOTH = "Two target-size thresholds and score"
KMEANS = "k-means, 10 iterations"
QUERY = "Query, student's logits given"
FILES = "Query on float16 files, student's training included"
HEAD = "Training of the student"

MILLION = {"N": 1_000_000, "threads": 2, "files": "one"}
PICKS = "picks as of one file [%]"
PEAK = "peak resident memory [GB]"
DISTANCE = "mean squared distance"

SCORED = {"M": 50_000, "C": 1_000}

MARKS = (
    Mark("scoring, C = 1000: × as fast as plain torch", BOTH, SCORED, _times_faster, "plain torch", at_least=100.0),
    Mark("scoring, C = 1000: million rows/s", BOTH, SCORED, _million_rows_a_second, at_least=1.5),
    Mark(
        "scoring, C = 1000: × as long as to copy the logits and exponentiate them",
        BOTH,
        SCORED,
        _times_as_long,
        "floor: copy, then exp",
        at_most=2.0,
    ),
    Mark(
        "scoring, C = 100: × as fast as plain torch",
        BOTH,
        {"M": 100_000, "C": 100},
        _times_faster,
        "plain torch",
        at_least=60.0,
    ),
    *(
        Mark(
            f"k-means, K = {k}: {what}",
            KMEANS,
            {"N": 100_000, "D": 768, "K": k, "weighted": False},
            of,
            peer,
            ours,
            **limit,
        )
        for k in (1_000, 5_000)
        for what, of, peer, ours, limit in (
            ("× as fast as FAISS", _times_faster, "FAISS", OURS, {"at_least": 4.0}),
            ("× as fast as SuperKMeans, flat", _times_faster, "SuperKMeans, flat", OURS, {"at_least": 3.0}),
            ("× as fast as scikit-learn", _times_faster, "scikit-learn Lloyd", OURS, {"at_least": 5.0}),
            ("× as fast as FAISS, held to AVX2", _times_faster, "FAISS", OURS_AVX2, {"at_least": 1.0}),
            ("inertia, × FAISS's", _inertia, "FAISS", OURS, {"at_most": 1.001}),
        )
    ),
    Mark(
        "published query, N = 50,000: × as fast as plain torch and FAISS",
        QUERY,
        {"config": "published"},
        _times_faster,
        "plain torch + FAISS",
        at_least=5.0,
    ),
    *(
        Mark(f"query, N = 1,000,000, {config}: {what}", FILES, {**MILLION, "config": config}, of, at_most=most)
        for config in ("default", "published score")
        for what, of, most in (("seconds", _seconds, 30.0), (PEAK, _quality(PEAK), 4.0))
    ),
    *(
        Mark(
            f"query, N = 1,000,000, {files.removeprefix('one, ')}: {PICKS}",
            FILES,
            {**MILLION, "files": files},
            _quality(PICKS),
            at_least=100.0,
        )
        for files in ("one, chunks of 4096", "one, chunks of 65536", "ten shards")
    ),
    Mark(
        "training of the student: × as fast as plain torch",
        HEAD,
        {"n": 2_000, "C": 100},
        _times_faster,
        "plain torch",
        at_least=3.0,
    ),
)


class Row(NamedTuple):
    """A mark beside what was measured."""

    mark: Mark
    measured: Measured
    disturbed: bool


def rows(benchmarks: Sequence[Benchmark]) -> list[Row]:
    """Every mark that the run has the numbers for."""
    found = []
    for mark in MARKS:
        group = {
            b["extra_info"]["contender"]: b
            for b in benchmarks
            if b["extra_info"]["title"] == mark.title and mark.shape.items() <= b["extra_info"]["shape"].items()
        }
        names = [mark.ours] if mark.peer is None else [mark.ours, mark.peer]
        if all(name in group for name in names):
            used = [group[name] for name in names]
            found.append(Row(mark, mark.of(*used), disturbed(*used)))
    return found
