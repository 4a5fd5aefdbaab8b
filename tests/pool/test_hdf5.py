"""HDF5: numbers of any type of the file as their values, or refused; links and datasets that lead back."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast.pool.arrays import ArrayRows
from ccma_fast.pool.open import open_rows

h5py = pytest.importorskip("h5py")
from h5py import h5d, h5p, h5s, h5t  # noqa: E402

VALUES = (np.arange(40).reshape(10, 4) % 15 - 7).astype(np.float64)


def of(base: Any, **settings: Any) -> Any:
    """A type as another one, but for some of its properties."""
    kind = base.copy()
    for name, value in settings.items():
        getattr(kind, f"set_{name}")(*(value if isinstance(value, tuple) else (value,)))
    return kind


INT16, INT32, FLOAT32 = h5t.STD_I16LE, h5t.STD_I32LE, h5t.IEEE_F32LE
PLAIN = {
    "float32": FLOAT32,
    "float16": h5t.IEEE_F16LE,
    "float32 of the other order": h5t.IEEE_F32BE,
    "float64 of the other order": h5t.IEEE_F64BE,
    "int16 of the other order": h5t.STD_I16BE,
    "long double": h5t.NATIVE_LDOUBLE,
}
OTHERS = {
    "bfloat16": of(FLOAT32, fields=(15, 7, 8, 0, 7), size=2, ebias=127),
    "float32 with another bias": of(FLOAT32, ebias=100),
    "float32 without the hidden bit": of(FLOAT32, norm=h5t.NORM_NONE),
    "int16 of 12 bits": of(INT16, precision=12),
    "int16 of 12 bits from the fourth on": of(INT16, precision=12, offset=4),
    "int16 of 12 bits and ones": of(INT16, precision=12, pad=(1, 1)),
    "int16 of 12 bits of the other order": of(h5t.STD_I16BE, precision=12, offset=4),
    "int32 of 24 bits": of(INT32, precision=24, offset=8),
    "int8 of 5 bits": of(h5t.STD_I8LE, precision=5, offset=2),
}


def write(file: Path, kind: Any, chunks: tuple[int, int] | None = None) -> Path:
    with h5py.File(file, "w") as handle:
        layout = h5p.create(h5p.DATASET_CREATE)
        if chunks:
            layout.set_chunk(chunks)
        space = h5s.create_simple(VALUES.shape)
        h5d.create(handle.id, b"features", kind, space, layout).write(h5s.ALL, h5s.ALL, VALUES)
    return file


@pytest.mark.parametrize("chunks", [None, (3, 3)])
@pytest.mark.parametrize("kind", [*PLAIN, *OTHERS])
def test_numbers_of_any_type_are_their_values(tmp_path: Path, kind: str, chunks: Any) -> None:
    """Mapped only where the file has them bit for bit as NumPy would."""
    rows = open_rows(write(tmp_path / "x.h5", {**PLAIN, **OTHERS}[kind], chunks), "features")
    np.testing.assert_array_equal(rows.float32(), VALUES)
    assert isinstance(rows, ArrayRows) == (kind in PLAIN and chunks is None)


@pytest.mark.parametrize("kind", [of(INT32, precision=24, size=3), h5t.UNIX_D32LE])
def test_types_that_numpy_does_not_have(tmp_path: Path, kind: Any) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as handle:
        h5d.create(handle.id, b"features", kind, h5s.create_simple((10, 4)))
        handle["other"] = VALUES
    with pytest.raises(TypeError, match=r"must hold real numbers, got '/features' in '.*x.h5' of a type that NumPy"):
        open_rows(tmp_path / "x.h5", "features")
    np.testing.assert_array_equal(open_rows(f"{tmp_path / 'x.h5'}::other", "features").float32(), VALUES)


def virtual(handle: Any, name: str, file: str, source: str, *, grows: bool) -> None:
    """A virtual dataset of which the source may be itself, low-level as programs may write it."""
    whole = h5s.UNLIMITED if grows else 10
    spaces = [h5s.create_simple((0 if grows else 10, 4), (whole, 4)) for _ in range(2)]
    for space in spaces:
        space.select_hyperslab((0, 0), (whole, 1), (1, 1), (1, 4))
    layout = h5p.create(h5p.DATASET_CREATE)
    layout.set_virtual(spaces[0], file.encode(), source.encode(), spaces[1])
    h5d.create(handle.id, name.encode(), FLOAT32, spaces[0], layout)


# Opens each file in three ways, and says before which: a fault would end the process.
OPEN_VIRTUAL = """
import sys, h5py, ccma_fast as cf
from ccma_fast.pool.open import open_rows
for file in sys.argv[1:]:
    with h5py.File(file) as handle:
        for source in (file, f"{file}::features", handle["features"]):
            print(source, file=sys.stderr, flush=True)
            try:
                open_rows(source, "features")
            except cf.FileReadError as error:
                assert "is a virtual dataset" in str(error), error
            else:
                raise AssertionError("it was read")
