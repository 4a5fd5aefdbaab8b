"""The query: the method's steps 1 to 6, top to bottom."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.choose import choose_backend
from ..backends.protocol import Backend, on_ranks
from ..checks import check_flag
from ..config import CCMAConfig
from ..errors import TeacherWarning
from ..pool.derived import RowMask
from ..pool.labels import ReadLabels
from ..pool.rows import Rows
from ..steps.teacher import Teacher
from ..steps.trained import Trained
from ..system.memory import Memory
from .acquisitions.acquisition import Acquisition, scores_teacher
from .acquisitions.table import ACQUISITIONS
from .arguments import Arguments, checked_arguments, inputs_of
from .cold_start import first_picks
from .comparison import compared, sampled_cuts
from .cost_model import cost_inputs_of, forecast
from .disagreement import scored_rows
from .explained import Evidence, Models, explained
from .first_report import first_report
from .inputs import Inputs
from .logits import Logits, kept_logits
from .picks import NO_PICKS, Picks
from .posteriors import posteriors, teacher_logits, trained_models
from .report import Report, Selection
from .report_warnings import suspicions_from_labels
from .scores import class_type
from .settings import RowNumbers
from .stage_clock import StageClock
from .subpool import diverse_subpool
from .thresholds import NO_CUTS, thresholds
from .validation import Validation, planned_validation

__all__ = ["query", "select", "validation_of"]

Int64 = npt.NDArray[np.int64]


# long: what a caller needs to know of a query; the code is short
def select(
    features: Any,
    budget: int,
    *,
    labels: Any = None,
    class_names: Any = None,
    teacher: Teacher | None = None,
    student: Any = None,
    student_logits: Any = None,
    config: CCMAConfig | None = None,
    random_state: int = 0,
    backend: str = "auto",
    chunk_size: int | None = None,
    memory_limit: int | str | None = None,
    exclude: Any = None,
    pending: Any = None,
    include: Any = None,
    min_distance: float | None = None,
    class_distribution: Any = None,
    explain: bool = False,
    group: Any = None,
) -> Selection:
    """Choose the rows of a pool whose labels teach a classifier the most.

    One query of Conformal Cross-Modal Acquisition (Nguyen et al., arXiv 2603.23159), by default with the package's own
    student and rule of selection.

    The student is a multinomial logistic regression (:class:`LogisticHead`) on rows centred by the pool's mean. Besides
    the labels it is trained on the teacher's posteriors of a sample of the pool, at most 4096 rows, as far as the
    labels show that this helps: the total weight is one of 0, 10, 100 and 1000 labels, the smallest whose likelihood
    on labels held out is within a standard error of the largest. The teacher is corrected before, on the labelled rows:
    z = β z^T + Δ φ with the likeliest β, and Δ, a regression on its image features (or its logits) whose
    penalty is chosen likewise, from a list that contains Δ = 0. This cannot hurt by more than the noise of that
    comparison: no teacher, no soft label and no correction are among the choices, and win where others are not
    clearly better on labels that had no part in them. The report tells what was chosen.

    The student leads all picks: of the rows of largest δ = 1 − (p^S_1 − p^S_2) those that, one after the other, reduce
    Σ δ · min ‖x − x_j‖² the most, where j runs over the labelled and the selected rows.

    A student of another kind (`student`, `student_logits`, or another `head`) does not know what the teacher knows, and
    the teacher leads a share of the picks, ``acquisition="trust"``. The labelled rows calibrate the conformal sets of
    student (out of fold) and teacher to the same coverage; the teacher is trusted with the share t of the student's
    ambiguity that it resolves, t = max(0, 1 − (|Γ_T| − 1) / (|Γ_S| − 1)) of the mean set sizes. Its picks go to its own
    classes, those with the fewest labels first; in each, of the κ rows for each pick of largest δ = max p^T · (m + J /
    ln 2) (the teacher is sure, while the student is not, m = 1 − (p^S_1 − p^S_2), or says otherwise, J inside the union
    of both sets), k-means weighted by δ finds the most central. The student leads the others as above.

    Until there are labels of two classes, or student logits, no student can be fitted, and the picks cover the pool:
    k-means on the L2-normalised rows, one row per cluster; where some are labelled, each other row weighs as much as
    its squared distance from the nearest of them. With "trust" a teacher chooses alone instead: of its classes, those
    with the fewest labels first, the most central rows of the quarter that it is surest of. Student logits without any
    label leave nothing to calibrate the teacher on: t = 0 with "trust".

    ``acquisition="delta"`` is the published query instead: δ = g · J + (1 − g) · H, the κ · B rows of largest δ, and
    δ-weighted k-means coverage of those.

    Parameters
    ----------
    features : array_like, np.memmap, torch.Tensor, data frame, datasets.Dataset or path, shape (N, D_S)
        The student's embeddings x, in anything that :func:`ccma_fast.pool.open.open_rows` opens. float16, bfloat16 and
        float32 are read as they are, chunk by chunk.
    budget : int
        B ≥ 1.
    labels : array_like, data frame, path or sequence of pathlib.Path, shape (N,), optional
        Class of each row from 0 to C − 1, or its name; −1, NaN or None where there is none. Series, data frames and
        files as in :func:`ccma_fast.pool.labels.read_labels`: those that say which images they are of are joined to
        the rows by their ids.
    class_names : sequence of str, mapping or path, optional
        What classes are called, in their order, see :func:`ccma_fast.pool.class_names.read_class_names`; by default
        the teacher's, where it knows them.
    teacher : Teacher, optional
        Zero-shot posteriors, from which the student learns, and the embedding space of the teacher's picks (the
        student's, where it has no features). Without a teacher the student leads every pick; with
        ``acquisition="delta"`` δ is then its entropy.
    student : object with `fit` and `predict_proba`, optional
        Fitted on the labelled rows (a copy is), once they are of two classes; by default what ``CCMAConfig(head=)``
        names.
    student_logits : array_like, shape (N, C), optional
        z^S of every row, instead of fitting a student.
    config : CCMAConfig, optional
        Every constant of the method.
    random_state : int, default 0
        Seed of the subpool, the student and the k-means of the coverage, where the query has them. The same seed gives
        the same picks on one machine, whatever the number of threads, the chunk size or the storage of the features;
        where `student` or the reference multiply by BLAS, chunks of another size may round otherwise.
    backend : {"auto", "cuda", "cpu", "reference"}
    chunk_size : int, optional
        Rows read at once; by default some 32 MiB of them.
    memory_limit : int or str, optional
        What the query may add to the process's resident memory, the pages of mapped files included, beside at most 32
        bytes a row of the pool: bytes, or text such as "4GB" (10⁹) or "4GiB" (2³⁰). By default a quarter of what the
        machine has, or of what the tightest of its control groups and resource limits allows, but no more than half of
        what is left of that; at least 512 MB. It decides what is kept between steps and what is read or computed again,
        never what is picked. What classes, labelled rows and candidates take by themselves (:func:`ccma_fast.plan`
        tells it) has to fit.
    exclude, pending, include : array_like or path, optional
        Rows that are never picked; rows that somebody is labelling, which are never picked and count as covered, as
        labelled rows do, without a class; the only rows that may be picked. Each a mask of booleans, shape (N,), row
        numbers, ids, or a file, see :func:`ccma_fast.pool.row_masks.read_row_mask`. A row with a label is neither
        pending nor excluded any more, and an excluded one neither pending nor included. Excluded rows, such as broken
        images or those of no class, are never read, while the student's sample of the pool has pending rows and those
        that `include` leaves out.
    min_distance : float, optional
        The least distance, from 0 to 2, of picks to each other, to labelled and to pending rows: Euclidean, of the
        L2-normalised rows of `features`, up to 5e-7. Of rows that are nearer the acquisition's first one is picked;
        where its candidates run out, those of largest score among all that are scored follow.
    class_distribution : array_like, shape (C,), mapping or path, optional
        The wanted shares of the classes among labelled rows and picks together, see
        :func:`ccma_fast.pool.class_shares.read_class_shares`. Picks are divided into quotas by the most probable class
        of each row, by the student; by the teacher for the picks that it leads and at a cold start. In each class the
        acquisition chooses as it does. Classes without rows leave their quota to the others, and those of share 0 get
        what these cannot take.
    explain : bool, default False
        Tell where each pick comes from, in ``Selection.explanation``. The picks are the same bit for bit. It reads the
        picks once more and up to 32 rows of each cluster, which the plan does not count.
    group : torch.distributed.ProcessGroup, optional
        Run on all ranks of a process group, each of which calls this with the same arguments and gets the same picks,
        bit for bit those of one process. Each rank reads its part of the rows of `features`, teacher and
        `student_logits`, which all must be able to open. What is told of rows (`labels`, `exclude`, ...) counts on the
        first rank, and may be missing on the others. Ranks of one machine share the default of `memory_limit`; a given
        one is each rank's own. A `student` must be possible to pickle.

    Returns
    -------
    Selection
        Exactly min(B, number of rows that can be picked) picks: unlabelled ones that the masks leave and whose images
        have not vanished, as :func:`ccma_fast.extract` found. Fewer where `min_distance` leaves no other scored row.

    Warns
    -----
    TeacherWarning
        The labelled rows speak against the teacher or `student_logits`; the report holds the same text. Suspected are
        probabilities where logits belong, which need no labels to be seen; a teacher's temperature that is more than
        ten times too large or too small, such as logit_scale, which is 1 / τ; classes in another order than the
        labels': all by one rule (shifted, reversed, sorted by name), some exchanged, or most by any; and a teacher that
        is no better than chance. Some 10 to 50 labels tell of a temperature or a rule, 50 of chance; an exchange of two
        takes 10 of each. Of more than 16,384 labelled rows, or 2²¹ of their logits, a random share is used.

    Raises
    ------
    PoolMismatchError
        By their manifests, ids or shards the images of the teacher or of `student_logits` are not those of `features`.
    FileReadError
        A file that cannot be read.
    ValueError
        NaN or infinity (the row is named), a zero vector where coverage needs a direction, shapes or row counts that do
        not agree, labels out of range or without a name, a student without any label, names that are not the teacher's,
        a budget below 1.
    TypeError
        Inputs of the wrong type.
    RankError
        Another rank of `group` has failed or is lost; the text names it, its host and what happened.

    Notes
    -----
    How often the pool is read: where every unlabelled row is scored, once. In that pass each row is validated and then
    turned into logits; those are cut and scored while in memory. By default the picks depend on the student's scores
    alone: logits of the teacher are computed of the rows that the student learns from and of a sample for the report,
    its other rows are only validated. With "trust" and "delta" features and teacher are read alike, and the pass gives
    target-size thresholds too where the pool has 2¹⁰ rows or more (a sample, which is read before, says where they must
    lie). Before it the labelled rows and the student's sample are read, after it the candidates. What needs a number
    from all rows first takes one more pass each: target-size thresholds of a smaller pool whose logits are not kept,
    ``reweight``, "aps" and "raps" cuts, ``nonempty="raise"``. A source that no logits come from (features at a cold
    start with a teacher or beside `student_logits`) is read once, to be validated, and so is everything before a
    student of your own or a clustered subpool. k-means reads all rows that it clusters once in each iteration and some
    times before: :func:`ccma_fast.plan` counts them.

    Files are asked for one chunk ahead, and the pages of what has been read are let go. Beside chunks and what
    `memory_limit` allows, a row takes 4 bytes, with "trust" 14, and some 16 more while it is sorted; at a cold start
    some 32. Cuts of "aps", "raps" and ``reweight`` are 8 bytes a row and model more.

    Examples
    --------
    >>> import numpy as np, ccma_fast as cf
    >>> y = np.arange(1000) % 4
    >>> x = np.random.default_rng(0).standard_normal((1000, 16), dtype=np.float32) + 3 * np.eye(4, 16)[y]
    >>> first = cf.select(x, 8)  # no labels yet: the picks cover the pool
    >>> labels = np.full(1000, -1)
    >>> labels[first.indices] = y[first.indices]
    >>> picks = cf.select(x, 5, labels=labels)
    >>> picks.scores.shape, picks.report.n_labelled
    ((5,), 8)
    """
    explain = check_flag("explain", explain)
    checked = partial(
        checked_arguments,
        features,
        budget,
        labels=labels,
        class_names=class_names,
        teacher=teacher,
        student=student,
        student_logits=student_logits,
        config=config,
        random_state=random_state,
        backend=backend,
        chunk_size=chunk_size,
        exclude=exclude,
        pending=pending,
        include=include,
        min_distance=min_distance,
        class_distribution=class_distribution,
    )
    run, leads = partial(_with_ids, explain=explain), True
    if group is None:
        picks = run(checked(memory_limit=memory_limit))
    else:
        ranks = import_module(".ranks.run", __package__)  # which needs PyTorch
        picks, leads = ranks.on_group(group, choose_backend(backend), checked, memory_limit, run)
    if picks.report.warnings and leads:
        warnings.warn("\n".join(picks.report.warnings), TeacherWarning, stacklevel=2)
    return picks


def query(
    features: Rows,
    budget: int,
    *,
    labels: Int64,
    teacher: Teacher | None,
    trained: Trained | None,
    config: CCMAConfig,
    random_state: int,
    backend: Backend,
    memory_limit: int,
    exclude: RowMask | None = None,
    pending: RowMask | None = None,
    include: RowMask | None = None,
    min_distance: float | None = None,
    class_distribution: npt.NDArray[np.float64] | None = None,
) -> Selection:
    """:func:`select` for a loop that has checked its inputs and trained its models on the labelled rows.

    Images are not accessed, so that vanished ones do not matter. The picks are bit for bit the same under every limit.
    """
    arguments = Arguments(
        pool=features,
        budget=budget,
        labels=ReadLabels(labels),
        class_names=None,
        teacher=teacher,
        student=None,
        student_logits=None,
        config=config,
        random_state=random_state,
        backend=backend,
        chunk_size=None,
        memory=Memory(memory_limit, has_fixed_chunks=True),
        vanished=np.empty(0, np.int64),
        exclude=exclude,
        pending=pending,
        include=include,
        min_distance=min_distance or 0.0,
        class_distribution=class_distribution,
        trained=trained,
    )
    return _selection(arguments)


def validation_of(inputs: Inputs, acquisition: Acquisition) -> Validation:
    """Which sources are validated when, and what their rows need."""
    return planned_validation(
        inputs, covers_pool=acquisition.covers_pool, scores_teacher=scores_teacher(acquisition, inputs)
    )


def _with_ids(arguments: Arguments, *, explain: bool) -> Selection:
    arguments.pool.ids_at(np.arange(min(1, arguments.pool.n_rows)))  # where ids cannot be read, that is said now
    picks = _selection(arguments, explain=explain)
    told = picks.explanation
    return replace(picks, ids=arguments.pool.ids_at(picks.indices) if told is None else told.ids)


def _selection(arguments: Arguments, *, explain: bool = False) -> Selection:
    """One query: its picks and its report."""
    with StageClock(arguments.pool, on_ranks(arguments.backend)) as clock:
        with clock.stage("check"):
            inputs = inputs_of(arguments)
            inputs = replace(inputs, settings=replace(inputs.settings, explains=explain))
            acquisition = ACQUISITIONS[inputs.acquisition]
            clock.add_sources(*inputs.sources[1:])
            validation = validation_of(inputs, acquisition)
            given = cost_inputs_of(inputs, acquisition, validation.lazy)
            x_labelled = validation.validate_up_front(inputs.pool, inputs.labelled, inputs.rows.pending)
            report = first_report(inputs, arguments.random_state)
        report.plan = forecast(given, acquisition)
        rows: RowNumbers = inputs.unlabelled
        evidence = Evidence()
        if inputs.budget == 0:
            picks = NO_PICKS
        elif inputs.cold:
            with clock.stage("coverage"):
                z_teacher = teacher_logits(inputs, validation) if scores_teacher(acquisition, inputs) else None
                picks = first_picks(inputs, z_teacher, teacher_leads=acquisition.teacher_first)
            evidence = Evidence(Models(teacher=teacher_logits(inputs, validation)))
        else:
            rows, picks, report, evidence = _scored_picks(inputs, acquisition, validation, x_labelled, clock, report)
        explanation = None
        if explain:
            with clock.stage("explanation"):
                explanation = explained(inputs, rows, picks, evidence)
    report = replace(report, **picks.tally._asdict(), trust=picks.trust, stages=clock.stages)
    return Selection(rows[picks.positions], picks.scores, picks.represents, report, explanation=explanation)


def _scored_picks(
    inputs: Inputs,
    acquisition: Acquisition,
    validation: Validation,
    x_labelled: Rows,
    clock: StageClock,
    report: Report,
) -> tuple[RowNumbers, Picks, Report, Evidence]:
    """The method, with labels or logits: the scored rows, picks, the report up to them, and what explains them."""
    settings, has_teacher = inputs.settings, inputs.teacher is not None
    forms_sets = acquisition.forms_sets(has_teacher, inputs.labelled.size)
    scores_both = scores_teacher(acquisition, inputs)
    columns = dict(acquisition.columns(scores_both, inputs.n_classes))
    if inputs.shares is not None:
        columns["student_top1"] = class_type(inputs.n_classes)
    # 1. Subpool
    with clock.stage("subpool"):
        scored, n_subpool_clusters = diverse_subpool(inputs)
    # 2. Posteriors
    with clock.stage("posteriors"):
        trained = trained_models(inputs, x_labelled, validation)
        pool_logits = posteriors(inputs, trained, validation)
        logits = kept_logits(pool_logits if scores_both else Logits(pool_logits.student), scored, settings)
    # 3. Conformal sets, with the scores where one pass gives both
    with clock.stage("thresholds"):
        cuts, scores, of_sample = NO_CUTS, None, None
        if forms_sets:
            cuts, scores = thresholds(inputs, columns, pool_logits, logits, trained)
        elif has_teacher:
            of_sample = compared(inputs, pool_logits, scored, trained)
        shown = NO_CUTS if of_sample is None else of_sample[0]
        if settings.explains and not (forms_sets or has_teacher):
            shown = sampled_cuts(inputs, pool_logits, scored, trained)
    # 4. Disagreement
    with clock.stage("disagreement"):
        if scores is None:
            scores = scored_rows(settings, logits, cuts, columns)
        del logits
        told_cuts, told = of_sample or (cuts, scores)
        differing = told.mean("top1_differs") if trained.disagreement is None else trained.disagreement
        suspected = suspicions_from_labels(inputs, pool_logits.student, differing)
    # 5. Candidates and 6. Coverage
    with clock.stage("coverage"):
        picks = acquisition.picks(inputs, scored, scores)
    has_sets = told_cuts is not NO_CUTS
    has_both = has_sets and has_teacher
    return (
        scored,
        picks,
        replace(
            report,
            n_subpool_clusters=n_subpool_clusters,
            n_scored=scored.size,
            calibration=settings.config.calibration if has_sets else "",
            **trained.choice._asdict(),
            q_student=told_cuts.q_student,
            q_teacher=told_cuts.q_teacher,
            mean_student_set=told.mean("student_size") if has_sets else math.nan,
            mean_teacher_set=told.mean("teacher_size") if has_both else math.nan,
            mean_overlap=told.mean("overlap") if has_both else math.nan,
            top1_disagreement=told.mean("top1_differs") if has_teacher else math.nan,
            likeliest_temperature=suspected.likeliest_temperature,
            warnings=report.warnings + suspected.texts,
        ),
        Evidence(Models(*pool_logits, trained.combination), cuts, shown),
    )
