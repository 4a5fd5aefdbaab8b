"""Files that are read whole are not read where they are larger than any of their kind."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast.pool.class_names import read_class_names
from ccma_fast.pool.manifest_file import read_manifest
from ccma_fast.system import bounded_read
from ccma_fast.system.bounded_read import Arrays, read_whole


@pytest.mark.parametrize("n", [0, 99, 100, 101])
def test_files_up_to_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    monkeypatch.setattr(bounded_read, "MOST_BYTES", 100)
    (tmp_path / "file").write_bytes(b"x" * n)
    if n <= 100:
        assert read_whole(tmp_path / "file") == b"x" * n
    else:
        with pytest.raises(ValueError, match=r"^it has 101 bytes, expected at most 100$"):
            read_whole(tmp_path / "file")


def test_a_file_of_holes_costs_nothing(tmp_path: Path) -> None:
    """It takes no place on a disk, and would take all of the memory."""
    for name in ("manifest.json", "names.json", "names.txt", "state.json"):
        with open(tmp_path / name, "wb") as file:
            file.truncate(2**43)
    said = "it has 8796093022208 bytes, expected at most 1073741824"
    with pytest.raises(cf.FileReadError, match=f"features: cannot read '.*manifest.json': {said}"):
        read_manifest(tmp_path, "features")
    for name in ("names.json", "names.txt"):
        with pytest.raises(cf.FileReadError, match=f"class_names: cannot read '.*{name}' as text: {said}"):
            read_class_names(tmp_path / name)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(cf.FileReadError, match=f"features: cannot read '.*state.json' of a data set: .*{said}"):
        cf.select(tmp_path, 3)


def test_nested_beyond_what_a_parser_follows(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("[" * 200_000)
    with pytest.raises(cf.FileReadError, match=r"features: cannot read '.*manifest.json': "):
        cf.select(tmp_path, 3)


def packed(content: dict[str, bytes]) -> io.BytesIO:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return stream


def of_numpy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_arrays_up_to_a_size() -> None:
    arrays = Arrays(packed({"a.npy": of_numpy(np.arange(5)), "b.npy": of_numpy(np.array("text"))}))
    np.testing.assert_array_equal(arrays.read("a", 40), np.arange(5))
    assert str(arrays.read("b", 16)) == "text"
    assert (arrays.n_rows("a"), arrays.n_rows("b")) == (5, 1)
    assert "a" in arrays
    assert "c" not in arrays
    with pytest.raises(ValueError, match=r"a would have 40 bytes in shape \(5,\), expected at most 39"):
        arrays.read("a", 39)
    with pytest.raises(ValueError, match="it has no array 'c'"):
        arrays.read("c", 39)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"a.npy": of_numpy(np.arange(5)).replace(b"(5,)", b"(6,)")},
            r"'a.npy' has 168 bytes, and shape \(6,\) of int64",
        ),
        ({"a.npy": of_numpy(np.arange(5)) + b"x"}, r"'a.npy' has 169 bytes, and shape \(5,\) of int64 takes 168"),
        ({"a.npy": b"\x93NUMPY\x02\x00" + b"\xff\xff\xff\x7f" + b" " * 2**20}, "is of version .* expected .1, 0."),
        ({"a.npy": b"text"}, "magic string"),
        ({"a.npy": of_numpy(np.arange(5)), "a": of_numpy(np.arange(5))}, "an array stands there twice"),
    ],
)
def test_archives_that_are_damaged(content: dict[str, bytes], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Arrays(packed(content))


def test_objects_are_not_unpickled() -> None:
    stream = io.BytesIO()
    np.savez(stream, a=np.array([{}, None], dtype=object))
    with pytest.raises(ValueError, match=r"'a.npy' has .* bytes"):
        Arrays(stream)
