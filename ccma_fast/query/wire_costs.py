"""The terms of the cost model for the network: what a query on several ranks sends, and how often.

The first rank leads. It sends a command to every other rank (a broadcast), and gets one answer from each (a gather, or
a sum of int64 arrays). A message between the first rank and all others counts once here, its payload once for each of
them, as :attr:`ccma_fast.system.ranks.Ranks.traffic` counts; a command with its answers is two messages. So every byte
goes through the network link of the first rank, while another one has about a (R − 1)-th of it.

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
              8 · K · (D + 2) · (1 + 1 / R) from each. Representatives of the clusters: some 32 · K from each
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

Seconds are those of a star: bytes through the first rank's link at the network's rate, one after the other, and the
network's latency for every message. Broadcasts and sums that the network's library passes on from rank to rank take
less.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from ..pool.rows import Rows
from ..reference import KMEANS_PARALLEL_OVERSAMPLING, KMEANS_PARALLEL_ROUNDS
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

# Rows of a clustering's sample, and those whose weight a clustering's start adds up first.
_SAMPLE, _ROWS_OF_BLOCK = 2048, 1 << 14

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

    def bytes_of_other(self, n_ranks: int) -> float:
        """Bytes to and from one of the other ranks."""
        if n_ranks == 1:
            return 0.0
        of_sums = self.summed * (1.0 + 1.0 / n_ranks)  # see Ranks.traffic
        return self.to_each + self.from_each + of_sums + self.commands * (_COMMAND + _ANSWER) + self.of_rows / n_ranks

    def bytes_exchanged(self, n_ranks: int) -> float:
        """Bytes between all ranks, which are those to and from the first."""
        return (n_ranks - 1) * self.bytes_of_other(n_ranks)

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
    return Wire(of_classes, of_classes + of_rank, commands=2).plus(values(m))


def scores_inside(given: CostInputs, n_inside: float) -> Wire:
    """A pass over the scores of all rows, which keeps those inside a bracket."""
    return Wire(from_each=_INT64 * n_inside / given.n_ranks)


def clustering(
    given: CostInputs, rows: Rows, n: int, n_clusters: int, max_iter: int, n_picks: int, *, with_start: bool
) -> Wire:
    """Upper bound of a k-means of n rows where they lie, and of the rows that represent its clusters.

    `with_start` by k-means||, else from random rows, as in :func:`ccma_fast.query.stage_costs.clustering_cost`.
    """
    k, row = n_clusters, _FLOAT32 * rows.n_columns

    def gathered(m: float) -> Wire:
        return Wire(_INT64 * m, of_rows=(_INT64 + row) * m, commands=1)

    n_sample = min(n, _SAMPLE)
    start = Wire(row * (n_sample + 1), _EXACT_SUM, commands=5).plus(gathered(n_sample))
    if with_start:
        of_round = KMEANS_PARALLEL_OVERSAMPLING * k
        n_candidates = min(n, 1 + KMEANS_PARALLEL_ROUNDS * of_round)
        drawn = Wire(row, _INT64 * (math.ceil(n / _ROWS_OF_BLOCK) + _ROWS_OF_BLOCK), commands=3).plus(gathered(1))
        joined = Wire(row * of_round, _EXACT_SUM, _INT64 * of_round, commands=3).plus(gathered(of_round))
        ended = Wire(_INT32 * n_candidates, _INT64 * n_candidates, commands=2).plus(gathered(n_candidates))
        start = start.plus(drawn, joined.times(KMEANS_PARALLEL_ROUNDS), ended)
    else:
        start = start.plus(Wire(from_each=2 * _INT64 * k, commands=1), gathered(k))
    assigned = Wire((row + 1) * k, _EXACT_SUM + _INT64 * k, commands=1)
    summed = Wire(summed=(2 * row + _INT64) * k, commands=1)
    found = start.plus(assigned.times(max_iter + 1), summed.times(max_iter))
    n_turns = math.ceil(n_picks / k)
    represented = Wire(_FLOAT32 * k, _EXACT_SUM + (2 * _INT64 + _FLOAT32) * k, commands=4)
    return found.plus(represented, Wire(_INT64 * k, _SCORED_NUMBER * k, commands=1).times(n_turns))


def outcome(given: CostInputs) -> Wire:
    """What ranks tell each other before the first stage and after the last one."""
    n_shards = sum(len(rows.shard_files) for rows in given.sources)
    told = _ARGUMENTS + _SHARD * n_shards
    return Wire(_CONFIGURATION + _REPORT + _PICK * given.budget, told, commands=3)
