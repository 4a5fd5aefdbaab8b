"""What is no regular file is refused at once: a pipe would be waited for, and a device never ends."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast.pool.class_names import read_class_names
from ccma_fast.pool.labels import read_labels
from ccma_fast.pool.manifest_file import digest_of_file, read_manifest
from ccma_fast.pool.open import open_rows
from ccma_fast.query import picks_file
from ccma_fast.research.report.report import open_run

for library in ("h5py", "pyarrow", "safetensors"):
    pytest.importorskip(library)

X = np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32)
ROWS = open_rows(X, "features")

READ: dict[str, Callable[[Path], object]] = {
    **{f"x{suffix}": lambda file: open_rows(file, "features") for suffix in (".npy", ".h5", ".parquet", ".arrow")},
    "x.hdf5": lambda file: open_rows(f"{file}::features", "features"),
    "x.safetensors": lambda file: open_rows(file, "features"),
    **{f"y{suffix}": lambda file: read_labels(file, ROWS) for suffix in (".csv", ".parquet", ".npy", ".h5")},
    "names.txt": read_class_names,
    "names.json": read_class_names,
    "manifest.json": lambda file: read_manifest(file.parent, "features"),
    "state.json": lambda file: open_rows(file.parent, "features"),
    "shard": digest_of_file,
    "run.json": lambda file: open_run(file.parent),
    "loop": lambda file: cf.ActiveLearner.load(file, X),
}


def make_pipe(file: Path) -> None:
    os.mkfifo(file)


def make_link(file: Path) -> None:
    file.symlink_to("/dev/zero")


@pytest.mark.usefixtures("time_limit")
@pytest.mark.parametrize("make", [make_pipe, make_link, Path.mkdir])
@pytest.mark.parametrize("name", READ)
def test_what_is_no_regular_file_is_refused(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    if make is Path.mkdir and name.startswith(("x.", "y.")):
        (tmp_path / name).mkdir()  # a folder of rows or labels, with nothing in it
        message = f"in the folder '.*{name}'|{name}' is a folder"
    else:
        make(tmp_path / name)
        message = f"{name}'(: .*)? is a folder, a pipe or a device; expected a regular file"
    with pytest.raises(cf.FileReadError, match=message):
        READ[name](tmp_path / name)


@pytest.mark.usefixtures("time_limit")
def test_a_pipe_that_takes_the_place_of_a_shard(tmp_path: Path) -> None:
    for i, part in enumerate(np.array_split(X, 3)):
        np.save(tmp_path / f"part-{i}.npy", part)
    rows = open_rows(tmp_path, "features")
    (tmp_path / "part-1.npy").unlink()
    make_pipe(tmp_path / "part-1.npy")
    for read in (rows.float32, lambda: open_rows(tmp_path, "features")):
        with pytest.raises(cf.FileReadError, match=r"part-1.npy' (was replaced|is a folder, a pipe or a device)"):
            read()


def test_a_pipe_that_takes_the_place_of_rounds(tmp_path: Path) -> None:
    y = np.arange(60) % 3
    arguments = {"test_features": X, "test_labels": y, "strategies": ["random"], "seeds": [1], "progress": False}
    arguments |= {"rounds": 1, "config": cf.CCMAConfig(max_epochs=2), "out": tmp_path / "run"}
    cf.simulate(X, y, **arguments)
    (rounds,) = (file for file in (tmp_path / "run").rglob("*.jsonl"))
    shutil.move(rounds, tmp_path / "rounds")
    make_pipe(rounds)
    with pytest.raises(cf.FileReadError, match="is a folder, a pipe or a device"):
        cf.simulate(X, y, **arguments)


@pytest.mark.usefixtures("time_limit")
def test_a_pipe_is_no_file_of_picks(tmp_path: Path) -> None:
    make_pipe(tmp_path / "picks.csv")
    assert not picks_file.holds_picks_alone(tmp_path / "picks.csv")
