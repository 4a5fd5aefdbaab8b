"""Choose which images to label, at any scale.

``ccma_fast.select(features, budget)`` is the package; see the README for the rest.
"""

from __future__ import annotations

from . import strategies
from .backends.core import get_num_threads, set_num_threads
from .campaign.learner import ActiveLearner
from .config import CCMAConfig
from .errors import (
    BackendUnavailableError,
    ExchangeabilityWarning,
    FileReadError,
    LabelWarning,
    PoolMismatchError,
    StrategyReplacedWarning,
    TeacherWarning,
)
from .images.extract import Extraction, extract
from .query.plan import Plan, StagePlan
from .query.report import Report, Selection, Stage
from .query.select import plan, select
from .reference import KMeans
from .research.results import Results
from .research.simulate import simulate
from .steps.clustering import weighted_kmeans
from .steps.conformal import coverage_threshold, nonconformity_scores, prediction_sets, target_size_threshold
from .steps.covariate_shift import stratified_weights, weighted_coverage_threshold
from .steps.disagreement import SizedScores, score, score_at_sizes
from .steps.intervals import coverage_interval
from .steps.linear_head import LinearHead
from .steps.teacher import Teacher
from .steps.zero_shot import ZeroShot
from .version import __version__

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
