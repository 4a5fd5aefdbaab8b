"""The loop for research: strategies × seeds × rounds on a pool whose labels are known."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends.choose import choose_backend
from ..checks import check_choice, check_integer
from ..config import CCMAConfig
from ..errors import TeacherWarning
from ..query.arguments import check_arguments
from ..steps.teacher import Teacher
from ..strategies.registry import names
from ..system.memory import check_memory_limit
from ..system.output_files import check_can_write_into
from ..system.streams import progress_bar
from .contenders import contenders_of
from .pool_map import pool_map
from .provenance import check_code, code_of, run_record
from .results import Results, results_of
from .run_folder import RunFolder, read_map
from .study import Study, open_study
from .trial import run_trial

if TYPE_CHECKING:
    from .workers import FinishedRounds, RunTrial, Trials

__all__ = ["simulate"]


# long: what a caller needs to know of a run; the code is short
def simulate(
    features: Any,
    labels: Any,
    *,
    test_features: Any,
    test_labels: Any,
    strategies: Any = ("ccma", "random", "margins"),
    seeds: Sequence[int] = (1, 10, 100, 1000, 10000),
    rounds: int = 20,
    budget: int | None = None,
    n_start: int | None = None,
    start: str = "random",
    teacher: Teacher | None = None,
    student: Any = None,
    class_names: Any = None,
    config: CCMAConfig | None = None,
    out: str | Path | None = None,
    jobs: int = 1,
    progress: bool = True,
    force: bool = False,
    backend: str = "auto",
    memory_limit: int | str | None = None,
) -> Results:
    """Compare strategies on a pool whose labels are known, by the protocol of the paper.

    For every strategy and seed: a few rows get their labels; then, `rounds` times, the student is trained from scratch
    on the labelled rows, measured on the test rows, and the strategy chooses `budget` rows more. The defaults are
    those of Nguyen et al. (arXiv 2603.23159): C random labels, 20 rounds of C more, five seeds.

    Parameters
    ----------
    features : array_like, np.memmap, torch.Tensor, data frame, datasets.Dataset or path, shape (N, D_S)
        The student's embeddings x of the pool, in anything that :func:`ccma_fast.pool.open.open_rows` opens.
    labels : array_like or path, shape (N,)
        The class of every row: its number from 0 to C − 1, or its name. A strategy sees those of the rows that it has
        asked for. Files as in :func:`ccma_fast.pool.labels.read_labels`.
    test_features : array_like, np.memmap, torch.Tensor, data frame, datasets.Dataset or path, shape (M, D_S)
    test_labels : array_like or path, shape (M,)
    strategies : sequence of str or callable, or mapping, default ("ccma", "random", "margins")
        What is compared. Each is the name of a registered strategy (:func:`ccma_fast.strategies.names`); such a name
        with options, as in ``"margins:head=ridge"`` or ``"ccma:paper,start=typiclust"``; or a callable that takes a
        :class:`ccma_fast.strategies.Round` and returns row numbers. Options are the fields of :class:`CCMAConfig`, the
        head and its constants only where no `student` is given; ``paper``, which takes :meth:`CCMAConfig.paper` for
        `config`; and ``start``, which replaces `start`. In the table a strategy goes by the text as given, a callable
        by its ``__name__``, and an entry of a mapping by its key.
    seeds : sequence of int, default (1, 10, 100, 1000, 10000)
        Each fixes the first labels, the student's training in each round, and the strategy's own choices.
    rounds : int, default 20
        Queries; round 0 measures the student on the first labels alone.
    budget : int, optional
        Labels per query; C by default.
    n_start : int, optional
        First labels; C by default, at least 2.
    start : str, default "random"
        The strategy that chooses the first labels, one of ``ccma_fast.strategies.names(needs_labels=False)``. It works
        with `config`, so that all contenders with the same start begin with the same rows. Where those are of fewer
        than two classes, on which no student can be trained, it is asked again with the next random stream of the seed,
        at most 100 times.
    teacher : Teacher, optional
        Of the pool's rows. The head "distilled" learns from it as well, whatever the strategy.
    student : object with `fit` and `predict_proba`, optional
        The student of all strategies; by default each has the head of its configuration, see :class:`CCMAConfig`.
        Copies of it are fitted; its parameter ``random_state``, where it has one, is set by the seed and the round.
    class_names : sequence of str, mapping or path, optional
        What the classes are called, in their order, see :func:`ccma_fast.pool.class_names.read_class_names`; needed
        where labels are names and the teacher does not know them.
    config : CCMAConfig, optional
        What the options of a strategy change.
    out : path, optional
        Folder of the run (see :mod:`ccma_fast.research.run_folder`). A run that was killed is resumed there in the
        round in which it stopped; a finished one is returned without computing anything; and one with more strategies,
        seeds or rounds than before becomes what it would be from scratch. All else that decides results must be as it
        was: data, arguments, the instruction set or device, this package, and the code of one's own strategies and
        student with the functions and values that they use (see :func:`ccma_fast.research.identity.identity`).
    jobs : int, default 1
        Processes among which the pairs of strategy and seed are divided. Each has its share of the threads
        of the C++ core. Files are opened by each of them, arrays are copied to each once.
    progress : bool, default True
        Show a bar for the whole grid on stderr.
    force : bool, default False
        Take test features that by their manifests come from another encoder than the pool's; the record says so.
    backend : {"auto", "cuda", "cpu", "reference"}
    memory_limit : int or str, optional
        What all jobs together may add to resident memory, as in :func:`ccma_fast.select` and with the same default, but
        at least 512 MB for each; every job has an equal share. Beside it each has some bytes for each row of the pool,
        and a copy of arrays that lie in no file. It decides what is kept and what is computed again, never a result.

    Returns
    -------
    Results
        :attr:`Results.columns` holds the same bits for the same arguments on one machine: whatever the number of
        jobs and threads, the other strategies, and how often the run was killed and resumed.

    Raises
    ------
    PoolMismatchError
        By their manifests the teacher's images are others, or the test features come from another encoder.
    ValueError
        Shapes that do not fit each other, rows that are not finite, rows without a label, unknown strategies or
        options, more labels wanted than the pool has, no start with two classes, a strategy that returns something
        else than unlabelled rows, or an `out` that holds another run, one that has more strategies, seeds or rounds,
        or one that cannot be compared with this call, or a `memory_limit` of less than 512 MB for each job.
    TypeError
        Inputs of the wrong type, or a strategy that cannot be sent to another process where there are several jobs.
    OSError
        `out` cannot be written into, or another process is working there (:class:`BlockingIOError`); a worker process
        has died (:class:`ChildProcessError`).
    Exception
        What a strategy or student raised, in the same type where that is made of a text; the text names strategy, seed
        and round, and the original is its cause. The rounds before it are kept.

    Warns
    -----
    TeacherWarning
        The labels speak against the teacher, see :func:`ccma_fast.select`.
    RuntimeWarning
        A run is resumed with other versions of Python, NumPy or PyTorch; or cannot be resumed later, because a strategy
        of it cannot be compared (it holds a lock, an open file, or another object without a value).

    Notes
    -----
    Set sizes, overlap, disagreement, coverage and thresholds are measured on all unlabelled rows, after each round's
    labels are known and in the same way for every strategy, with the contender's constants of step 3: they say what the
    student has become, not what the strategy looked at. With ``calibration="coverage"`` both models' thresholds come
    from out-of-fold scores of labelled rows (a teacher that no labels corrected has the scores of all), which the query
    of "ccma" uses as well; where rows have thresholds of their own, the table has the median. Coverage is the share of
    unlabelled rows whose true class is in the set, low and high the ends of its 95 % interval
    (:func:`ccma_fast.coverage_interval`).

    A seed is the same experiment under every strategy: contenders with one `start` and one head begin with the same
    rows and the same student, and students of a round that have the same rows to learn from are the same. So compare
    two strategies seed by seed, ``results.area("ccma") - results.area("random")``: the standard error of the mean of
    these differences is the one to report, as ``ccma-fast report`` does. That of one strategy's own areas also says how
    much the seeds differ.

    Of its share of `memory_limit` each job keeps logits of teacher and student in an eighth each, and test posteriors
    in another at a time; a query of "ccma" has what the teacher's leave, as :func:`ccma_fast.select` has its limit.

    Examples
    --------
    >>> import numpy as np, ccma_fast as cf
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(3, size=400)
    >>> x = rng.standard_normal((400, 8), dtype=np.float32) + 2 * np.eye(3, 8, dtype=np.float32)[y]
    >>> results = cf.simulate(
    ...     x[:300], y[:300], test_features=x[300:], test_labels=y[300:], strategies=["random", "margins"],
    ...     seeds=[1, 2], rounds=2, progress=False,
    ... )
    >>> results.columns["n_labels"].tolist()
    [3, 6, 9, 3, 6, 9, 3, 6, 9, 3, 6, 9]
    >>> results.area("random").shape
    (2,)
    """
    check_arguments(teacher, student, config)
    chosen = choose_backend(backend)
    jobs = check_integer("jobs", jobs, minimum=1)
    base = config or CCMAConfig()
    start = check_choice("start", start, names(needs_labels=False))
    contenders = contenders_of(strategies, start, base, has_student=student is not None)
    study = open_study(
        (features, labels),
        (test_features, test_labels),
        contenders=contenders,
        base=base,
        teacher=teacher,
        student=student,
        class_names=class_names,
        backend_name=chosen.NAME,
        force=force,
    )
    study = replace(
        study,
        rounds=check_integer("rounds", rounds, minimum=1),
        budget=study.n_classes if budget is None else check_integer("budget", budget, minimum=1),
        n_start=study.n_classes if n_start is None else check_integer("n_start", n_start, minimum=2),
    )
    checked_seeds = _check_seeds(seeds)
    grid = [(contender.label, seed) for contender in contenders for seed in checked_seeds]
    n_jobs = min(jobs, len(grid))
    study = replace(study, memory_limit=check_memory_limit(memory_limit, n_jobs).limit)
    if out is not None:
        check_can_write_into(out)
    study.check()
    if found := study.suspicions():
        warnings.warn("\n".join(found), TeacherWarning, stacklevel=2)
    record = run_record(study, checked_seeds, start)
    payload = b"" if n_jobs == 1 else _pickled(study)

    folder = None if out is None else RunFolder(out)
    with nullcontext() if folder is None else folder.locked():
        if folder is not None:
            record = folder.begin(record)
        trials = {(label, seed): [] if folder is None else folder.read_rounds(label, seed) for label, seed in grid}
        left = [trial for trial, done in trials.items() if len(done) <= study.rounds]
        n_rounds, n_done = len(grid) * (study.rounds + 1), sum(map(len, trials.values()))
        with progress_bar(n_rounds, n_done, "round", is_shown=progress) as bar:
            finished = _run_here(study, left, trials) if n_jobs == 1 else _run_elsewhere(payload, n_jobs, left, trials)
            with closing(finished):  # ends the workers, whatever happens here
                for label, seed, done in finished:
                    trials[label, seed].append(done)
                    if folder is not None:
                        folder.write_rounds(label, seed, trials[label, seed])
                    bar.set_description(f"{label}, seed {seed}", refresh=False)
                    bar.update()
        results = results_of(record, trials)
        if folder is not None and (left or not folder.is_complete(record)):
            of_pool = pool_map(study.pool, study.labels, results.picks["row"])
            folder.write_results(results, of_pool)
            results = replace(results, pool_map=of_pool)
        elif folder is not None:
            results = replace(results, pool_map=read_map(folder.path))
    return results


def _check_seeds(seeds: Any) -> list[int]:
    if isinstance(seeds, str) or not isinstance(seeds, (Sequence, np.ndarray)):
        raise TypeError(f"seeds must be a sequence of integers, got {type(seeds).__name__}")
    checked = [check_integer("seeds", seed, minimum=0) for seed in seeds]
    if not checked or len(set(checked)) < len(checked):
        raise ValueError(f"seeds must be at least one and distinct, got {checked}")
    return checked


def _run_here(study: Study, left: Sequence[tuple[str, int]], trials: Trials) -> FinishedRounds:
    for label, seed in left:
        for done in run_trial(study, label, seed, list(trials[label, seed])):
            yield label, seed, done


def _run_elsewhere(payload: bytes, n_jobs: int, left: Sequence[tuple[str, int]], trials: Trials) -> FinishedRounds:
    from .workers import run_by_workers  # multiprocessing is slow to import

    yield from run_by_workers(payload, n_jobs, left, trials)


def _checked_trials(study: Study, code: dict[str, Any]) -> RunTrial:
    """Called in each worker process: the function that runs the trials of a study."""
    check_code(study, code)
    return partial(run_trial, study)


def _pickled(study: Study) -> bytes:
    """The data sent to every worker process."""
    from .workers import dumped

    try:
        # A copy of the study, which has computed nothing yet.
        return dumped(partial(_checked_trials, replace(study), code_of(study)))
    except Exception as error:
        for contender in study.contenders:
            with _sendable(contender.label):
                dumped((contender.strategy, contender.first))
        raise TypeError(f"data or student cannot be sent to another process ({error}); expected jobs=1") from error


@contextmanager
def _sendable(label: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise TypeError(
            f"strategy {label!r} cannot be sent to another process ({error}); expected a function or class at the top "
            "level of a module, or jobs=1"
        ) from error
