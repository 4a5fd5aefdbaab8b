"""How often is the error larger than promised, and how many rows get a label, beside the best that is possible?

    python -m bench.autolabel --data FILE.npz --output bench/results/autolabel.md
    python -m bench.autolabel --digits --output autolabel.md                      # the demo's digits, nothing needed

FILE.npz holds `labels` (N,) and teachers, `teacher_logits_NAME` (N, C), which are divided by --temperature; four fifths
of its rows, shuffled once, are the pool. Each repetition draws an audit, labels the rest and counts the wrong labels.
The best possible share is that of the loosest threshold whose true error is small enough, known where all labels are.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import numpy.typing as npt

import ccma_fast as cf
from ccma_fast.backends.choose import choose_backend
from ccma_fast.research.digits import class_prototypes, digits_teacher, load_digits
from ccma_fast.steps import risk_control

from .tabulate import table

MAX_ERROR, CONFIDENCE = 0.05, 0.95
AUDITS = (100, 200, 500, 1000, 2000)
# Errors that are allowed where the sequence starts, and the largest share of the audit that this may take.
STARTS = ((0, 1.0), (1, 1.0), (3, 1.0), (6, 1.0), (3, 1 / 3))


class Pool(NamedTuple):
    """What a model says of a pool, and the truth."""

    probabilities: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help="an .npz as above")
    source.add_argument("--digits", action="store_true", help="handwritten digits and their teacher")
    parser.add_argument("--temperature", type=float, default=3.0, help="logits are divided by it (default: 3)")
    parser.add_argument("--output", type=Path, required=True, help="the markdown file to write")
    parser.add_argument("--repetitions", type=int, default=1000, help="audits (default: 1000)")
    arguments = parser.parse_args()
    pools = dict(digits() if arguments.digits else pools_of(arguments.data, arguments.temperature))
    what = "--digits" if arguments.digits else f"--data {arguments.data.name}"
    arguments.output.write_text(
        "# Labels for the rest of a pool: how often the promise is broken, and how many rows get one\n\n"
        f"`python -m bench.autolabel {what}`, ccma_fast {cf.__version__}. An error of at most {MAX_ERROR:g} at "
        f"confidence {CONFIDENCE:g}, {arguments.repetitions:,} audits in each line. *Broken*: share of audits after "
        "which more of the labels given are wrong, of any class where the error of each class is bounded. *Labelled*: "
        "mean and the range of 80 % of the audits, of the rows that people have not labelled. *Best*: the loosest "
        "threshold whose true error is small enough, of all rows.\n\n"
        f"{promises(pools, arguments.repetitions)}\n\n"
        "## Where the sequence of thresholds starts\n\n"
        "Share labelled, mean over audits, by the errors that are allowed at the start and the largest share of the "
        "audit that this may take; the last one is the default.\n\n"
        f"{starts(pools, max(1, arguments.repetitions // 4))}\n"
    )


def pools_of(path: Path, temperature: float) -> Iterator[tuple[str, Pool]]:
    """The teachers of a file."""
    with np.load(path) as file:
        labels = file["labels"].astype(np.int64)
        rows = np.random.default_rng(12345).permutation(labels.size)[: labels.size * 4 // 5]
        for name in file.files:
            if name.startswith("teacher_logits_"):
                logits = file[name][rows].astype(np.float64) / temperature
                yield name.removeprefix("teacher_logits_"), Pool(softmax(logits), labels[rows])


def digits() -> Iterator[tuple[str, Pool]]:
    pool = load_digits()
    teacher = digits_teacher(pool.images, class_prototypes(), centre=pool.images.mean(axis=0))
    logits = teacher.logits(choose_backend("auto")).float32()
    yield "printed digits", Pool(softmax(logits.astype(np.float64)), pool.labels)


def softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def promises(pools: dict[str, Pool], repetitions: int) -> str:
    rows = []
    for name, pool in pools.items():
        right = (pool.probabilities.argmax(axis=1) == pool.labels).mean()
        for per_class in (False, True):
            best = best_share(pool, per_class=per_class)
            for n in AUDITS:
                if n < pool.labels.size:
                    share, is_broken = repeated(pool, n, repetitions, per_class=per_class)
                    low, high = np.quantile(share, [0.1, 0.9])
                    rows.append(
                        [
                            name,
                            f"{100 * right:.1f} %",
                            "each class" if per_class else "all",
                            f"{n:,}",
                            f"{is_broken.mean():.3f}",
                            f"{100 * share.mean():.1f} % ({100 * low:.1f} to {100 * high:.1f})",
                            f"{100 * (share == 0).mean():.1f} %",
                            f"{100 * best:.1f} %",
                        ]
                    )
    header = ["model", "right", "error of", "audit rows", "broken", "labelled", "nothing labelled", "best"]
    return table(header, rows)


def starts(pools: dict[str, Pool], repetitions: int) -> str:
    rows = []
    for name, pool in pools.items():
        for n in AUDITS:
            if n < pool.labels.size:
                row = [name, f"{n:,}"]
                for errors, share in STARTS:
                    with patch.multiple(risk_control, _ERRORS_AT_START=errors, _SHARE_AT_START=share):
                        row.append(f"{100 * repeated(pool, n, repetitions)[0].mean():.1f} %")
                rows.append(row)
    return table(["model", "audit rows", *(f"{errors} errors, {share:.2f}" for errors, share in STARTS)], rows)


def repeated(
    pool: Pool, n: int, repetitions: int, *, per_class: bool = False
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """The share labelled, and whether more labels are wrong than promised, for each of several audits."""
    share, is_broken = np.empty(repetitions), np.empty(repetitions, np.bool_)
    for seed in range(repetitions):
        audit = cf.audit_sample(pool.probabilities, n, random_state=seed)
        found = cf.auto_label(
            pool.probabilities,
            audit,
            pool.labels[audit.rows],
            max_error=MAX_ERROR,
            confidence=CONFIDENCE,
            per_class=per_class,
        )
        is_wrong = pool.labels[found.rows] != found.labels
        group = found.labels if per_class else np.zeros_like(found.labels)
        n_classes = pool.probabilities.shape[1]
        n_wrong, n_rows = np.bincount(group[is_wrong], minlength=n_classes), np.bincount(group, minlength=n_classes)
        share[seed], is_broken[seed] = found.share, (n_wrong > MAX_ERROR * n_rows).any()
    return share, is_broken


def best_share(pool: Pool, *, per_class: bool) -> float:
    """The share of rows above the loosest thresholds whose true error is small enough."""
    labels, scores = pool.probabilities.argmax(axis=1), pool.probabilities.max(axis=1)
    n_labelled = 0
    for rows in [np.flatnonzero(labels == c) for c in range(labels.max() + 1)] if per_class else [slice(None)]:
        order = np.argsort(-scores[rows], kind="stable")
        errors = np.cumsum((labels != pool.labels)[rows][order]) / np.arange(1, order.size + 1)
        n_labelled += int(np.flatnonzero(errors <= MAX_ERROR).max(initial=-1)) + 1
    return n_labelled / labels.size


if __name__ == "__main__":
    main()
