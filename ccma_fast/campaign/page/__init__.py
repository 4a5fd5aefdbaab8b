"""The labelling page: one HTML file with the images of an assignment, and the answers that people export from it.

Which classes a person sees beside an image is recorded with each answer, so that the effect of showing what the models
believe (anchoring) can be studied. ``Answer.order`` is one of

``"likeliest"``
    A shortlist: the classes of ``Task.likeliest``, the most probable first.
``"shuffled"``
    The same classes in a random order, which the page's seed and the image's id decide: an image that is looked at
    again has the same order, and so has every annotator with the same seed.
``"listed"``
    No shortlist: every class of the campaign, in its order. The models have no part in what is seen. An image without
    likely classes (before there are models) is answered so whatever order was chosen, and recorded so.

``Answer.shown`` is the shortlist as it stood there; with ``"listed"`` it is empty, for the campaign knows its classes.
Where several images were selected in the grid and answered at once, the shortlist is the union of theirs, by mean
probability (a class that is not likely for an image counts as 0 there), shuffled by the ids of all. Behind every list
is a search over all classes, led by those that the person used last: what it shows is not recorded. Probabilities are
hidden unless the person shows them; the exported file says of each answer whether they were seen.

``Answer.seconds`` counts from when the image came into sight to the answer, without the time in which the page was in
the background; images that were answered at once have equal parts.

The builder (:mod:`.write`) joins ``page.html``, ``page.css`` and the scripts into one file. Answers live in the
browser's localStorage, one entry for each image under the campaign and the digest of the assignment, the later one
winning, so that several tabs can write at once. Where the browser refuses storage (some phones do so for local files),
the page says so.
"""
