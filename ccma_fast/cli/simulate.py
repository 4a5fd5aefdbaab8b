"""The command ``ccma-fast simulate``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .argument_types import at_least_0, at_least_1
from .command import Command
from .shared_options import (
    add_backend_option,
    add_config_options,
    add_memory_option,
    add_teacher_options,
    config_from,
    teacher_from,
)

if TYPE_CHECKING:
    from ..research.results import Results

__all__ = ["COMMAND"]

_DESCRIPTION = """\
Compare strategies on a pool whose labels are all known: a few rows get their label, a classifier is trained on them and
measured on the test rows, the strategy chooses more rows, and so on; for every strategy and seed. The defaults are the
paper's protocol: as many first labels and labels per round as there are classes, 20 rounds, 5 seeds.

Prints the area under the learning curve (the mean accuracy over the numbers of labels) and the accuracy at the end.
"""

_EPILOG = """\
strategies:
  random                  a name; with --teacher-images or --teacher-logits every strategy may use the teacher
  ccma:kappa=5            a name with constants of ccma_fast.CCMAConfig
  ccma:paper              the published constants
  margins:head=ridge      another student than that of --head
  margins:start=NAME      another choice of the first labels than --start
  all                     every strategy that there is

files in DIR, which a report is made from; a run that was interrupted goes on when the same command is given again, and
so does one that is to have more strategies, seeds or rounds:
  results.csv             strategy, seed, round, n_labels, accuracy, macro_auroc, macro_f1, and conformal diagnostics
  picks.csv, timings.csv  the rows chosen and the seconds taken in each round
  results.json            the results with every argument, the versions and a fingerprint of the data
  map.npz                 the pool in the plane
  run.json, rounds/       what is needed to go on

examples:
  ccma-fast simulate --features x.npy --labels y.npy --test-features tx.npy --test-labels ty.npy --out run
  ccma-fast simulate --features x.npy --labels y.npy --test-features tx.npy --test-labels ty.npy \\
                     --teacher-images v.npy --teacher-classes t.npy --strategies ccma ccma:kappa=5 margins random \\
                     --jobs 2 --out run

The same call in Python: ccma_fast.simulate(features, labels, test_features=..., test_labels=..., ...).
"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    pool = parser.add_argument_group("the data")
    pool.add_argument("--features", required=True, metavar="X.npy", help="embeddings of the pool: N x D numbers")
    pool.add_argument(
        "--labels", required=True, metavar="Y.npy", help="their N classes, numbers from 0 to C-1 or names"
    )
    pool.add_argument(
        "--test-features", required=True, metavar="TX.npy", help="embeddings of the test images: M x D numbers"
    )
    pool.add_argument("--test-labels", required=True, metavar="TY.npy", help="their M classes")
    pool.add_argument(
        "--class-names",
        metavar="FILE",
        help="what the classes are called: one name per line in their order, or .json with a list or a mapping; needed "
        "where labels are names that the teacher does not know",
    )
    add_teacher_options(parser)

    protocol = parser.add_argument_group("the comparison")
    protocol.add_argument(
        "--strategies",
        nargs="+",
        default=["ccma", "random", "margins"],
        metavar="NAME",
        help="what is compared, see below (default: ccma random margins)",
    )
    protocol.add_argument(
        "--seeds",
        nargs="+",
        type=at_least_0,
        default=[1, 10, 100, 1000, 10000],
        metavar="N",
        help="one repetition each (default: 1 10 100 1000 10000)",
    )
    protocol.add_argument("--rounds", type=at_least_1, default=20, metavar="N", help="queries (default: 20)")
    protocol.add_argument("--budget", type=at_least_1, metavar="B", help="labels per query (default: C)")
    protocol.add_argument("--n-start", type=at_least_1, metavar="N", help="first labels (default: C)")
    protocol.add_argument(
        "--start", default="random", metavar="NAME", help="strategy that chooses the first labels (default: random)"
    )
    add_config_options(protocol)
    add_backend_option(protocol)
    protocol.add_argument("--jobs", type=at_least_1, default=1, metavar="N", help="processes (default: 1)")
    add_memory_option(protocol, "what all jobs together may add to memory")

    output = parser.add_argument_group("output")
    output.add_argument("--out", metavar="DIR", help="folder of the run, new or one to go on with")
    output.add_argument("-q", "--quiet", action="store_true", help="print the table only, no progress bar")


def _run(arguments: argparse.Namespace) -> None:
    from ..research.simulate import simulate
    from ..strategies import names

    strategies = [name for given in arguments.strategies for name in (names() if given == "all" else [given])]
    results = simulate(
        arguments.features,
        arguments.labels,
        test_features=arguments.test_features,
        test_labels=arguments.test_labels,
        strategies=strategies,
        seeds=arguments.seeds,
        rounds=arguments.rounds,
        budget=arguments.budget,
        n_start=arguments.n_start,
        start=arguments.start,
        teacher=teacher_from(arguments),
        class_names=arguments.class_names,
        config=config_from(arguments),
        out=arguments.out,
        jobs=arguments.jobs,
        progress=not arguments.quiet,
        force=arguments.force,
        backend=arguments.backend,
        memory_limit=arguments.memory_limit,
    )
    print(_areas(results))


def _areas(results: Results) -> str:
    """A table of the areas under the curves and the accuracies at the end, by falling area."""
    from ..research.curves import aligned, mean_percent, percent

    curves = [results.curve(strategy) for strategy in results.strategies]
    curves.sort(key=lambda curve: -float(curve.area.mean()))
    areas = [mean_percent(curve.area) for curve in curves]
    ends = [percent(float(curve.mean[-1]), float(curve.standard_error[-1])) for curve in curves]
    n_labels, n_seeds = curves[0].n_labels, len(results.seeds)
    spread = f"mean ± standard error over {n_seeds} seeds" if n_seeds > 1 else "one seed"
    table = aligned(
        "strategy",
        [curve.name for curve in curves],
        ["area under the curve", f"at {n_labels[-1]} labels"],
        [areas, ends],
    )
    return f"Test accuracy in %, {n_labels[0]} to {n_labels[-1]} labels, {spread}\n\n{table}"


COMMAND = Command(
    summary="compare strategies on a pool whose labels are known",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    add_arguments=_add_arguments,
    run=_run,
    prints_tables=True,
    results_only_on_stdout=lambda arguments: arguments.out is None,
)
