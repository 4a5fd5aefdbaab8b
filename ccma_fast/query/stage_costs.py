"""The terms of the cost model: bytes of chunks and caches, work of clusterings and models."""

from __future__ import annotations

from typing import NamedTuple

from ..pool.class_limits import LOGISTIC_WEIGHT_BYTES, WEIGHT_BYTES
from ..pool.derived import LinearRows
from ..pool.rows import READ_OVER, Rows
from ..steps.pool_sample import sample_size
from ..steps.selection import n_held_out
from ..system.mapped_pages import SCATTERED_BYTES
from .cost_inputs import CostInputs
from .rates import Rates
from .wire_costs import NO_WIRE, Wire

__all__ = [
    "COMPARED_ROWS",
    "COUNTED_ROW",
    "SCORED_ROW",
    "SIMILARITIES",
    "SIMILARITY_BYTES",
    "SORTED_ROW",
    "StageCost",
    "Work",
    "chunk_rows",
    "clustering_cost",
    "computed_chunk",
    "keeps_logits",
    "kept_bytes",
    "logit_rows",
    "logits_bytes",
    "picked_bytes",
    "posterior_work",
    "scored_chunk",
    "selected_bytes",
    "spaced_rows",
    "training_bytes",
    "training_work",
]

# Bytes that sorting one row's scores by class takes.
SORTED_ROW = 16

# Scores of a chunk's row as the core writes them and as they are put together, lengths and factors; and, where rows are
# left out, the numbers of those that are not.
SCORED_ROW, COUNTED_ROW = 88, 24

# Similarities that greedy coverage computes in one block (two blocks are alive at a time), and rows that are compared
# with all others in one pass.
SIMILARITIES = 1 << 22

SIMILARITY_BYTES = 2 * 4 * SIMILARITIES

COMPARED_ROWS = 1024

# A clustering's labels, distances, weights, factors and potentials of one row, and bytes of a centroid's component: as
# float32 before and after an update, its sum, and what a search packs; at k-means||'s start its candidates as well.
_CLUSTERED_ROW = 32

_CENTROID, _STARTING_CENTROID = 22, 38

# Directions that a clustering compares along, where it has so many products to take.
_WIDTH, _LEAST_PRODUCTS, _LEAST_CENTROIDS = 192, 2e10, 512

# Problems of a logistic regression for each set of labelled rows: weights of soft labels, and penalties.
_PROBLEMS = 7

# Bytes that the loss of a block of rows takes: 2²⁰ residuals, or those of 256 rows, and logits of each thread.
_LOSS_BYTES, _LOSS_CLASS = 8 << 20, 2048

# Rows and columns of a block of a head's batch, and what classes are padded by at most.
_BLOCK, _CLASSES = 64, 31

# What an input takes in an epoch, in products: to draw whether it stays and, where it does, two with each class,
# at least so many of them. See `csrc/head/training.cpp`.
_DROPPED, _STAYING, _FEWEST = 10.0, 2.0, 25

# What is guessed: epochs of a head's training, evaluations of a regression, Lloyd iterations, and the share of the
# products that directions leave.
_EPOCHS, _EVALUATIONS, _ITERATIONS, _SHARE_ALONG = 60, 7, 10, 0.2

# A clustering of one class's candidates: overhead of calls, with hardly any arithmetic.
_CLUSTERING_SECONDS = 4e-3


class Work(NamedTuple):
    """Work that takes time: multiply-adds, bytes read, pairs of logits scored, and small clusterings."""

    products: float = 0.0
    read: float = 0.0
    scored: float = 0.0
    clusterings: float = 0.0

    def plus(self, other: Work) -> Work:
        """The sum of two."""
        return Work(*map(sum, zip(self, other, strict=True)))

    def shared(self, n_ranks: int) -> Work:
        """Each rank's part, where all have as many rows."""
        return Work(*(of / n_ranks for of in self))

    def seconds(self, rates: Rates) -> float:
        """At the rates of a machine."""
        of_rates = self.products / rates.products + self.read / rates.read + self.scored / rates.scored
        return of_rates + self.clusterings * _CLUSTERING_SECONDS


class StageCost(NamedTuple):
    """Reads, memory and work of a stage; on several ranks the first one leads, and all do what concerns their rows."""

    read: dict[Rows, float]
    """Number of rows read of each source, on all ranks together."""
    memory: float
    """Bytes in addition to what is resident when the stage begins, on the first rank."""
    work: Work = Work()
    """Of all ranks together, without the reads."""
    keeps: int = 0
    """Bytes that stay resident when the stage ends; negative where it frees more."""
    alone: Work = Work()
    """Further work, which the first rank does while others wait."""
    memory_of_other: float = 0.0
    """As `memory`, on another rank than the first."""
    keeps_of_other: int = 0
    """As `keeps`, likewise."""
    wire: Wire = NO_WIRE
    """What goes between the first rank and the others."""


