"""
A strategy of your own, and a student of your own
=================================================

**What you will learn:** how to write a strategy in a few lines of NumPy, register it,
test it, give it options, compare it with a built-in one, and run all of it with a
classifier of your own.

**When to use it:** when you have an idea for choosing labels, or a pool with something
special about it. Compare it with :func:`ccma_fast.simulate` before you rely on it.
"""

# %%
# A pool with near copies
# -----------------------
# Frames of a video, bursts of photographs: many images of a pool are almost the same.
# Choosing the rows that the classifier is least sure of then asks for the same thing
# several times. We make such a pool of 300 digits, each of which appears five times
# with a little noise.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import ccma_fast as cf

pixels, truth = load_digits(return_X_y=True)
rng = np.random.default_rng(0)
order = rng.permutation(len(pixels))
scenes, test = order[:300], order[300:900]
frames = np.repeat(scenes, 5)
x = (pixels[frames] + 0.5 * rng.standard_normal((len(frames), 64))).astype(np.float32)
y = truth[frames]
x_test, y_test = pixels[test].astype(np.float32), truth[test]
print(f"{len(x)} images of {len(scenes)} scenes")

# %%
# The strategy
# ------------
# A strategy is a function from a :class:`ccma_fast.strategies.Round` to row numbers:
# ``state.budget`` distinct rows of ``state.unlabelled``, best first. It finds in the
# round:
#
# ``state.unlabelled``
#     Rows without a label; ``state.labelled`` has the others.
# ``state.unlabelled_logits``
#     The student's logits of those rows: ``.float32()`` reads all, ``.chunks()`` parts.
# ``state.features``
#     The embeddings of the pool: ``.take(rows)`` reads some.
# ``state.labels``
#     The class of each row, −1 where there is none.
# ``state.student``
#     The trained classifier, with ``predict_proba``.
# ``state.rng``
#     The only source of randomness: the same seed then gives the same picks.
#
# The numbers to return are those of the pool. A position among the unlabelled rows, as
# ``argsort`` of their logits gives it, is not yet one: look it up in
# ``state.unlabelled``.
#
# Ours takes the rows with the smallest margins, ``factor`` times as many as are wanted,
# and among them, one after the other, the row that is farthest from all that is
# labelled or picked already.


def smallest_margins(state, n):
    """The n unlabelled rows whose two largest logits lie closest (ties: the lower)."""
    logits = np.sort(state.unlabelled_logits.float32(), axis=1)
    margins = logits[:, -1] - logits[:, -2]
    return state.unlabelled[np.argsort(margins, kind="stable")[:n]]


def squared_distances(a, b):
    """Between each row of a and each row of b."""
    return ((a[:, None, :] - b[None, :, :]) ** 2).sum(axis=2)


def spread_margins(factor):
    """A strategy: the most spread of the uncertain rows."""

    def choose(state):
        candidates = smallest_margins(state, factor * state.budget)
        rows = state.features.take(candidates)
        nearest = squared_distances(rows, state.features.take(state.labelled)).min(
            axis=1
        )
        picks = []
        for _ in range(state.budget):
            best = int(nearest.argmax())
            picks.append(candidates[best])
            nearest = np.minimum(
                nearest, squared_distances(rows, rows[best : best + 1])[:, 0]
            )
            nearest[best] = -1.0  # never twice
        return picks

    return choose


# %%
# Register it, and it is known by name, like those of the package.

cf.strategies.register("spread-margins")(spread_margins(factor=5))
print("spread-margins" in cf.strategies.names())

# %%
# Tests of it
# -----------
# Test the function by itself, on a round so small that you know the answer.
# :func:`ccma_fast.strategies.make_round` makes one, with a student that is trained on
# the labels. :func:`ccma_fast.strategies.pick` calls the strategy and checks the
# answer: as many rows as were asked for, distinct, unlabelled.

# Rows 0 and 1 are labelled. Rows 2 to 4 are copies of the point half way between them,
# and 5 lies elsewhere: the student is unsure of all four. It is sure of row 6.
points = [[0, 0], [10, 0], [5, 0], [5, 0], [5, 0], [5, 8], [9, 0]]
labels = [0, 1, -1, -1, -1, -1, -1]
state = cf.strategies.make_round(points, labels, budget=2)

picks = cf.strategies.pick(spread_margins(factor=2), state)
print("picks:", picks)
assert set(picks.tolist()) == {2, 5}, "one of the copies, and the other place"
assert cf.strategies.pick(spread_margins(factor=1), state).tolist() == [2, 3], (
    "with factor 1 the margins alone"
)

