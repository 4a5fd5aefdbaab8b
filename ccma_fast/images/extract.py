"""From images and class names to a pool: embeddings in shards, beside a manifest that says what they are.

``out`` gets up to three folders of the layout of :mod:`ccma_fast.pool.manifest`: ``student`` and ``teacher``, whose
rows are the same images in the same order, and ``classes``.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..checks import check_choice, check_integer
from ..errors import FileReadError, PoolMismatchError
from ..pool.class_codes import class_codes
from ..pool.class_names import read_class_names
from ..pool.manifest import Skipped
from ..system.extras import optional
from ..system.output_files import check_can_write_into, locked
from ..system.streams import progress_bar
from .changes import Changes, changed_error, changes_of
from .decode import decoder
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
from .preprocessed import Batch, preprocessed
from .shard_writer import Known, Target, remove_unfinished, write_classes
from .sources import ImageFile, Images, open_images

__all__ = ["Extraction", "extract"]

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
        Images that are rows, those of earlier calls and those that have vanished included.
    skipped : dict of str
        Why, for the id of each image that could not be read.
    not_tried : list of str
        Those of them that were skipped before and were not read again, for their files are the same.
    repaired : list of str
        Images that were skipped before and are rows now.
    vanished : list of str
        Images of rows that are gone. Their rows are not offered for labelling; their labels count.
    elsewhere : list of str
        Images of rows that are none of `images`, but may lie where they lay. Their rows are offered.
    renamed : dict of str
        The new id, for the old one of each image that was renamed since the last call.
    left_out : dict of str to int
        How many files lie beside the images and are none, by kind: a suffix, "hidden", ...
    """

    student: Path | None
    teacher: Path | None
    classes: Path | None
    n_rows: int
    skipped: dict[str, str]
    not_tried: list[str]
    repaired: list[str]
    vanished: list[str]
    elsewhere: list[str]
    renamed: dict[str, str]
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
    workers: int = 1,
    shard_size: int = 10_000,
    progress: bool = True,
) -> Extraction:
    """Embed images, and the names of their classes, into folders that :func:`ccma_fast.select` takes.

    Called again, whether the first call was killed or images were added since, it goes on behind the shards that are
    there: an image whose id is in one of them is not embedded again, and its row keeps its number. What was skipped is
    tried again, and becomes a row behind the others where it can be read now, unless the reason lay in what the file
    holds, its size and times are the same, and so are the versions, formats and limits of what decodes it. Images that
    were deleted, renamed or changed are noticed:

    - The row of an image that is gone is not offered by :func:`ccma_fast.select` and the others until the image is
      found again; its label still counts. That is so only where `images` are the folder that the row came from, or hold
      other images that came from there, and nothing lies where the image was. What is merely none of `images` this
      time, as in a part of a list or another folder, stays on offer (:attr:`Extraction.elsewhere`). It stands in the
      manifests of the encoders that are called for; a query asks that of its `features`. An encoder that is added later
      needs the images of all rows.
    - Where one new image, and no other, has the size, the CRC-32 and the label of one that is gone, that was renamed:
      the row has its new name from now on, and is found by the old one too; where another image is called so by now,
      the number of the row must say which is meant.
    - Where the file of a row is another one by now, for files were numbered anew or edited, nothing is done. That is
      told by the size; where the time of the file is another as well, by the checksum, of 1,000 files at most, which
      are spread evenly, for in a copied folder all times may be new; of as many of those that have size and time in
      common; and of all that are read for a second encoder.

    Parameters
    ----------
    images : path, sequence of paths, or data set
        As :func:`ccma_fast.images.sources.open_images` takes them.
    out : path
        Folder of the pool, new, empty, or one that this function wrote.
    image_suffixes : sequence of str, optional
        What the names of images end with, in folders and tars, such as "jpg" or "seg.png"; by default the suffixes
        of the formats that are read, and where there is none the first bytes tell.
    labels_from_folders : bool, default False
        The label of an image is the name of the folder below `images` in which it lies.
    student : str or None, default DINOv2 ViT-S/14
        A vision encoder, see :func:`ccma_fast.images.encoders.vision_encoder`; None for none.
    student_weights : {"pretrained", "random"}
    image_size : int, optional
        Height and width of the student's input.
    teacher : str, optional
        A model of open_clip, see :func:`ccma_fast.images.encoders.open_clip_encoder`.
    pretrained : str, optional
        The tag of the teacher's weights.
    class_names : sequence of str or path, optional
        For the teacher's text encoder; files as in :func:`ccma_fast.pool.class_names.read_class_names`.
    templates : str or sequence of str, default "a photo of a {}"
        Prompts for the class names, see :func:`ccma_fast.images.encoders.prompt_templates`.
    normalize : bool, default False
        Write rows of unit length. Nothing in this package needs it.
    precision : {"fp32", "fp16", "bf16"}
        What the models compute in; the lower ones under autocast.
    device : str, optional
        As PyTorch spells it; a CUDA device by default where there is one.
    batch_size : int, default 64
        Images encoded at once.
    workers : int, default 1
        Processes that decode and preprocess. There an image that crashes its decoder, takes more memory than there is
        or never ends costs itself alone. With 0 this process decodes, and such an image may end it; so it is with a
        data set that another process cannot import, as one of a script or notebook, which a warning says.
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
    :func:`ccma_fast.images.decode.to_rgb` says what is done to an image first. Images that cannot be decoded, or not
    without guessing, are no rows; the manifest lists them with the reason, and rows have their ids in the metadata
    beside the shards. The embeddings are stored as float16, those of classes as float32. The same images, arguments and
    versions give the same rows, bit for bit, on one machine with the same number of PyTorch's threads, however often
    the call was killed.
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
        lead = max(targets, key=lambda target: len(target.shards))
        _check_same_shards(targets, lead)
        changes, skipped = changes_of(source, targets, lead), lead.skipped
        again = _tried_again(source, skipped)
        plan = _plan(source, targets, lead, changes, again, shard_size, batch_size)
        if names is not None:
            write_classes(folder / "classes", names, *class_features(encoders["teacher"], names, prompts, tokenizer))
        _record(targets, lead, changes)
        _run(source, targets, plan, workers, progress)
        _record(targets, lead, changes)  # also what was behind
    there = {*source.ids}
    left = {image: why.reason for image, why in lead.skipped.items() if image in there}
    if not lead.manifest.n_rows:
        first = next(iter(left.items()))
        raise ValueError(f"images: none of {len(source.ids)} images can be read, got {first[1]} for {first[0]!r}")
    return Extraction(
        folder / "student" if "student" in encoders else None,
        folder / "teacher" if "teacher" in encoders else None,
        None if names is None else folder / "classes",
        lead.manifest.n_rows,
        left,
        [image for image in left if image in skipped and image not in again],
        [image for image in again if image not in left],
        [changes.names[row] for row in changes.vanished],
        [changes.names[row] for row in changes.elsewhere],
        changes.moved,
        source.left_out,
    )


def _tried_again(source: Images, skipped: dict[str, Skipped]) -> dict[str, int]:
    """The skipped images that may be read now, and their numbers: all but those of a file that is what it was."""
    again, here = {}, decoder()
    for i, image in enumerate(source.ids if skipped else ()):
        if (why := skipped.get(image)) is not None:
            status = source.status(i)
            is_same = status is not None and status == (why.n_bytes, why.mtime_ns, why.ctime_ns)
            if why.passing or why.decoder != here or not is_same:
                again[image] = i
    return {image: again[image] for image in skipped if image in again}


def _record(targets: list[Target], lead: Target, changes: Changes) -> None:
    """Every target says the same of the images: a kill may have come between two."""
    for target in targets:
        target.record(changes.vanished, changes.renamed)
        target.explain(lead.skipped)


class _Part(NamedTuple):
    """Images that are made into shards.

    Attributes
    ----------
    batches : list of list of int
        The images, as they are encoded at once.
    targets : list of int
        Whose shards they are.
    ids : dict of int to str, or None
        What they are called in the shard of another target that they are in there; None where no target has it yet.
    skipped : dict of str to Skipped
        What the other target says of that shard.
    again : bool
        All of them were skipped before.
    """

    batches: list[list[int]]
    targets: list[int]
    ids: dict[int, str] | None = None
    skipped: dict[str, Skipped] | None = None
    again: bool = False


def _plan(
    source: Images,
    targets: list[Target],
    lead: Target,
    changes: Changes,
    again: dict[str, int],
    shard_size: int,
    batch_size: int,
) -> list[_Part]:
    """What is still to be made, in its order.

    A target that is behind another one, for it was added later or a kill came between the two, first gets the shards
    that the other has, of the same images. Then come images that are new, and then once more those that were skipped.
    Shards and batches end where they would if nothing had ever been interrupted.
    """
    numbers = {image: i for i, image in enumerate(source.ids)}
    everyone = list(range(len(targets)))
    plan: list[_Part] = []
    row = tried = 0
    for k, (known, shard) in enumerate(zip(lead.shards, lead.manifest.shards, strict=True)):
        names = changes.names[row : row + shard.n_rows]
        behind = [i for i, target in enumerate(targets) if len(target.shards) <= k]
        if behind:
            gone = next((image for image in names if image not in numbers), None)
            if gone is not None:
                raise FileReadError(
                    f"images: no image {gone!r}, which is a row in {str(lead.folder)!r}; expected it for the other "
                    "encoder as well, a call without that one, or another out"
                )
            ordered = [numbers[image] for image in names]
            wanted = {*ordered}
            items = sorted(wanted | {numbers[image] for image in shard.skipped if image in numbers})
            if [i for i in items if i in wanted] != ordered:  # they come in another order
                items = ordered
            batches = _batches(items, tried % shard_size, batch_size)
            batches = [[i for i in batch if i in wanted] for batch in batches]
            plan.append(_Part(batches, behind, dict(zip(ordered, known.ids, strict=True)), shard.skipped))
        row += shard.n_rows
        tried += shard.n_rows + len(shard.skipped)
    rows, skipped = {*changes.names}, lead.skipped
    left = [i for i, image in enumerate(source.ids) if image not in rows and image not in skipped]
    while left:
        start = tried % shard_size
        items, left = left[: shard_size - start], left[shard_size - start :]
        plan.append(_Part(_batches(items, start, batch_size), everyone))
        tried += len(items)
    items = [*again.values()]
    plan += [
        _Part(_batches(items[start : start + shard_size], 0, batch_size), everyone, again=True)
        for start in range(0, len(items), shard_size)
    ]
    return plan


def _check_same_shards(targets: list[Target], lead: Target) -> None:
    """The shards that two targets have are of the same images."""
    for target in targets:
        for own, shard in zip(target.manifest.shards, lead.manifest.shards, strict=False):
            if own.rows_sha256 != shard.rows_sha256:
                raise PoolMismatchError(
                    f"shards in {str(target.folder)!r} and {str(lead.folder)!r} must be of the same images in the same "
                    f"order, got others in {own.file!r}; expected another folder for other images"
                )


def _batches(items: list[int], start: int, batch_size: int) -> list[list[int]]:
    """Images that stand from `start` on in a shard, cut where the batches of a whole shard are."""
    cuts = [0, *range(batch_size - start % batch_size, len(items), batch_size), len(items)]
    return [items[a:b] for a, b in itertools.pairwise(cuts) if a < b]


def _run(source: Images, targets: list[Target], plan: list[_Part], workers: int, progress: bool) -> None:
    """Make the shards."""
    batches = [(batch, part.targets) for part in plan for batch in part.batches]
    preprocess = [target.encoder.preprocess for target in targets]
    n_left = sum(len(batch) for part in plan for batch in part.batches)
    with (
        progress_bar(len(source.ids), len(source.ids) - n_left, "image", is_shown=progress) as bar,
        closing(preprocessed(source, batches, preprocess, workers)) as made,
    ):
        for part in plan:
            shard = _GrowingShard(source, targets, part)
            for number in range(1, len(part.batches) + 1):
                batch = next(made)
                shard.add(batch)
                bar.update(len(batch.items) + len(batch.failures))
                if number < len(part.batches) and part.ids is None and shard.seconds >= _SHARD_SECONDS:
                    shard.close()
                    shard = _GrowingShard(source, targets, part)
            shard.close()


class _GrowingShard:
    """What becomes the next shard of some targets."""

    def __init__(self, source: Images, targets: list[Target], part: _Part) -> None:
        self._source, self._targets, self._part = source, targets, part
        self._rows: list[list[npt.NDArray[np.float16]]] = [[] for _ in part.targets]
        self._read: list[int] = []
        self._files: list[ImageFile] = []
        self._failures: dict[str, Skipped] = {}
        self._decoder = decoder()  # a worker may have other plugins
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
        self._files += batch.files
        for item, why in batch.failures.items():
            self._failures[self._source.ids[item]] = replace(why, decoder=self._decoder)

    def close(self) -> None:
        source, part = self._source, self._part
        ids = [source.ids[item] if part.ids is None else part.ids[item] for item in self._read]
        labels = None if source.labels is None else [source.labels[item] for item in self._read]
        roots = [source.root(item) for item in self._read]
        known = Known(ids, self._files, roots, labels)
        skipped = self._failures if part.skipped is None else part.skipped
        for own, number in zip(self._rows, part.targets, strict=True):
            target = self._targets[number]
            whole = np.concatenate([np.empty((0, target.manifest.n_columns), np.float16), *own])
            _check_same_images(target, self._targets, known)
            if ids or not part.again:
                target.add(whole, known, {} if part.again else skipped)
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


def _check_same_images(target: Target, targets: list[Target], known: Known) -> None:
    """A shard that another target has already must be of the images that it was of there."""
    k = len(target.shards)
    for other in targets:
        if len(other.shards) <= k:
            continue
        there = other.shards[k]
        if there.ids != known.ids:
            changed = next(iter({*there.ids} ^ {*known.ids}))
            raise FileReadError(
                f"images: {changed!r} can be read now or could be when {str(other.folder)!r} was made, but not both; "
                "expected the same images for both encoders"
            )
        for image, before, now in zip(known.ids, there.files, known.files, strict=True):
            if before.checksum is not None and now.checksum not in (None, before.checksum):
                raise changed_error(other, [(image, f"the CRC-32 {before.checksum}", now.checksum)])
