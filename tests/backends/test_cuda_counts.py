"""What the CUDA backend costs the host: launches, copies and synchronisations, none of which may grow with the pool."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ccma_fast.backends.choose import choose_backend
from ccma_fast.backends.cuda.transfers import Later, Uploads
from ccma_fast.pool.open import open_rows

CUDA = choose_backend("cuda")

# Triton's interpreter computes with NumPy, which warns of what a GPU does as it is told.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

# ---------------------------------------------------------------------------------------------------------------------
# The card that counts


def test_the_card_counts_what_would_wait(card):
    x = card.put(torch.arange(12.0).reshape(3, 4))
    assert x.is_cuda
    with card.counted() as counts:
        y = x[1:] * 2.0
        y[:, 0] = 1.0
        assert y.is_cuda
    assert (counts.calls, counts.synchronisations.total()) == ({"mul": 1, "fill_": 1}, 0)
    with card.counted() as counts:
        assert float(y.sum()) == 2 * (5 + 6 + 7 + 9 + 10 + 11) + 2
        assert y.tolist()[0] == [1.0, 10.0, 12.0, 14.0]
        assert y[y > 20.0].shape == (1,)
        torch.tensor([1, 2], device=x.device)
        torch.from_numpy(np.ones(3)).to(x.device)
    assert counts.synchronisations == {"_local_scalar_dense": 1, "download": 1, "mask": 1, "upload": 2}
    assert (counts.uploads, counts.upload_bytes) == ({"pageable": 2}, 40)
    with card.counted() as counts:
        later = Later(Uploads(x.device)(np.arange(3)) + 1)
        assert not counts.synchronisations
        assert later.tolist() == [1, 2, 3]
    assert (counts.uploads, counts.downloads) == ({"pinned": 1}, {"pinned": 1})
    assert counts.synchronisations == {"event": 1}


def test_the_card_refuses_what_a_gpu_refuses(card):
    x = card.put(torch.ones(3, 4))
    with pytest.raises(AssertionError, match="two devices"):
        x + torch.ones(3, 4)
    with pytest.raises((TypeError, RuntimeError)):
        x.numpy()


def test_the_card_counts_kernels(card):
    with card.counted() as counts:
        CUDA.check_rows(open_rows(card.put(torch.ones(50, 7)), "x"), directions=True)
    assert counts.launches == {"_row_lengths_kernel": 1}
    assert counts.synchronisations.total() == 1
