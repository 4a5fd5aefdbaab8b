"""Expected reads, memory, time and messages of a query on several ranks, stage by stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..system import display
from .plan import Plan, StagePlan, passes_text
from .wire_costs import Network

__all__ = ["RANKS", "RankCost", "RankPlan", "RankStagePlan", "Seconds"]

RANKS = "ranks"
"""What ranks tell each other before the first stage and after the last one; no stage of a report."""


@dataclass(frozen=True)
class RankCost:
    """Expected cost of a stage to one rank."""

    bytes_read: int
    peak_memory: int
    """As that of :class:`~ccma_fast.query.plan.StagePlan`."""
    bytes_exchanged: int
    """Payload to and from this rank, with what it passes on."""


@dataclass(frozen=True)
class Seconds:
    """What a stage spends its time on, one after the other."""

    reading: float
    computing: float
    """On all ranks at once."""
    leading: float
    """What the first rank computes while the others wait."""
    sending: float
    """Bytes through the first rank's network link."""
    waiting: float
    """The latency of all messages."""


@dataclass(frozen=True, kw_only=True)
class RankStagePlan(StagePlan):
    """Expected cost of one stage, with as many rows on every rank.

    Passes and bytes are those of all ranks together, memory is that of the first one.
    """

    bytes_exchanged: int
    """Payload between the ranks, each byte once for each rank that gets it; an upper bound for a clustering."""
    messages: int
    """Each between the first rank and all others; as many for every rank."""
    first: RankCost
    """Of the first rank, which leads."""
    other: RankCost
    """Of each of the other ranks."""
    spent: Seconds | None = None
    """None where no rates were measured."""


@dataclass(frozen=True, repr=False)
class RankPlan(Plan):
    """Expected cost of a query on several ranks, see :mod:`ccma_fast.query.wire_costs`."""

    stages: dict[str, RankStagePlan] = field(default_factory=dict)  # type: ignore[assignment]
    n_ranks: int = 1
    network: Network = field(default_factory=Network)

    @property
    def bytes_exchanged(self) -> int:
        """Payload between the ranks, summed over the stages."""
        return sum(stage.bytes_exchanged for stage in self.stages.values())

    @property
    def messages(self) -> int:
        """Sum over the stages."""
        return sum(stage.messages for stage in self.stages.values())

    def of_rank(self, name: str) -> RankCost:
        """The total of the first rank, `"first"`, or of each other one, `"other"`."""
        if name not in ("first", "other"):
            raise ValueError(f"name must be 'first' or 'other', got {name!r}")
        of_stages = [getattr(stage, name) for stage in self.stages.values()]
        return RankCost(
            sum(of.bytes_read for of in of_stages),
            max((of.peak_memory for of in of_stages), default=0),
            sum(of.bytes_exchanged for of in of_stages),
        )

    @property
    def spent(self) -> Seconds | None:
        """Sum over the stages; None where no rates were measured."""
        known = [stage.spent for stage in self.stages.values() if stage.spent is not None]
        if not known:
            return None
        return Seconds(*(sum(getattr(of, name) for of in known) for name in Seconds.__dataclass_fields__))

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain Python values, for JSON."""
        told = super().to_dict()
        total = {name: vars(self.of_rank(name)) for name in ("first", "other")}
        spent = None if self.spent is None else vars(self.spent)
        more = {"bytes_exchanged": self.bytes_exchanged, "messages": self.messages, **total, "spent": spent}
        return told | {"network": self.network._asdict(), "total": told["total"] | more}

    def _with_total(self) -> dict[str, RankStagePlan]:  # type: ignore[override]
        total = RankStagePlan(
            self.passes,
            self.bytes_read,
            self.peak_memory,
            self.seconds,
            bytes_exchanged=self.bytes_exchanged,
            messages=self.messages,
            first=self.of_rank("first"),
            other=self.of_rank("other"),
            spent=self.spent,
        )
        return {**self.stages, "total": total}

    def __str__(self) -> str:
        lines = [
            f"{'':14}{'read by':>20}{'peak memory of':>22}{'exchanged by':>34}",
            f"{'stage':14}{'all':>10}{'a rank':>10}{'the first':>12}{'others':>10}{'all':>10}{'the first':>12}"
            f"{'others':>12}{'messages':>10}{'time':>10}  passes",
        ]
        for name, stage in self._with_total().items():
            seconds = "" if stage.seconds is None else f"{stage.seconds:,.1f} s"
            lines.append(
                f"{name:14}{display.size(stage.bytes_read):>10}{display.size(stage.other.bytes_read):>10}"
                f"{display.size(stage.first.peak_memory):>12}{display.size(stage.other.peak_memory):>10}"
                f"{display.size(stage.bytes_exchanged):>10}{display.size(stage.first.bytes_exchanged):>12}"
                f"{display.size(stage.other.bytes_exchanged):>12}"
                f"{stage.messages:>10,}{seconds:>10}  {passes_text(stage) or '-'}"
            )
        lines.append(f"{self.n_ranks} ranks, network {self.network}{self._spent()}")
        lines.append(self._limit(f"{self.memory_limit / 1e6:,.0f} MB"))
        return "\n".join(lines)

    def _spent(self) -> str:
        if self.spent is None:
            return ""
        parts = ", ".join(f"{name} {seconds:,.1f} s" for name, seconds in vars(self.spent).items())
        return f": {parts}"

    def _limit(self, size: str) -> str:
        return f"{super()._limit(size)}, for each rank"

    def _summary(self) -> str:
        return f"{self.n_ranks} ranks, {super()._summary()}, {display.size(self.bytes_exchanged)} exchanged"

    def _repr_html_(self) -> str:
        header = ["stage", "read by all", "by a rank", "peak memory of the first", "of others"]
        header += ["exchanged by all", "by the first", "by others", "messages", "seconds", "passes"]
        rows = [
            (
                name,
                display.size(stage.bytes_read),
                display.size(stage.other.bytes_read),
                display.size(stage.first.peak_memory),
                display.size(stage.other.peak_memory),
                display.size(stage.bytes_exchanged),
                display.size(stage.first.bytes_exchanged),
                display.size(stage.other.bytes_exchanged),
                stage.messages,
                stage.seconds,
                passes_text(stage),
            )
            for name, stage in self._with_total().items()
        ]
        return self._html(header, rows, f"Network: {self.network}{self._spent()}.")
