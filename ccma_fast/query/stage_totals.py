"""The bytes read and the peak memory of a query, over its stages: of a plan as of a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["StageTotals"]


class StageTotals:
    """Totals over the stages of a query, planned or measured."""

    stages: Mapping[str, Any]

    @property
    def bytes_read(self) -> int:
        """Sum over all stages."""
        return sum(stage.bytes_read for stage in self.stages.values())

    @property
    def peak_memory(self) -> int:
        """Maximum over the stages, in bytes."""
        return max((stage.peak_memory for stage in self.stages.values()), default=0)
