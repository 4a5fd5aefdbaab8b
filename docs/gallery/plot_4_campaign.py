"""
A campaign with people
======================

**What you will learn:** how to run a labelling campaign with
:class:`ccma_fast.Campaign`: batches that go out to people, answers that come in late,
wrong, twice or not at all, refusals, a class that nobody foresaw, corrections and undo,
an audit that tells how good the model is, and files for and from other labelling
programs.

**When to use it:** as soon as people label, over days, and perhaps several of them. For
labels that come at once from one person, :class:`ccma_fast.ActiveLearner` is enough
(:doc:`plot_1_whole_loop`).
"""

# %%
# Images and a pool
# -----------------
# We write 800 of scikit-learn's digits as PNG files, and their pixels as embeddings in
# a parquet file with the column ``image_path``. Its values are the ids by which the
# campaign knows the images: the paths below the folder of images. A plain array works
# too; images are then called by the numbers of their rows.

import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image
from sklearn.datasets import load_digits

import ccma_fast as cf

folder = tempfile.TemporaryDirectory()
here = Path(folder.name)
(here / "images").mkdir()

pixels, codes = load_digits(return_X_y=True)
pixels, codes = pixels[:800].astype(np.float32), codes[:800]
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
ids = [f"digit_{row:03}.png" for row in range(len(pixels))]
for name, image in zip(ids, pixels, strict=True):
    grey = Image.fromarray((255 - image.reshape(8, 8) * 15.9).astype(np.uint8))
    grey.resize((96, 96), Image.Resampling.BICUBIC).save(here / "images" / name)
pd.DataFrame({"image_path": ids, "embedding": list(pixels)}).to_parquet(
    here / "pool.parquet"
)
truth = {name: NAMES[code] for name, code in zip(ids, codes, strict=True)}

# %%
# Create the campaign
# -------------------
# One file holds everything. Two people are to answer about each image; where they
# disagree, a third is asked. Images that nobody answers within a week go back into the
# pool. We tell it nine classes and "forget" the tenth.

campaign = cf.Campaign.create(
    here / "digits.campaign",
    here / "pool.parquet",
    class_names=NAMES[:9],
    labels_per_image=2,
    expires=timedelta(days=7),
    random_state=0,
)
print(f"classes: {campaign.class_names}")

# %%
# Three people
# ------------
# Our annotators are simulated: each errs and refuses now and then. ``assign`` gives a
# person the images that wait for them, with the classes that the models think likely. A
# person's answers are :class:`ccma_fast.Answer` objects, with the time at which they
# were given.

ERROR = {"ana": 0.03, "ben": 0.10, "cem": 0.05}
REFUSE = {"ana": 0.02, "ben": 0.05, "cem": 0.0}
rng = np.random.default_rng(0)


def answers_of(annotator, images):
    """What a person says of some images."""
    given = []
    for image in images:
        now = datetime.now(timezone.utc)
        if rng.random() < REFUSE[annotator]:
            given.append(
                cf.Answer(
                    image, refusal="cannot tell", annotator=annotator, answered=now
                )
            )
        else:
            wrong = rng.random() < ERROR[annotator]
            label = rng.choice(NAMES) if wrong else truth[image]
            given.append(
                cf.Answer(image, label=str(label), annotator=annotator, answered=now)
            )
    return given


def work(annotator):
    """A person answers about all images that wait for them."""
    images = campaign.assign(annotator).images  # none where nothing is to be done
    return campaign.take(answers_of(annotator, images), new_classes=True)


# %%
# The first batch
# ---------------
# ``next`` chooses images and reserves them: they are in no other batch until they are
# answered or expire. ``take`` says what became of the answers. Ana meets the digit
# nine, which is no class yet: ``new_classes=True`` adds it. Without that the whole set
# of answers is refused, with the unknown name in the message.

batch = campaign.next(30)
print(f"batch {batch.number}: {len(batch)} images, such as {batch.images[:3]}")
for annotator in ("ana", "ben", "cem"):
    taken = work(annotator)
    if taken.n_new:
        print(
            f"{annotator}: {taken.n_new} answers, new classes {taken.added_classes}, "
            f"undecided {taken.n_undecided}"
        )
print(
    f"images with a label: {(campaign.labels >= 0).sum()}, "
    f"still out: {len(campaign.pending())}"
)

# %%
# Cem was only asked about the images on which Ana and Ben did not agree. What is still
# out after that needs yet another person, or the lead, who decides alone with
# ``correct``:

for image in list(campaign.pending()):
    campaign.correct([image], [truth[image]], annotator="lead")
print(f"still out: {len(campaign.pending())}")

# %%
# Answers that come late
# ----------------------
# The next batch does not wait. Ben takes a batch home each time, and his answers come
# in one round later. Images that are out count as covered, so the new picks lie
# elsewhere. After each round we compare the model with the truth of the rest.


def accuracy():
    """Share of the images without a label that the models so far get right."""
    learner = campaign.learner()
    predicted, unknown = learner.predict_proba().argmax(axis=1), learner.labels < 0
    right = np.array(learner.class_names)[predicted] == np.array(
        [truth[image] for image in ids]
    )
    return right[unknown].mean()


at_home, curve = [], []
for _ in range(5):
    batch = campaign.next(20)
    work("ana")
    late, at_home = (
        at_home,
        answers_of("ben", campaign.assign("ben").images),
    )
    if late:
        campaign.take(late, new_classes=True)
    work("cem")
    curve.append(
        (int((campaign.labels >= 0).sum()), accuracy(), len(campaign.pending()))
    )
    n_labels, right, n_out = curve[-1]
    print(f"batch {batch.number}: {n_labels} labels, {n_out} out, {right:.3f} right")
