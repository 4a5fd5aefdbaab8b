"""The picture of a benchmark run: how far each mark was reached, and how the costs grow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ccma_fast.research.plots import BLUE, GREY, VERMILION

from . import marks
from .marks import OURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Title of the benchmarks, what grows, and what must be fixed meanwhile.
GROWTH = (
    ("k-means: rows N", f"{marks.KMEANS}: growth", "N", {"K": 1_000}),
    ("k-means: clusters K", f"{marks.KMEANS}: growth", "K", {"N": 100_000}),
    ("thresholds and score: rows M", f"{marks.BOTH}: growth", "M", {}),
    ("query on files: rows N", marks.FILES, "N", {"config": "default", "files": "one"}),
)


def figure(run: dict[str, Any]) -> Figure:
    """Marks on the left, one line each; costs on the right, as far as the run has them."""
    from matplotlib.figure import Figure

    benchmarks = run["benchmarks"]
    growing = [(panel, curves) for panel in GROWTH if (curves := _curves(benchmarks, *panel[1:]))]
    found = marks.rows(benchmarks)
    whole = Figure(figsize=(13, max(3.0, 0.32 * len(found) + 1.2, 2.9 * -(-len(growing) // 2))), layout="constrained")
    left, right = whole.subfigures(1, 2, width_ratios=(1.1, 1)) if growing else (whole.subfigures(1, 1), None)
    _draw_marks(left.subplots(), found)
    if right is not None:
        axes = right.subplots(-(-len(growing) // 2), 2, squeeze=False).flat
        for ax, (panel, curves) in zip(axes, growing, strict=False):
            _draw_growth(ax, panel[0], panel[2], curves)
        for ax in list(axes)[len(growing) :]:
            ax.set_axis_off()
    machine, commit = run["machine_info"], run["commit_info"]
    versions = machine["versions"]
    whole.suptitle(
        f"{machine['cpu']}, {machine['threads']} threads; "
        + ", ".join(f"{name} {versions[name]}" for name in ("ccma_fast", "torch", "faiss-cpu") if name in versions)
        + f"; commit {str(commit.get('id'))[:12]}, {run['datetime'][:10]}",
        fontsize=9,
        color=GREY,
    )
    return whole


def _draw_marks(ax: Axes, found: list[marks.Row]) -> None:
    """Each mark as the share of what is wanted that was reached, so that 1 meets it and more is better."""
    for y, row in enumerate(found):
        shares = [_share(row.mark, value) for value in row.measured]
        is_met = row.mark.is_met(row.measured.value)
        colour = GREY if row.disturbed else BLUE if is_met else VERMILION
        ax.plot(shares[1:], [y, y], color=colour, linewidth=2)
        ax.plot(shares[0], y, "o" if is_met else "X", color=colour, markersize=6)
        ax.annotate(
            f"{row.measured.value:.3g}", (max(shares), y), (6, 0), textcoords="offset points", va="center", fontsize=8
        )
    ax.axvline(1.0, color="black", linewidth=1)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(lambda share, _: f"{share:g}")
    ax.set_yticks(range(len(found)), [f"{row.mark.what} ({row.mark.wanted})" for row in found], fontsize=8)
    ax.invert_yaxis()
    ax.margins(x=0.15)
    ax.set_title("Marks: ● met, ✕ not met, grey: disturbed by other processes", fontsize=10, loc="right")
    ax.set_xlabel("measured ÷ wanted, or the inverse where less is better", fontsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="x", color="#D9D9D9", linewidth=0.6)


def _share(mark: marks.Mark, value: float) -> float:
    return value / mark.bound if mark.at_most is None else mark.bound / value


Curve = list[tuple[float, float]]


def _curves(
    benchmarks: list[dict[str, Any]], title: str, grows: str, fixed: dict[str, Any]
) -> dict[tuple[str, int], Curve]:
    """(size, seconds) by contender and threads."""
    found: dict[tuple[str, int], Curve] = {}
    for b in benchmarks:
        info = b["extra_info"]
        if info["title"] == title and fixed.items() <= info["shape"].items():
            curve = found.setdefault((info["contender"], info["threads"]), [])
            curve.append((info["shape"][grows], b["stats"]["median"]))
    return {name: sorted(curve) for name, curve in found.items() if len(curve) > 1}


def _draw_growth(ax: Axes, title: str, grows: str, curves: dict[tuple[str, int], Curve]) -> None:
    most = max(n_threads for _, n_threads in curves)
    others = (VERMILION, GREY)
    colours = {OURS: BLUE} | dict(zip(dict.fromkeys(name for name, _ in curves if name != OURS), others, strict=False))
    for (name, n_threads), curve in curves.items():
        ax.plot(
            *zip(*curve, strict=True),
            color=colours[name],
            linestyle="-" if n_threads == most else "--",
            marker="o" if name == OURS else "s",
            markersize=4,
            label=name if n_threads == most else None,
        )
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_title(title, fontsize=10, loc="left")
    ax.set_xlabel(f"{grows} (dashed: fewer threads)")
    ax.set_ylabel("seconds")
    ax.legend(fontsize=7, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="#D9D9D9", linewidth=0.6)
