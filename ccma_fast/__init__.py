"""Choose which images to label, at any scale.

``ccma_fast.select(features, budget)`` is the package; see the README for the rest.
"""

from __future__ import annotations

from ._dispatch import get_num_threads, set_num_threads
from ._errors import BackendUnavailableError, FileReadError
from .config import CCMAConfig
from .conformal import coverage_threshold, prediction_sets, target_size_threshold
from .coverage import weighted_kmeans
from .disagreement import score
from .learner import ActiveLearner
from .reference import KMeans
from .select import Report, Selection, Stage, select
from .student import LinearHead
from .teacher import Teacher

__version__ = "0.1.0"

__all__ = [
    "ActiveLearner",
    "BackendUnavailableError",
    "CCMAConfig",
    "FileReadError",
    "KMeans",
    "LinearHead",
    "Report",
    "Selection",
    "Stage",
    "Teacher",
    "__version__",
    "coverage_threshold",
    "get_num_threads",
    "prediction_sets",
    "score",
    "select",
    "set_num_threads",
    "target_size_threshold",
    "weighted_kmeans",
]