campaign.take(at_home)
work("cem")
print(f"Ben's last answers are in: {(campaign.labels >= 0).sum()} labels")

# %%
# Corrections and undo
# --------------------
# Nothing is ever deleted: an undo is an event too. Suppose somebody imports a file in
# which two columns were exchanged. ``take`` told the numbers of the events, and
# ``undo`` sets them aside.

before = campaign.labels.copy()
images = [entry.image for entry in campaign.labelled_images()[:5]]
taken = campaign.take(
    [cf.Answer(image, label="eight", annotator="ben") for image in images]
)
n_changed = (campaign.labels != before).sum()
print(f"a wrong import: events {taken.events}, labels changed: {n_changed}")
first, last = taken.events
campaign.undo(*range(first, last + 1), annotator="lead")
print(f"after the undo, labels changed: {(campaign.labels != before).sum()}")

for event in campaign.history(images[0]):
    undone = "(undone)" if event.is_undone else ""
    print(event.number, event.kind, event.annotator, event.about, undone)

# %%
# An audit
# --------
# Images that a query chose are harder than the pool. How good the model is, only a
# random draw tells.

audit = campaign.draw_audit(80)
for annotator in ("ana", "ben", "cem"):
    work(annotator)
for image in list(campaign.pending()):
    campaign.correct([image], [truth[image]], annotator="lead")

status = campaign.status()
for what, found in (
    ("random images (audit)", status.audits.top1),
    ("images that queries chose", status.picks.top1),
):
    print(f"{what:26} right: {found}")

# %%
# How it stands
# -------------
# ``status`` tells the rest: how far people agree, who deviates, and whether more labels
# would still change predictions. Printed, it is what ``ccma-fast campaign status``
# shows; as the last line of a cell, a table.

print(status)

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.6), layout="constrained")
numbers = [entry.number for entry in status.batches]
bottom = np.zeros(len(numbers))
for name, color in (("n_labelled", "C0"), ("n_refused", "C1"), ("n_out", "0.7")):
    heights = np.array([getattr(entry, name) for entry in status.batches])
    left.bar(
        numbers, heights, bottom=bottom, color=color, label=name.removeprefix("n_")
    )
    bottom += heights
left.set_xticks(
    numbers,
    ["audit" if entry.is_audit else str(entry.number) for entry in status.batches],
)
left.set(
    xlabel="batch",
    ylabel="images",
    title="What became of each batch",
    ylim=(0, 1.3 * bottom.max()),
)
left.legend(fontsize=8, ncols=3, loc="upper left", columnspacing=0.8)
n_labels, values, _ = zip(*curve, strict=True)
right.plot(n_labels, values, marker="o", label="on images without a label")
found = status.audits.top1
right.errorbar(
    [n_labels[-1]],
    [found.share],
    yerr=[[found.share - found.low], [found.high - found.share]],
    fmt="s",
    capsize=4,
    color="C1",
    label="as the audit estimates it",
)
right.set(
    xlabel="labels that people agree on", ylabel="accuracy", title="What they are worth"
)
right.grid(alpha=0.3)
right.legend(fontsize=9, loc="lower right")
plt.show()

# %%
# What to see: on the left, how few images of each batch were refused or are still out;
# on the right, how the accuracy grows with the labels, and whether the interval of the
# audit holds the last value. In a real campaign you see the audit only.
#
# Pages and files for the people
# ------------------------------
# Our annotators answered in Python. Real ones use the page: one HTML file with the
# images inside, that needs no server.

batch = campaign.next(20)
page = campaign.write_page(
    here / "ana.html", here / "images", annotator="ana", title="Which digit is it?"
)
size = (here / "ana.html").stat().st_size
print(f"a page with {page.n_images} images, {size // 1024} kB")

# %%
# A person opens it in a browser, answers by keyboard or mouse, and exports a file that
# ``campaign.import_file`` reads. Or send the images to another program: to Label
# Studio, CVAT or FiftyOne, or as a table to fill in.

written = campaign.export_file(
    here / "tasks.json", "label-studio", annotator="ben", images="images"
)
print("for Label Studio:", [file.name for file in written])
campaign.undo(annotator="ben")  # he prefers a spreadsheet
campaign.export_file(here / "ben.csv", "csv", annotator="ben")
table = pd.read_csv(here / "ben.csv", dtype=str)
table["label"] = [truth[image] for image in table["image_path"]]
table.to_csv(here / "ben.csv", index=False)
for time in ("first", "second"):
    taken = campaign.import_file(here / "ben.csv").taken
    print(f"{time} import: {taken.n_new} new answers, {taken.n_known} known before")

# %%
# The labels
# ----------
# What the campaign is for: each image on whose class its people agree. The file of a
# campaign goes on tomorrow with ``cf.Campaign.open(file, features)``.

labels = campaign.labelled_images().to_pandas()  # to_csv writes the same
print(labels.head())
is_right = labels["label"] == labels["image_path"].map(truth)
print(f"{is_right.mean():.3f} of {len(labels)} labels are right")
campaign.close()
folder.cleanup()

# %%
# Where to go next
# ----------------
# - All that a campaign can do, and the same from the shell: :doc:`/guide/campaigns`.
# - Let the model label what is left, with a guarantee: :doc:`plot_6_auto_label`.
# - In the reference: :class:`ccma_fast.Campaign`, :class:`ccma_fast.Answer`.
