"""
Comparing strategies, and reading the report
============================================

**What you will learn:** how to compare ways of choosing labels with
:func:`ccma_fast.simulate`, why differences are taken seed by seed, how to get at the
numbers (areas, curves, a data frame), and what ``ccma-fast report`` makes of a run.

**When to use it:** when you have a data set whose labels are all known and want to know
which strategy suits such data, before you pay for labels of the next one; and for
research on strategies.
"""

# %%
# The run
# -------
# The pool is the handwritten digits of scikit-learn; a third of them is the test set.
# Each strategy begins with ten labels and asks eight times for ten more. It sees no
# label that it has not asked for. Each seed fixes the first labels and all that is
# drawn at random, and is the same for all strategies.
#
# A strategy is named as text; after the colon stand its options. ``start=ccma`` lets
# the first choose its own first labels, where the others draw them at random. All names
# are in ``cf.strategies.names()``.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import ccma_fast as cf

pixels, truth = load_digits(return_X_y=True)
x, x_test, y, y_test = train_test_split(
    pixels.astype(np.float32), truth, test_size=600, random_state=0, stratify=truth
)

folder = tempfile.TemporaryDirectory()
run = Path(folder.name) / "run"
results = cf.simulate(
    x,
    y,
    test_features=x_test,
    test_labels=y_test,
    strategies=["ccma:start=ccma", "margins", "typiclust", "random"],
    seeds=[1, 10, 100, 1000],
    rounds=8,
    budget=10,
    out=run,
    progress=False,
)
print(
    f"{len(results.strategies)} strategies, {len(results.seeds)} seeds, "
    f"{results.n_rounds} rounds"
)

# %%
# With ``out`` the run is kept in a folder. If it is killed, the same call goes on where
# it was; with more seeds or more strategies it computes only what is missing.
# ``jobs=2`` uses two processes and gives the same numbers.
#
# The area under the curve
# ------------------------
# One number for a strategy and seed: the area under its accuracy curve, divided by the
# range of labels. It is the mean accuracy over the whole run, so it counts what a
# strategy gains early.

for name in results.strategies:
    area = results.area(name)
    print(f"{name:16} mean {area.mean():.3f}, by seed {np.round(area, 3)}")

# %%
# Differences seed by seed
# ------------------------
# Some seeds are harder than others for every strategy: they have worse first labels.
# Compare within a seed, and the difficulty of the seed cancels out.

baseline = "random"
differences = {
    name: results.area(name) - results.area(baseline)
    for name in results.strategies
    if name != baseline
}
for name, difference in differences.items():
    error = difference.std(ddof=1) / np.sqrt(difference.size)
    wins = (difference > 0).sum()
    print(
        f"{name:16} {100 * difference.mean():+.1f} ± {100 * error:.1f} points, "
        f"better in {wins} of {difference.size}"
    )

# %%
# ± is the standard error of the mean. With four seeds, take a difference for real where
# it is several times as large, and has the same sign in every seed. Otherwise run more
# seeds.

figure, (left, right) = plt.subplots(
    1, 2, figsize=(7, 3.8), layout="constrained", width_ratios=[3, 2]
)
for name, marker in zip(results.strategies, "os^D", strict=True):
    curve = results.curve(name)
    left.plot(curve.n_labels, curve.mean, marker=marker, markersize=5, label=name)
    left.fill_between(
        curve.n_labels,
        curve.mean - curve.standard_error,
        curve.mean + curve.standard_error,
        alpha=0.2,
    )
left.set(xlabel="labels", ylabel="test accuracy", title="Mean and standard error")
left.grid(alpha=0.3)
left.legend(fontsize=9, loc="lower right")
for position, difference in enumerate(differences.values()):
    right.plot(
        np.full(difference.size, position),
        100 * difference,
        "o",
        color=f"C{position}",
        alpha=0.7,
    )
    right.plot(
        position,
        100 * difference.mean(),
        "_",
        markersize=30,
        color=f"C{position}",
        markeredgewidth=3,
    )
right.axhline(0, color="gray", linestyle=":")
right.set_xticks(range(len(differences)), [name.split(":")[0] for name in differences])
right.set(
    title=f"Area less that of {baseline}",
    ylabel="percentage points",
    xlim=(-0.5, len(differences) - 0.5),
)
plt.show()

# %%
# What to see: on the left, which curves lie apart by more than their bands, and whether
# they cross: a strategy may lead while labels are few and lose later. On the right, a
# dot for each seed and a bar for the mean: whether all dots of a strategy lie on one
# side of zero.
#
# Labels to reach an accuracy
# ---------------------------
# Often the more useful question is how many labels an accuracy costs.

print("strategy           80 %    85 %    90 %")
for name in results.strategies:
    reached = [
        results.curve(name).labels_to_reach(target) for target in (0.80, 0.85, 0.90)
    ]
    print(f"{name:16}" + "".join(f"{'not' if n is None else n:>7} " for n in reached))

# %%
# The table as a data frame
# -------------------------
# One row for each strategy, seed and round, with accuracy, macro F1, AUROC and the
# sizes and coverage of the conformal sets.

frame = results.to_pandas()
print(list(frame.columns))
last = frame[frame["round"] == results.n_rounds]
print(
    last.groupby("strategy", sort=False)[
        ["n_labels", "accuracy", "macro_f1", "student_set_size"]
    ]
    .mean()
    .round(3)
)

# %%
# The report
# ----------
# :meth:`ccma_fast.Results.write_report` returns tables, and writes the pictures and a
# page ``report.html`` that needs no network. In the shell it is
# ``ccma-fast report run --baseline random``.

print(results.write_report(run, baseline=baseline))

# %%
# The tables say the same as ours: the areas, the differences seed by seed with their
# intervals, the labels to reach an accuracy, and the seconds of a round. Besides, the
# folder has:

print(sorted(file.name for file in run.iterdir()))
folder.cleanup()

# %%
# Where to go next
# ----------------
# - A strategy of your own: :doc:`plot_7_custom_strategy`.
# - The protocol, files of a run, several jobs and machines: :doc:`/guide/research`.
# - Which strategy did well on which data: :doc:`/benchmarks/index`.
# - In the reference: :func:`ccma_fast.simulate`, :class:`ccma_fast.Results`.
