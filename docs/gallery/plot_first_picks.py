"""
First picks
===========

Ten rows that cover a pool of two groups.
"""

import numpy as np

import ccma_fast as cf

pool = np.random.default_rng(0).standard_normal((200, 2)).astype(np.float32)
pool[:100] += 6
picks = cf.select(pool, 10)
print(sorted(picks.indices.tolist()))
