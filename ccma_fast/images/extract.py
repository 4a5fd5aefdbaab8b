"""From images and class names to a pool: embeddings in shards, with a manifest that says what they are.

``out`` gets up to three folders of the layout of :mod:`ccma_fast.pool.manifest`: ``student`` and ``teacher``, whose
rows are the same images in the same order, and ``classes``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checks import check_choice, check_integer
from ..pool.class_codes import class_codes
from ..pool.class_names import read_class_names
from ..system import display
from ..system.extras import optional
from ..system.output_files import check_can_write_into, locked
from ..system.ranks import Ranks
from .cooperation import check_same_encoders, check_same_images, device_of
from .embedding import Output
from .embedding_folder import write_classes
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
from .image_source import Images
from .leading import Outcome, Work, lead, serve
from .sources import open_images

__all__ = ["Extraction", "extract"]


@dataclass(frozen=True)
class Extraction:
    """The result of :func:`extract` on disk.

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

    def __repr__(self) -> str:
        folders = [f"{name} {str(folder)!r}" for name, folder in self._folders().items()]
        return display.line("Extraction", f"{self.n_rows:,} rows", *folders, f"{len(self.skipped):,} skipped")

    def _folders(self) -> dict[str, Path]:
        folders = {"student": self.student, "teacher": self.teacher, "classes": self.classes}
        return {name: folder for name, folder in folders.items() if folder is not None}

    def _repr_html_(self) -> str:
        named = {"not tried again": self.not_tried, "repaired": self.repaired, "vanished": self.vanished}
        told = {f"images {what}": display.few(ids, len(ids)) for what, ids in named.items() if ids}
        if self.elsewhere:
            told["rows of other images"] = display.few(self.elsewhere, len(self.elsewhere))
        if self.left_out:
            told["files that are no images"] = ", ".join(f"{kind} {n:,}" for kind, n in self.left_out.items())
        parts = [display.facts({**self._folders(), **told})]
        for what, header, pairs in (
            ("images skipped", ["image", "why"], self.skipped),
            ("images renamed", ["from", "to"], self.renamed),
        ):
            if pairs:
                table = display.table(header, pairs.items(), len(pairs))
                parts.append(display.details(f"{len(pairs):,} {what}", table))
        return display.notebook_html(f"Extraction: {self.n_rows:,} rows", *parts)