def chunk_rows(given: CostInputs, rows: Rows) -> int:
    return min(rows.n_rows, rows.chunk_rows(given.chunk_size))


def kept_bytes(given: CostInputs, rows: Rows, n: int) -> int:
    """Bytes of a cache of n rows, 0 where they do not fit."""
    return n * rows.row_bytes if 4 * n * rows.n_columns <= given.memory.rows else 0


def picked_bytes(rows: Rows, n: int) -> int:
    """Bytes of a gather (random access) of n rows: their copy, and the pages of the source that it touches."""
    return n * rows.row_bytes + rows.is_mapped * min(SCATTERED_BYTES, rows.n_rows * rows.row_bytes)


def selected_bytes(given: CostInputs, rows: Rows, n: int, *, picked: bool = False) -> int:
    """Bytes of a chunk of n of the selectable rows; `picked`: whether they are copied even where all are."""
    if 2 * given.n_unlabelled < given.pool.n_rows:  # scattered
        return picked_bytes(rows, n)
    return rows.resident_bytes(n, picked=picked or given.leaves_rows_out)


def spaced_rows(given: CostInputs) -> int:
    """Rows of the pool that are compared for a minimum distance, where no candidates run out."""
    return given.n_covered + min(given.n_scored, max(4 * given.budget, 256)) if given.has_spacing else 0


def _read_bytes(given: CostInputs, rows: Rows, n: int) -> int:
    """Bytes of a chunk of n of the scored rows of a source."""
    if given.n_scored < given.n_left or given.n_left < given.n_unlabelled:
        return picked_bytes(rows, n)
    if given.leaves_rows_out and _is_read_over(given, rows):
        return rows.resident_bytes(n) + n * (4 * given.n_classes + COUNTED_ROW)
    return selected_bytes(given, rows, n) + n * COUNTED_ROW * given.leaves_rows_out


def _is_read_over(given: CostInputs, rows: Rows) -> bool:
    """Whether products are formed of the few rows that are left out, too, and then copied without these."""
    n_out = given.pool.n_rows - given.n_unlabelled
    is_product = bool(given.head) and rows in given.computed and LinearRows.reads_over(rows.n_columns, given.n_classes)
    return is_product and n_out <= given.n_unlabelled // READ_OVER


def logits_bytes(given: CostInputs) -> int:
    """Bytes of the scored rows' logits, of those sources whose logits are computed, not read."""
    return 4 * given.n_scored * given.n_classes * len(given.computed)


def keeps_logits(given: CostInputs) -> bool:
    """Whether computed logits are cached, so that no later stage reads their sources again."""
    return given.n_ranks == 1 and bool(given.computed) and logits_bytes(given) <= given.memory.logits


