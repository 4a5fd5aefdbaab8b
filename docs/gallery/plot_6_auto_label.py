"""
Labels for the rest, with a guarantee
=====================================

**What you will learn:** how to let a model label the easy part of a pool while a limit
on its errors is guaranteed: how large an audit to plan, how to draw it, what comes
back, and what the promise means. Since we know the truth here, we repeat the audit many
times and count how often the promise is broken.

**When to use it:** when active learning has made a good model, the pool is large, and
somebody asks how many of the labels by the model are wrong.
"""

# %%
# A pool, some labels, a model
# ----------------------------
# Twenty thousand rows of six classes that overlap. Active learning has labelled 120 of
# them.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_classification

import ccma_fast as cf

x, truth = make_classification(
    n_samples=20_000,
    n_features=32,
    n_informative=10,
    n_redundant=0,
    n_classes=6,
    n_clusters_per_class=1,
    class_sep=1.6,
    flip_y=0.005,
    random_state=0,
)
x = x.astype(np.float32)

learner = cf.ActiveLearner(x, n_classes=6, random_state=0)
for _ in range(4):
    picks = learner.query(30)
    learner.label(picks.indices, truth[picks.indices])

# %%
# ``probabilities()`` are the predictions for the whole pool, computed as they are read.
# They also know which rows have labels. Probabilities of any other model will do as
# well, as an array or a file, with ``labels=``.

p = learner.probabilities()
sureness, predicted = p.float32().max(axis=1), p.float32().argmax(axis=1)
unlabelled = np.flatnonzero(learner.labels < 0)
wrong = predicted != truth
print(
    f"the model is wrong on {100 * wrong[unlabelled].mean():.1f} % of the rows "
    "without a label; only we know that"
)

# %%
# How large an audit?
# -------------------
# An *audit* is a set of rows drawn at random, which people label. Before anybody does,
# a forecast tells what an audit of each size could do, as far as the probabilities of
# the model are to be believed. Look at it first: for a pool of some hundred rows, or a
# limit close to the error of the model where it is surest, no audit may be worth it.

MAX_ERROR, CONFIDENCE = 0.05, 0.95
print(
    cf.audit_forecast(
        p, [60, 100, 200, 500, 1000], max_error=MAX_ERROR, confidence=CONFIDENCE
    )
)

# %%
# Draw it, label it, judge by it
# ------------------------------
# The rows that active learning chose cannot serve as an audit: they are harder than the
# pool. ``audit_sample`` draws rows without a label, each as likely as any other, and
# remembers which probabilities it is to judge.

audit = cf.audit_sample(p, 500, random_state=1)
answers = truth[audit.rows]  # what people say
found = cf.auto_label(p, audit, answers, max_error=MAX_ERROR, confidence=CONFIDENCE)
print(found)

# %%
# ``found.rows`` and ``found.labels`` are the labels by the model; ``found.for_people``
# are the rows that are left, the least sure first. Three sources make up the labels of
# the whole pool:

labels = learner.labels.copy()
labels[audit.rows] = answers
labels[found.rows] = found.labels
n_chosen = (learner.labels >= 0).sum()
print(
    f"chosen {n_chosen}, audit {len(audit)}, by the model {len(found.rows)}, "
    f"left for people {(labels < 0).sum()}"
)
n_wrong = (found.labels != truth[found.rows]).sum()
print(f"wrong among the labels by the model: {100 * n_wrong / len(found.rows):.2f} %")

# %%
# Is the promise kept?
# --------------------
# It says: with a probability of at least 95 % over the draw of the audit, at most 5 %
# of the labels given are wrong. In other words, of many audits at most one in twenty
# may lead to labels with more errors. We draw 300 audits of each of three sizes, and
# count.

SIZES, N_AUDITS = (100, 200, 500), 300
shares, errors = {}, {}
for n in SIZES:
    results = []
    for seed in range(N_AUDITS):
        audit = cf.audit_sample(p, n, random_state=seed)
        found = cf.auto_label(
            p, audit, truth[audit.rows], max_error=MAX_ERROR, confidence=CONFIDENCE
        )
        results.append(
            (found.share, wrong[found.rows].mean() if found.rows.size else 0.0)
        )
    shares[n], errors[n] = np.array(results).T
    broken = (errors[n] > MAX_ERROR).mean()
    print(
        f"audits of {n:3} rows: {100 * broken:.1f} % of {N_AUDITS} broke the promise; "
        f"labelled on average {100 * shares[n].mean():.1f} % of the rows"
    )

