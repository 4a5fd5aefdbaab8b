"""
Your own embeddings and labels
==============================

**What you will learn:** how to give the package embeddings that lie in files (a
``.npy`` file, a parquet file, a folder of shards) with the ids of your images, labels
from a CSV file or a data frame with class names, how to see what a query will cost
before it runs, and how to write the picks to a file, have them labelled, and go on.

**When to use it:** when you have embedded your images already, with whatever model. If
you have only the images, ``ccma-fast extract`` makes such a folder from them
(:doc:`/guide/images`).
"""

import csv
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

import ccma_fast as cf

# %%
# Files as you may have them
# --------------------------
# This cell makes the files that you already have; **with files of your own, go on from
# "What you set" below**. It writes embeddings of 1,797 images in three forms that are
# common: one array; one table with the ids of the images beside the vectors; and a
# folder of shards, as clip-retrieval and ``ccma-fast extract`` write it. The numbers
# are float16, which is read as it is.

folder = tempfile.TemporaryDirectory()
here = Path(folder.name)

pixels, truth = load_digits(return_X_y=True)
embeddings = PCA(32, random_state=0).fit_transform(pixels).astype(np.float16)
ids = [f"scans/page_{row:04}.png" for row in range(len(embeddings))]
names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]

np.save(here / "embeddings.npy", embeddings)
table = pd.DataFrame({"image_path": ids, "embedding": list(embeddings)})
table.to_parquet(here / "embeddings.parquet")
for part, rows in enumerate(np.array_split(np.arange(len(ids)), 4)):
    for kind in ("img_emb", "metadata"):
        (here / "pool" / kind).mkdir(parents=True, exist_ok=True)
    np.save(here / "pool" / "img_emb" / f"img_emb_{part}.npy", embeddings[rows])
    table.loc[rows, ["image_path"]].to_parquet(
        here / "pool" / "metadata" / f"metadata_{part}.parquet"
    )
(here / "names.txt").write_text("\n".join(names) + "\n")

