"""Benchmarks: every operation beside the plain computation and the libraries that people use for it today.

Run them from the root of the repository and turn the result into a table::

    pytest --benchmark-only bench/ --benchmark-json=bench/results/run.json
    python -m bench.tabulate bench/results/run.json --output bench/results/run.md

Contenders of one comparison run one after the other with the same number of threads (``CCMA_NUM_THREADS``, by default
all processors). A peer that is not installed is skipped. Before each contender the run waits up to
``CCMA_BENCH_PATIENCE`` seconds (20) for other processes to finish; the table gives no ratio where they did not.
"""
