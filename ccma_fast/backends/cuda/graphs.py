"""Work that is launched again and again, as a graph of the device's."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

__all__ = ["repeated"]

# Graphs and streams, which not every version of PyTorch annotates.
_cuda: Any = torch.cuda


@cache
def _stream(device: torch.device) -> Any:
    """The stream for recording: one alone, for libraries keep memory for each that they have seen."""
    return _cuda.Stream(device)


def repeated(work: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """What does the same as `work`, on a GPU with one launch for all of it.

    Parameters
    ----------
    work : callable
        It neither reads a number of the device nor copies one there, works on tensors that stay where they are, and has
        been called before: kernels are compiled and libraries loaded. Here it is recorded, which changes no tensor.
    device : torch.device

    Returns
    -------
    callable
        `work` itself on the host, or, with a warning, where it cannot be recorded.
    """
    if device.type != "cuda":
        return work
    graph, stream = _cuda.CUDAGraph(), _stream(device)
    current = _cuda.current_stream(device)
    stream.wait_stream(current)
    try:
        # Not torch.cuda.graph, which waits for the device and empties the cache of its memory first.
        with _cuda.stream(stream):
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                work()
            finally:
                graph.capture_end()
    except RuntimeError as error:
        warnings.warn(
            f"the epochs of a training could not be recorded as a CUDA graph ({error}); they are launched kernel by "
            "kernel, which is slower",
            RuntimeWarning,
            stacklevel=2,
        )
        return work
    current.wait_stream(stream)
    replay: Callable[[], None] = graph.replay
    return replay
