"""Images decoded and preprocessed, a batch at a time, in this process or in others."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Generator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..pool.manifest import Skipped
from .decode import UnreadableImageError, is_passing, reason_of
from .decoder_processes import CannotBeSentError, Decoders, Watch
from .image_source import ImageFile, Images

__all__ = ["Batch", "preprocessed"]


class Batch(NamedTuple):
    """A batch of preprocessed images.

    Attributes
    ----------
    inputs : list of Tensor
        A stack for each preprocessing; of NumPy arrays, while it is in a worker process.
    items : list of int
        The images that were read.
    files : list of ImageFile
        The files that they were decoded from.
    failures : dict of int to Skipped
        Why the others were not.
    """

    inputs: list[Any]
    items: list[int]
    files: list[ImageFile]
    failures: dict[int, Skipped]


def preprocessed(
    source: Images,
    batches: Sequence[tuple[Sequence[int], Sequence[int]]],
    preprocess: Sequence[Callable[[Any], Any]],
    workers: int,
) -> Generator[Batch, None, None]:
    """Decode and preprocess batches of images, in order. Closing the generator ends the worker processes.

    Parameters
    ----------
    source : Images
    batches : sequence of (sequence of int, sequence of int)
        The images of each, and the indices in `preprocess` of what is applied to them.
    preprocess : sequence of callable
    workers : int
        Worker processes; with 0 this process decodes, and an image that crashes its decoder ends it.

    Warns
    -----
    UserWarning
        `source` or `preprocess` cannot be sent to other processes: this one decodes.
    """
    made = _Made(source, batches, preprocess)
    if workers and batches:
        try:
            decoders = Decoders(made, [items for items, _ in batches], source.n_bytes, workers)
        except CannotBeSentError as error:
            warnings.warn(
                f"images are decoded in this process, which one that crashes its decoder would end: {error}; expected "
                "a data set and plugins of modules that another process can import, or workers=0",
                stacklevel=2,
            )
        else:
            with decoders:
                for (items, _), (batch, lost) in zip(batches, decoders.results(), strict=True):
                    why = batch.failures | {item: Skipped(reason) for item, reason in lost.items()}
                    yield _with_tensors(batch._replace(failures={item: why[item] for item in items if item in why}))
            return
    for number in range(len(batches)):
        yield _with_tensors(made(number, (), Watch()))


def _with_tensors(batch: Batch) -> Batch:
    import torch

    return batch._replace(inputs=[torch.from_numpy(stack) for stack in batch.inputs])


class _Made:
    """Makes batches of preprocessed images, by their numbers."""

    def __init__(
        self,
        source: Images,
        batches: Sequence[tuple[Sequence[int], Sequence[int]]],
        preprocess: Sequence[Callable[[Any], Any]],
    ) -> None:
        self._source, self._batches, self._preprocess = source, batches, preprocess

    def __call__(self, number: int, left_out: Collection[int], watch: Watch) -> Batch:
        """A batch, without some of its images."""
        items, targets = self._batches[number]
        inputs: list[list[Any]] = [[] for _ in targets]
        read: list[int] = []
        files: list[ImageFile] = []
        failures: dict[int, Skipped] = {}
        for item in items:
            if item in left_out:
                continue
            watch.begin(item)
            status = self._source.status(
                item
            )  # before reading: a file that is written meanwhile will be another one next time
            try:
                image, file = self._source.read(item)
                made = [np.asarray(self._preprocess[target](image)) for target in targets]
            except Exception as error:  # also of preprocessing, as for a side scaled to 0 pixels
                if isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError):
                    watch.out_of_memory()
                reason = str(error) if isinstance(error, UnreadableImageError) else reason_of(error)
                failures[item] = Skipped(reason, is_passing(error), *(status or ()))
                continue
            read.append(item)
            files.append(file)
            for stack, array in zip(inputs, made, strict=True):
                stack.append(array)
        return Batch([np.stack(stack) for stack in inputs] if read else [], read, files, failures)
