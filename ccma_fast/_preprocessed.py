"""Images decoded and preprocessed, a batch at a time, in this process or in others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from .decode import UnreadableImageError, is_passing, reason_of
from .images import ImageFile, Images
from .manifest import Skipped

__all__ = ["Batch", "preprocessed"]


class Batch(NamedTuple):
    """What a worker makes of some images.

    Attributes
    ----------
    inputs : list of Tensor
        A stack for each target.
    items : list of int
        The images of which they are.
    files : list of ImageFile
        What was decoded.
    failures : dict of int to Skipped
        Why not the others.
    """

    inputs: list[Any]
    items: list[int]
    files: list[ImageFile]
    failures: dict[int, Skipped]


def preprocessed(
    source: Images,
    batches: list[tuple[list[int], list[int]]],
    preprocess: list[Callable[[Any], Any]],
    workers: int,
) -> Iterator[Batch]:
    """Batches of images in their order.

    Parameters
    ----------
    source : Images
    batches : list of (list of int, list of int)
        The images of each, and the places in `preprocess` of what they are to go through.
    preprocess : list of callable
    workers : int
        Processes; 0 for this one.
    """
    import torch
    from torch.utils.data import DataLoader

    loader: Any = DataLoader(
        _Batches(source, batches, preprocess),  # type: ignore[arg-type]
        batch_size=None,  # an item is a batch already
        num_workers=workers,
        collate_fn=_as_it_is,
        generator=torch.Generator(),  # of its own, for it draws a seed for its workers
    )
    return iter(loader)


class _Batches:
    """Batches of preprocessed images, by their numbers: a data set as PyTorch's DataLoader takes it."""

    def __init__(
        self, source: Images, batches: list[tuple[list[int], list[int]]], preprocess: list[Callable[[Any], Any]]
    ) -> None:
        self._source, self._batches, self._preprocess = source, batches, preprocess

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> Batch:
        import torch

        items, targets = self._batches[number]
        inputs: list[list[Any]] = [[] for _ in targets]
        read: list[int] = []
        files: list[ImageFile] = []
        failures: dict[int, Skipped] = {}
        for item in items:
            status = self._source.status(item)  # before: what is written meanwhile is another file next time
            try:
                image, file = self._source.read(item)
                made = [self._preprocess[target](image) for target in targets]
            except Exception as error:  # of a preprocessing, such as a side that it makes 0 pixels long, or of memory
                reason = str(error) if isinstance(error, UnreadableImageError) else reason_of(error)
                failures[item] = Skipped(reason, is_passing(error), *(status or ()))
                continue
            read.append(item)
            files.append(file)
            for stack, tensor in zip(inputs, made, strict=True):
                stack.append(tensor)
        return Batch([torch.stack(stack) for stack in inputs] if read else [], read, files, failures)


def _as_it_is(batch: Any) -> Any:
    return batch
