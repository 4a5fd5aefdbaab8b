"""From images and class names to a pool: embeddings in shards, beside a manifest that says what they are.

``out`` gets up to three folders of the layout of :mod:`ccma_fast.manifest`: ``student`` and ``teacher``, whose rows are
the same images in the same order, and ``classes``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ._errors import FileReadError, PoolMismatchError
from ._extras import optional
from ._files import check_can_write_into, locked, write_whole
from ._validate import check_choice, check_integer
from .encoders import (
    DEFAULT_STUDENT,
    DEFAULT_TEMPLATE,
    PRECISIONS,
    Encoder,
    class_features,
    open_clip_encoder,
    prompt_templates,
    vision_encoder,
)
from .images import Images, UnreadableImageError, open_images
from .manifest import (
    Manifest,
    Shard,
    chained,
    check_shards,
    differing_encoders,
    digest_of_file,
    read_manifest,
    row_ids,
    write_manifest,
)
from .readers.class_names import read_class_names

__all__ = ["Extraction", "extract"]


@dataclass(frozen=True)
class Extraction:
    """What :func:`extract` left on disk.

    Attributes
    ----------
    student, teacher, classes : Path or None
        The folders, for ``features``, ``image_features`` and ``class_features``; None for what was not asked for.
    n_rows : int
        Images that are rows, those of earlier calls included.
    skipped : dict of str
        Why, for the id of each image that could not be read.
    """

    student: Path | None
    teacher: Path | None
    classes: Path | None
    n_rows: int
    skipped: dict[str, str]


def extract(
    images: Any,
    out: str | os.PathLike[str],
    *,
    student: str | None = DEFAULT_STUDENT,
    student_weights: str = "pretrained",
    image_size: int | None = None,
    teacher: str | None = None,
    pretrained: str | None = None,
    class_names: Any = None,
    templates: str | Sequence[str] = DEFAULT_TEMPLATE,
    normalize: bool = False,
    precision: str = "fp32",
    device: str | None = None,
    batch_size: int = 64,
    workers: int = 0,
    shard_size: int = 10_000,
    progress: bool = True,
) -> Extraction:
    """Embed images, and the names of their classes, into folders that :func:`ccma_fast.select` takes.

    Called again, whether the first call was killed or images were added since, it goes on behind the shards that are
    there: an image whose id is in one of them is not read again, and its row keeps its number.

    Parameters
    ----------
    images : path, sequence of paths, or data set
        As :func:`ccma_fast.images.open_images` takes them.
    out : path
        Folder of the pool, new, empty, or one that this function wrote.
    student : str or None, default DINOv2 ViT-S/14
        A vision encoder, see :func:`ccma_fast.encoders.vision_encoder`; None for none.
    student_weights : {"pretrained", "random"}
    image_size : int, optional
        Height and width of the student's input.
    teacher : str, optional
        A model of open_clip, see :func:`ccma_fast.encoders.open_clip_encoder`.
    pretrained : str, optional
        The tag of the teacher's weights.
    class_names : sequence of str or path, optional
        For the teacher's text encoder; files as in :func:`ccma_fast.readers.class_names.read_class_names`.
    templates : str or sequence of str, default "a photo of a {}"
        Prompts for the class names, see :func:`ccma_fast.encoders.prompt_templates`.
    normalize : bool, default False
        Write rows of unit length. Nothing in this package needs it.
    precision : {"fp32", "fp16", "bf16"}
        What the models compute in; the lower ones under autocast.
    device : str, optional
        As PyTorch spells it; a CUDA device by default where there is one.
    batch_size : int, default 64
        Images encoded at once.
    workers : int, default 0
        Processes that decode and preprocess; 0 does so in this one.
    shard_size : int, default 10,000
        Images of a shard. A kill costs those of the shard that is being made.
    progress : bool, default True
        Show a bar with images/s on stderr.

    Returns
    -------
    Extraction

    Raises
    ------
    ValueError
        Nothing to embed with, names without a teacher, unknown models, an embedding that does not fit into float16
        (the image is named), no image that can be read, or an `out` that holds something else.
    PoolMismatchError
        `out` was made with another encoder, preprocessing, precision or normalisation, or its folders do not hold the
        same images.
    FileReadError
        Images or names that cannot be opened, or a shard of `out` that is damaged.
    OSError
        `out` cannot be written into, or another process is working there (:class:`BlockingIOError`).
    ImportError
        A library is not installed; the text names the extra that brings it.

    Notes
    -----
    Images that cannot be decoded are no rows; the manifest lists them with the reason, and rows have their ids in the
    metadata beside the shards. The embeddings are stored as float16, those of classes as float32. The same images,
    arguments and versions give the same files, bit for bit, on one machine, however often the call was killed.
    """
    if student is None and teacher is None:
        raise ValueError("give student or teacher, got neither")
    if class_names is not None and teacher is None:
        raise ValueError("class_names need a teacher, got none")
    check_choice("precision", precision, PRECISIONS)
    for name, value, minimum in (("batch_size", batch_size, 1), ("workers", workers, 0), ("shard_size", shard_size, 1)):
        check_integer(name, value, minimum=minimum)
    optional("pyarrow", "the metadata of a pool", "extract")
    names = None if class_names is None else read_class_names(class_names)
    prompts = prompt_templates(templates)
    source, folder = open_images(images), Path(out)
    check_can_write_into(folder)

    encoders: dict[str, Encoder] = {}
    if student is not None:
        encoders["student"] = vision_encoder(student, weights=student_weights, image_size=image_size, device=device)
    if teacher is not None:
        encoders["teacher"] = open_clip_encoder(teacher, pretrained, device=device)
    with locked(folder):
        for part in folder.glob("*/**/.*.part"):  # what a killed process left half-written
            part.unlink()
        targets = [
            _Target(folder / name, encoder, encoder.manifest(precision=precision, normalized=normalize))
            for name, encoder in encoders.items()
        ]
        if names is not None:
            _write_classes(folder / "classes", encoders["teacher"], names, prompts)
        plan = _plan(source, targets, shard_size)
        _run(source, targets, plan, batch_size, workers, progress)
    lead = targets[0].manifest
    if not lead.n_rows:
        first = next(iter(targets[0].skipped.items()))
        raise ValueError(f"images: none of {len(source.ids)} images can be read, got {first[1]} for {first[0]!r}")
    return Extraction(
        folder / "student" if "student" in encoders else None,
        folder / "teacher" if "teacher" in encoders else None,
        None if names is None else folder / "classes",
        lead.n_rows,
        targets[0].skipped,
    )


class _Target:
    """A folder that gets the embeddings of one encoder."""

    def __init__(self, folder: Path, encoder: Encoder, wanted: Manifest) -> None:
        self.folder, self.encoder = folder, encoder
        found = read_manifest(folder, "out")
        if found is None:
            if folder.exists() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
                raise ValueError(
                    f"{str(folder)!r} holds files but no manifest; expected a new or empty folder, or one that was "
                    "extracted"
                )
            folder.mkdir(exist_ok=True)
            found = replace(wanted, folder=folder)
            write_manifest(folder, found)
        self.manifest = found
        differing = differing_encoders("images in out", found, "this call", wanted)
        if differing is None and found.precision != wanted.precision:
            precisions = f"{found.precision!r} in {found} and {wanted.precision!r} in this call"
            differing = f"out must be of one precision, got {precisions}"
        if differing is not None:
            raise PoolMismatchError(f"{differing}; expected another folder for another encoder")
        check_shards(found, "out")
        for name in ("img_emb", "metadata"):
            (folder / name).mkdir(exist_ok=True)
        ids = list(row_ids(found))
        ends = np.cumsum([0, *(shard.n_rows for shard in found.shards)]).tolist()
        self.shard_ids = [ids[ends[k] : ends[k + 1]] for k in range(len(found.shards))]

    @property
    def skipped(self) -> dict[str, str]:
        return {image: why for shard in self.manifest.shards for image, why in shard.skipped.items()}

    def add(
        self, rows: npt.NDArray[np.float16], ids: list[str], labels: list[Any] | None, skipped: dict[str, str]
    ) -> None:
        """Write the next shard."""
        k = len(self.manifest.shards)
        file, metadata = f"img_emb/img_emb_{k}.npy", f"metadata/metadata_{k}.parquet"
        columns: dict[str, list[Any]] = {"image_path": ids}
        if labels is not None:
            columns["label"] = labels
        write_whole(self.folder / file, lambda handle: np.save(handle, rows))
        _write_parquet(self.folder / metadata, columns)
        shard = Shard(
            file,
            metadata,
            len(rows),
            digest_of_file(self.folder / file),
            digest_of_file(self.folder / metadata),
            chained(self.manifest.rows_sha256, ids),
            skipped,
        )
        self.manifest = replace(self.manifest, shards=(*self.manifest.shards, shard))
        write_manifest(self.folder, self.manifest)
        self.shard_ids.append(ids)


class _Part(NamedTuple):
    """Images that become one shard, and whose shard that is."""

    items: list[int]
    targets: list[int]


class _Batch(NamedTuple):
    """What a worker makes of some images: a stack of inputs for each target, those images, and why not the others."""

    inputs: list[Any]
    items: list[int]
    failures: dict[int, str]


class _Batches:
    """Batches of preprocessed images, by their numbers: a data set as PyTorch's DataLoader takes it."""

    def __init__(self, source: Images, batches: list[_Part], preprocess: list[Callable[[Any], Any]]) -> None:
        self._source, self._batches, self._preprocess = source, batches, preprocess

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> _Batch:
        import torch

        items, targets = self._batches[number]
        inputs: list[list[Any]] = [[] for _ in targets]
        read: list[int] = []
        failures: dict[int, str] = {}
        for item in items:
            try:
                image = self._source.load(item)
            except UnreadableImageError as error:
                failures[item] = str(error)
                continue
            read.append(item)
            for stack, target in zip(inputs, targets, strict=True):
                stack.append(self._preprocess[target](image))
        return _Batch([torch.stack(stack) for stack in inputs] if read else [], read, failures)


