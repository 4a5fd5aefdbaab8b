"""Formats of rows, one module each. :mod:`ccma_fast.pool.open` chooses among them."""
