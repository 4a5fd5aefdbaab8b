"""What the real datumaro, by which CVAT writes ImageNet 1.0, writes for made up labels.

To be run by the Python of an environment with ``pip install datumaro``: ``datumaro_program.py FOLDER`` writes ``cvat``,
``imagenet`` (whose images are made up too) and ``imagenet_txt`` in it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from datumaro.components.annotation import AnnotationType, Label, LabelCategories
from datumaro.components.dataset import Dataset
from datumaro.components.dataset_base import DatasetItem
from datumaro.components.media import Image

CLASSES = ["cat", "dog & <b>fox</b>", "größe 猫", "cannot tell", "not an image of any class"]

# By the names of the images without suffix: their classes. One has two, one none.
LABELS = {
    "plain": [0],
    "a folder/with space": [1],
    "per%20cent": [2],
    "hash#1": [3],
    "größe/猫": [4],
    "what?": [],
    "a+b&c=d": [0, 1],
}


def main(folder: Path) -> None:
    items = [
        DatasetItem(
            id=name,
            subset="default",
            media=Image.from_numpy(np.zeros((4, 6, 3), np.uint8), ext=".png"),
            annotations=[Label(label) for label in labels],
            attributes={"frame": frame},
        )
        for frame, (name, labels) in enumerate(LABELS.items())
    ]
    categories = {AnnotationType.label: LabelCategories.from_iterable(CLASSES)}
    dataset = Dataset.from_iterable(items, categories=categories)
    for name in ("cvat", "imagenet", "imagenet_txt"):
        dataset.export(str(folder / name), name, save_media=name != "imagenet_txt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