# Fifty images that somebody has labelled before: file names and names of classes.
labelled = np.random.default_rng(0).choice(len(ids), 50, replace=False)
with open(here / "labels.csv", "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["image_path", "label"])
    writer.writerows([ids[row], names[truth[row]]] for row in labelled)

# %%
# What you set
# ------------
# Three lines are yours. ``features`` is a path or an array of shape (images,
# dimensions). ``labels`` is a path, or an array with one entry per image, −1 where
# there is none. ``class_names`` is a file with one name per line, or a list. The names
# ``truth``, ``names`` and ``labelled`` belong to the example: with them we play the
# people who label, and check the result.
#
# The columns of embeddings need no scaling. Those of a table of measurements do, if
# their units differ: use scikit-learn's ``StandardScaler`` before.

features = here / "pool"
labels = here / "labels.csv"
class_names = here / "names.txt"
BUDGET = 20

# %%
# Which id belongs to which row is read from the metadata of the folder, or from the
# column of the parquet file that is called ``image_path``, ``path``, ``filepath``,
# ``filename`` or ``file``; a column ``id`` or ``name`` is not read, with a warning. A
# ``.npy`` file has none: there images are known by their row numbers. All three forms
# give the same picks:

for source in (here / "embeddings.npy", here / "embeddings.parquet", here / "pool"):
    picks = cf.select(source, 5)
    print(f"{source.name:20} rows {picks.indices}   ids {picks.ids and picks.ids[:2]}")

# %%
# Labels from a data frame
# ------------------------
# A data frame with the columns ``image_path`` and ``label`` will do as well as the CSV
# file; so will a Series with the ids as its index. Labels are joined to rows by id, so
# the order does not matter, and an id that the pool does not have is refused.

frame = pd.read_csv(labels)
print(frame.head(3))

from_csv = cf.select(features, BUDGET, labels=labels, class_names=class_names)
from_frame = cf.select(features, BUDGET, labels=frame, class_names=class_names)
print("the same picks:", np.array_equal(from_csv.indices, from_frame.indices))

try:
    cf.select(
        features,
        BUDGET,
        labels=frame.replace("scans/page_0131.png", "scans/page_9999.png"),
        class_names=class_names,
    )
except ValueError as error:
    print("refused:", error)

# %%
# What it will cost
# -----------------
# :func:`ccma_fast.plan` takes the arguments of :func:`ccma_fast.select` and runs
# nothing of it. For each stage it tells what will be read, the memory, the time on this
# machine, and how often the files are read from end to end. Look at it before a pool of
# millions.

print(cf.plan(features, BUDGET, labels=labels, class_names=class_names))

# %%
# Of this small pool every query takes a moment. The same plan for ten million images
# (an array that repeats one row, so that it takes no memory) shows where the time would
# go:

ten_million = np.broadcast_to(embeddings[:1], (10_000_000, embeddings.shape[1]))
few_labels = np.full(10_000_000, -1)
few_labels[:50] = truth[:50]
print(cf.plan(ten_million, 1000, labels=few_labels, class_names=class_names))

# %%
# Select, and write the picks
# ---------------------------

picks = cf.select(features, BUDGET, labels=labels, class_names=class_names)
picks.to_csv(here / "picks_1.csv")
print(picks.to_pandas().head())

# %%
# ``to_csv`` writes this table. It never replaces a file to which somebody has added
# labels. The people who label look at the images and add a column ``label`` with the
# names of the classes. Here the truth plays their part; the last three images stay
# empty, as it happens in practice.

filled = pd.read_csv(here / "picks_1.csv")
truth_of = dict(zip(ids, truth, strict=True))
filled["label"] = [names[truth_of[name]] for name in filled["image_path"]]
filled.loc[len(filled) - 3 :, "label"] = ""
filled.to_csv(here / "picks_1.csv", index=False)

try:
    picks.to_csv(here / "picks_1.csv")
except FileExistsError as error:
    print("refused:", str(error).replace(str(here), "..."))

# %%
# The next round
# --------------
# Give both files. An empty cell is no label, and its image can be chosen again. Pass
# several files as ``pathlib.Path`` objects, since plain text in a list would be a
# label.

so_far = [labels, here / "picks_1.csv"]
second = cf.select(features, BUDGET, labels=so_far, class_names=class_names)
print(
    f"{second.report.n_labelled} labels so far; the next images: {second.ids[:3]} ..."
)

# %%
# Where the labels lie
# --------------------
# A map of the pool: the two directions in which the embeddings differ most.

flat = PCA(2, random_state=0).fit_transform(embeddings.astype(np.float32))
figure, axis = plt.subplots(figsize=(7, 5), layout="constrained")
axis.scatter(*flat.T, s=6, color="0.8", label="the pool")
axis.scatter(
    *flat[labelled].T, s=30, marker="s", color="C0", label="labelled before, at random"
)
axis.scatter(
    *flat[picks.indices].T,
    s=50,
    marker="^",
    color="C1",
    edgecolor="black",
    label="first picks",
)
axis.scatter(
    *flat[second.indices].T,
    s=50,
    marker="o",
    color="C2",
    edgecolor="black",
    label="second picks",
)
axis.set(
    xlabel="first principal component",
    ylabel="second principal component",
    title="Pool, labels and picks",
)
axis.legend()
plt.show()

# %%
# What to see: picks keep a distance from labels and from each other where the map is
# true; two dimensions of 32 show only a part of the distances. Dense groups without any
# pick are images that the classifier is already sure of.
#
# Predictions for all images
# --------------------------
# :class:`ccma_fast.ActiveLearner` takes the same arguments, and trains the classifier
# on the labels so far. It also holds the loop together, if you would rather not pass
# files from round to round.


def accuracy(labels):
    """Share of the images without a label whose predicted class is right."""
    learner = cf.ActiveLearner(features, labels=labels, class_names=class_names)
    predicted, unknown = learner.predict_proba().argmax(axis=1), learner.labels < 0
    return (predicted == truth)[unknown].mean()


print(
    f"right of the rest: {accuracy(labels):.3f} with the first labels, "
    f"{accuracy(so_far):.3f} with the picks"
)
folder.cleanup()

# %%
# Your own arrays, in short
# -------------------------
# .. code-block:: python
#
#    picks = cf.select(
#        "embeddings/",  # .npy, .parquet, .h5, .arrow, .safetensors, array, tensor
#        100,  # how many images somebody will label
#        labels="labels.csv",  # or an array, a Series, a list of Paths; None at first
#        class_names="names.txt",
#        # if you have CLIP embeddings too:
#        teacher=cf.Teacher("clip_images.npy", "clip_class_names.npy"),
#    )
#
# Where to go next
# ----------------
# - All forms of files, ids and labels: :doc:`/guide/pools`. Embeddings from images:
#   :doc:`/guide/images`.
# - Several people, late answers, corrections: :doc:`plot_4_campaign`.
# - A teacher, and how to check it: :doc:`plot_3_wrong_teacher`.
# - In the reference: :func:`ccma_fast.select`, :func:`ccma_fast.plan`,
#   :class:`ccma_fast.Selection`.
