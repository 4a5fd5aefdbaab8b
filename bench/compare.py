"""Does the default choose well? Every strategy on posteriors of real images, with a good teacher and with a bad one.

    python -m bench.compare --data FILE.npz --out DIR                 # students and teachers of a file
    python -m bench.compare --digits --out DIR                        # the demo's digits, nothing needed

FILE.npz holds `labels` (N,) and any number of students, `student_features_NAME` (N, D), and of teachers,
`teacher_logits_NAME` (N, C). Columns of a student are centred on the pool's mean, and logits divided by --temperature:
3 for logits that a CLIP of temperature 0.01 wrote gives τ = 0.03. The rows are shuffled once; `--half a` and `--half b`
take one half of them, so that what was tuned on one can be reported on the other. A fifth of the rows is the test set.

All strategies have the same student, which learns from the teacher as far as it is trusted; an option head= in a name
says otherwise. Beside them stand loops without a teacher, run once per student. Every run goes into a folder of its
own, which `ccma-fast report` reads and in which a killed comparison goes on. The tables are written to
DIR/comparison.md: areas, labels needed, and what student and teacher predict together (:mod:`bench.prediction`).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

import ccma_fast as cf
from ccma_fast.backends.choose import choose_backend
from ccma_fast.research.curves import LearningCurve
from ccma_fast.research.digits import class_prototypes, digits_teacher, load_digits
from ccma_fast.research.report.statistics import labels_to_reach
from ccma_fast.research.results import Results

from .prediction import Pool, TeacherLogits, accuracy_of_all_labels, combined, mean_text, prediction_table
from .tabulate import table

# The default, with first labels of its own.
DEFAULT = "ccma:start=ccma"

# Beside every baseline: the default on the protocol's random first labels, and the published query with its own head.
OURS = (DEFAULT, "ccma", "ccma:paper")

# Baselines with the best first labels of their own, and with the default's.
STARTS = ("uncertainty-herding:start=max-herding", "uncertainty-herding:start=typiclust", "random:start=ccma")

# Loops without a teacher: the same student learns from labels alone.
ALONE = "ccma:head=ridge,start=ccma"
WITHOUT_TEACHER = (ALONE, "random:head=ridge")

# Labels are counted up to this share of the accuracy that all labels give.
SHARE = 0.9


def pools_of(path: Path, half: str, temperature: float) -> dict[str, Pool]:
    """The pools of a file, by student."""
    with np.load(path) as file:
        labels = file["labels"].astype(np.int64)
        students, teachers = (
            {name.removeprefix(prefix): file[name].astype(np.float32) for name in file.files if name.startswith(prefix)}
            for prefix in ("student_features_", "teacher_logits_")
        )
    rows = np.random.default_rng(12345).permutation(labels.size)
    middle = labels.size // 2
    rows = {"a": rows[:middle], "b": rows[middle:], "all": rows}[half]
    pool, test = rows[: rows.size * 4 // 5], rows[rows.size * 4 // 5 :]
    return {
        name: Pool(
            x[pool] - x[pool].mean(axis=0),
            labels[pool],
            x[test] - x[pool].mean(axis=0),
            labels[test],
            {
                teacher: TeacherLogits(z[pool] / np.float32(temperature), z[test] / np.float32(temperature))
                for teacher, z in teachers.items()
            },
        )
        for name, x in students.items()
    }


def digits_pool() -> dict[str, Pool]:
    """The demo's pool and teacher."""
    digits = load_digits()
    centre, prototypes = digits.images.mean(axis=0), class_prototypes()
    of_pool, of_test = (
        digits_teacher(images, prototypes, centre=centre).logits(choose_backend()).float32()
        for images in (digits.images, digits.test_images)
    )
    fonts = {"fonts": TeacherLogits(of_pool, of_test)}
    return {"pixels": Pool(digits.images, digits.labels, digits.test_images, digits.test_labels, fonts)}


