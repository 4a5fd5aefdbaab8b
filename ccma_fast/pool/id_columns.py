"""Which column of a table has the ids of its images."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from ..errors import UnreadIdsWarning

__all__ = ["ID", "ID_CALLS", "MAY_BE_IDS", "id_column", "plain_header"]

ID = "image_path"
"""The column of ids, as in the metadata of clip-retrieval."""

ID_CALLS = (ID, "path", "filepath", "filename", "file")
"""What that column may be called; the first that is there is taken."""

MAY_BE_IDS = frozenset(("file_path", "file_name", "image", "images", "image_name", "img", "url"))
"""Names that are common for paths of images, and are not taken for ids."""

# Beside those: names of text that may be ids. The last is what pandas calls an index without a name.
_MAY_BE_IDS_AS_TEXT = MAY_BE_IDS | {
    *("id", "ids", "image_id", "img_id", "img_path", "key", "keys", "name", "uid", "uuid", "uri", "sample_id"),
    "__index_level_0__",
}


def plain_header(header: str) -> str:
    """The name of a column in its plain spelling, by which columns are found."""
    return header.strip().casefold().replace(" ", "_").replace("-", "_")


def id_column(text_columns: Sequence[str], name: str) -> str | None:
    """The column that has the ids of the rows of a pool; None where there is none.

    Parameters
    ----------
    text_columns : sequence of str
        The columns of text that stand beside the vectors.
    name : str
        Name of the pool in the warning.

    Warns
    -----
    UnreadIdsWarning
        There is none, but a column that may have them by its name.
    """
    plain = [plain_header(header) for header in text_columns]
    for call in ID_CALLS:
        if plain.count(call) == 1:
            return text_columns[plain.index(call)]
    unread = [header for header, of_plain in zip(text_columns, plain, strict=True) if of_plain in _MAY_BE_IDS_AS_TEXT]
    if unread:
        warnings.warn(
            f"{name} has no ids, and its images are known by their row numbers: the column {unread[0]!r} of text is "
            f"not read; where it has the ids of the images, call it {ID!r}",
            UnreadIdsWarning,
            stacklevel=2,
        )
    return None
