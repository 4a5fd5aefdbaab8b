"""From images and class names to a pool: embeddings in shards, beside a manifest that says what they are.

``out`` gets up to three folders of the layout of :mod:`ccma_fast.manifest`: ``student`` and ``teacher``, whose rows are
the same images in the same order, and ``classes``.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ._errors import FileReadError, PoolMismatchError
from ._extras import optional
from ._files import check_can_write_into, locked
from ._preprocessed import Batch, preprocessed
from ._validate import check_choice, check_integer
from .encoders import (
    DEFAULT_STUDENT,
    DEFAULT_TEMPLATE,
    PRECISIONS,
    Encoder,
    check_prompts,
    class_features,
    open_clip_encoder,
    prompt_templates,
    vision_encoder,
)
from .images import Images, open_images
from .readers.class_names import class_codes, read_class_names
from .shards import ImageFiles, Target, remove_unfinished, write_classes

__all__ = ["Extraction", "extract"]

# What a list that was numbered anew is told by where all files are of one size.
_N_READ_AGAIN = 64

# A kill costs no more than this, and the files of a day are still few.
_SHARD_SECONDS = 300.0


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
    left_out : dict of str to int
        How many files lie beside the images and are none, by kind: a suffix, "hidden", ...
    """

    student: Path | None
    teacher: Path | None
    classes: Path | None
    n_rows: int
    skipped: dict[str, str]
    left_out: dict[str, int]


