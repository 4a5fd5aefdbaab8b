"""What the ranks of an extraction must agree on before anything is embedded: images, encoders, and the pool on disk."""

from __future__ import annotations

import hashlib
import itertools
import os
import secrets
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..errors import FileReadError, PoolMismatchError
from ..system.extras import optional
from ..system.output_files import remove_leftovers
from ..system.ranks import Ranks
from .decode import decoder
from .embedding import Output
from .image_source import Images

__all__ = ["check_one_pool", "check_same_encoders", "check_same_images", "device_of", "wait_until_there"]

# Files whose size and time are compared: of all, every rank would ask for the status of every file.
_MOST_COMPARED = 1000

# A network file system may show what another machine has written only after so long.
_SECONDS_UNSEEN = 60.0


def device_of(device: str | None) -> str | None:
    """The device of this process: by default its own of several GPUs, by the variable that launchers set."""
    import torch

    local = os.environ.get("LOCAL_RANK", "")
    if device is None and local.isdecimal() and (n := torch.cuda.device_count()) > 1:
        return f"cuda:{int(local) % n}"
    return device


def check_same_images(ranks: Ranks, source: Images) -> None:
    """Check that every rank has the same images in the same order, with the same labels, and sees their files.

    Sizes and times of 1,000 files at most are compared, which are spread evenly.

    Raises
    ------
    FileReadError
        The text names the rank, its host and the image.
    """
    here, first = ranks.names[ranks.rank], ranks.names[0]
    digest = _digest(source.ids)
    is_same = digest == ranks.broadcast(digest)
    answers = ranks.gather(is_same)
    ids = ranks.broadcast(None if answers is None or all(answers) else source.ids)
    if not is_same:
        raise FileReadError(f"images must be the same on all ranks, {_first_other(ids, first, source.ids, here)}")
    compared = range(0, len(source.ids), max(1, -(-len(source.ids) // _MOST_COMPARED)))
    own = {
        "labels": _digest(map(repr, source.labels or ())),
        "folders": sorted(source.roots),
        "files": [status and status[:2] for status in map(source.listed, compared)],
    }
    expected: dict[str, Any] = ranks.broadcast(own)
    for image, there, found in zip(compared, expected["files"], own["files"], strict=True):
        if there != found:
            raise FileReadError(
                f"images must have the same files on all ranks, got {source.ids[image]!r} with {_status(there)} on "
                f"{first} and {_status(found)} on {here}"
            )
    if own["folders"] != expected["folders"]:
        raise FileReadError(
            f"images must be in the same folders on all ranks, got {expected['folders'][:3]} on {first} and "
            f"{own['folders'][:3]} on {here}"
        )
    if own["labels"] != expected["labels"]:
        raise FileReadError(f"images must have the same labels on all ranks, got others on {here} than on {first}")


def check_same_encoders(ranks: Ranks, outputs: Sequence[Output]) -> None:
    """Check that every rank embeds in the same way, so that it does not matter which one embeds an image.

    Raises
    ------
    PoolMismatchError
        Encoders, decoders, versions or devices differ; the text names both sides.
    """
    import torch

    pyarrow = optional("pyarrow", "the metadata of a pool", "extract")
    own = {
        "versions": f"PyTorch {torch.__version__}, pyarrow {pyarrow.__version__}",
        "what decodes images": f"Pillow with the formats and limits {decoder()}",
        "encoders": ", ".join(_encoder(output) for output in outputs),
        "preprocessing": ", ".join(step for output in outputs for step in output.manifest.preprocessing),
        "devices": "; ".join(sorted({_compute(output.encoder.device) for output in outputs})),
    }
    expected: dict[str, str] = ranks.broadcast(own)
    for what, found in own.items():
        if found != expected[what]:
            raise PoolMismatchError(
                f"{what} must be the same on all ranks, got {expected[what]} on {ranks.names[0]} and {found} on "
                f"{ranks.names[ranks.rank]}"
            )


def check_one_pool(ranks: Ranks, pool: Path) -> None:
    """Check that all ranks see one directory under the path of the pool, and can write there.

    Raises
    ------
    FileReadError
        Some rank sees another directory; the text names it and its host.
    OSError
        It cannot write there.
    """

    def token_of(rank: int) -> Path:
        return pool / f".rank_{rank}.{token}.ccma-part"

    token = secrets.token_hex(8)
    if ranks.rank:
        token = ranks.broadcast()
        if not wait_until_there(token_of(0)):
            raise FileReadError(
                f"out must be on a file system that all ranks share, but {ranks.names[ranks.rank]} does not see in "
                f"{str(pool)!r} what {ranks.names[0]} writes there"
            )
        token_of(ranks.rank).touch()
        ranks.gather(None)
        return
    try:
        token_of(0).touch()
        ranks.broadcast(token)
        ranks.gather(None)
        for rank in range(1, ranks.size):
            if not wait_until_there(token_of(rank)):
                raise FileReadError(
                    f"out must be on a file system that all ranks share, but {ranks.names[0]} does not see in "
                    f"{str(pool)!r} what {ranks.names[rank]} writes there"
                )
    finally:
        remove_leftovers(pool, r"rank_\d+")


def wait_until_there(file: Path) -> bool:
    """Whether a file that another machine has written is there, or comes to be seen within a minute."""
    end = time.monotonic() + _SECONDS_UNSEEN
    while not file.exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
        if file.parent.is_dir():
            os.listdir(file.parent)  # makes a network file system look again
    return True


def _digest(texts: Iterable[str]) -> str:
    digest, left = hashlib.sha256(), iter(texts)
    while some := [*itertools.islice(left, 10_000)]:
        digest.update("".join(f"{text}\n" for text in some).encode())
    return digest.hexdigest()


def _first_other(ids: list[str], first: str, own: list[str], here: str) -> str:
    there, found = {*ids}, {*own}
    for image in ids:
        if image not in found:
            return f"got {image!r} on {first}, which {here} does not have"
    for image in own:
        if image not in there:
            return f"got {image!r} on {here}, which {first} does not have"
    row = next(row for row, (a, b) in enumerate(zip(ids, own, strict=True)) if a != b)
    return f"in the same order, got {ids[row]!r} at row {row} on {first} and {own[row]!r} on {here}"


def _status(found: Any) -> str:
    return "no file" if found is None else f"{found[0]} bytes, written {found[1]} ns after 1970,"


def _encoder(output: Output) -> str:
    manifest = output.manifest
    model, weights = manifest.encoder["model"], manifest.encoder["weights_sha256"]
    unit = " of unit length" if manifest.normalized else ""
    return f"{output.name} {model!r} in {manifest.precision}{unit} (SHA-256 {weights[:12]})"


def _compute(device: str) -> str:
    """What decides how numbers are rounded on a device."""
    import torch

    if device.startswith("cuda"):
        return f"CUDA {torch.version.cuda}, {torch.cuda.get_device_name(device)}"
    if device != "cpu":
        return device
    return f"cpu ({torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads of PyTorch)"
