"""The C++ core as a backend: its passes, streamed over chunks of rows.

The names are those of :class:`ccma_fast.backends.protocol.PartedBackend`, the contracts those of
:mod:`ccma_fast.reference`. Every pass reads rows chunk by chunk, so that memory beyond the input is some bytes per row
and one chunk; no result depends on where the chunks end.
"""

from .coverage import listed_coverage
from .device import NAME, ON_HOST, arithmetic, describe
from .kmeans import kmeans_of_parts, weighted_kmeans
from .kmeans_part import HostPart as kmeans_part
from .products import combination, dots, inverse_factor, linear, multiplier, softmax_gradient
from .rows import check_rows, kept, row_lengths
from .scores import ScoresInBrackets as scores_in_brackets
from .scores import likely_brackets, score, score_at_sizes, thresholds_in_brackets
from .sets import prediction_sets
from .sorting import top_m
from .thresholds import raised_threshold, row_thresholds, scores_between, target_size_threshold
from .training import head_training

__all__ = [
    "NAME",
    "ON_HOST",
    "arithmetic",
    "check_rows",
    "combination",
    "describe",
    "dots",
    "head_training",
    "inverse_factor",
    "kept",
    "kmeans_of_parts",
    "kmeans_part",
    "likely_brackets",
    "linear",
    "listed_coverage",
    "multiplier",
    "prediction_sets",
    "raised_threshold",
    "row_lengths",
    "row_thresholds",
    "score",
    "score_at_sizes",
    "scores_between",
    "scores_in_brackets",
    "softmax_gradient",
    "target_size_threshold",
    "thresholds_in_brackets",
    "top_m",
    "weighted_kmeans",
]
