"""One query of the method; :mod:`ccma_fast.query.select` reads from top to bottom.

Each step makes a small object of those before it: inputs, logits, cuts, scores, picks, selection.
"""