def _plan(source: Images, targets: list[_Target], shard_size: int) -> list[_Part]:
    """The shards that are still to be made, in their order.

    A target that is behind another one, for it was added later or a kill came between the two, first gets the shards
    that the other has, of the same images.
    """
    numbers = {image: i for i, image in enumerate(source.ids)}
    lead = max(targets, key=lambda target: len(target.shard_ids))
    plan: list[_Part] = []
    known: set[str] = set()
    for k, (ids, shard) in enumerate(zip(lead.shard_ids, lead.manifest.shards, strict=True)):
        known.update(ids, shard.skipped)
        behind = [i for i, target in enumerate(targets) if len(target.shard_ids) <= k]
        for target in targets:
            if len(target.shard_ids) > k and target.manifest.shards[k].rows_sha256 != shard.rows_sha256:
                raise PoolMismatchError(
                    f"shards in {str(target.folder)!r} and {str(lead.folder)!r} must be of the same images in the same "
                    f"order, got others in {target.manifest.shards[k].file!r}; expected another folder for other images"
                )
        if behind:
            gone = next((image for image in ids if image not in numbers), None)
            if gone is not None:
                raise FileReadError(
                    f"images: no image {gone!r}, which is a row in {str(lead.folder)!r}; expected it for the other "
                    "encoder as well"
                )
            items = sorted(numbers[image] for image in (*ids, *shard.skipped) if image in numbers)
            if [
                source.ids[i] for i in items if source.ids[i] not in shard.skipped
            ] != ids:  # they come in another order
                items = [numbers[image] for image in ids]
            plan.append(_Part(items, behind))
    left = [i for i, image in enumerate(source.ids) if image not in known]
    everyone = list(range(len(targets)))
    plan += [_Part(left[start : start + shard_size], everyone) for start in range(0, len(left), shard_size)]
    return plan


