"""The C++ core as a backend: its passes, streamed over chunks of rows.

The names are those of :class:`ccma_fast.backends.protocol.Backend`, the contracts those of :mod:`ccma_fast.reference`.
Every pass reads rows chunk by chunk, so that memory beyond the input is some bytes per row and one chunk; no result
depends on where the chunks end.
"""

from .device import NAME, ON_HOST, arithmetic, describe
from .kmeans import weighted_kmeans
from .kmeans_part import HostPart
from .kmeans_rows import ClusteredRows
from .products import linear, multiplier, softmax_residual
from .rows import check_rows, kept, row_lengths
from .scores import ScoresInBrackets, likely_brackets, score, score_at_sizes, thresholds_in_brackets
from .sets import prediction_sets
from .sorting import top_m
from .thresholds import raised_threshold, row_thresholds, scores_between, target_size_threshold

__all__ = [
    "NAME",
    "ON_HOST",
    "HostPart",
    "ScoresInBrackets",
    "arithmetic",
    "check_rows",
    "clustered_rows",
    "describe",
    "kept",
    "likely_brackets",
    "linear",
    "multiplier",
    "prediction_sets",
    "raised_threshold",
    "row_lengths",
    "row_thresholds",
    "score",
    "score_at_sizes",
    "scores_between",
    "softmax_residual",
    "target_size_threshold",
    "thresholds_in_brackets",
    "top_m",
    "weighted_kmeans",
]

clustered_rows = ClusteredRows.of_matrix
