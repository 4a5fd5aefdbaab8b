"""The Triton kernels as a backend, fed with chunks of rows.

The names are those of :class:`ccma_fast.backends.protocol.DeviceBackend`, the contracts those of
:mod:`ccma_fast.reference`. Tensors on the device are used where they lie; all else is read chunk by chunk and copied
through pinned memory while the device works on the chunk before. Logits that come from features are computed on the
device, chunk by chunk, and go from its cache into the kernel that uses them. No result depends on where the chunks end.
The host synchronises with the device at the end of a pass, never within.

Under Triton's interpreter (``TRITON_INTERPRET=1``) the same code runs on the host, slowly: that is how it is tested
where no GPU is.
"""

from .coverage import unit_rows
from .device import NAME, ON_HOST, arithmetic, describe, why_unavailable
from .kmeans import kmeans_of_parts, weighted_kmeans
from .kmeans_part import DevicePart as kmeans_part
from .products import linear
from .rows import check_rows, kept, row_lengths
from .scores import score, score_at_sizes, score_here
from .sets import prediction_sets
from .sorting import best_of_classes, class_sizes, top_m
from .thresholds import raised_threshold, row_thresholds, scores_between, target_size_threshold, true_class_scores
from .training import training

__all__ = [
    "NAME",
    "ON_HOST",
    "arithmetic",
    "best_of_classes",
    "check_rows",
    "class_sizes",
    "describe",
    "kept",
    "kmeans_of_parts",
    "kmeans_part",
    "linear",
    "prediction_sets",
    "raised_threshold",
    "row_lengths",
    "row_thresholds",
    "score",
    "score_at_sizes",
    "score_here",
    "scores_between",
    "target_size_threshold",
    "top_m",
    "training",
    "true_class_scores",
    "unit_rows",
    "weighted_kmeans",
    "why_unavailable",
]