def _run(
    source: Images, targets: list[_Target], plan: list[_Part], batch_size: int, workers: int, progress: bool
) -> None:
    """Make the shards."""
    import torch
    from torch.utils.data import DataLoader

    batches = [
        _Part(part.items[start : start + batch_size], part.targets)
        for part in plan
        for start in range(0, len(part.items), batch_size)
    ]
    loader: Any = DataLoader(
        _Batches(source, batches, [target.encoder.preprocess for target in targets]),  # type: ignore[arg-type]
        batch_size=None,  # an item is a batch already
        num_workers=workers,
        collate_fn=_as_it_is,
        generator=torch.Generator(),  # of its own, for it draws a seed for its workers
    )
    made = iter(loader)
    n_left = sum(len(part.items) for part in plan)
    with _bar(len(source.ids), len(source.ids) - n_left, progress) as show:
        for part in plan:
            rows: list[list[npt.NDArray[np.float16]]] = [[] for _ in part.targets]
            read: list[int] = []
            failures: dict[int, str] = {}
            for _ in range(0, len(part.items), batch_size):
                batch: _Batch = next(made)
                names = [source.ids[item] for item in batch.items]
                for own, number, inputs in zip(rows, part.targets, batch.inputs, strict=False):  # no inputs, no rows
                    own.append(_embedded(targets[number], inputs, names))
                read += batch.items
                failures |= batch.failures
                show(len(batch.items) + len(batch.failures))
            ids = [source.ids[item] for item in read]
            labels = None if source.labels is None else [source.labels[item] for item in read]
            skipped = {source.ids[item]: why for item, why in failures.items()}
            for own, number in zip(rows, part.targets, strict=True):
                target = targets[number]
                whole = np.concatenate([np.empty((0, target.manifest.n_columns), np.float16), *own])
                _check_same_images(target, targets, ids)
                target.add(whole, ids, labels, skipped)


