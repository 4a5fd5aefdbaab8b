"""The terms of the cost model for a cold start."""

from __future__ import annotations

from ..pool.rows import Rows
from .cost_inputs import CostInputs
from .stage_costs import (
    COMPARED_ROWS,
    COUNTED_ROW,
    SIMILARITIES,
    SORTED_ROW,
    StageCost,
    Work,
    clustering_cost,
    kept_bytes,
    logit_rows,
    picked_bytes,
    posterior_work,
    scored_chunk,
    selected_bytes,
    spaced_rows,
)
from .wire_costs import Wire, best_rows_of_classes, clustering, fetched, models, selectable

__all__ = ["cover_cost", "teacher_first_cost"]

# Rows of a cluster that are looked at for a minimum distance.
_RANKED = 4


def teacher_first_cost(given: CostInputs) -> StageCost:
    """The coverage stage at cold start with a teacher."""
    assert given.teacher is not None, "a teacher chooses first"
    n = given.n_unlabelled
    share = given.config.confident_share * min(1.0, given.budget / given.n_classes)
    n_candidates = min(n, max(1, int(share * n / given.n_classes)))
    candidates = kept_bytes(given, given.space, n_candidates) + picked_bytes(given.space, 0)
    chunk = scored_chunk(given, is_kept=False)
    n_chunk = logit_rows(given, given.teacher)
    # The allocator retains the memory of a chunk's copy.
    copied = given.teacher.resident_bytes(n_chunk, picked=given.leaves_rows_out)
    copied -= n_chunk * given.teacher.row_bytes * given.teacher.is_mapped
    n_here = given.of_rank(n)
    memory = 8 * n_here + max(n_here * SORTED_ROW + candidates + copied, chunk)
    of_other = 8 * n_here + max(n_here * SORTED_ROW + copied, chunk)
    read: dict[Rows, float] = dict.fromkeys(given.posteriors, n)
    n_read = max(share * n, min(given.budget, n))
    read[given.space] = read.get(given.space, 0) + n_read
    read[given.pool] = read.get(given.pool, 0) + spaced_rows(given)
    wire = models(given, given.posteriors).plus(selectable(given), best_rows_of_classes(given, int(n_read), n))
    wire = wire.plus(fetched(given, given.space, n_read), fetched(given, given.pool, spaced_rows(given)))
    return StageCost(read, memory, posterior_work(given, n), memory_of_other=of_other, wire=wire)


def cover_cost(given: CostInputs) -> StageCost:
    """The coverage stage at cold start without a teacher."""
    n = given.n_unlabelled
    if n <= given.budget:
        return StageCost({}, 16 * n)
    n_here = given.of_rank(n)
    # For a class distribution the teacher's classes that have a quota are clustered, one after the other.
    n_clustered = int(n * min(1.0, given.budget / given.n_classes)) if given.posteriors else n
    n_clusters = given.config.cluster_count(n_clustered, given.budget)
    passes, memory, work = clustering_cost(
        given, given.space, n_clustered, n_clusters, given.config.kmeans_max_iter, with_start=True
    )
    read: dict[Rows, float] = {given.space: passes * n_clustered + given.n_covered}
    if given.n_covered:  # distances to the covered rows: lengths once, and products in blocks of them
        read[given.space] += n * (1 + -(-given.n_covered // COMPARED_ROWS))
        chunk = min(n_here, given.space.chunk_rows())
        of_lengths = selected_bytes(given, given.space, chunk, picked=True) + chunk * COUNTED_ROW
        of_similarities = _compared_bytes(given, n_here)
        # The allocator may retain the memory of a chunk's copy: half of it is wrong by the least either way.
        copied = given.space.resident_bytes(chunk, picked=True) - chunk * given.space.row_bytes * given.space.is_mapped
        memory = max(copied // 2 + memory, 8 * n_here + max(of_lengths, of_similarities)) + kept_bytes(
            given, given.space, given.n_covered
        )
        work = work._replace(products=work.products + float(n) * given.space.n_columns * given.n_covered)
    of_other = memory
    if n_spaced := spaced_rows(given):
        read[given.pool] = read.get(given.pool, 0) + n_spaced
        memory += picked_bytes(given.pool, n_spaced)
    for rows in given.posteriors:  # the teacher's
        read[rows] = read.get(rows, 0) + n
        memory = max(memory, scored_chunk(given, is_kept=False)) + 12 * n
        of_other = max(of_other, scored_chunk(given, is_kept=False)) + 4 * n_here
        work = Work(work.products, work.read, n * given.n_classes, work.clusterings)
    wire = _cover_wire(given, n_clustered, n_clusters)
    return StageCost(read, memory, work, memory_of_other=of_other, wire=wire)


def _compared_bytes(given: CostInputs, n: int) -> int:
    """Bytes of comparing n of the selectable rows with the covered ones: of the chunks, and of two blocks of products.

    A block of products is alive until the next one is computed, thus also while the next chunk is read. Of a pool of
    few chunks the last ones are smaller, and so is the peak.
    """
    space, n_whole, n_others = given.space, *divmod(given.n_covered, COMPARED_ROWS)
    blocks: list[tuple[int, int]] = []
    for n_compared in [COMPARED_ROWS] * min(2, n_whole) + [n_others] * (n_others > 0):
        n_chunk = min(space.chunk_rows(), SIMILARITIES // n_compared)
        n_chunks, n_last = divmod(n, n_chunk)
        blocks += [(n_chunk, n_compared)] * min(2, n_chunks) + [(n_last, n_compared)] * (n_last > 0)
    most = before = 0
    file_bytes = space.n_rows * space.row_bytes
    for n_chunk, n_compared in blocks:
        copied, products = n_chunk * space.row_bytes, 4 * n_chunk * n_compared
        # The pages that are touched, at most the chunk's share of the file, are resident only while rows are copied.
        pages = file_bytes * n_chunk // given.n_unlabelled
        reading = min(selected_bytes(given, space, n_chunk, picked=True), copied + pages)
        most = max(most, before + max(reading, copied + products))
        before = products
    return most


def _cover_wire(given: CostInputs, n: int, n_clusters: int) -> Wire:
    """What a clustering of n rows at cold start sends, or one of each class where there are classes."""
    space, n_groups = given.space, min(given.n_classes, given.budget) if given.posteriors else 1
    of_group = clustering(
        space,
        n // n_groups,
        max(1, n_clusters // n_groups),
        given.config.kmeans_max_iter,
        given.budget // n_groups * (_RANKED if given.has_spacing else 1),
        init="k-means||",
    )
    wire = selectable(given).plus(of_group.times(n_groups), fetched(given, given.pool, spaced_rows(given)))
    if given.n_covered:
        of_covered = Wire(space.row_bytes * given.n_covered, commands=1)
        wire = wire.plus(fetched(given, space, given.n_covered), of_covered)
    if given.posteriors:
        numbers_and_classes = Wire(8 * n, of_rows=4 * given.n_unlabelled, commands=1)
        wire = wire.plus(models(given, given.posteriors), numbers_and_classes)
    return wire
