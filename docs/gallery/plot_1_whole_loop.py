"""
The whole loop on handwritten digits
====================================

**What you will learn:** how to choose the first images to label without any label (the
cold start), how to go on in rounds, how to measure whether it was worth it, and how to
read the report of a query.

**When to use it:** as your first contact with the package. The pool is the handwritten
digits that scikit-learn ships, so the true label of each image is known and can play
the part of the person who labels.
"""

# %%
# The pool
# --------
# A query needs one row of numbers per image. Here the rows are the 64 pixels of each
# image; with images of your own they are the embeddings of a vision model such as
# DINOv2. ``ccma_fast.research.digits`` splits the digits into a pool and a test set.

import matplotlib.pyplot as plt
import numpy as np

import ccma_fast as cf
from ccma_fast.research.digits import class_prototypes, digits_teacher, load_digits

digits = load_digits()
x, truth = digits.images, digits.labels
print(
    f"pool: {x.shape[0]} images, {x.shape[1]} numbers each; "
    f"test set: {len(digits.test_labels)} images"
)

# %%
# A *teacher* is optional. It is a model that knows the names of the classes and has a
# guess about each image without any label, such as CLIP. For the digits we take the
# names of the classes as they look in print: the teacher compares each image with the
# glyphs "0" to "9" in the fonts that matplotlib ships. It sees no label.

glyphs, centre = class_prototypes(), x.mean(axis=0)
teacher = digits_teacher(x, glyphs, centre=centre)
test_teacher = digits_teacher(digits.test_images, glyphs, centre=centre)

# %%
# The cold start
# --------------
# :class:`ccma_fast.ActiveLearner` keeps the labels between the rounds. Its first query
# has no label to learn from. It covers the pool: k-means finds as many clusters as you
# ask for images, and returns one image of each.

BUDGET = 10
learner = cf.ActiveLearner(x, teacher=teacher, random_state=0)
first = learner.query(BUDGET)
print("rows to label:", first.indices)
first

# %%
# ``indices`` are the rows to label, in the order of choice. ``represents`` says how
# many images each of them stands for. ``score`` is missing as long as there are no
# labels. A notebook shows picks as this table; ``first.to_pandas()`` is the same as a
# data frame.

figure, axes = plt.subplots(2, 5, figsize=(7, 3.6), layout="constrained")
for axis, row, n_behind in zip(axes.flat, first.indices, first.represents, strict=True):
    axis.imshow(x[row].reshape(8, 8), cmap="gray_r")
    axis.set_title(f"a {truth[row]}, for {n_behind}", fontsize=11)
    axis.axis("off")
figure.suptitle("The first ten images to label, and how many each stands for")
plt.show()

# %%
# What to see: the images look different from each other. Count the classes among them;
# ten random images rarely have more.

print(f"{len(np.unique(truth[first.indices]))} of 10 classes are among the first ten")
random_classes = [
    len(set(truth[np.random.default_rng(seed).choice(len(x), 10, replace=False)]))
    for seed in range(200)
]
print(f"ten random images have {np.mean(random_classes):.1f} classes on average")

# %%
# Labels, and more rounds
# -----------------------
# Somebody labels the ten images: here the truth does. Then each round is three lines:
# ask, have the picks labelled, give the labels back. After each round we measure the
# accuracy on the test set, which no query sees.


def accuracy(learner):
    """Test accuracy of what student and teacher predict together."""
    p = learner.predict_proba(digits.test_images, teacher=test_teacher)
    return (p.argmax(axis=1) == digits.test_labels).mean()


learner.label(first.indices, truth[first.indices])
n_labels, chosen = [BUDGET], [accuracy(learner)]
for _ in range(7):
    picks = learner.query(BUDGET)
    learner.label(picks.indices, truth[picks.indices])
    n_labels.append(int((learner.labels >= 0).sum()))
    chosen.append(accuracy(learner))

print(f"{n_labels[-1]} labels: accuracy {chosen[-1]:.3f}")

