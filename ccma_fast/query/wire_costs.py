"""The terms of the cost model for the network: what a query on several ranks sends, and how often.

The first rank leads. It sends a command to every other rank (a broadcast), and gets one answer from each (a gather, or
a sum of int64 arrays). A message between the first rank and all others counts once here, its payload once for each of
them, as :attr:`ccma_fast.system.ranks.Ranks.traffic` counts; a command with its answers is two messages.

R ranks, N rows in the pool, M scored, n labelled, B picks, C classes, D columns of a source with `row` bytes a row,
K clusters, T iterations. "Fetched" are rows that the first rank asks for by their numbers: 8 bytes for each row to
every other rank, and `row` bytes back of those that lie there, (R − 1) / R of all; a chunk is a command.

stage         messages, in bytes
-----         ------------------
every one     the bytes that were read: a command, some 10 bytes from each
check         a command for each source that is not scored. Of each source that is, the labelled rows, fetched. The
              pending rows, fetched
subpool       one clustering, see below. Where its random sample fits into the memory of the first rank: those rows,
              fetched
posteriors    for the default student a sample of pool and teacher (4,096 rows up to 1,024 classes), fetched, and the
              teacher's labelled rows, fetched
thresholds    for the report alone: weights of student and teacher, 4 · C · (D + 1) to each; row numbers of a sample.
              By labels: nothing where student and teacher were trained together, else labelled logits, fetched.
              By target sizes in one pass: a sample, fetched (2¹⁵ rows at most); weights to each; the scores inside
              brackets, 8 bytes each. In several passes: three times for each model its weights to each; two times the
              scores inside a bracket, 8 bytes each, 32 MiB at most
disagreement  weights to each; four counts from each. Labelled rows for the checks of logits, fetched
coverage      the m best rows of each rank, 12 bytes a row; then of the m best of all scores, 12 bytes, and the rows,
              fetched; the labelled rows, fetched. By classes: 8 · C from each, and the best of every class.
              At a cold start without a teacher: the covered rows to each, and one clustering
a clustering  2,048 rows, fetched, and sent to each. The start by k-means||: three times K / 2 rows, fetched, and sent
              to each; all of them once more, fetched. Or by random rows: K, fetched. Each iteration: 4 · K · D to each,
              8 · K · (D + 2) added up. Representatives of the clusters: some 32 · K from each.
              By two levels: a clustering of √K clusters, and √K more of as many each
ranks         before the first stage arguments and names of shards; after the last one picks and report, to each

The number of messages depends on stages, chunks of what is fetched, and T, not on N. Neither do bytes, but for

- row numbers, once to every rank, 8 bytes each: of the rows that cannot be selected, or of those that can, whichever
  are fewer; of excluded rows once more; of the rows of a subpool, or of a random sample;
- the scores inside brackets of target sizes: in one pass some M · size / √(rows of the sample) of each model;
- ``reweight``: the class of every row by one model to the first rank, 4 bytes, and a threshold of every row to every
  rank, 8 bytes for each model;
- ``acquisition="trust"`` at a cold start: its candidates are a share of all rows;
- a class distribution at a cold start: the class of every row to the first rank, 4 bytes, and the row numbers of each
  class to every rank, 8 bytes;
- `min_distance` where the candidates run out: the scores of all rows, 12 bytes each, which the forecast leaves out;
- the start of a clustering: 8 bytes for 16,384 rows from each.

What a link of the network carries depends on how gloo sends. What is gathered goes straight to the first rank, whose
link is the bottleneck. A broadcast passes from rank to rank by a binomial tree, so that the first rank sends it log₂ R
times. Arrays that are added up go in pieces around a ring, and then to the first rank: (1 + 1 / R) of them for each
other rank, three times one of them through the first rank's link. Seconds are the bytes through that link, sent or
received, at the network's rate, and its latency for every message.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, NamedTuple

from ..backends.kmeans_sizes import ROWS_OF_BLOCK, SAMPLE_ROWS
from ..pool.rows import Rows
from ..reference import KMEANS_PARALLEL_OVERSAMPLING, KMEANS_PARALLEL_ROUNDS, KMEANS_SAMPLE_ROWS
from .cost_inputs import CostInputs

__all__ = [
    "COMMAND",
    "MOST_RANKS",
    "NO_WIRE",
    "READ_COUNTS",
    "Network",
    "Wire",
    "best_rows",
    "best_rows_of_classes",
    "clustering",
    "fetched",
    "left",
    "models",
    "outcome",
    "population",
    "scored",
    "scores_inside",
    "selectable",
    "values",
    "weights",
]

# Bytes of a command beside what is said here, and of an answer.
_COMMAND, _ANSWER = 250, 50

_FLOAT32, _INT32, _INT64 = 4, 4, 8

# A score with the number of its row.
_SCORED_NUMBER = _FLOAT32 + _INT64

# Whole numbers that an exact sum is formed of.
_EXACT_SUM = 22 * _INT64

# What ranks tell each other: arguments, a shard, the configuration, the report, a pick.
_ARGUMENTS, _SHARD, _CONFIGURATION, _REPORT, _PICK = 2200, 40, 800, 6000, 24


MOST_RANKS = 1 << 20
"""Ranks that are planned for, at most."""


class Network(NamedTuple):
    """The network between ranks."""

    gbit_s: float = 10.0
    """Of one rank's link, in 10⁹ bits a second."""
    latency_ms: float = 0.1
    """Of one message, in milliseconds."""

    def __str__(self) -> str:
        return f"{self.gbit_s:g} Gbit/s, {self.latency_ms:g} ms"


