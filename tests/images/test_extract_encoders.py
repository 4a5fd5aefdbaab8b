"""What encoders refuse before they are made: prompts that are cut off or the same, image sizes, missing libraries."""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ccma_fast as cf
from ccma_fast.cli import main
from ccma_fast.images import encoders
from ccma_fast.images.encoders import check_prompts, class_features, open_clip_encoder, vision_encoder

# Not imported here: they take seconds, and every worker of a run imports every module of tests.
for _library in ("open_clip", "timm"):
    if importlib.util.find_spec(_library) is None:
        pytest.skip(f"{_library} is not installed", allow_module_level=True)

pytestmark = pytest.mark.usefixtures("decoded_here")
extract_module = importlib.import_module("ccma_fast.images.extract")

CONFIG: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
PROMPT = ["a photo of a {}"]
REPORT = "the patient is seen from the front and shows a heart of normal size with clear lungs on both sides and " * 4


@pytest.fixture(scope="module", autouse=True)
def models(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Small models of open_clip: as CLIP's, with a short context, and with a tokenizer of transformers."""
    import open_clip

    folder = tmp_path_factory.mktemp("configs")
    text = CONFIG["text_cfg"]
    for name, texts in {
        "prompts-clip": text,
        "prompts-short": {**text, "context_length": 8},
        "prompts-sentences": {**text, "context_length": 8, "hf_tokenizer_name": "words", "vocab_size": 64},
        "prompts-clips": {**text, "context_length": 8, "hf_tokenizer_name": "words", "tokenizer_mode": "clips"},
        "prompts-tower": {"hf_model_name": "a/tower", "hf_tokenizer_name": "words"},
    }.items():
        (folder / f"{name}.json").write_text(json.dumps({**CONFIG, "text_cfg": texts}))
    open_clip.add_model_config(folder)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "in" / "x.png")
    return tmp_path / "in"


class Words:
    """A tokenizer as transformers has them: a number for each word, one behind, 0 to fill up."""

    bos_token_id, eos_token_id, pad_token_id, cls_token_id = 61, 62, 0, 63

    def __call__(self, texts: Any, add_special_tokens: bool = True, max_length: int = 0, **options: Any) -> Any:
        end = [62] if add_special_tokens else []
        several = [texts] if isinstance(texts, str) else texts
        found = [[1 + sum(map(ord, word)) % 60 for word in text.split()] + end for text in several]
        if options.get("truncation"):
            found = [[*row[: max_length - 1], 62] if len(row) > max_length else row for row in found]
            return types.SimpleNamespace(input_ids=torch.tensor([row + [0] * (max_length - len(row)) for row in found]))
        result = found[0] if isinstance(texts, str) else found

        class Encoding(dict):  # type: ignore[type-arg]
            input_ids = result

        return Encoding(input_ids=result)


