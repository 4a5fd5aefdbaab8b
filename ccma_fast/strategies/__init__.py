"""Acquisition strategies: which unlabelled rows to label next.

A strategy is a callable from a :class:`Round` to row numbers; one file each. :func:`register` adds one's own, and
:func:`make_round` makes a round to test it. Only ``ccma`` asks the teacher itself; the student may have learnt from it.
Each docstring says where ours departs from its paper.

=======================  =======================================================================================
name                     chooses
=======================  =======================================================================================
``alfamix`` ¹            rows that flip when labelled features are mixed in, spread (Parvaneh et al., 2203.07034)
``badge`` ¹              k-means++ on gradient embeddings (Ash et al., 1906.03671)
``bald`` ¹               largest mutual information of label and model (Houlsby et al., 1112.5745; 1703.02910)
``ccma`` ²               :func:`ccma_fast.select`; ``ccma:paper`` as published (Nguyen et al., 2603.23159)
``centroid`` ²           k-means, the nearest row of each cluster (the seed set of Nguyen et al.'s code)
``coreset``              farthest first (Sener and Savarese, 1708.00489)
``dcom`` ²               coverage by balls first, margins once the labels cover (Mishal and Weinshall, 2407.01804)
``dropout`` ¹            rows on which dropout passes disagree, spread: DropQuery (Gupte et al., 2401.14555)
``entropy``              largest entropy (Shannon 1948)
``margins``              smallest difference of the two most probable classes (Scheffer et al. 2001)
``max-herding`` ²        greedy coverage by a Gaussian kernel (Bae et al., 2407.12212)
``pcb``                  of the predicted class with the fewest labels, among uncertain rows (Bang et al., 2311.11178)
``pcoreset``             farthest first in the space of class probabilities (Kang et al., 2506.00910)
``powerbald`` ¹          ``bald``, drawn instead of ranked (Kirsch et al., 2106.12059)
``probcover`` ²          greedy coverage by balls (Yehuda et al., 2205.11320)
``random`` ²             uniformly
``tcm`` ²                ``typiclust`` while labels are few, then ``margins`` (Doucet et al., 2403.03728)
``tfs``                  largest entropy in the predicted class with the fewest labels (Wang et al., 2506.01724)
``typiclust`` ²          the most typical row of each uncovered cluster (Hacohen et al., 2202.02794)
``uncertainty``          smallest probability of the most probable class (Lewis and Gale 1994)
``uncertainty-herding``  ``max-herding`` weighted by calibrated margins (Bae et al., 2412.20644)
=======================  =======================================================================================

¹ Needs a student that is one of the package's heads, :class:`ccma_fast.LogisticHead` or :class:`ccma_fast.LinearHead`.
² Can also choose the first labels: ``start`` of :func:`ccma_fast.simulate`. Numbers are those of arXiv.
"""

from __future__ import annotations

from .making import make_round
from .registry import Round, Strategy, find, names, pick, register

__all__ = ["Round", "Strategy", "find", "make_round", "names", "pick", "register"]