class Wire(NamedTuple):
    """What goes between the first rank and the others, in bytes."""

    to_each: float = 0.0
    """To every other rank."""
    from_each: float = 0.0
    """From every other rank."""
    of_rows: float = 0.0
    """Of rows to the first rank, wherever they lie: only those of other ranks are sent."""
    commands: float = 0.0
    summed: float = 0.0
    """Of arrays of every other rank that are added up on the way."""

    def plus(self, *others: Wire) -> Wire:
        """The sum of several."""
        return Wire(*map(sum, zip(self, *others, strict=True)))

    def times(self, n: float) -> Wire:
        """So many of them."""
        return Wire(*(n * of for of in self))

    def bytes_exchanged(self, n_ranks: int) -> float:
        """Bytes between all ranks."""
        of_sums = self.summed * (1.0 + 1.0 / n_ranks)  # see Ranks.traffic
        of_other = self.to_each + self.from_each + of_sums + self._overhead + self.of_rows / n_ranks
        return (n_ranks - 1) * of_other

    def bytes_of_first(self, n_ranks: int) -> float:
        """Bytes to and from the first rank."""
        return self.bytes_in_turn(n_ranks) + self.summed * (n_ranks - 1) / n_ranks

    def bytes_of_other(self, n_ranks: int) -> float:
        """Bytes to and from one of the other ranks, on average: each byte has a sender and a receiver."""
        return (2.0 * self.bytes_exchanged(n_ranks) - self.bytes_of_first(n_ranks)) / max(1, n_ranks - 1)

    def bytes_in_turn(self, n_ranks: int) -> float:
        """Bytes that the first rank sends or receives one after the other; of a sum it does both at once."""
        of_others = self.from_each + self._overhead + self.of_rows / n_ranks
        of_sums = 2.0 * self.summed * (n_ranks - 1) / n_ranks
        return math.ceil(math.log2(n_ranks)) * self.to_each + (n_ranks - 1) * of_others + of_sums

    @property
    def _overhead(self) -> float:
        return self.commands * (_COMMAND + _ANSWER)

    def messages(self, n_ranks: int) -> float:
        """Messages, of the first rank as of every other one."""
        return 2.0 * self.commands if n_ranks > 1 else 0.0


NO_WIRE = Wire()

COMMAND = Wire(commands=1)
"""A command without anything to speak of."""

READ_COUNTS = COMMAND
"""How many bytes each rank has read, at the end of a stage."""


def fetched(given: CostInputs, rows: Rows, n: float) -> Wire:
    """Rows that the first rank gets by their numbers, a chunk at a time."""
    n_chunks = math.ceil(n / min(rows.n_rows, rows.chunk_rows(given.chunk_size)))
    return Wire(_INT64 * n, of_rows=n * rows.row_bytes, commands=n_chunks)


def values(n: float) -> Wire:
    """Scores of some rows, by their numbers."""
    return Wire(_INT64 * n, of_rows=_FLOAT32 * n, commands=1)


def population(given: CostInputs) -> Wire:
    """The numbers of the rows that may be read, or of those that may not."""
    return _numbers(given.n_population, given.pool.n_rows)


def selectable(given: CostInputs) -> Wire:
    """The numbers of the rows that can be selected, or of those that cannot."""
    return _numbers(given.n_unlabelled, given.pool.n_rows)


def left(given: CostInputs) -> Wire:
    """The numbers of the rows that may be scored."""
    return Wire(_INT64 * given.n_left) if given.n_left < given.n_unlabelled else selectable(given)


def scored(given: CostInputs) -> Wire:
    """The numbers of the rows that are scored."""
    return Wire(_INT64 * given.n_scored) if given.n_scored < given.n_left else left(given)


def _numbers(n: int, n_rows: int) -> Wire:
    return Wire(_INT64 * min(n, n_rows - n))


def models(given: CostInputs, sources: Iterable[Rows]) -> Wire:
    """A command with the weights that the logits of some sources are computed by."""
    return weights(given, *(rows for rows in sources if rows in given.computed))._replace(commands=1)


def weights(given: CostInputs, *sources: Rows) -> Wire:
    """The weights that the logits of some sources are computed by."""
    return Wire(_FLOAT32 * given.n_classes * sum(rows.n_columns + 1 for rows in sources))


def best_rows(given: CostInputs, m: int, n_rows: int) -> Wire:
    """The m best rows of each rank with their scores, and the scores of the m best of all n_rows."""
    return Wire(from_each=_SCORED_NUMBER * min(m, given.of_rank(n_rows)), commands=1).plus(values(m))