def main() -> None:
    arguments = _arguments()
    pools = digits_pool() if arguments.digits else pools_of(arguments.data, arguments.half, arguments.temperature)
    baselines = tuple(name for name in cf.strategies.names() if name != "ccma")
    asked = tuple(dict.fromkeys([DEFAULT, *(arguments.strategies or (*OURS, *STARTS, *baselines)), *arguments.also]))
    sections: list[str] = []
    for student, pool in pools.items():
        if arguments.students and student not in arguments.students:
            continue
        for teacher, logits in pool.teachers.items():
            if arguments.teachers and teacher not in arguments.teachers:
                continue
            started = time.perf_counter()
            # The second teacher finds the runs of the first in their folder.
            without = _simulated(pool, None, WITHOUT_TEACHER, arguments, f"{student}-no-teacher")
            with_teacher = _simulated(pool, logits, asked, arguments, f"{student}-{teacher}")
            sections += [
                f"## Student {student} ({pool.features.shape[1]} dimensions), teacher {teacher} "
                f"({100 * float((logits.pool.argmax(axis=1) == pool.labels).mean()):.1f} % right on the pool)",
                _areas(with_teacher, without, accuracy_of_all_labels(pool, logits)),
                "### Predictions on the test rows",
                prediction_table(
                    combined(pool, logits, with_teacher, DEFAULT),
                    with_teacher.curve(DEFAULT),
                    without.curve(ALONE),
                    float((logits.test.argmax(axis=1) == pool.test_labels).mean()),
                ),
                f"{pool.labels.size:,} rows, {pool.test_labels.size:,} test rows, "
                f"{time.perf_counter() - started:.0f} s for what was not there yet.",
            ]
            (arguments.out / "comparison.md").write_text("\n\n".join([_heading(arguments), *sections]) + "\n")
            print("\n\n".join(sections[-5:]), end="\n\n", flush=True)


def _simulated(
    pool: Pool, logits: TeacherLogits | None, strategies: tuple[str, ...], arguments: argparse.Namespace, folder: str
) -> Results:
    return cf.simulate(
        pool.features,
        pool.labels,
        test_features=pool.test_features,
        test_labels=pool.test_labels,
        strategies=strategies,
        seeds=range(arguments.first_seed, arguments.first_seed + arguments.seeds),
        rounds=arguments.rounds,
        budget=arguments.budget,
        start=arguments.start,
        teacher=None if logits is None else cf.Teacher.from_logits(logits.pool),
        out=arguments.out / folder,
        jobs=arguments.jobs,
    )


def _areas(with_teacher: Results, without: Results, of_all_labels: float) -> str:
    """Strategies by their area under the accuracy curve; differences are paired by seed."""
    curves: dict[str, LearningCurve] = {
        **{name: with_teacher.curve(name) for name in with_teacher.strategies},
        **{f"{name}, no teacher": without.curve(name) for name in without.strategies},
    }
    ours = curves[DEFAULT]
    rows = []
    for name, curve in sorted(curves.items(), key=lambda item: -item[1].area.mean()):
        less_random = mean_text(curve.area - curves["random"].area) if "random" in curves else ""
        reached = str(labels_to_reach(curve, SHARE * of_all_labels))
        rows.append(
            [
                name,
                mean_text(curve.area),
                less_random,
                mean_text(ours.area - curve.area),
                mean_text(curve.accuracy[:, -1]),
                reached,
            ]
        )
    header = ["strategy", "area", "minus random", f"`{DEFAULT}` minus it", "final accuracy"]
    header.append(f"labels to {SHARE * of_all_labels:.4f}")
    return (
        f"All labels of the pool give {of_all_labels:.4f}; the last column has the labels to {100 * SHARE:g} % of it."
        f"\n\n{table(header, rows)}"
    )


def _heading(arguments: argparse.Namespace) -> str:
    paths = {str(path): path.name for path in (arguments.data, arguments.out) if path is not None}
    command = " ".join(["python -m bench.compare", *(paths.get(word, word) for word in sys.argv[1:])])
    return (
        "# Area under the accuracy curve\n\n"
        f"Mean ± standard error over {arguments.seeds} seeds; differences are paired by seed. The encoders are "
        "substitutes, not the paper's. All strategies train the same head on the same first labels, unless their name "
        f"says which head, or who chose the labels.\n\n`{command}`, ccma_fast {cf.__version__}"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help="an .npz as described above")
    source.add_argument("--digits", action="store_true", help="the digits of the demo")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and the table")
    parser.add_argument("--half", choices=("a", "b", "all"), default="all", help="which rows (default: all)")
    parser.add_argument("--temperature", type=float, default=3.0, help="what logits are divided by (default: 3)")
    parser.add_argument("--students", nargs="+", help="some of the students (default: all)")
    parser.add_argument("--teachers", nargs="+", help="some of the teachers (default: all)")
    parser.add_argument("--strategies", nargs="+", help="these and the default alone (default: all)")
    parser.add_argument("--also", nargs="+", default=[], help="more of them, such as margins:head=published")
    parser.add_argument("--start", default="random", help="who chooses the first labels (default: random)")
    parser.add_argument("--seeds", type=int, default=5, help="how many (default: 5)")
    parser.add_argument("--first-seed", type=int, default=0, help="the first of them (default: 0)")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--budget", type=int, default=None, help="labels per round (default: as many as classes)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
