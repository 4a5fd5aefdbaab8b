"""What becomes of the JSON of a run: marks, table and picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from . import marks, tabulate


def benchmark(title: str, contender: str, seconds: float, shape: dict[str, Any], **info: Any) -> dict[str, Any]:
    """As pytest-benchmark writes it: quartiles a tenth beside the median."""
    stats = {"median": seconds, "q1": 0.9 * seconds, "q3": 1.1 * seconds, "iqr": 0.2 * seconds, "min": 0.9 * seconds}
    extra = {"title": title, "contender": contender, "backend": "", "shape": shape, "dtype": "float32", "threads": 2}
    names = {"group": f"{title} {shape}", "fullname": f"{title} {shape} {contender}"}
    return {**names, "stats": {**stats, "rounds": 3}, "extra_info": {**extra, **info}}


SHAPE = {"N": 100_000, "D": 768, "K": 1_000, "weighted": False}
RUN = {
    "datetime": "2026-11-24T12:00:00",
    "commit_info": {"id": "0123456789abcdef", "dirty": False},
    "machine_info": {
        "cpu": "Some CPU",
        "architecture": "x86_64",
        "processors": 2,
        "memory_gib": 24.0,
        "system": "Linux",
        "instruction_sets": ["avx2"],
        "threads": 2,
        "backend": "cpu",
        "versions": {"ccma_fast": "0.1.0"},
        "openblas": [],
    },
    "benchmarks": [
        benchmark(marks.KMEANS, marks.OURS, 1.0, SHAPE, quality={marks.DISTANCE: 0.5}),
        benchmark(marks.KMEANS, "FAISS", 5.0, SHAPE, quality={marks.DISTANCE: 0.499}),
        benchmark(marks.KMEANS, "SuperKMeans, flat", 2.0, SHAPE),
        benchmark(marks.KMEANS, "scikit-learn Lloyd", 9.0, SHAPE, others_cpu_percent=12.0),
        *(
            benchmark(f"{marks.KMEANS}: growth", marks.OURS, n / 1e5, {"N": n, "K": 1_000, "threads": 2})
            for n in (10_000, 100_000)
        ),
    ],
}


def test_marks() -> None:
    found = {row.mark.what: row for row in marks.rows(RUN["benchmarks"])}
    assert len(found) == 4, "those that there are numbers for"
    faiss = found["k-means, K = 1000: × as fast as FAISS"]
    assert faiss.measured == pytest.approx((5.0, 4.5 / 1.1, 5.5 / 0.9))
    assert faiss.mark.is_met(faiss.measured.value)
    inertia = found["k-means, K = 1000: inertia, × FAISS's"]
    assert not inertia.mark.is_met(inertia.measured.value)
    assert not found["k-means, K = 1000: × as fast as SuperKMeans, flat"].disturbed
    assert found["k-means, K = 1000: × as fast as scikit-learn"].disturbed


def test_table() -> None:
    lines = tabulate.report(RUN).splitlines()
    assert "| k-means, K = 1000: × as fast as FAISS | ≥ 4 | 5 | 4.091 | 6.111 | yes |" in lines
    assert "| k-means, K = 1000: inertia, × FAISS's | ≤ 1.001 | 1.002 | 1.002 | 1.002 | no |" in lines
    assert sum("disturbed" in line for line in lines) == 2, "the mark and the ratio"


def test_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from .picture import figure

    figure(RUN).savefig(tmp_path / "run.png")
    assert (tmp_path / "run.png").stat().st_size > 10_000


def test_parts_of_a_run() -> None:
    first, second = ({**RUN, "benchmarks": part} for part in (RUN["benchmarks"][:3], RUN["benchmarks"][2:]))
    second["machine_info"] = {**RUN["machine_info"], "openblas": ["faiss: 0.3"]}
    whole = tabulate.joined([first, second])
    assert whole["benchmarks"] == RUN["benchmarks"]
    assert whole["machine_info"]["openblas"] == ["faiss: 0.3"]
    for key, value in (("machine_info", {"cpu": "Another"}), ("commit_info", {"id": "f" * 16})):
        with pytest.raises(ValueError, match="expected parts of one run"):
            tabulate.joined([first, {**second, key: {**RUN[key], **value}}])
