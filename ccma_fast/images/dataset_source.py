"""Images of a map-style data set, as torchvision's are."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import FileReadError
from .decode import UnreadableImageError, read_image, reason_of, to_rgb
from .image_files import is_gone
from .image_source import Images, Place
from .labels import targets_of

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["DatasetImages"]


class DatasetImages(Images):
    """A map-style data set whose items are images, or tuples that begin with one.

    Images of a ``torch.utils.data.Subset`` have their ids in the whole data set.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset, rows, name = dataset, list(range(len(dataset))), type(dataset).__name__
        whole, is_plain = dataset, True
        subset = getattr(sys.modules.get("torch.utils.data"), "Subset", ())
        while isinstance(whole, subset):
            rows = [int(whole.indices[row]) for row in rows]
            is_plain, whole = is_plain and type(whole) is subset, whole.dataset
        samples: Any = getattr(whole, "samples", None)
        root = getattr(whole, "root", None)
        if root is not None and samples and all(isinstance(sample, (tuple, list)) for sample in samples):
            self.roots = frozenset([os.path.abspath(root)])
            ids = [os.path.relpath(sample[0], root) for sample in samples]  # ImageFolder and what is made like it
            if len(ids) != len(whole):
                raise FileReadError(f"images: {name} has {len(whole)} items but {len(ids)} samples")
        else:
            ids = [str(i) for i in range(len(whole))]
        self._all = frozenset(ids)
        labels = targets_of(whole, len(ids), name)
        # torchvision's own loader turns 16 bits white, and shows what transparency hides.
        reads_files = is_plain and _loads_by_torchvision(whole)
        self._files = [Path(samples[row][0]) for row in rows] if reads_files else None
        self._transform = getattr(whole, "transform", None)
        if rows and not reads_files:
            self._check_items()
        super().__init__([ids[row] for row in rows], None if labels is None else [labels[row] for row in rows], name)

    def is_there(self, image_id: str, root: str | None) -> bool:
        return (self._files is None and image_id in self._all) or super().is_there(image_id, root)

    def is_gone(self, i: int) -> bool:
        return self._files is not None and is_gone(self._files[i])

    def _place(self, i: int) -> Place | None:
        return None if self._files is None else Place(self._files[i])

    def _check_items(self) -> None:
        """Check the first item: where it is a dictionary or a tensor, all are, and none can be read."""
        from PIL import Image

        try:
            item = _image_of(self._dataset[0])
        except Exception:  # costs that image alone
            return
        if item is not None and not isinstance(item, Image.Image):
            raise TypeError(
                f"images: items of {type(self._dataset).__name__} must be images of PIL, or tuples that begin with "
                f"one, got {type(item).__name__}; expected a data set without a transform to something else"
            )

    def _seen(self, file: BinaryIO) -> Image.Image:
        image = read_image(file)
        if self._transform is None:
            return image
        try:
            return to_rgb(self._transform(image))
        except Exception as error:  # the caller's function may be another next time
            raise UnreadableImageError(reason_of(error), passing=True) from error

    def _item(self, i: int) -> Image.Image:
        return to_rgb(_image_of(self._dataset[i]))


def _image_of(item: Any) -> Any:
    return item[0] if isinstance(item, (tuple, list)) and item else item


def _loads_by_torchvision(dataset: Any) -> bool:
    """Whether it is an ``ImageFolder`` or a subclass, whose files torchvision's own function reads."""
    folder: Any = sys.modules.get("torchvision.datasets.folder")
    if folder is None or getattr(type(dataset), "__getitem__", None) is not folder.DatasetFolder.__getitem__:
        return False
    return dataset.loader in (folder.default_loader, folder.pil_loader)