# %%
# Against random choice
# ---------------------
# The same learner gets the labels of random images instead, with three seeds. Student
# and teacher are the same, so the only difference is which images were labelled.

by_chance = []
for seed in range(3):
    order = np.random.default_rng(seed).permutation(len(x))
    other = cf.ActiveLearner(x, teacher=teacher, random_state=0)
    curve = []
    for end in n_labels:
        rows = order[end - BUDGET : end]
        other.label(rows, truth[rows])
        curve.append(accuracy(other))
    by_chance.append(curve)
by_chance = np.array(by_chance)

teacher_alone = test_teacher.diagnose(digits.test_labels).top1

# %%

figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
axis.plot(n_labels, chosen, marker="o", label="chosen by ccma_fast")
axis.plot(
    n_labels,
    by_chance.mean(axis=0),
    marker="s",
    linestyle="--",
    label="random, mean of 3 seeds",
)
axis.fill_between(
    n_labels,
    by_chance.min(axis=0),
    by_chance.max(axis=0),
    alpha=0.2,
    color="C1",
    label="random, range",
)
axis.axhline(
    teacher_alone, color="gray", linestyle=":", label="the teacher alone, no labels"
)
axis.set(
    xlabel="labels",
    ylabel="test accuracy",
    title="Accuracy against the number of labels",
)
axis.grid(alpha=0.3)
axis.legend(loc="lower right")
plt.show()

# %%
# What to see: how far the solid line lies above the shaded range, and how many labels
# it saves at the same height. The numbers behind the picture:

print("labels   chosen   random")
for n, ours, theirs in zip(n_labels, chosen, by_chance.mean(axis=0), strict=True):
    print(f"{n:6}   {ours:6.3f}   {theirs:6.3f}")
reached = [
    n
    for n, ours in zip(n_labels, chosen, strict=True)
    if ours >= by_chance[:, -1].mean()
]
if reached:
    print(
        f"random choice needs {n_labels[-1]} labels for what the chosen ones "
        f"reach with {reached[0]}"
    )

# %%
# This is one data set and one seed of the chosen ones. :doc:`plot_5_compare_strategies`
# shows how to compare fairly.
#
# The report
# ----------
# Each query tells what it did, in ``picks.report``. Print it whole, or read single
# values:

report = picks.report
print(report)

# %%
# The values that are worth a look in each round:
#
# ``n_labelled``, ``n_unlabelled``
#     Whether your labels arrived.
# ``soft_weight``
#     How much the teacher's guesses weighed in the training of the student, in labels.
#     0: they did not help.
# ``student_share``
#     The share of the student when both predict together, from 0 (the teacher alone) to
#     1 (the student alone).
# ``mean_student_set``, ``mean_teacher_set``
#     How many classes each model cannot rule out for an image, on average. Smaller is
#     surer.
# ``top1_disagreement``
#     For which share of the images the best guesses of the two models differ.
# ``warnings``
#     What seems wrong with the teacher. Empty is good; :doc:`plot_3_wrong_teacher`
#     shows the rest.

print(
    f"soft labels weigh as much as {report.soft_weight:g} labels; "
    f"the student's share is {report.student_share:.2f}"
)
print(
    f"classes that cannot be ruled out: student {report.mean_student_set:.2f}, "
    f"teacher {report.mean_teacher_set:.2f}"
)
print(
    f"the models disagree about {100 * report.top1_disagreement:.0f} % of the images; "
    f"warnings: {report.warnings}"
)

# %%
# Keep the loop for the next day with ``learner.save("digits.npz")``, and go on with
# ``cf.ActiveLearner.load("digits.npz", x, teacher=teacher)``.
#
# Where to go next
# ----------------
# - The same with your own files: :doc:`plot_2_own_embeddings`.
# - What a query does, step by step: :doc:`/guide/selecting`; what a teacher is:
#   :doc:`/guide/teachers`.
# - In the reference: :class:`ccma_fast.ActiveLearner`, :func:`ccma_fast.select`,
#   :class:`ccma_fast.Report`.
