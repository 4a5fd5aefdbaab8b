"""A query on several ranks: the first one decides, and all hold what is kept of their own rows.

The first rank runs the query of :mod:`ccma_fast.query.select`. Its pool is :class:`~.spread_rows.SpreadRows`, its
backend :class:`~.backend.SpreadBackend`: what is to be done on every row becomes a command, which all ranks execute on
their own rows (:mod:`~.operations`), and what comes back are counts, exact sums, the best few rows, or rows that were
asked for. Nothing of it depends on which rank has which rows, so that the picks are those of a single process.
"""