def extract(
    images: Any,
    out: str | os.PathLike[str],
    *,
    image_suffixes: Sequence[str] | None = None,
    labels_from_folders: bool = False,
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
    there: an image whose id is in one of them is not read again, and its row keeps its number; where its file is
    another one by now, for files were numbered anew or edited, nothing is done. That is told by the sizes of all and
    the checksums of 64 or so, and of all where they are read for a second encoder. What was skipped is tried again, and
    becomes a row behind the others where it can be read now.

    Parameters
    ----------
    images : path, sequence of paths, or data set
        As :func:`ccma_fast.images.open_images` takes them.
    out : path
        Folder of the pool, new, empty, or one that this function wrote.
    image_suffixes : sequence of str, optional
        What the names of images end with, in folders and tars, such as "jpg" or "seg.png"; by default the suffixes that
        Pillow knows, and where there is none the first bytes tell.
    labels_from_folders : bool, default False
        The label of an image is the name of the folder below `images` in which it lies.
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
        Images of a shard, which is closed after five minutes all the same. A kill costs those of the one that is being
        made.
    progress : bool, default True
        Show a bar with images/s on stderr.

    Returns
    -------
    Extraction

    Raises
    ------
    ValueError
        Nothing to embed with, names without a teacher, prompts that the teacher's tokenizer cuts off or cannot tell
        apart, unknown models, an image size that a model cannot take, labels that are no classes, an embedding that
        does not fit into float16 (the image is named), no image that can be read, or an `out` that holds something
        else.
    PoolMismatchError
        `out` was made with another encoder, preprocessing, precision or normalisation, its images had other labels,
        ids or files, or its folders do not hold the same images.
    FileReadError
        Images or names that cannot be opened, or a shard of `out` that is damaged.
    OSError
        `out` cannot be written into, or another process is working there (:class:`BlockingIOError`).
    ImportError
        A library is not installed; the text names the extra that brings it.

    Notes
    -----
    :func:`ccma_fast.decode.to_rgb` says what is done to an image first. Images that cannot be decoded, or not without
    guessing, are no rows; the manifest lists them with the reason, and rows have their ids in the metadata beside the
    shards. The embeddings are stored as float16, those of classes as float32. The same images, arguments and versions
    give the same rows, bit for bit, on one machine with the same number of PyTorch's threads, however often the call
    was killed.
    """
    if student is None and teacher is None:
        raise ValueError("give student or teacher, got neither")
    if class_names is not None and teacher is None:
        raise ValueError("class_names need a teacher, got none")
    precision = check_choice("precision", precision, PRECISIONS)
    batch_size = check_integer("batch_size", batch_size, minimum=1)
    workers = check_integer("workers", workers, minimum=0)
    shard_size = check_integer("shard_size", shard_size, minimum=1)
    optional("pyarrow", "the metadata of a pool", "extract")
    names = None if class_names is None else read_class_names(class_names)
    prompts = prompt_templates(templates)
    source = open_images(images, suffixes=image_suffixes, labels_from_folders=labels_from_folders)
    if names is not None and source.labels is not None:
        class_codes(source.labels, class_names=names, name="labels of images", ids=source.ids)
    folder = Path(out)
    check_can_write_into(folder)
    tokenizer = None
    if teacher is not None and names is not None:
        tokenizer = check_prompts(teacher, names, prompts)  # before weights are loaded

    encoders: dict[str, Encoder] = {}
    if student is not None:
        encoders["student"] = vision_encoder(student, weights=student_weights, image_size=image_size, device=device)
    if teacher is not None:
        encoders["teacher"] = open_clip_encoder(teacher, pretrained, text=names is not None, device=device)
    with locked(folder):
        for name in ("student", "teacher", "classes"):
            remove_unfinished(folder / name)
        targets = [
            Target(folder / name, encoder, encoder.manifest(precision=precision, normalized=normalize))
            for name, encoder in encoders.items()
        ]
        if names is not None:
            write_classes(folder / "classes", names, *class_features(encoders["teacher"], names, prompts, tokenizer))
        _run(source, targets, _plan(source, targets, shard_size, batch_size), workers, progress)
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
        source.left_out,
    )


class _Part(NamedTuple):
    """Images that are made into shards.

    Attributes
    ----------
    batches : list of list of int
        The images, as they are encoded at once.
    targets : list of int
        Whose shards they are.
    skipped : dict of str or None
        What the other target says of the shard that these were in there; None where no target has it yet.
    again : bool
        All of them were skipped before.
    """

    batches: list[list[int]]
    targets: list[int]
    skipped: dict[str, str] | None = None
    again: bool = False


def _plan(source: Images, targets: list[Target], shard_size: int, batch_size: int) -> list[_Part]:
    """What is still to be made, in its order.

    A target that is behind another one, for it was added later or a kill came between the two, first gets the shards
    that the other has, of the same images. Then come images that are new, and then once more those that were skipped.
    Shards and batches end where they would if nothing had ever been interrupted.
    """
    numbers = {image: i for i, image in enumerate(source.ids)}
    everyone = list(range(len(targets)))
    lead = max(targets, key=lambda target: len(target.shard_ids))
    plan: list[_Part] = []
    rows: set[str] = set()
    tried = 0
    for k, (ids, shard) in enumerate(zip(lead.shard_ids, lead.manifest.shards, strict=True)):
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
            wanted = {numbers[image] for image in ids}
            items = sorted(wanted | {numbers[image] for image in shard.skipped if image in numbers})
            if [source.ids[i] for i in items if i in wanted] != ids:  # they come in another order
                items = [numbers[image] for image in ids]
            batches = _batches(items, tried % shard_size, batch_size)
            batches = [[i for i in batch if i in wanted] for batch in batches]
            plan.append(_Part(batches, behind, skipped=shard.skipped))
        rows.update(ids)
        tried += len(ids) + len(shard.skipped)
    skipped = lead.skipped
    _check_names(source, lead, numbers, rows | skipped.keys())
    _check_files(source, lead, numbers)
    left = [i for i, image in enumerate(source.ids) if image not in rows and image not in skipped]
    while left:
        start = tried % shard_size
        items, left = left[: shard_size - start], left[shard_size - start :]
        plan.append(_Part(_batches(items, start, batch_size), everyone))
        tried += len(items)
    again = [numbers[image] for image in skipped if image in numbers]
    plan += [
        _Part(_batches(again[start : start + shard_size], 0, batch_size), everyone, again=True)
        for start in range(0, len(again), shard_size)
    ]
    return plan


def _batches(items: list[int], start: int, batch_size: int) -> list[list[int]]:
    """Images that stand from `start` on in a shard, cut where the batches of a whole shard are."""
    cuts = [0, *range(batch_size - start % batch_size, len(items), batch_size), len(items)]
    return [items[a:b] for a, b in itertools.pairwise(cuts) if a < b]


def _check_names(source: Images, lead: Target, numbers: dict[str, int], known: set[str]) -> None:
    """No image of the pool comes again by another name or with another label."""
    for image in source.ids if known else ():
        other = source.other_id(image)
        if image not in known and other in known and other not in numbers:
            raise PoolMismatchError(
                f"images must keep their ids, got {image!r} for {other!r} in {str(lead.folder)!r}; expected the same "
                "folders as before (of several, ids begin with their names), or another out"
            )
    if source.labels is None:
        return
    for ids in lead.shard_ids:
        for image in ids:
            here, there = lead.labels.get(image), source.labels[numbers[image]] if image in numbers else None
            if image in numbers and here != there and str(here) != str(there):
                raise PoolMismatchError(
                    f"labels must be those of {str(lead.folder)!r}, where {image!r} has {here!r}, got {there!r}; "
                    "expected another out for other labels"
                )


def _check_files(source: Images, lead: Target, numbers: dict[str, int]) -> None:
    """No other image goes by the name of a row: files have the sizes that they had, and some of them are read again."""
    step, row = max(1, lead.manifest.n_rows // _N_READ_AGAIN), 0
    for ids, files in zip(lead.shard_ids, lead.shard_files, strict=True):
        for image, size, checksum in zip(ids, *files, strict=True):
            here, row = numbers.get(image), row + 1
            if here is None or size is None or (now := source.n_bytes(here)) is None:
                continue
            if now != size:
                raise _changed(lead, image, f"{size} bytes", str(now))
            checksum_now = source.fingerprint(here)[1] if row % step == 0 else None
            if checksum_now not in (None, checksum):
                raise _changed(lead, image, f"the CRC-32 {checksum}", str(checksum_now))


def _changed(lead: Target, image: str, had: str, has: str) -> PoolMismatchError:
    return PoolMismatchError(
        f"images must be those of {str(lead.folder)!r}, where {image!r} has {had}, got {has}; expected the same file "
        "under the same name, another name for another image, or another out"
    )


def _run(source: Images, targets: list[Target], plan: list[_Part], workers: int, progress: bool) -> None:
    """Make the shards."""
    batches = [(batch, part.targets) for part in plan for batch in part.batches]
    made = preprocessed(source, batches, [target.encoder.preprocess for target in targets], workers)
    n_left = sum(len(batch) for part in plan for batch in part.batches)
    with _bar(len(source.ids), len(source.ids) - n_left, progress) as show:
        for part in plan:
            shard = _GrowingShard(source, targets, part)
            for number in range(1, len(part.batches) + 1):
                batch = next(made)
                shard.add(batch)
                show(len(batch.items) + len(batch.failures))
                if number < len(part.batches) and part.skipped is None and shard.seconds >= _SHARD_SECONDS:
                    shard.close()
                    shard = _GrowingShard(source, targets, part)
            shard.close()


class _GrowingShard:
    """What becomes the next shard of some targets."""

    def __init__(self, source: Images, targets: list[Target], part: _Part) -> None:
        self._source, self._targets, self._part = source, targets, part
        self._rows: list[list[npt.NDArray[np.float16]]] = [[] for _ in part.targets]
        self._read: list[int] = []
        self._files = ImageFiles([], [])
        self._failures: dict[str, str] = {}
        self._begin = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begin

    def add(self, batch: Batch) -> None:
        names = [self._source.ids[item] for item in batch.items]
        for own, number, inputs in zip(
            self._rows, self._part.targets, batch.inputs, strict=False
        ):  # no inputs, no rows
            own.append(_embedded(self._targets[number], inputs, names))
        self._read += batch.items
        self._files.sizes.extend(batch.sizes)
        self._files.checksums.extend(batch.checksums)
        self._failures |= {self._source.ids[item]: why for item, why in batch.failures.items()}

    def close(self) -> None:
        source, part = self._source, self._part
        ids = [source.ids[item] for item in self._read]
        labels = None if source.labels is None else [source.labels[item] for item in self._read]
        skipped = self._failures if part.skipped is None else part.skipped
        for own, number in zip(self._rows, part.targets, strict=True):
            target = self._targets[number]
            whole = np.concatenate([np.empty((0, target.manifest.n_columns), np.float16), *own])
            _check_same_images(target, self._targets, ids, self._files)
            if ids or not part.again:
                target.add(whole, ids, self._files, labels, {} if part.again else skipped)
            if part.again:
                target.explain(skipped)


def _embedded(target: Target, inputs: Any, ids: list[str]) -> npt.NDArray[np.float16]:
    manifest = target.manifest
    rows = target.encoder.embed(inputs, precision=manifest.precision, normalize=manifest.normalized)
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if bad.size:
        raise ValueError(
            f"{target.encoder.description['model']!r} must give numbers that float16 holds, got NaN or infinity for "
            f"{ids[bad[0]]!r} in {manifest.precision}"
        )
    return rows


def _check_same_images(target: Target, targets: list[Target], ids: list[str], files: ImageFiles) -> None:
    """A shard that another target has already must be of the images that it was of there."""
    k = len(target.manifest.shards)
    for other in targets:
        if len(other.shard_ids) > k and other.shard_ids[k] != ids:
            changed = next(iter(set(other.shard_ids[k]) ^ set(ids)))
            raise FileReadError(
                f"images: {changed!r} can be read now or could be when {str(other.folder)!r} was made, but not both; "
                "expected the same images for both encoders"
            )
        known = other.shard_files[k].checksums if len(other.shard_ids) > k else []
        for image, before, now in zip(ids, known, files.checksums, strict=False):
            if before is not None and now is not None and before != now:
                raise _changed(other, image, f"the CRC-32 {before}", str(now))


@contextmanager
def _bar(total: int, done: int, progress: bool) -> Iterator[Callable[[int], None]]:
    from tqdm import tqdm  # type: ignore[import-untyped]

    hidden = not progress or sys.stderr is None  # a program without a console has none
    with tqdm(total=total, initial=done, unit="image", disable=hidden, file=sys.stderr) as bar:

        def show(n: int) -> None:
            bar.update(n)

        yield show
