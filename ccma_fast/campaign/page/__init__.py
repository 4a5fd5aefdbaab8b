"""The labelling page: one HTML file with the images of an assignment, and the answers that people export from it.

Which classes a person sees beside an image is recorded with each answer, so that the effect of showing what the models
believe (anchoring) can be studied. :attr:`Answer.order <ccma_fast.campaign.exchange.answer.Answer.order>` is one of

``"likeliest"``
    A shortlist: the classes of ``Task.likeliest``, the most probable first.
``"shuffled"``
    The same classes in a random order, that of a generator seeded by the page's seed and the image's id: an image that is
    looked at again has the same order, and so has every annotator with the same seed.
``"listed"``
    No shortlist: every class of the campaign, in its order. The models have no part in what is seen. An image without
    likely classes (before there are models) is answered so whatever order was chosen, and recorded so.

:attr:`~ccma_fast.campaign.exchange.answer.Answer.shown` is the shortlist as it stood there; with ``"listed"`` it is empty,
for the classes of the campaign say it already. Where several images were selected in the grid and answered at once, the
shortlist is the union of theirs, by mean probability (a class that is not likely for an image counts as 0 there), shuffled
by the ids of all. Behind every list is a search over all classes, led by those that the person used last: what it shows is
not recorded.

:attr:`~ccma_fast.campaign.exchange.answer.Answer.seconds` counts from when the image came into sight to the answer, without
the time in which the page was in the background; images that were answered at once have equal parts.
"""
