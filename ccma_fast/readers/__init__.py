"""Where rows, labels and class names may lie: one module for each format. :mod:`ccma_fast.pool` chooses among them.

``.npy`` files and tensors need no reader of their own and are in :mod:`ccma_fast.pool`.
"""
