"""What the real FiftyOne reads and writes, by its own importers and exporters, which need no database.

To be run by the Python of an environment with ``pip install fiftyone``:

``fiftyone_program.py write FOLDER IMAGES`` writes ``manifest/labels.json`` with ``manifest/data.json``,
``absolute/labels.json`` and ``csv/labels.csv``, made up labels of the images below the folder IMAGES;
``fiftyone_program.py read FILE`` prints, as JSON, the samples that it reads from a ``labels.json`` or ``labels.csv``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["FIFTYONE_DO_NOT_TRACK"] = "true"

import fiftyone as fo
import fiftyone.utils.csv as fouc
import fiftyone.utils.data as foud

# By the names of the images: labels that people gave; one is a prediction, one has two, one none.
LABELS: dict[str, Any] = {
    "plain.png": "cat",
    "a folder/with space.png": "dog & <b>fox</b>",
    "per%20cent.png": "cannot tell",
    "hash#1.png": "not an image of any class",
    "größe/猫.png": "größe 猫",
    "a+b&c=d.png": ["cat", "=1+1"],
    "what?.png": None,
}


class Samples:
    """As much of a dataset as the exporter of CSV asks for."""

    def __init__(self, samples: list[fo.Sample]) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def values(self, paths: list[str]) -> list[list[Any]]:
        return [[self._value(sample, path) for sample in self._samples] for path in paths]

    @staticmethod
    def _value(sample: fo.Sample, path: str) -> Any:
        found: Any = sample
        for part in path.split("."):
            found = None if found is None else found[part]
        return found


def classification(label: Any) -> Any:
    if label is None:
        return None
    if isinstance(label, list):
        return fo.Classifications(classifications=[fo.Classification(label=name) for name in label])
    return fo.Classification(label=label)


def write(folder: Path, images: str) -> None:
    classes = sorted({"cat", "dog & <b>fox</b>", "größe 猫", "=1+1", "cannot tell", "not an image of any class"})
    for name, options in (
        ("manifest", {"export_media": "manifest", "data_path": "data.json", "rel_dir": images, "classes": classes}),
        ("absolute", {"export_media": False, "abs_paths": True}),
    ):
        exporter = foud.FiftyOneImageClassificationDatasetExporter(str(folder / name), pretty_print=True, **options)
        with exporter:
            for image, label in LABELS.items():
                exporter.export_sample(os.path.join(images, image), classification(label))
    samples = [
        fo.Sample(filepath=os.path.join(images, image), ground_truth=classification(label), annotator="first, person")
        for image, label in LABELS.items()
        if not isinstance(label, list)
    ]
    exporter = fouc.CSVDatasetExporter(
        str(folder / "csv"), export_media=False, abs_paths=True, fields=["filepath", "ground_truth.label", "annotator"]
    )
    with exporter:
        exporter.export_samples(Samples(samples), progress=False)


def read(file: Path) -> None:
    # Of itself FiftyOne 1.22 looks for a folder `data/` alone.
    data = "data.json" if file.with_name("data.json").exists() else None
    if file.suffix == ".csv":
        importer = fouc.CSVDatasetImporter(dataset_dir=str(file.parent), labels_path=file.name, data_path=data)
        with importer:
            found = [
                {name: sample[name] for name in sample.field_names if isinstance(sample[name], str)}
                for sample in importer
            ]
    else:
        importer = foud.FiftyOneImageClassificationDatasetImporter(
            str(file.parent), labels_path=file.name, data_path=data
        )
        with importer:
            found = [
                {"filepath": path, "labels": [(c.label, c.confidence) for c in label.classifications] if label else []}
                for path, _, label in importer
            ]
    print(json.dumps(found))


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]), sys.argv[3])
    else:
        read(Path(sys.argv[2]))