def logit_rows(given: CostInputs, rows: Rows | None) -> int:
    """Rows per chunk of logits computed from `rows`; `rows` is None for stored logits."""
    n = given.chunk_size
    if n is None:
        n = max(1, (32 << 20) // (4 * given.n_classes))
        n = n if rows is None else min(n, rows.chunk_rows())
    return min(n, given.n_scored)


def computed_chunk(given: CostInputs, rows: Rows) -> int:
    """Bytes that computing a chunk of logits takes."""
    n = logit_rows(given, rows)
    return _read_bytes(given, rows, n) + n * (4 * given.n_classes + 16)


def scored_chunk(given: CostInputs, *, is_kept: bool) -> int:
    """Bytes of row-aligned chunks of all logits and their scores; `is_kept`: whether computed logits are cached."""
    again = () if is_kept else given.computed
    sources = given.posteriors
    n = logit_rows(given, sources[0] if sources[0] in again else None)
    read = sum(_read_bytes(given, rows, n) for rows in sources if rows in again or rows not in given.computed)
    return read + n * (4 * given.n_classes * len(again) + SCORED_ROW)


def posterior_work(given: CostInputs, n: float) -> Work:
    """Work of computing and scoring the logits of n rows."""
    columns = sum(rows.n_columns for rows in given.posteriors if rows in given.computed)
    return Work(products=n * columns * given.n_classes, scored=n * given.n_classes)


def training_bytes(given: CostInputs) -> int:
    """Bytes of training a head: embeddings, a batch in blocks and its probabilities, weights with AdamW's moments."""
    if not given.head:
        return 0
    if given.is_logistic:
        return _regression_bytes(given)
    n, d, c = given.n_labelled, given.pool.n_columns, given.n_classes
    batch = min(n, given.config.batch_size) + _BLOCK
    return 8 * n * d + 4 * batch * (d + _BLOCK) + 4 * batch * (c + _CLASSES) + WEIGHT_BYTES * (c + _CLASSES) * d


def _soft_rows(given: CostInputs) -> int:
    """Rows of the pool that the teacher labels softly."""
    has_soft = given.head == "distilled" and given.teacher is not None
    return sample_size(given.n_population, given.n_classes) if has_soft else 0


def _regression_bytes(given: CostInputs) -> int:
    """Bytes of training student and teacher by logistic regressions, one for each fold and one for all rows.

    Rows lie there as they are and packed for products, those with labels once alone and once beside the sample.
    The regression of all rows keeps the metrics of all.
    """
    n, d, c = given.n_labelled, given.pool.n_columns + 1, given.n_classes
    n_fits = n_held_out(n, given.config.n_folds) + 1
    n_sample, n_soft = sample_size(given.n_population, c), _soft_rows(given)
    scaled = 4 * (n + n_sample) * d
    scaling = 24 * n_sample * d + picked_bytes(given.pool, 0)
    metric = 4 * d * d * (_PROBLEMS + 3) if 8 * d * d * d <= 160 * (n + n_soft) * d * c else 0
    fit = 8 * (n + (n + n_soft if n_soft else 0)) * d + 4 * n_soft * c
    regressions = n_fits * fit + metric + LOGISTIC_WEIGHT_BYTES * c * d + _LOSS_BYTES + _LOSS_CLASS * c
    if given.teacher is None:
        return scaled + max(scaling, regressions)
    d_teacher = given.teacher.n_columns + 1
    scaled += 4 * (n + n_sample) * (d_teacher + c) + 4 * n_fits * n_soft * c
    scaling = max(scaling, 24 * n_sample * d_teacher + picked_bytes(given.teacher, 0))
    correction = n_fits * n * (16 * d_teacher + 12 * c) + LOGISTIC_WEIGHT_BYTES * c * d_teacher
    # The allocator keeps what the correction took.
    return scaled + max(scaling, correction + regressions)


def training_work(given: CostInputs, share: float) -> Work:
    """Work of training heads on `share` times the labelled rows."""
    if not given.head:
        return Work()
    if given.is_logistic:
        n_fits = _PROBLEMS * n_held_out(given.n_labelled, given.config.n_folds) + 1
        rows = given.n_labelled + _soft_rows(given)
        of_evaluation = 2.0 * rows * given.pool.n_columns * given.n_classes
        return Work(products=share * n_fits * _EVALUATIONS * of_evaluation)
    epochs, kept = min(given.config.max_epochs, _EPOCHS), 1.0 - given.config.dropout
    of_value = _DROPPED + 2.0 * kept * _STAYING * max(_FEWEST, given.n_classes)
    return Work(products=share * epochs * given.n_labelled * given.pool.n_columns * of_value)


def clustering_cost(
    given: CostInputs,
    rows: Rows,
    n: int,
    n_clusters: int,
    max_iter: int,
    *,
    with_start: bool,
    is_kept: bool = False,
) -> tuple[int, int, Work]:
    """Upper bound of the passes, bytes and work of a k-means; `with_start` by k-means||, else from random rows.

    Where `is_kept`, the bytes exclude the memory of the cached rows themselves.
    """
    d = rows.n_columns
    width = min(_WIDTH, d // 3 // 32 * 32)
    products = float(n) * d * n_clusters
    along = (
        width > 0 and n_clusters * (max_iter + 1) >= _LEAST_CENTROIDS and products * (max_iter + 1) >= _LEAST_PRODUCTS
    )
    n_here = n if is_kept else given.of_rank(n)
    sketch = n_here * (width + 12)
    if not along or sketch > given.memory.sketch:
        sketch = 0
    centroids = n_clusters * d * (_STARTING_CENTROID if with_start else _CENTROID)
    is_picked = given.leaves_rows_out or n < given.pool.n_rows
    n_chunk = min(n_here, chunk_rows(given, rows))
    chunk = selected_bytes(given, rows, n_chunk, picked=is_picked) + n_chunk * (8 + COUNTED_ROW * is_picked)
    # Or a gather of the rows of two clusters, one of which became empty.
    chunk = 0 if is_kept else max(chunk, picked_bytes(rows, min(n_chunk, 2 * n // n_clusters)))
    n_sample = min(n, 2048)
    sample = 4 * n_sample * d
    # Before there are centroids: the sample, and the search for directions in it.
    first = max(picked_bytes(rows, n_sample) * (not is_kept) + sample, 4 * sample * along)
    memory = _CLUSTERED_ROW * n_here + sample + max(first, sketch + centroids + chunk)
    passes = 2 + bool(sketch) + max_iter + (4 if with_start else 0)
    share = _SHARE_ALONG if along else 1.0
    return passes, memory, Work(products=products * (min(max_iter, _ITERATIONS) + 2) * share)
