"""Choose which images to label, at any scale.

``ccma_fast.select(features, budget)`` is the package; see the README for the rest.
"""

from __future__ import annotations

import importlib as _importlib
import typing as _typing

from . import strategies
from .backends.core import get_num_threads, set_num_threads
from .config import CCMAConfig
from .errors import (
    BackendUnavailableError,
    ExchangeabilityWarning,
    FileReadError,
    LabelWarning,
    PoolMismatchError,
    RankError,
    StrategyReplacedWarning,
    TeacherWarning,
    UnreadIdsWarning,
)
from .query.plan import Plan, StagePlan
from .query.planning import plan
from .query.report import Report, Selection, Stage
from .query.select import select
from .reference import KMeans
from .steps.clustering import weighted_kmeans
from .steps.conformal import coverage_threshold, nonconformity_scores, prediction_sets, target_size_threshold
from .steps.covariate_shift import stratified_weights, weighted_coverage_threshold
from .steps.disagreement import SizedScores, score, score_at_sizes
from .steps.intervals import coverage_interval
from .steps.linear_head import LinearHead
from .steps.logistic_head import LogisticHead
from .steps.teacher import Teacher
from .steps.zero_shot import ZeroShot
from .version import __version__

if _typing.TYPE_CHECKING:
    from .campaign.audit import AuditSample, audit_sample
    from .campaign.audit_forecast import AuditForecast, audit_forecast
    from .campaign.auto_label import AutoLabels, auto_label
    from .campaign.campaign import Campaign
    from .campaign.exchange.answer import Answer
    from .campaign.learner import ActiveLearner
    from .images.extract import Extraction, extract
    from .research.results import Results
    from .research.simulate import simulate

__all__ = [
    "ActiveLearner",
    "Answer",
    "AuditForecast",
    "AuditSample",
    "AutoLabels",
    "BackendUnavailableError",
    "CCMAConfig",
    "Campaign",
    "ExchangeabilityWarning",
    "Extraction",
    "FileReadError",
    "KMeans",
    "LabelWarning",
    "LinearHead",
    "LogisticHead",
    "Plan",
    "PoolMismatchError",
    "RankError",
    "Report",
    "Results",
    "Selection",
    "SizedScores",
    "Stage",
    "StagePlan",
    "StrategyReplacedWarning",
    "Teacher",
    "TeacherWarning",
    "UnreadIdsWarning",
    "ZeroShot",
    "__version__",
    "audit_forecast",
    "audit_sample",
    "auto_label",
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

# What a query needs nothing of is imported when it is first asked for: beyond NumPy, an import takes a third less time.
_WHERE = {
    "ActiveLearner": ".campaign.learner",
    "Answer": ".campaign.exchange.answer",
    "AuditForecast": ".campaign.audit_forecast",
    "AuditSample": ".campaign.audit",
    "AutoLabels": ".campaign.auto_label",
    "Campaign": ".campaign.campaign",
    "Extraction": ".images.extract",
    "Results": ".research.results",
    "audit_forecast": ".campaign.audit_forecast",
    "audit_sample": ".campaign.audit",
    "auto_label": ".campaign.auto_label",
    "extract": ".images.extract",
    "simulate": ".research.simulate",
}


def __getattr__(name: str) -> _typing.Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(_importlib.import_module(_WHERE[name], __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
