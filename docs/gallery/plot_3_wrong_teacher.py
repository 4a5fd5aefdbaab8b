"""
A teacher that is wrong, and how you find out
=============================================

**What you will learn:** what goes wrong with teachers in practice (classes in another
order, a temperature that is the inverse of what it should be, a model that knows
nothing of your images), what the package warns of, how to check a teacher with
:meth:`ccma_fast.Teacher.diagnose`, and what the report of a query says about the trust
that a teacher got.

**When to use it:** before you rely on CLIP, or on any other model, for images that it
may not know; and whenever a query warns.
"""

# %%
# One pool, five teachers
# -----------------------
# Eight classes of animals and vehicles. The student's embeddings ``x`` tell the classes
# apart poorly. The teacher's embeddings ``v`` do so better; beside them it needs one
# vector ``t`` for each class, as CLIP's text encoder makes them of the names. All of it
# is drawn at random here, so that we know what is wrong with each teacher.

import textwrap
import warnings

import matplotlib.pyplot as plt
import numpy as np

import ccma_fast as cf

NAMES = ["bird", "car", "deer", "cat", "frog", "ship", "horse", "dog"]
N_POOL, N_TEST, C = 1000, 1000, len(NAMES)


def data(seed):
    """Embeddings of pool and test images, vectors of the classes, and the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(C, size=N_POOL + N_TEST)
    x = 3 * np.eye(C, 64)[truth] + rng.standard_normal((len(truth), 64))
    t = np.linalg.qr(rng.standard_normal((96, C)))[0].T  # orthogonal directions
    v = 3 * t[truth] + rng.standard_normal((len(truth), 96))
    return x.astype(np.float32), v.astype(np.float32), t, truth


def teachers(v, t, seed):
    """A good teacher, three that are wrong, and none."""
    noise = np.random.default_rng(seed + 100).standard_normal((len(v), C))
    return {
        "good": cf.Teacher(v, t, temperature=0.04, class_names=NAMES),
        "classes sorted by name": cf.Teacher(
            v, t[np.argsort(NAMES)], temperature=0.04, class_names=NAMES
        ),
        "temperature 25 instead of 1 / 25": cf.Teacher(
            v, t, temperature=25, class_names=NAMES
        ),
        "knows nothing": cf.Teacher.from_logits(noise, class_names=NAMES),
        "no teacher": None,
    }


# %%
# The second teacher is a common accident: somebody made the text embeddings of
# ``sorted(names)``, while the labels are numbered otherwise. The third is another:
# CLIP's ``logit_scale`` was taken for the temperature, which is its inverse. The fourth
# has no embeddings: :meth:`ccma_fast.Teacher.from_logits` takes the logits of any
# model, or the logarithms of its probabilities.
#
# Does the teacher fit at all?
# ----------------------------
# Some fifty labels are enough to tell. :meth:`ccma_fast.Teacher.diagnose` compares the
# teacher with them. It also warns, which we silence here, since the printed text holds
# the same warnings.

x, v, t, truth = data(seed=0)
labels = np.full(N_POOL, -1)
# The rows are in random order, so the first sixty are a random sample.
labels[:60] = truth[:60]

for name, teacher in teachers(v[:N_POOL], t, seed=0).items():
    if teacher is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", cf.TeacherWarning)
            found = teacher.diagnose(labels)
        print(f"--- {name} ---")
        for line in str(found).splitlines():
            print(textwrap.fill(line, 84, subsequent_indent="    "))
        print()

# %%
# What to look at:
#
# - *top-1* beside *chance*: how often the teacher's best guess is right, and how often
#   it would be by luck.
# - *best temperature* beside the temperature that it has. A wrong temperature leaves
#   top-1 as it is, and makes the probabilities worthless.
# - *lowest recall*: classes that the teacher does not recognise, perhaps since they are
#   called otherwise.
# - The *warnings* say what to check. Where they name another order of the classes, mend
#   it: the teacher is good then.
#
# A query warns as well
# ---------------------
# You need not call ``diagnose``. Each query with labels makes the same checks. It warns
# (:class:`ccma_fast.TeacherWarning`), keeps the text in ``report.warnings``, and goes
# on.


def loop(x, truth, teacher, seed, rounds=4, budget=16):
    """Test accuracy after each round, the last report, and all that was warned of."""
    learner = cf.ActiveLearner(
        x[:N_POOL], teacher=teacher, n_classes=C, random_state=seed
    )
    curve, told = [], {}
    for _ in range(rounds):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", cf.TeacherWarning)
            picks = learner.query(budget)
        learner.label(picks.indices, truth[picks.indices])
        told.update(dict.fromkeys(picks.report.warnings, picks.report.n_labelled))
        curve.append(
            (learner.predict_proba(x[N_POOL:]).argmax(axis=1) == truth[N_POOL:]).mean()
        )
    return curve, picks.report, told


SEEDS = (0, 1, 2)
curves, reports = {}, {}
for seed in SEEDS:
    x, v, t, truth = data(seed)
    for name, teacher in teachers(v[:N_POOL], t, seed).items():
        curve, report, told = loop(x, truth, teacher, seed)
        curves.setdefault(name, []).append(curve)
        reports.setdefault(name, (report, told))  # of the first seed

for name, (_, told) in reports.items():
    print(f"--- {name} ---")
    for text, n in told.items():
        print(textwrap.fill(f"with {n} labels: {text}", 84, subsequent_indent="    "))
    if not told:
        print("no warning")

# %%
# What the report says of the trust
# ---------------------------------
# The student learns from the labels and, as far as labels that were held out show that
# it helps, from the teacher:
#
# ``soft_weight``
#     How many labels the teacher's guesses weigh as much as: 0, 10, 100 or 1000.
# ``teacher_temperature``
#     By what the teacher's logits were divided to fit the labels. Infinite: they were
#     of no use as they are.
# ``correction_penalty``
#     Finite where a correction was learnt from the labels: another way to read the
#     teacher's embeddings. The smaller, the stronger. Infinite where there is none.
# ``student_share``
#     The share of the student when student and teacher predict together.

print(f"{'':34}soft_weight   temperature   correction   share")
for name, (report, _) in reports.items():
    print(
        f"{name:34}{report.soft_weight:11g}   {report.teacher_temperature:11.3g}"
        f"   {report.correction_penalty:10g}"
        f"   {report.student_share:7.2f}"
    )

# %%
# A temperature that is wrong is mended by ``teacher_temperature``; wrong class vectors
# are mended by the correction, where the teacher's *image* embeddings are good. A
# teacher of ready-made logits that knows nothing offers neither.
#
# Do the picks suffer?
# --------------------
# The student's accuracy on test images, which the teacher never sees, with each of the
# teachers. The wide grey line is the student without a teacher: what a wrong teacher
# must not fall below.

n_labels = 16 * np.arange(1, 5)
figure, axis = plt.subplots(figsize=(7, 4.4), layout="constrained")
looks = [
    {"color": "C0", "linewidth": 6, "alpha": 0.4},  # wide, for others lie on it
    {"color": "C1", "marker": "s"},
    {"color": "C2", "linestyle": "--", "marker": "^"},
    {"color": "C3", "linestyle": ":", "marker": "D"},
    {"color": "0.5", "linewidth": 6, "alpha": 0.5},
]
for (name, curve), look in zip(curves.items(), looks, strict=True):
    axis.plot(n_labels, np.mean(curve, axis=0), label=name, **look)
axis.set(
    xlabel="labels",
    ylabel="test accuracy of the student",
    title=f"Mean of {len(SEEDS)} seeds",
)
axis.grid(alpha=0.3)
axis.legend(loc="lower right")
plt.show()

# %%
# What to see: whether the good teacher helps most while labels are few; whether the
# wrong temperature costs anything beside it; and whether the other two stay near the
# grey line. The difference to no teacher at all, in percentage points, paired by seed:

without = np.array(curves["no teacher"])
print(f"{'':34}first   last     mean (lowest and highest seed)")
for name, curve in curves.items():
    if name != "no teacher":
        gain = 100 * (np.array(curve) - without)
        seeds = gain.mean(axis=1)
        print(
            f"{name:34}{gain[:, 0].mean():+5.1f}   {gain[:, -1].mean():+4.1f}"
            f"   {seeds.mean():+6.1f} "
            f"({seeds.min():+.1f} to {seeds.max():+.1f})"
        )

# %%
# Three seeds show the size of an effect, not small differences.
# :doc:`plot_5_compare_strategies` shows how to compare.
#
# Where to go next
# ----------------
# - What teachers are, and how to make one from CLIP: :doc:`/guide/teachers`.
# - A warning that you do not understand: :doc:`/guide/troubleshooting`.
# - How the teacher is corrected and weighed: :doc:`/method/index`.
# - In the reference: :class:`ccma_fast.Teacher`, :class:`ccma_fast.ZeroShot`,
#   :class:`ccma_fast.Report`.