# %%
# An answer that is wrong is refused with its reason, here and in every run:

try:
    cf.strategies.pick(lambda state: [2, 2], state)
except ValueError as error:
    print("refused:", error)

# %%
# Against margins
# ---------------
# By name, with options after a colon: those of the package, such as ``start=`` for the
# first labels or ``head=`` for the student, work with your strategy as well. Your own
# option, here the factor, is an argument of the function that makes the strategy; a
# mapping gives each variant a name.


def compare(**options):
    """Three variants against the margins of the package, on four seeds."""
    return cf.simulate(
        x,
        y,
        test_features=x_test,
        test_labels=y_test,
        strategies={
            "margins": "margins",
            "spread, factor 2": spread_margins(factor=2),
            "spread, factor 5": "spread-margins",
            "spread, factor 5, start": "spread-margins:start=ccma",
        },
        seeds=[1, 10, 100, 1000],
        rounds=6,
        budget=10,
        progress=False,
        **options,
    )


results = compare()


def differences(results):
    """Print the areas under the curves less those of margins, seed by seed."""
    for name in results.strategies[1:]:
        points = 100 * (results.area(name) - results.area("margins"))
        error = points.std(ddof=1) / np.sqrt(points.size)
        print(
            f"{name:24} {points.mean():+5.1f} ± {error:.1f} points; "
            f"by seed {np.round(points, 1)}"
        )


differences(results)

# %%
# Did it do what it was made for? Count how many different scenes were labelled; copies
# of a scene teach nothing new.

for name in results.strategies:
    n_scenes = []
    for seed in results.seeds:
        own = (results.picks["strategy"] == name) & (results.picks["seed"] == seed)
        n_scenes.append(len(np.unique(frames[results.picks["row"][own]])))
    print(f"{name:24} {np.mean(n_scenes):5.1f} scenes among {own.sum()} labels")

# %%
# A student of your own
# ---------------------
# Any object with ``fit`` and ``predict_proba`` can be the student, such as a classifier
# of scikit-learn. If the labels so far lack a class, its attribute ``classes_`` says
# which columns its probabilities have. This one measures the distance to the mean of
# each class.


class NearestMean:
    """A classifier by the nearest class mean."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.means_ = np.stack([X[y == c].mean(axis=0) for c in self.classes_])
        self.variance_ = X.var(axis=0).mean()
        return self

    def predict_proba(self, X):
        logits = -squared_distances(X, self.means_) / (2 * self.variance_)
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        return p / p.sum(axis=1, keepdims=True)


by_mean = compare(student=NearestMean())
differences(by_mean)

# %%
figure, axes = plt.subplots(1, 2, figsize=(7, 3.9), layout="constrained", sharey=True)
for axis, found, title in zip(
    axes,
    (results, by_mean),
    ("The package's student", "Nearest class mean"),
    strict=True,
):
    for name, marker in zip(found.strategies, "os^D", strict=True):
        curve = found.curve(name)
        axis.errorbar(
            curve.n_labels,
            curve.mean,
            yerr=curve.standard_error,
            marker=marker,
            markersize=5,
            label=name,
        )
    axis.set(xlabel="labels", title=title)
    axis.grid(alpha=0.3)
axes[0].set_ylabel("test accuracy")
axes[0].legend(fontsize=9, loc="lower right")
plt.show()

# %%
# What to see: whether the variants lie above margins by more than the standard errors
# (the bars), with which student, and what the better start adds at the left end. An
# idea that helps one student need not help another.
#
# For a strategy that stays
# -------------------------
# Put the function into a module of yours, at its top level, and run with ``jobs=2`` or
# more: other processes import it from there. Read the logits in chunks where the pool
# is large: ``float32()`` of ten million rows and a thousand classes does not fit into
# memory.
#
# Where to go next
# ----------------
# - The protocol, and how to keep and resume a run: :doc:`/guide/research`.
# - How to read a comparison: :doc:`plot_5_compare_strategies`.
# - How to add a strategy to the package: :doc:`/development/contributing`.
# - In the reference: :class:`ccma_fast.strategies.Round`,
#   :func:`ccma_fast.strategies.register`, :func:`ccma_fast.strategies.make_round`,
#   :func:`ccma_fast.strategies.pick`, :func:`ccma_fast.simulate`.
