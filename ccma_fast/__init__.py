"""Choose which images to label, at any scale.

``ccma_fast.select(features, budget)`` is the package; see the README for the rest.
"""

from __future__ import annotations

from . import strategies
from ._dispatch import get_num_threads, set_num_threads
from ._errors import (
    BackendUnavailableError,
    ExchangeabilityWarning,
    FileReadError,
    LabelWarning,
    PoolMismatchError,
    StrategyReplacedWarning,
    TeacherWarning,
)
from .config import CCMAConfig
from .conformal import (
    coverage_interval,
    coverage_threshold,
    nonconformity_scores,
    prediction_sets,
    stratified_weights,
    target_size_threshold,
    weighted_coverage_threshold,
)
from .coverage import weighted_kmeans
from .disagreement import SizedScores, score, score_at_sizes
from .extract import Extraction, extract
from .learner import ActiveLearner
from .plan import Plan, StagePlan
from .reference import KMeans
from .select import Report, Selection, Stage, plan, select
from .simulate import simulate
from .store import Results
from .student import LinearHead
from .teacher import Teacher
from .zero_shot import ZeroShot

__version__ = "0.1.0"

__all__ = [
    "ActiveLearner",
    "BackendUnavailableError",
    "CCMAConfig",
    "ExchangeabilityWarning",
    "Extraction",
    "FileReadError",
    "KMeans",
    "LabelWarning",
    "LinearHead",
    "Plan",
    "PoolMismatchError",
    "Report",
    "Results",
    "Selection",
    "SizedScores",
    "Stage",
    "StagePlan",
    "StrategyReplacedWarning",
    "Teacher",
    "TeacherWarning",
    "ZeroShot",
    "__version__",
    "coverage_interval",
    "coverage_threshold",
    "extract",
    "get_num_threads",
    "nonconformity_scores",
    "plan",
    "prediction_sets",
    "score",
    "score_at_sizes",
    "select",
    "set_num_threads",
    "simulate",
    "strategies",
    "stratified_weights",
    "target_size_threshold",
    "weighted_coverage_threshold",
    "weighted_kmeans",
]