# %%
# The share that broke it is itself counted on 300 audits, which share one pool. Its
# standard error is about 1.3 points where the true share is 5 %.
#
# How much could be labelled at best, if we knew the truth and not only an audit?

order = unlabelled[np.argsort(-sureness[unlabelled], kind="stable")]
error_of_first = np.cumsum(wrong[order]) / np.arange(1, order.size + 1)
best = (np.flatnonzero(error_of_first <= MAX_ERROR)[-1] + 1) / order.size
print(f"{100 * best:.1f} % of the rows without a label")

# %%
figure, axes = plt.subplots(1, 2, figsize=(7, 3.8), layout="constrained")
for axis, values in zip(axes, (errors, shares), strict=True):
    axis.boxplot(
        [100 * values[n] for n in SIZES], whis=(5, 95), showfliers=False, widths=0.6
    )
    axis.set_xticks(range(1, len(SIZES) + 1), [str(n) for n in SIZES])
    axis.set_xlabel("rows of the audit")
axes[0].axhline(100 * MAX_ERROR, color="C3", linestyle="--", label="the limit")
axes[0].set(title="Wrong among the labels given", ylabel="%", ylim=(0, 7))
axes[1].axhline(
    100 * best, color="C2", linestyle=":", label="possible, if the truth were known"
)
axes[1].set(title="Share of the rows labelled", ylabel="%", ylim=(0, 100))
for axis in axes:
    axis.legend(loc="upper left", fontsize=9)
    axis.grid(axis="y", alpha=0.3)
plt.show()

# %%
# What to see: each box is half of the 300 audits, and the whiskers reach from the 5th
# to the 95th percentile. On the left, the upper whisker is the promise: it must not lie
# above the dashed line by more than chance. On the right, what a larger audit buys:
# more labels, and less luck in how many.
#
# A model that is too sure of itself
# ----------------------------------
# The guarantee does not ask that the probabilities are right. Here the same model
# exaggerates: all of its probabilities are pushed towards 0 and 1. The forecast, which
# believes the model, is then too good. The labels keep the limit.

exaggerated = p.float32().astype(np.float64) ** 4
exaggerated /= exaggerated.sum(axis=1, keepdims=True)
forecast = cf.audit_forecast(exaggerated, [500], labels=learner.labels)
results = []
for seed in range(100):
    audit = cf.audit_sample(exaggerated, 500, labels=learner.labels, random_state=seed)
    found = cf.auto_label(exaggerated, audit, truth[audit.rows], labels=learner.labels)
    results.append((found.share, wrong[found.rows].mean() if found.rows.size else 0.0))
share, error = np.array(results).T
print(
    f"forecast {100 * forecast.share[0]:.1f} % labelled; "
    f"labelled on average {100 * share.mean():.1f} %"
)
print(f"of 100 audits {(error > MAX_ERROR).sum()} broke the promise")

# %%
# And a model that guesses gets nothing to label, instead of labelling wrongly:

guesses = np.random.default_rng(0).dirichlet(np.ones(6), size=len(x))
audit = cf.audit_sample(guesses, 500, labels=learner.labels)
print(cf.auto_label(guesses, audit, truth[audit.rows], labels=learner.labels))

# %%
# What the promise rests on
# -------------------------
# - The labels of the audit are right, and people label the rows in the order in which
#   they were drawn. They may stop early, but not skip the hard ones.
# - The model was fixed before. Train it on the audit's labels afterwards, and the next
#   limit needs a new audit.
# - One audit is for one model and one limit. Do not try several and keep the best.
#
# What can be noticed is refused. Rows of your own choice, for example, are no audit:

try:
    cf.auto_label(p, picks.indices, truth[picks.indices])
except TypeError as error:
    print("refused:", error)

# %%
# Where to go next
# ----------------
# - Audits, limits for each class, and files: :doc:`/guide/auto-labelling`. Predictions:
#   :doc:`/guide/predictions`.
# - The labels before that, from people: :doc:`plot_4_campaign`.
# - In the reference: :func:`ccma_fast.audit_forecast`, :func:`ccma_fast.audit_sample`,
#   :func:`ccma_fast.auto_label`.
