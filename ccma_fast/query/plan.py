"""Expected reads, memory and time of a query, stage by stage."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ..system import display
from .stage_totals import StageTotals

__all__ = ["Plan", "StagePlan", "passes_text"]


@dataclass(frozen=True)
class StagePlan:
    """Expected cost of one stage."""

    passes: dict[str, int]
    """Passes over all unlabelled rows of each source, by its name; an upper bound for a clustering."""
    bytes_read: int
    """Bytes read from features, logits and teacher; an upper bound for a clustering."""
    peak_memory: int
    """Bytes by which resident memory, mapped files included, exceeds that before the query."""
    seconds: float | None = None
    """None where no rates were measured."""


@dataclass(frozen=True)
class Plan(StageTotals):
    """Expected cost of a query, see :mod:`ccma_fast.query.cost_model`."""

    memory_limit: int
    """Bytes."""
    stages: dict[str, StagePlan] = field(default_factory=dict)

    @property
    def seconds(self) -> float | None:
        """Sum over all stages; None where no rates were measured."""
        known = [stage.seconds for stage in self.stages.values() if stage.seconds is not None]
        return sum(known) if known else None

    @property
    def passes(self) -> dict[str, int]:
        """Passes over all unlabelled rows of each source, summed over the stages."""
        names = dict.fromkeys(name for stage in self.stages.values() for name in stage.passes)
        return {name: sum(stage.passes.get(name, 0) for stage in self.stages.values()) for name in names}

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain Python values, for JSON."""
        total = {name: getattr(self, name) for name in ("passes", "bytes_read", "peak_memory", "seconds")}
        return asdict(self) | {"total": total}

    def _with_total(self) -> dict[str, StagePlan]:
        return {**self.stages, "total": StagePlan(self.passes, self.bytes_read, self.peak_memory, self.seconds)}

    def __str__(self) -> str:
        lines = [f"{'stage':14}{'read':>12}{'peak memory':>14}{'time':>10}  passes"]
        for name, stage in self._with_total().items():
            seconds = "" if stage.seconds is None else f"{stage.seconds:.1f} s"
            read, peak = f"{stage.bytes_read / 1e6:,.1f} MB", f"{stage.peak_memory / 1e6:,.0f} MB"
            lines.append(f"{name:14}{read:>12}{peak:>14}{seconds:>10}  {passes_text(stage) or '-'}")
        lines.append(self._limit(f"{self.memory_limit / 1e6:,.0f} MB"))
        return "\n".join(lines)

    def _limit(self, size: str) -> str:
        return f"memory_limit {size}, and at most 32 bytes a row"

    def __repr__(self) -> str:
        return display.line("Plan", self._summary(), f"{len(self.stages)} stages", "print it for all")

    def _summary(self) -> str:
        seconds = "" if self.seconds is None else f", {self.seconds:.1f} s"
        return f"{display.size(self.bytes_read)} to read, {display.size(self.peak_memory)} of memory{seconds}"

    def _repr_html_(self) -> str:
        header = ["stage", "read", "peak memory", "seconds", "passes"]
        rows = [
            (name, display.size(stage.bytes_read), display.size(stage.peak_memory), stage.seconds, passes_text(stage))
            for name, stage in self._with_total().items()
        ]
        return self._html(header, rows)

    def _html(self, header: list[str], rows: list[tuple[Any, ...]], *texts: str) -> str:
        """A table of the stages, and what is said below it."""
        table = display.table(header, rows, len(rows), shown=len(rows))
        below = [*texts, self._limit(display.size(self.memory_limit))]
        return display.notebook_html(f"Plan: {self._summary()}", table, *map(display.paragraph, below))


def passes_text(stage: StagePlan) -> str:
    """Passes over all rows, of the sources that have some."""
    return ", ".join(f"{source} {n}" for source, n in stage.passes.items() if n)
