"""Benchmarks: every operation beside the plain computation and the libraries that people use for it today.

Run them from the root of the repository and turn the result into a table and a picture, which begin with the marks
that are to be reached (:mod:`bench.marks`)::

    pip install '.[bench]' superkmeans  # has no wheels for Python 3.14
    pytest --benchmark-disable bench  # everything once, with a twentieth of the rows: that it works
    pytest --benchmark-only bench --benchmark-json=run.json  # minutes
    pytest --benchmark-only bench --benchmark-json=run.json -m "slow or not slow"  # all, hours: some marks need it
    pytest --benchmark-only bench --benchmark-json=run.json -m slow bench/test_files.py  # a million rows
    python -m bench.tabulate run.json --output run.md --picture run.png

Contenders of one comparison run one after the other with the same number of threads (``CCMA_NUM_THREADS``, by default
all processors). A peer that is not installed is skipped. Before each contender the run waits up to
``CCMA_BENCH_PATIENCE`` seconds (20) for other processes to finish; no ratio counts where they did not.
``CCMA_BENCH_CACHE`` names the folder in which pools of a million rows are kept (7.2 GB, by default a temporary one).
"""