# long: what a caller needs to know of a pool; the code is short
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
    group: Any = None,
) -> Extraction:
    """Embed images, and the names of their classes, into folders that :func:`ccma_fast.select` takes.

    Shards are dealt to the processes of a `group`, where there is one, and the files are those that one process writes,
    byte for byte.

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
        Images of a shard. What each process has of the one that it is making is saved every five minutes: a kill costs
        no more.
    progress : bool, default True
        Show a bar with images/s on stderr; on the first rank of a group alone, where it moves with the images of that
        rank and with the finished shards of the others.
    group : torch.distributed.ProcessGroup, optional
        Work with all processes of this group, each of which calls this with the same arguments; by default this
        process works by itself. The group's own backend is not used for tensors; gloo is enough on GPUs as well.

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
    RankError
        Another process of the group has raised one of these, or was lost: the text names its rank and host.
    ImportError
        A library is not installed; the text names the extra that brings it.

    Notes
    -----
    :func:`ccma_fast.images.decode.to_rgb` says what is done to an image first. Images that cannot be decoded, or not
    without guessing, are no rows; the manifest lists them with the reason, and rows have their ids in the metadata
    beside the shards. The embeddings are stored as float16, those of classes as float32. The same images, arguments and
    versions give the same rows, bit for bit, on one machine with the same number of PyTorch's threads, however often
    the call was killed; and the same files, however many processes made them.

    The processes of a `group` must all see the same images, with the same sizes and times, and the same `out`: on one
    machine, or on a file system that all machines share. Nothing is embedded where they do not, or where they differ in
    versions, models, devices or PyTorch's number of threads. ``torchrun`` sets ``OMP_NUM_THREADS=1`` where it starts
    several processes on a machine and the variable is not set: on a CPU the rows are then equal to those of one process
    with one thread. Shards are dealt beforehand, in their order, so that each process has the same number of images, up
    to a shard. A shard is finished once it is in ``out/.extraction`` with a record that says what it is; the first rank
    moves it to its place and lists it in the manifest. One process that fails or dies ends all of them, and what is
    finished is not embedded again by the next call, of any number of processes. The names of classes are encoded by the
    first rank, and without `device` each process takes the GPU of its ``LOCAL_RANK`` where there are several.

    Examples
    --------
    The folders, for the first picks and for later ones; the first call downloads the weights of both models:

    >>> import ccma_fast as cf
    >>> found = cf.extract(
    ...     "photos", "pool", teacher="ViT-B-32", pretrained="laion2b_s34b_b79k", class_names=["jay", "tit"], workers=8
    ... )  # doctest: +SKIP
    >>> first = cf.select(found.student, 100)  # doctest: +SKIP
    >>> teacher = cf.Teacher(found.teacher, found.classes)  # doctest: +SKIP
    >>> picks = cf.select(found.student, 100, labels="labels.csv", teacher=teacher)  # doctest: +SKIP
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
    prompts = prompt_templates(templates)
    with _ranks_of(group) as ranks:
        is_first = ranks is None or ranks.rank == 0
        names = None if class_names is None or not is_first else read_class_names(class_names)
        source = open_images(images, suffixes=image_suffixes, labels_from_folders=labels_from_folders)
        if names is not None and source.labels is not None:
            class_codes(source.labels, class_names=names, name="labels of images", ids=source.ids)
        pool = Path(out)
        tokenizer = None
        if is_first:
            check_can_write_into(pool)
            if teacher is not None and names is not None:
                tokenizer = check_prompts(teacher, names, prompts)  # before weights are loaded
        if ranks is not None:
            check_same_images(ranks, source)
            device = device_of(device)

        encoders: dict[str, Encoder] = {}
        if student is not None:
            encoders["student"] = vision_encoder(student, weights=student_weights, image_size=image_size, device=device)
        if teacher is not None:
            encoders["teacher"] = open_clip_encoder(teacher, pretrained, text=names is not None, device=device)
        outputs = [
            Output(name, encoder, encoder.manifest(precision=precision, normalized=normalize))
            for name, encoder in encoders.items()
        ]
        if ranks is not None:
            check_same_encoders(ranks, outputs)
        work = Work(source, pool, outputs, workers, ranks)
        if ranks is not None and not is_first:
            serve(work, ranks)
            found: Extraction = ranks.broadcast()
            return found

        def write_names() -> None:
            assert names is not None, "it is called where there are some"
            write_classes(pool / "classes", names, *class_features(encoders["teacher"], names, prompts, tokenizer))

        with locked(pool):
            outcome = lead(
                work,
                batch_size=batch_size,
                shard_size=shard_size,
                write_classes=None if names is None else write_names,
                progress=progress,
            )
        written = {name: pool / name for name in (*encoders, *(() if names is None else ("classes",)))}
        found = _told(written, source, outcome)
        if ranks is not None:
            ranks.broadcast(found)
        return found


@contextmanager
def _ranks_of(group: Any) -> Iterator[Ranks | None]:
    """The ranks that an extraction runs on, which end together; None for this process alone."""
    if group is None:
        yield None
        return
    ranks = group if isinstance(group, Ranks) else Ranks.of_group(group)
    try:
        with ranks.guarded():
            yield None if ranks.size == 1 else ranks
    finally:
        if ranks is not group:
            ranks.close()


def _told(written: dict[str, Path], source: Images, outcome: Outcome) -> Extraction:
    folder, changes, skipped, again = outcome
    there = {*source.ids}
    left = {image: why.reason for image, why in folder.skipped.items() if image in there}
    if not folder.manifest.n_rows:
        first = next(iter(left.items()))
        raise ValueError(f"images: none of {len(source.ids)} images can be read, got {first[1]} for {first[0]!r}")
    return Extraction(
        student=written.get("student"),
        teacher=written.get("teacher"),
        classes=written.get("classes"),
        n_rows=folder.manifest.n_rows,
        skipped=left,
        not_tried=[image for image in left if image in skipped and image not in again],
        repaired=[image for image in again if image not in left],
        vanished=[changes.names[row] for row in changes.vanished],
        elsewhere=[changes.names[row] for row in changes.elsewhere],
        renamed=changes.moved,
        left_out=source.left_out,
    )
