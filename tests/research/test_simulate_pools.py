"""Simulations on extracted pools: labels, test labels and teacher go with the images that they are of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast.pool.manifest import Manifest, Shard
from ccma_fast.pool.manifest_file import chained, digest_of_file, write_manifest

pytestmark = pytest.mark.processor

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

N = 60
NAMES = ["cat", "dog", "elk"]
RNG = np.random.default_rng(0)
TRUTH = RNG.permutation(np.arange(N) % 3)
X = (3 * np.eye(3, 6)[TRUTH] + RNG.standard_normal((N, 6))).astype(np.float32)
ORDER = RNG.permutation(N)


def make_pool(folder: Path, rows: Sequence[int], *, labels: bool = False) -> Path:
    """What `extract` writes of some images, without the models."""
    for name in ("img_emb", "metadata"):
        (folder / name).mkdir(parents=True)
    files = {"file": "img_emb/img_emb_0.npy", "metadata": "metadata/metadata_0.parquet"}
    np.save(folder / files["file"], X[rows])
    ids = [f"{row:03d}.png" for row in rows]
    columns = {"image_path": ids} | ({"label": [NAMES[c] for c in TRUTH[rows]]} if labels else {})
    parquet.write_table(pyarrow.table(columns), folder / files["metadata"])
    sha256, metadata_sha256 = (digest_of_file(folder / file) for file in files.values())
    shard = Shard(*files.values(), len(rows), sha256, metadata_sha256, chained("", ids))
    encoder = dict.fromkeys(("library", "model", "weights", "weights_sha256"), "none")
    write_manifest(folder, replace(Manifest(encoder, [], "fp32", False, "float32", X.shape[1]), shards=(shard,)))
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., cf.Results]:
    """A simulation on the folder of a pool, whose first rows are the test rows."""
    pool, test = make_pool(tmp_path / "pool", range(N)), make_pool(tmp_path / "test", range(20))

    def simulated(labels: Any, test_labels: Any, **changes: Any) -> cf.Results:
        return cf.simulate(
            pool,
            labels,
            test_features=test,
            test_labels=test_labels,
            class_names=NAMES,
            config=cf.CCMAConfig(max_epochs=5),
            strategies=["margins"],
            seeds=[1],
            rounds=2,
            progress=False,
            **changes,
        )

    return simulated


def same(a: cf.Results, b: cf.Results) -> bool:
    return all(repr(a.columns[name].tolist()) == repr(b.columns[name].tolist()) for name in a.columns)


def test_labels_of_a_pool_in_another_order_are_joined_by_their_images(run: Any, tmp_path: Path) -> None:
    expected = run(TRUTH, TRUTH[:20])
    turned = make_pool(tmp_path / "turned", ORDER, labels=True)
    turned_test = make_pool(tmp_path / "turned test", ORDER[ORDER < 20], labels=True)
    assert same(run(turned, turned_test), expected)
    with open(tmp_path / "y.csv", "w") as file:
        file.write("image_path,label\n" + "".join(f"{row:03d}.png,{NAMES[TRUTH[row]]}\n" for row in ORDER))
    assert same(run(tmp_path / "y.csv", turned_test), expected)


@pytest.mark.parametrize(("which", "images"), [("labels", range(1, N)), ("test_labels", range(1, 21))])
def test_labels_of_other_images_are_refused(run: Any, tmp_path: Path, which: str, images: range) -> None:
    other = make_pool(tmp_path / "other", images, labels=True)
    right = {"labels": TRUTH, "test_labels": TRUTH[:20]}
    with pytest.raises(ValueError, match=f"{which} must be"):
        run(**{**right, which: other}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_teacher_of_other_images_is_refused(run: Any, tmp_path: Path) -> None:
    turned = make_pool(tmp_path / "turned", ORDER)
    with pytest.raises(cf.PoolMismatchError, match="image_features and features must be the same images in the same"):
        run(TRUTH, TRUTH[:20], teacher=cf.Teacher(turned, np.eye(3, 6)))
