"""The loop for research: strategies × seeds × rounds on a pool whose labels are known.

A *contender* is a strategy with its constants, a *trial* one contender with one seed, and a *run* all trials of one
:func:`ccma_fast.simulate`. In each *round* of a trial some rows get their labels, and the student is trained on all
labelled rows and measured.
"""
