"""Does the default choose well? Every strategy on posteriors of real images, with a good teacher and with a bad one.

    python -m bench.compare --data FILE.npz --out DIR                 # students and teachers of a file
    python -m bench.compare --digits --out DIR                        # the demo's digits, nothing needed

FILE.npz holds `labels` (N,) and any number of students, `student_features_NAME` (N, D), and of teachers,
`teacher_logits_NAME` (N, C). Columns of a student are centred on the pool's mean, and logits divided by --temperature:
3 for logits that a CLIP of temperature 0.01 wrote gives τ = 0.03. The rows are shuffled once; `--half a` and `--half b`
take one half of them, so that what was tuned on one can be reported on the other. A fifth of the rows is the test set.

Strategies that do not ask the teacher are run once per student. Every run goes into a folder of its own, which
`ccma-fast report` reads and in which a killed comparison goes on. The table is written to DIR/comparison.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

import ccma_fast as cf
from ccma_fast.backends.choose import choose_backend
from ccma_fast.research.curves import mean_and_error
from ccma_fast.research.digits import class_prototypes, digits_teacher, load_digits

from .tabulate import table

BASELINES = tuple(name for name in cf.strategies.names() if name != "ccma")
# The default with the protocol's random first labels, with first labels of its own, and the published query.
OURS = ("ccma", "ccma:start=ccma", "ccma:paper")
# What the default's first labels are worth to the strongest baseline, and baselines with the best start of their own.
STARTS = ("uncertainty-herding:start=max-herding", "uncertainty-herding:start=typiclust", "random:start=ccma")


class Pool(NamedTuple):
    """One student's features with labels, and every teacher's logits of the pool."""

    features: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    test_features: npt.NDArray[np.float32]
    test_labels: npt.NDArray[np.int64]
    teachers: dict[str, npt.NDArray[np.float32]]


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
            {teacher: z[pool] / np.float32(temperature) for teacher, z in teachers.items()},
        )
        for name, x in students.items()
    }


def digits_pool() -> dict[str, Pool]:
    """The demo's pool and teacher."""
    digits = load_digits()
    centre = digits.images.mean(axis=0)
    teacher = digits_teacher(digits.images, class_prototypes(), centre=centre)
    logits = teacher.logits(choose_backend()).float32()
    fonts = {"fonts": logits}
    return {"pixels": Pool(digits.images, digits.labels, digits.test_images, digits.test_labels, fonts)}


def main() -> None:
    arguments = _arguments()
    pools = digits_pool() if arguments.digits else pools_of(arguments.data, arguments.half, arguments.temperature)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    free = (*BASELINES, *STARTS[:2]) if arguments.strategies is None else ()
    ours = (*OURS, STARTS[2]) if arguments.strategies is None else tuple(arguments.strategies)
    sections = []
    for student, pool in pools.items():
        if arguments.students and student not in arguments.students:
            continue
        without = {}
        for teacher, logits in pool.teachers.items():
            if arguments.teachers and teacher not in arguments.teachers:
                continue
            started = time.perf_counter()
            areas, finals = {}, {}
            for folder, strategies, asked in (
                (f"{student}-no-teacher", free, None),
                (f"{student}-{teacher}", ours, cf.Teacher.from_logits(logits)),
            ):
                if not strategies:
                    continue
                if asked is None and without:
                    areas |= {name: values[0] for name, values in without.items()}
                    finals |= {name: values[1] for name, values in without.items()}
                    continue
                results = cf.simulate(
                    pool.features,
                    pool.labels,
                    test_features=pool.test_features,
                    test_labels=pool.test_labels,
                    strategies=strategies,
                    seeds=seeds,
                    rounds=arguments.rounds,
                    budget=arguments.budget,
                    teacher=asked,
                    out=arguments.out / folder,
                    jobs=arguments.jobs,
                )
                for name in strategies:
                    areas[name], finals[name] = results.area(name), results.curve(name).accuracy[:, -1]
                    if asked is None:
                        without[name] = areas[name], finals[name]
            right = float((logits.argmax(axis=1) == pool.labels).mean())
            sections.append(_section(student, teacher, right, pool, areas, finals, time.perf_counter() - started))
            (arguments.out / "comparison.md").write_text("\n\n".join([_heading(arguments), *sections]) + "\n")
            print(sections[-1], end="\n\n", flush=True)


def _section(
    student: str,
    teacher: str,
    right: float,
    pool: Pool,
    areas: dict[str, npt.NDArray[np.float64]],
    finals: dict[str, npt.NDArray[np.float64]],
    seconds: float,
) -> str:
    """Strategies by their area under the accuracy curve, and each one's distance to random in the same seeds."""
    rows = []
    for name in sorted(areas, key=lambda name: -areas[name].mean()):
        cells = [
            name,
            mean_text(areas[name]),
            mean_text(areas[name] - areas["random"]) if "random" in areas else "",
            "",
        ]
        if "ccma:start=ccma" in areas:
            cells[3] = mean_text(areas["ccma:start=ccma"] - areas[name])
        rows.append([*cells, mean_text(finals[name])])
    header = ["strategy", "area", "minus random", "`ccma:start=ccma` minus it", "final accuracy"]
    title = (
        f"## Student {student} ({pool.features.shape[1]} dimensions), teacher {teacher} "
        f"({100 * right:.1f} % right on the pool)"
    )
    note = (
        f"{pool.labels.size:,} rows, {pool.test_labels.size:,} test rows, {seconds:.0f} s for what was not there yet."
    )
    return f"{title}\n\n{note}\n\n{table(header, rows)}"


def _heading(arguments: argparse.Namespace) -> str:
    paths = {str(path): path.name for path in (arguments.data, arguments.out) if path is not None}
    command = " ".join(["python -m bench.compare", *(paths.get(word, word) for word in sys.argv[1:])])
    return (
        "# Area under the accuracy curve\n\n"
        f"Mean ± standard error over {arguments.seeds} seeds; differences are paired by seed. The encoders are "
        "substitutes, not the paper's. All strategies train the same head on the same first labels, unless their name "
        f"says who chose those.\n\n`{command}`, ccma_fast {cf.__version__}"
    )


def mean_text(values: npt.NDArray[np.float64]) -> str:
    mean, error = map(float, mean_and_error(values))
    return f"{mean:.4f}" if values.size == 1 else f"{mean:.4f} ± {error:.4f}"


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
    parser.add_argument("--strategies", nargs="+", help="these alone, all with the teacher (default: all)")
    parser.add_argument("--seeds", type=int, default=5, help="how many (default: 5)")
    parser.add_argument("--first-seed", type=int, default=0, help="the first of them (default: 0)")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--budget", type=int, default=None, help="labels per round (default: as many as classes)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