@pytest.fixture
def transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("transformers")
    module.AutoTokenizer = types.SimpleNamespace(from_pretrained=lambda *_, **__: Words())  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", module)


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model may be made."""
    import open_clip

    def make(*_: Any, **__: Any) -> None:
        pytest.fail("a model was made")

    monkeypatch.setattr(open_clip, "create_model_and_transforms", make)


# --- prompts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "names", "most", "n", "row"),
    [
        ("prompts-clip", [f"{REPORT}with pneumothorax", f"{REPORT}without pneumothorax"], 77, 95, 0),
        ("prompts-clip", ["cat", "x " * 72], 77, 78, 1),
        ("prompts-short", ["a cat that sleeps", "cat"], 8, 10, 0),
        ("prompts-sentences", ["cat", "a cat that sleeps"], 8, 9, 1),
        ("prompts-clips", ["cat", "cat of yours"], 8, 10, 1),
    ],
)
@pytest.mark.usefixtures("transformers", "no_weights")
def test_prompts_that_would_be_cut_off(image: Path, model: str, names: list[str], most: int, n: int, row: int) -> None:
    message = (
        f"class_names must fit into the {most} tokens that '{model}' reads, got {n} for '{names[row]}' at row {row}"
    )
    with pytest.raises(ValueError, match=message):
        check_prompts(model, names, PROMPT)
    with pytest.raises(ValueError, match=message):
        cf.extract(image, image.parent / "pool", student=None, teacher=model, pretrained="random", class_names=names)
    assert not (image.parent / "pool").exists()


@pytest.mark.usefixtures("transformers")
def test_prompts_that_just_fit() -> None:
    import open_clip

    for model, names in (
        ("prompts-clip", ["cat", "x " * 71]),
        ("prompts-short", ["cat", "great tit"]),
        ("prompts-sentences", ["cat", "cat that sleeps"]),
        ("prompts-clips", ["cat", "dog"]),
    ):
        prompts = PROMPT if model != "prompts-clips" else ["a photo of {}"]
        tokens = check_prompts(model, names, prompts)([prompts[0].format(name) for name in names])
        assert tokens.shape == (2, open_clip.get_tokenizer(model).context_length)


def test_the_longest_of_several_templates_counts() -> None:
    templates = ["a {}", "a photo that shows a rather long sentence about a {}"]
    with pytest.raises(ValueError, match=r"got 13 for 'cat' at row 0 in 'a photo that shows .* about a \{\}'"):
        check_prompts("prompts-short", ["cat", "dog"], templates)


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("prompts-clip", ["Cat", "dog", "cat"]),
        ("prompts-clip", ["great  tit", "dog", " great tit "]),
        ("prompts-clip", ["caf\u00e9", "dog", "caf&eacute;"]),
        ("prompts-clip", ["cat", "dog", "cat"]),
        ("prompts-sentences", ["ab", "dog", "ba"]),
    ],
)
@pytest.mark.usefixtures("transformers", "no_weights")
def test_classes_that_a_tokenizer_cannot_tell_apart(image: Path, model: str, names: list[str]) -> None:
    message = "class_names must differ, got "
    with pytest.raises(ValueError, match=f"{message}the same tokens in '{model}' for '{names[0]}' and .* rows 0 and 2"):
        check_prompts(model, names, PROMPT)
    with pytest.raises(ValueError, match="class_names must"):  # names that are equal may be refused even earlier
        cf.extract(image, image.parent / "pool", student=None, teacher=model, pretrained="random", class_names=names)


def test_classes_of_the_same_features(monkeypatch: pytest.MonkeyPatch) -> None:
    import open_clip

    teacher = open_clip_encoder("prompts-clip", "random", device="cpu")
    names = ["cat", "dog", "great tit"]
    features, _ = class_features(teacher, names, PROMPT)
    assert features.shape == (3, 16)
    # A text encoder that has not learned a word.
    encode = teacher.model.encode_text
    dog, tit = (open_clip.get_tokenizer("prompts-clip")(f"a photo of a {name}") for name in names[1:])

    def deaf(texts: Any, **options: Any) -> Any:
        return encode(torch.where((texts == tit).all(dim=1, keepdim=True), dog, texts), **options)

    monkeypatch.setattr(teacher.model, "encode_text", deaf)
    with pytest.raises(ValueError, match="got the same features for 'dog' and 'great tit' at rows 1 and 2"):
        class_features(teacher, names, PROMPT)


@pytest.mark.usefixtures("no_weights")
def test_folders_that_are_no_classes(tmp_path: Path) -> None:
    for folder in ("cat", "great_tit"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        Image.new("RGB", (20, 20)).save(tmp_path / "in" / folder / "x.png")
    given: dict[str, Any] = {"student": None, "teacher": "prompts-clip", "pretrained": "random"}
    message = r"labels of images must be class names, .*, got 'great_tit' for 'great_tit/x.png'; did you mean"
    with pytest.raises(ValueError, match=message):
        cf.extract(
            tmp_path / "in", tmp_path / "pool", class_names=["cat", "great tit"], labels_from_folders=True, **given
        )


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        (["1", "2"], ["cat", "dog"], "a class from 0 to 1, got 2 for '1.png'"),
        (["dog", "1e5"], ["cat", "dog"], "a class from 0 to 1, got 100000 for '1.png'"),
        (["dog", "inf"], ["cat", "dog"], "must be class names, .*, got 'inf' for '1.png'"),
        (["dog", "1_0"], ["cat", "dog"], "must be class names, .*, got '1_0' for '1.png'"),
        (["1", "0"], ["1", "0"], "must say whether they are names or numbers of classes, got 1 for '0.png'"),
    ],
)
def test_labels_of_a_table_that_are_no_classes(
    tmp_path: Path, labels: list[str], names: list[str], message: str
) -> None:
    for i in range(2):
        Image.new("RGB", (20, 20)).save(tmp_path / f"{i}.png")
    lines = [f"{i}.png,{label}" for i, label in enumerate(labels)]
    (tmp_path / "list.csv").write_text("\n".join(["image_path,label", *lines]))
    given: dict[str, Any] = {"student": None, "teacher": "prompts-clip", "pretrained": "random"}
    with pytest.raises(ValueError, match=message):
        cf.extract(tmp_path / "list.csv", tmp_path / "pool", class_names=names, **given)


def test_a_teacher_in_python_refuses_the_same() -> None:
    images = np.eye(3, 16, dtype=np.float32)
    with pytest.raises(ValueError, match="class_names must fit into the 8 tokens"):
        cf.Teacher.from_open_clip("prompts-short", "random", ["cat", "a cat that sleeps"], images, device="cpu")


# --- transformers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("ViT-B-16-SigLIP", ["cat", "dog"]),
        ("ViT-B-16-SigLIP2", ["cat", "dog"]),
        ("xlm-roberta-base-ViT-B-32", ["cat", "dog"]),
        ("roberta-ViT-B-32", None),  # whose text encoder is a part of the model
        ("prompts-tower", None),
    ],
)
@pytest.mark.usefixtures("no_weights")
def test_transformers_are_missed_before_weights_are_loaded(
    image: Path, model: str, names: list[str] | None, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    message = f"the text encoder of '{model}' needs transformers .*pip install 'ccma-fast\\[extract\\]'"
    given: dict[str, Any] = {"student": None, "teacher": model, "pretrained": "webli", "class_names": names}
    with pytest.raises(ImportError, match=message):
        cf.extract(image, image.parent / "pool", **given)
    with pytest.raises(ImportError, match=message):
        open_clip_encoder(model, "webli")
    command = ["extract", str(image), "--out", str(image.parent / "pool"), "--student", "none", "--teacher", model]
    if names is not None:
        (image.parent / "names.txt").write_text("\n".join(names))
        command += ["--class-names", str(image.parent / "names.txt")]
    assert main([*command, "--pretrained", "webli"]) == 2
    assert "pip install 'ccma-fast[extract]'" in capsys.readouterr().err


def test_images_alone_need_no_tokenizer(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    given: dict[str, Any] = {"student": None, "teacher": "prompts-sentences", "pretrained": "random"}
    assert cf.extract(image, image.parent / "pool", progress=False, **given).n_rows == 1


def test_the_extra_brings_what_the_text_encoders_need() -> None:
    project = Path(__file__).parents[2] / "pyproject.toml"
    (line,) = [line for line in project.read_text().splitlines() if line.startswith("extract = ")]
    assert "transformers[sentencepiece]" in line


# --- image sizes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("student", "size", "message"),
    [
        ("test_vit", 33, "image_size must be a multiple of 16, the patches of 'test_vit', got 33"),
        ("vit_small_patch14_dinov2.lvd142m", 500, "image_size must be a multiple of 14, the patches of .*, got 500"),
        ("test_vit", 8, "image_size must be a multiple of 16"),
        ("mixer_s16_224", 240, "image_size must suit 'mixer_s16_224', got 240: Input height"),
        ("convnext_tiny", 20, "image_size must suit 'convnext_tiny', got 20: "),
    ],
)
def test_sizes_that_a_model_cannot_take(
    image: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, student: str, size: int, message: str
) -> None:
    import timm

    create = timm.create_model

    def without_weights(name: str, pretrained: bool = False, **options: Any) -> Any:
        assert not pretrained, "weights were loaded"
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", without_weights)
    with pytest.raises(ValueError, match=message):
        cf.extract(image, image.parent / "pool", student=student, image_size=size)
    command = ["extract", str(image), "--out", str(image.parent / "pool"), "--student", student]
    assert main([*command, "--image-size", str(size)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("ccma-fast extract: error: image_size must ")
    assert err.count("\n") == 1
    assert not (image.parent / "pool").exists()


def test_sizes_that_a_model_takes_change_no_weights() -> None:
    state = torch.random.get_rng_state()
    sized = vision_encoder("test_vit", weights="random", image_size=160, device="cpu")
    plain = vision_encoder("test_vit", weights="random", device="cpu")
    assert sized.description == plain.description
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_size_that_the_code_of_a_repository_refuses(image: Path, tmp_path: Path) -> None:
    (tmp_path / "hubconf.py").write_text(
        "import torch\ndependencies = ['torch']\n"
        "class Strict(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        assert x.shape[-1] % 14 == 0, f'{x.shape[-1]} is not a multiple of 14'\n"
        "        return x.flatten(1)\n"
        "def strict(): return Strict()\n"
    )
    with pytest.raises(ValueError, match=r"cannot embed images of shape \(3, 225, 225\): 225 is not a multiple of 14"):
        cf.extract(image, tmp_path / "pool", student=f"torch.hub:{tmp_path}:strict", image_size=225)
    assert cf.extract(
        image, tmp_path / "pool", student=f"torch.hub:{tmp_path}:strict", image_size=28, progress=False
    ).n_rows


def test_a_model_that_cannot_be_outlined_is_made_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    create = timm.create_model

    def make(name: str, **options: Any) -> Any:
        if torch.empty(0).device.type == "meta":
            raise RuntimeError("Tensor.item() cannot be called on meta tensors")
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", make)
    assert vision_encoder("test_vit", weights="random", image_size=32, device="cpu").model is not None
    assert encoders.DEFAULT_STUDENT == "vit_small_patch14_dinov2.lvd142m"
