"""A teacher from the texts of open_clip. Beside what else imports that library, which takes seconds in every worker."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import ccma_fast as cf

pytestmark = pytest.mark.processor

N, E = 400, 24
V = np.random.default_rng(0).standard_normal((N, E)).astype(np.float32)


def test_from_open_clip(tmp_path: Path) -> None:
    open_clip = pytest.importorskip("open_clip")
    import torch

    config = {
        "embed_dim": E,
        "vision_cfg": {"image_size": 16, "layers": 1, "width": 32, "patch_size": 8, "head_width": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    (tmp_path / "small-clip.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path)
    names = ["cat", "dog", "great tit"]
    (tmp_path / "names.txt").write_text("\n".join(names))
    teacher = cf.Teacher.from_open_clip("small-clip", "random", tmp_path / "names.txt", V, temperature=0.1)
    assert (teacher.n_classes, teacher.class_names, teacher.temperature) == (3, names, 0.1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.create_model("small-clip").eval()
    with torch.no_grad():
        expected = model.encode_text(open_clip.tokenize([f"a photo of a {name}" for name in names]), normalize=True)
    np.testing.assert_allclose(teacher.class_directions, expected.numpy(), atol=1e-6)
    # Labels may be names now.
    (tmp_path / "y.csv").write_text("index,label\n4,dog\n2,great tit\n7,cat\n9,dog\n")
    labels = np.full(N, -1)
    labels[[4, 2, 7, 9]] = 1, 2, 0, 1
    config_ = cf.CCMAConfig(max_epochs=3)
    found = cf.select(V, 4, labels=tmp_path / "y.csv", teacher=teacher, config=config_)
    np.testing.assert_array_equal(
        found.indices, cf.select(V, 4, labels=labels, teacher=teacher, config=config_).indices
    )
    with pytest.raises(ValueError, match=f"class_features has {E} columns but image_features has 5"):
        cf.Teacher.from_open_clip("small-clip", "random", names, V[:, :5])


def test_from_open_clip_refuses_images_of_another_model(tmp_path: Path) -> None:
    open_clip = pytest.importorskip("open_clip")
    from PIL import Image

    for name, width in (("clip-a", 32), ("clip-b", 48)):
        config = {
            "embed_dim": 8,
            "vision_cfg": {"image_size": 16, "layers": 1, "width": width, "patch_size": 8, "head_width": 16},
            "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path)
    (tmp_path / "images").mkdir()
    for i in range(3):
        Image.new("RGB", (20, 20), (i * 50, 90, 10)).save(tmp_path / "images" / f"{i}.png")
    out = tmp_path / "pool"
    cf.extract(tmp_path / "images", out, student=None, teacher="clip-a", pretrained="random", workers=0, progress=False)
    assert cf.Teacher.from_open_clip("clip-a", "random", ["a", "b"], out / "teacher").n_rows == 3
    with pytest.raises(cf.PoolMismatchError, match=r"got open_clip clip-b .* in memory and open_clip clip-a .* in '"):
        cf.Teacher.from_open_clip("clip-b", "random", ["a", "b"], out / "teacher")
    forced = cf.Teacher.from_open_clip("clip-b", "random", ["a", "b"], out / "teacher", force=True)
    assert "clip-b" in cf.select(np.eye(3), 1, teacher=forced).report.forced[0]
