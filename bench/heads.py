"""Does the package's head learn what the published recipe learns? Both, on the same labels of real images.

    python -m bench.heads --data FILE.npz --output bench/results/heads.md

FILE.npz and its split into pool and test rows are those of :mod:`bench.compare`. Each seed draws the labelled rows and
seeds both heads.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import ccma_fast as cf

from . import peers
from .compare import pools_of
from .prediction import Pool, mean_text
from .tabulate import table

N_LABELS = (50, 100, 200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="an .npz as bench.compare describes it")
    parser.add_argument("--output", type=Path, required=True, help="the markdown file to write")
    parser.add_argument("--seeds", type=int, default=10, help="how many (default: 10)")
    arguments = parser.parse_args()
    rows = [
        [student, str(pool.features.shape[1]), str(n), *_compared(pool, n, arguments.seeds)]
        for student, pool in pools_of(arguments.data, "all", temperature=1.0).items()
        for n in N_LABELS
    ]
    header = ["student", "D", "labels", *peers.HEADS, "difference", *(f"epochs of {name}" for name in peers.HEADS)]
    arguments.output.write_text(
        "# The head beside a plain PyTorch loop of its recipe\n\n"
        f"Accuracy on the test rows, mean ± standard error over {arguments.seeds} seeds; the difference is paired by "
        f"seed. `python -m bench.heads --data {arguments.data.name}`, ccma_fast {cf.__version__}\n\n"
        f"{table(header, rows)}\n"
    )


def _compared(pool: Pool, n_labels: int, n_seeds: int) -> list[str]:
    """Accuracies of both heads, their difference, and the epochs that each took."""
    accuracy, epochs = np.empty((len(peers.HEADS), n_seeds)), np.empty((len(peers.HEADS), n_seeds))
    for seed in range(n_seeds):
        labelled = np.random.default_rng(seed).choice(len(pool.labels), n_labels, replace=False)
        for i, head in enumerate(peers.HEADS.values()):
            trained = head.run(pool.features[labelled], pool.labels[labelled], int(pool.labels.max()) + 1, seed)
            accuracy[i, seed] = (trained.predict(pool.test_features) == pool.test_labels).mean()
            epochs[i, seed] = trained.n_epochs
    ours, theirs = accuracy
    return [mean_text(ours), mean_text(theirs), mean_text(ours - theirs), *(f"{e.mean():.0f}" for e in epochs)]


if __name__ == "__main__":
    main()