def best_rows_of_classes(given: CostInputs, m: int, n_rows: int) -> Wire:
    """The same where each class has best rows of its own, m in all."""
    of_rank = (_SCORED_NUMBER + _FLOAT32) * min(m, given.of_rank(n_rows))
    of_classes = _INT64 * given.n_classes
    return Wire(of_classes, of_rank, commands=2, summed=of_classes).plus(values(m))


def scores_inside(given: CostInputs, n_inside: float) -> Wire:
    """A pass over the scores of all rows, which keeps those inside a bracket."""
    return Wire(from_each=_INT64 * n_inside / given.n_ranks)


def clustering(
    rows: Rows,
    n: int,
    n_clusters: int,
    max_iter: int,
    n_picks: int,
    *,
    init: Literal["k-means||", "random"],
    method: str = "full",
) -> Wire:
    """Upper bound of a k-means of n rows where they lie, and of the rows that represent its clusters.

    `init` and `method` as in :func:`ccma_fast.weighted_kmeans`.
    """

    def lloyd(n: int, n_clusters: int, max_iter: int) -> Wire:
        return _start(rows, n, n_clusters, init).plus(_iterations(rows, n, n_clusters, max_iter))

    def by_sample(n: int, n_clusters: int) -> Wire:
        n_sample = KMEANS_SAMPLE_ROWS * n_clusters
        if n_sample >= n:
            return lloyd(n, n_clusters, max_iter)
        of_sample = Wire(_INT64 * n_sample, commands=2).plus(lloyd(n_sample, n_clusters, max_iter))
        return of_sample.plus(_iterations(rows, n, n_clusters, 0))

    n_groups = round(n_clusters**0.5)
    if method == "two-level" and n_clusters > 3:
        of_group = lloyd(n // n_groups, n_clusters // n_groups, max_iter).plus(COMMAND.times(2))
        found = by_sample(n, n_groups).plus(of_group.times(n_groups), COMMAND.times(4))
    else:
        found = by_sample(n, n_clusters) if method == "sample" else lloyd(n, n_clusters, max_iter)
    n_turns = math.ceil(n_picks / n_clusters)
    least, of_clusters = _FLOAT32 * n_clusters, 2 * _INT64 * n_clusters
    represented = Wire(least, _EXACT_SUM + least, commands=7, summed=of_clusters)
    of_turn = Wire(_INT64 * n_clusters, _SCORED_NUMBER * n_clusters, commands=1)
    return found.plus(represented, of_turn.times(n_turns))


def _start(rows: Rows, n: int, n_clusters: int, init: str) -> Wire:
    """The initialisation of a k-means."""
    if init == "random":
        return Wire(from_each=2 * _INT64 * n_clusters, commands=1).plus(_gathered(rows, n_clusters))
    row, of_round = _FLOAT32 * rows.n_columns, KMEANS_PARALLEL_OVERSAMPLING * n_clusters
    n_candidates = min(n, 1 + KMEANS_PARALLEL_ROUNDS * of_round)
    drawn = Wire(row, commands=3, summed=_INT64 * (math.ceil(n / ROWS_OF_BLOCK) + ROWS_OF_BLOCK))
    joined = Wire(row * of_round, of_rows=_INT64 * of_round, commands=3, summed=_EXACT_SUM)
    joined = joined.plus(_gathered(rows, of_round))
    ended = Wire(_INT32 * n_candidates, commands=2, summed=_INT64 * n_candidates)
    of_first, of_all = _gathered(rows, 1), _gathered(rows, n_candidates)
    return drawn.plus(of_first, joined.times(KMEANS_PARALLEL_ROUNDS), ended, of_all)


def _iterations(rows: Rows, n: int, n_clusters: int, max_iter: int) -> Wire:
    """Lloyd's algorithm from initial centroids, and the sample of the rows that it looks at before."""
    row, n_sample = _FLOAT32 * rows.n_columns, min(n, SAMPLE_ROWS)
    looked = Wire(row * (n_sample + 1), _EXACT_SUM, commands=2).plus(_gathered(rows, n_sample))
    assigned = Wire((row + 1) * n_clusters, commands=1, summed=_EXACT_SUM + _INT64 * n_clusters)
    summed = Wire(commands=1, summed=(2 * row + _INT64) * n_clusters)
    return looked.plus(assigned.times(max_iter + 1), summed.times(max_iter))


def _gathered(rows: Rows, m: float) -> Wire:
    """Rows of a clustering by their numbers, as float32 with their places."""
    return Wire(_INT64 * m, of_rows=(_INT64 + _FLOAT32 * rows.n_columns) * m, commands=1)


def outcome(given: CostInputs) -> Wire:
    """What ranks tell each other before the first stage and after the last one."""
    n_shards = sum(len(rows.shard_files) for rows in given.sources)
    told = _ARGUMENTS + _SHARD * n_shards
    return Wire(_CONFIGURATION + _REPORT + _PICK * given.budget, told, commands=3)