"""


def test_virtual_datasets_are_refused(run_python: Any, tmp_path: Path) -> None:
    """Before anything of them is read: one of itself ends the process, and what is missing reads as zeros."""
    files = []
    for grows in (False, True):
        for file, source in ((".", "features"), ("x.h5", "features"), (".", "b"), ("none.h5", "x")):
            folder = tmp_path / str(len(files))
            folder.mkdir()
            files.append(str(folder / "x.h5"))
            with h5py.File(files[-1], "w") as handle:
                virtual(handle, "features", file, source, grows=grows)
                if source == "b":
                    virtual(handle, "b", ".", "features", grows=grows)
                virtual(handle, "labels", ".", "labels", grows=grows)
    run_python(OPEN_VIRTUAL, *files)


@pytest.mark.usefixtures("time_limit")
@pytest.mark.parametrize("key", ["", "::features", "::g/again/again/features"])
def test_links_that_lead_back(tmp_path: Path, key: str) -> None:
    links = {
        "soft": h5py.SoftLink("/features"),
        "soft over another": h5py.SoftLink("/g/features"),
        "external": h5py.ExternalLink("x.h5", "/features"),
    }
    for link in links.values():
        with h5py.File(tmp_path / "x.h5", "w") as handle:
            group = handle.create_group("g")
            group["again"], group["root"] = group, handle["/"]  # the same groups by other names, without end
            handle["features"] = link
            group["features"] = h5py.SoftLink("/features")
        with pytest.raises(cf.FileReadError, match=r"x.h5' is a link|no dataset"):
            open_rows(f"{tmp_path / 'x.h5'}{key}", "features")
    with h5py.File(tmp_path / "x.h5", "a") as handle:
        handle["g/x"] = VALUES
    np.testing.assert_array_equal(open_rows(f"{tmp_path / 'x.h5'}::g/root/g/again/x", "features").float32(), VALUES)


@pytest.mark.usefixtures("time_limit")
def test_sizes_that_are_declared_cost_nothing(tmp_path: Path) -> None:
    """Rows and chunks that a small file only speaks of."""
    for shape, chunks in itertools.product([(2**40, 4), (4, 2**40)], [None, (1, 4), (2**20, 2**9)]):
        with h5py.File(tmp_path / "x.h5", "w") as handle:
            step = chunks and tuple(min(n, step) for n, step in zip(shape, chunks, strict=True))
            handle.create_dataset("features", shape, "f4", chunks=step)
        with pytest.raises(cf.FileReadError, match=r"rows that were never written|chunks of at most"):
            open_rows(tmp_path / "x.h5", "features")


def test_chunks_that_would_not_fit_into_memory(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as handle:
        data = handle.create_dataset("features", (2**28 + 1, 1), "f4", chunks=(2**28 + 1, 1), compression="gzip")
        data.id.write_direct_chunk((0, 0), b"a few bytes that stand for many")
    with pytest.raises(cf.FileReadError, match=r"must have chunks of at most 1073741824 bytes, .* got 1073741828"):
        open_rows(tmp_path / "x.h5", "features")
