"""Options that say which rows may be chosen, and how they are spread."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..checks import number_in
from .argument_types import distance

__all__ = ["add_row_options", "row_options"]

_MASKS = {
    "exclude": "rows never to choose, such as images of no class or broken ones: they are not read at all",
    "pending": "rows that somebody is labelling: not chosen again, and covered as those that have a label",
    "include": "the only rows to choose from (default: all)",
}


def add_row_options(parser: argparse.ArgumentParser, masks: Collection[str]) -> None:
    """What :func:`row_options` reads: some of the masks, the least distance and the class distribution."""
    rows = parser.add_argument_group(
        "which rows (optional)",
        "FILE is a .csv or .parquet file with a column image_path or index, such as picks, a .npy\n"
        "file with N booleans or with row numbers, or a .txt file with an image_path in each line; several are "
        "joined",
    )
    for name in masks:
        rows.add_argument(f"--{name}", metavar="FILE", nargs="+", action="extend", help=_MASKS[name])
    rows.add_argument(
        "--min-distance",
        type=distance,
        metavar="D",
        help="the least distance of picks to each other, to labelled and to pending rows, up to 2: Euclidean, of the "
        "features' rows at length 1 (default: none)",
    )
    rows.add_argument(
        "--class-distribution",
        nargs="+",
        action="extend",
        metavar="CLASS=SHARE",
        help="the wanted shares of classes among labelled rows and picks, by the most probable class of each row: "
        "cat=2 dog=1, 0 where a class is not named; or a .npy file with C numbers, or a .json file (default: none)",
    )


def row_options(arguments: argparse.Namespace, masks: Collection[str]) -> dict[str, Any]:
    """The arguments of :func:`ccma_fast.select` that these options are."""
    files = {name: getattr(arguments, name) for name in masks}
    return {
        **{name: None if given is None else [Path(file) for file in given] for name, given in files.items()},
        "min_distance": arguments.min_distance,
        "class_distribution": _distribution(arguments.class_distribution),
    }


def _distribution(given: list[str] | None) -> dict[str, float] | Path | None:
    """The shares of --class-distribution: of its pairs, or a file."""
    if given is None:
        return None
    if len(given) == 1 and Path(given[0]).suffix.lower() in (".npy", ".json"):
        return Path(given[0])
    shares: dict[str, float] = {}
    for pair in given:
        name, _, share = pair.rpartition("=")
        value = number_in(share)
        if not name or value is None:
            raise ValueError(f"--class-distribution must be CLASS=SHARE, or a .npy or .json file, got {pair!r}")
        if name in shares:
            raise ValueError(f"--class-distribution must have one share for a class, got several for {name!r}")
        shares[name] = value
    return shares