def _embedded(target: _Target, inputs: Any, ids: list[str]) -> npt.NDArray[np.float16]:
    manifest = target.manifest
    rows = target.encoder.embed(inputs, precision=manifest.precision, normalize=manifest.normalized)
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if bad.size:
        raise ValueError(
            f"{target.encoder.description['model']!r} must give numbers that float16 holds, got NaN or infinity for "
            f"{ids[bad[0]]!r} in {manifest.precision}"
        )
    return rows


def _check_same_images(target: _Target, targets: list[_Target], ids: list[str]) -> None:
    """A shard that another target has already must be of the images that it was of there."""
    k = len(target.manifest.shards)
    for other in targets:
        if len(other.shard_ids) > k and other.shard_ids[k] != ids:
            changed = next(iter(set(other.shard_ids[k]) ^ set(ids)))
            raise FileReadError(
                f"images: {changed!r} can be read now or could be when {str(other.folder)!r} was made, but not both; "
                "expected the same images for both encoders"
            )


def _write_classes(folder: Path, encoder: Encoder, names: list[str], prompts: list[str]) -> None:
    features, manifest = class_features(encoder, names, prompts)
    for name in ("text_emb", "metadata"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    file, metadata = "text_emb/text_emb_0.npy", "metadata/metadata_0.parquet"
    write_whole(folder / file, lambda handle: np.save(handle, features))
    _write_parquet(folder / metadata, {"caption": names})
    (whole,) = manifest.shards
    shard = replace(
        whole,
        file=file,
        metadata=metadata,
        sha256=digest_of_file(folder / file),
        metadata_sha256=digest_of_file(folder / metadata),
    )
    write_manifest(folder, replace(manifest, shards=(shard,)))


def _write_parquet(file: Path, columns: dict[str, list[Any]]) -> None:
    pyarrow = optional("pyarrow", "the metadata of a pool", "extract")
    parquet = optional("pyarrow.parquet", "the metadata of a pool", "extract")
    table = pyarrow.table({name: _arrow_column(cells) for name, cells in columns.items()})
    write_whole(file, lambda handle: parquet.write_table(table, handle))


def _arrow_column(cells: list[Any]) -> Any:
    pyarrow = optional("pyarrow", "the metadata of a pool", "extract")
    if not cells or any(isinstance(cell, str) for cell in cells):
        return pyarrow.array([None if cell is None else str(cell) for cell in cells], pyarrow.string())
    return pyarrow.array(cells, pyarrow.int64())


def _as_it_is(batch: Any) -> Any:
    return batch


@contextmanager
def _bar(total: int, done: int, progress: bool) -> Iterator[Callable[[int], None]]:
    from tqdm import tqdm  # type: ignore[import-untyped]

    with tqdm(total=total, initial=done, unit="image", disable=not progress, file=sys.stderr) as bar:

        def show(n: int) -> None:
            bar.update(n)

        yield show
