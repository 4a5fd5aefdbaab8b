"""The manifest of a pool's embeddings: what made them, which images they are, and the checksum of each shard.

A folder that :func:`ccma_fast.extract` wrote has the layout of clip-retrieval and a manifest:

=====================================  ============================================================================
``img_emb/img_emb_0.npy``              the rows of one shard; ``text_emb/text_emb_0.npy`` where they are classes
``metadata/metadata_0.parquet``        what each of these rows is: ``image_path``, its id, ``label`` where it is known,
                                       and of its file ``file_bytes``, ``file_crc32`` and ``file_mtime_ns`` (since
                                       1970) as it was read, and ``file_root``, the folder that the id begins in;
                                       ``caption`` where rows are classes
``manifest.json``                      a :class:`Manifest`; a shard is valid once it is listed here
=====================================  ============================================================================

Whether two folders hold the same images is told by their manifests; without these, by ids where both have them, and
else by the names and sizes of their shards (:func:`ccma_fast.pool.agreement.differing_images`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Manifest", "Shard", "Skipped"]


@dataclass(frozen=True)
class Skipped:
    """Why an image has no row.

    Attributes
    ----------
    reason : str
    passing : bool
        The cause was transient, such as permissions or memory, and not the content of the file.
    n_bytes, mtime_ns, ctime_ns : int or None
        Size and times of its file before it was read; None where there was none, or they were not recorded.
    decoder : str
        Digest of the versions, formats and limits of the decoder that failed.
    """

    reason: str
    passing: bool = True
    n_bytes: int | None = None
    mtime_ns: int | None = None
    ctime_ns: int | None = None
    decoder: str = ""


@dataclass(frozen=True)
class Shard:
    """Rows in one file.

    Attributes
    ----------
    file, metadata : str
        Paths in the folder, with ``/``.
    n_rows : int
    sha256, metadata_sha256 : str
        Of the two files.
    rows_sha256 : str
        Of the ids of all rows from the first of the pool to the last of this shard, in order, see
        :func:`ccma_fast.pool.manifest_file.chained`.
    skipped : dict of str to Skipped
        Why, for the id of each image of this shard that could not be read, until it has a row in a later shard.
    """

    file: str
    metadata: str
    n_rows: int
    sha256: str
    metadata_sha256: str
    rows_sha256: str
    skipped: dict[str, Skipped] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """The content of a folder of embeddings.

    Attributes
    ----------
    encoder : dict of str
        ``library``, ``model``, ``weights`` (the tag) and ``weights_sha256`` (of the parameters themselves).
    preprocessing : list of str
        The steps from an image to the model's input; empty where the rows are classes.
    precision : str
        What the model computed in: "fp32", or "fp16" or "bf16" where it did so under autocast.
    normalized : bool
        Rows have unit length.
    dtype : str
    n_columns : int
    shards : tuple of Shard
        In the order of their rows.
    templates : list of str
        The prompts that were averaged; empty where the rows are images.
    class_names : list of str
        What each row is; empty where the rows are images.
    vanished : list of int
        Rows whose images were gone when they were last looked for, ascending.
    renamed : dict of str to int
        The rows of images that were renamed, by the names that they got, in the order in which they got them.
    folder : Path or None
        Where it was read.
    """

    encoder: dict[str, str]
    preprocessing: list[str]
    precision: str
    normalized: bool
    dtype: str
    n_columns: int
    shards: tuple[Shard, ...] = ()
    templates: list[str] = field(default_factory=list)
    class_names: list[str] = field(default_factory=list)
    vanished: list[int] = field(default_factory=list)
    renamed: dict[str, int] = field(default_factory=dict)
    folder: Path | None = field(default=None, compare=False)

    @property
    def n_rows(self) -> int:
        """Rows of all shards."""
        return sum(shard.n_rows for shard in self.shards)

    @property
    def rows_sha256(self) -> str:
        """SHA-256 of the ids of all rows, in order."""
        return self.shards[-1].rows_sha256 if self.shards else ""

    def __str__(self) -> str:
        return repr(str(self.folder)) if self.folder else "memory"
