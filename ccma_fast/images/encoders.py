"""Frozen encoders: vision-language models of open_clip, and vision models of timm and torch.hub."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..checks import check_choice, check_integer
from ..pool.manifest import Manifest, Shard
from ..pool.manifest_file import chained
from ..system.extras import optional
from .decode import DECODING

__all__ = [
    "DEFAULT_STUDENT",
    "DEFAULT_TEMPLATE",
    "PRECISIONS",
    "RANDOM",
    "Encoder",
    "check_prompts",
    "class_features",
    "open_clip_encoder",
    "prompt_templates",
    "vision_encoder",
]

DEFAULT_STUDENT = "vit_small_patch14_dinov2.lvd142m"
DEFAULT_TEMPLATE = "a photo of a {}"
PRECISIONS = ("fp32", "fp16", "bf16")
RANDOM = "random"
"""Value in place of a tag: random weights of a fixed seed."""

_HUB = "torch.hub:"
_SCHEMAS = ("hf-hub:", "local-dir:")

# What torch.hub's vision models are trained with, DINOv2 among them.
_HUB_SIZE, _HUB_RESIZE = 224, 256
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# Closer than this the features of two classes differ by rounding alone.
_SAME_DISTANCE = 1e-5
_SAME_ROWS = 1024


@dataclass(frozen=True, eq=False)
class Encoder:
    """A model, its preprocessing of an image, and what identifies it.

    Attributes
    ----------
    model : torch.nn.Module
        On its device, in evaluation mode.
    preprocess : callable
        From a PIL image in RGB to a float32 tensor of shape (3, H, W).
    encode_image : callable
        From a batch of those to embeddings, shape (B, D).
    description : dict of str
        As :attr:`ccma_fast.pool.manifest.Manifest.encoder`.
    device : str
    """

    model: Any
    preprocess: Callable[[Any], Any]
    encode_image: Callable[[Any], Any]
    description: dict[str, str]
    device: str

    def manifest(self, *, precision: str, normalized: bool) -> Manifest:
        """The manifest of a folder of this encoder's embeddings that has no rows yet."""
        from PIL import Image

        blank = self.preprocess(Image.new("RGB", (64, 64)))[None]
        try:
            shape = self.embed(blank, precision=precision, normalize=normalized).shape
        except (AssertionError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"{self.description['model']!r} cannot embed images of shape {tuple(blank.shape[1:])}: {error}"
            ) from error
        if len(shape) != 2:
            raise ValueError(
                f"{self.description['model']!r} must give one vector for each image, got shape {shape} for one"
            )
        steps = [*DECODING, *_steps(self.preprocess)]
        return Manifest(self.description, steps, precision, normalized, "float16", n_columns=shape[1])

    def embed(self, batch: Any, *, precision: str, normalize: bool) -> npt.NDArray[np.float16]:
        """Embeddings of preprocessed images.

        Parameters
        ----------
        batch : torch.Tensor, shape (B, 3, H, W)
        precision : {"fp32", "fp16", "bf16"}
            Under autocast, where it is not "fp32".
        normalize : bool
            Divide each by its length, in float32.

        Returns
        -------
        ndarray, shape (B, D), float16
            Infinite where a number does not fit.
        """
        import torch

        with torch.inference_mode(), _autocast(self.device, precision):
            rows = self.encode_image(batch.to(self.device, non_blocking=True)).float()
            if normalize:
                rows = rows / rows.norm(dim=1, keepdim=True)
        return np.asarray(rows.half().cpu().numpy())


def open_clip_encoder(model: str, pretrained: str | None, *, text: bool = True, device: str | None = None) -> Encoder:
    """A vision-language model, as ``open_clip.create_model_and_transforms`` makes it.

    Parameters
    ----------
    model : str
        A name of open_clip, ``hf-hub:`` and ``local-dir:`` included.
    pretrained : str or None
        The tag of the weights, or the path of a checkpoint; None for ``hf-hub:`` and ``local-dir:``, which bring
        theirs. "random" takes random weights of a fixed seed: for trying things out where nothing can be downloaded.
    text : bool, default True
        It is to embed prompts too, and needs its tokenizer.
    device : str, optional
        As PyTorch spells it; a CUDA device by default where there is one.

    Raises
    ------
    ValueError
        A name without weights, or one that open_clip does not know.
    ImportError
        open_clip is not installed, or transformers, which some models need.
    """
    open_clip = optional("open_clip", "a teacher", "extract")
    _check_transformers(open_clip, model, text)
    has_own = model.startswith(_SCHEMAS)
    if not has_own and pretrained is None:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none: no such model"
        raise ValueError(f"pretrained must be the tag of the weights of {model!r}, got None; expected one of {tags}")
    random = pretrained == RANDOM
    tag = None if random or has_own else pretrained
    device = _device(device)
    with _drawn_from_a_seed():
        try:
            made, _, preprocess = open_clip.create_model_and_transforms(
                model, pretrained=tag, load_weights=not random, device=device
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise ValueError(f"open_clip cannot make {model!r} with pretrained={pretrained!r}: {error}") from error
    made.eval()
    weights = RANDOM if random else "its own" if has_own else str(pretrained)
    return Encoder(made, preprocess, made.encode_image, _description("open_clip", model, weights, made), device)


def vision_encoder(
    name: str, *, weights: str = "pretrained", image_size: int | None = None, device: str | None = None
) -> Encoder:
    """A vision model of timm, pooled and without its head, or of torch.hub.

    Parameters
    ----------
    name : str
        As ``timm.create_model`` takes it, ``hf-hub:`` and ``local-dir:`` included; or ``torch.hub:REPOSITORY:ENTRY``
        as ``torch.hub.load`` does, with the path of a folder for a repository that is on this machine. The code of a
        repository is run.
    weights : {"pretrained", "random"}
        "random" takes random weights of a fixed seed. Models of torch.hub bring their own.
    image_size : int, optional
        Height and width of the model's input; by default what it was trained with, 224 for torch.hub.
    device : str, optional
        As PyTorch spells it; a CUDA device by default where there is one.

    Raises
    ------
    ValueError
        A name that is not known, or an image size that the model cannot take.
    ImportError
        timm or torchvision is not installed.
    """
    check_choice("weights", weights, ("pretrained", RANDOM))
    if image_size is not None:
        image_size = check_integer("image_size", image_size, minimum=1)
        if not name.startswith(_HUB):
            _check_image_size(name, image_size)
    device = _device(device)
    with _drawn_from_a_seed():
        try:
            if name.startswith(_HUB):
                made = _of_hub(name)
                description = _description("torch.hub", name, "its own", made)
                preprocess = _hub_preprocess(image_size)
            else:
                timm = optional("timm", "a student", "extract")
                made = timm.create_model(name, pretrained=weights == "pretrained", num_classes=0)
                description = _description("timm", name, weights, made)  # before they are fitted to another size
                preprocess = _timm_preprocess(timm, made, image_size)
        except (RuntimeError, ValueError, OSError, AttributeError) as error:
            raise ValueError(f"cannot make the vision encoder {name!r}: {error}") from error
    made.eval().to(device)
    return Encoder(made, preprocess, made, description, device)


def prompt_templates(templates: str | Sequence[str]) -> list[str]:
    """Prompts into which class names are put.

    Parameters
    ----------
    templates : str or sequence of str
        "openai" or "simple", open_clip's sets of 80 and 7 for ImageNet; or prompts with ``{}`` where the name stands.

    Raises
    ------
    ValueError
        A prompt without exactly one ``{}``.
    """
    if isinstance(templates, str) and "{" not in templates:
        check_choice("templates", templates, ("openai", "simple"))
        open_clip = optional("open_clip", "a set of templates", "extract")
        chosen = open_clip.OPENAI_IMAGENET_TEMPLATES if templates == "openai" else open_clip.SIMPLE_IMAGENET_TEMPLATES
        return [template("{}") for template in chosen]
    prompts = [templates] if isinstance(templates, str) else list(templates)
    for row, prompt in enumerate(prompts):
        if not isinstance(prompt, str):
            raise TypeError(f"templates must be strings, got {type(prompt).__name__} at row {row}")
        if prompt.count("{}") != 1 or prompt.replace("{}", "").count("{") or prompt.replace("{}", "").count("}"):
            raise ValueError(f"templates must have one {{}}, where the class name stands, got {prompt!r} at row {row}")
    if not prompts:
        raise ValueError("templates must be at least one, got none")
    return prompts


def class_features(
    encoder: Encoder, class_names: Sequence[str], templates: Sequence[str], tokenizer: Any = None
) -> tuple[npt.NDArray[np.float32], Manifest]:
    """Text embeddings of classes, as ``open_clip.build_zero_shot_classifier`` makes them.

    The unit embeddings of a class's prompts are averaged, and the mean is divided by its length.

    Parameters
    ----------
    encoder : Encoder
        Of :func:`open_clip_encoder`.
    class_names, templates : sequence of str
    tokenizer : optional
        The result of :func:`check_prompts` for them, which otherwise is called here.

    Returns
    -------
    features : ndarray, shape (C, D), float32
    manifest : Manifest
        Without files.

    Raises
    ------
    ValueError
        Prompts as in :func:`check_prompts`, or two classes with the same features.
    """
    open_clip = optional("open_clip", "class features", "extract")
    if tokenizer is None:
        tokenizer = check_prompts(encoder.description["model"], class_names, templates)
    classifier = open_clip.build_zero_shot_classifier(
        encoder.model, tokenizer, list(class_names), list(templates), device=encoder.device
    )
    features = np.ascontiguousarray(classifier.T.float().cpu().numpy())
    _check_distinct(features, class_names)
    whole = Shard("", "", len(features), "", "", chained("", class_names))
    manifest = Manifest(
        encoder.description,
        [],
        "fp32",
        True,
        "float32",
        features.shape[1],
        (whole,),
        templates=list(templates),
        class_names=list(class_names),
    )
    return features, manifest


def check_prompts(model: str, class_names: Sequence[str], templates: Sequence[str]) -> Any:
    """The tokenizer of an open_clip model, checked to truncate no prompt and to tell all classes apart.

    Parameters
    ----------
    model : str
    class_names, templates : sequence of str

    Raises
    ------
    ValueError
        A prompt with more tokens than the model reads, the rest of which would be cut off; or two classes of the same
        tokens, such as "Cat" and "cat" where the tokenizer ignores case.
    ImportError
        open_clip is not installed, or transformers, which some tokenizers need.
    """
    open_clip = optional("open_clip", "class features", "extract")
    _check_transformers(open_clip, model, text=True)
    tokenizer = open_clip.get_tokenizer(model)
    most = tokenizer.context_length
    seen: dict[bytes, int] = {}
    for row, name in enumerate(class_names):
        prompts = [template.format(name) for template in templates]
        tokens = tokenizer(prompts).numpy()
        for prompt, template, last in zip(prompts, templates, tokens[:, -1].tolist(), strict=True):
            # open_clip's own fills up with 0, and is slow at counting.
            if not (hasattr(tokenizer, "encode") and last == 0) and (n := _n_tokens(tokenizer, prompt)) > most:
                raise ValueError(
                    f"class_names must fit into the {most} tokens that {model!r} reads, got {n} for {name!r} at row "
                    f"{row} in {template!r}"
                )
        other = seen.setdefault(tokens.tobytes(), row)
        if other != row:
            raise ValueError(
                f"class_names must differ, got the same tokens in {model!r} for {class_names[other]!r} and {name!r} at "
                f"rows {other} and {row}"
            )
    return tokenizer


def _n_tokens(tokenizer: Any, text: str) -> int:
    """The number of tokens of a text without truncation, those that mark its ends included."""
    if hasattr(tokenizer, "encode"):  # open_clip's own, which adds one at each end
        return len(tokenizer.encode(text)) + 2
    cleaned = getattr(tokenizer, "clean_fn", str)(text)
    if getattr(tokenizer, "tokenizer_mode", "") == "clips":  # adds one before and two after
        return len(tokenizer.tokenizer(cleaned, add_special_tokens=False).input_ids) + 3
    return len(tokenizer.tokenizer(cleaned).input_ids)


def _check_transformers(open_clip: Any, model: str, text: bool) -> None:
    """Check that the library of a model's text encoder is installed, before its weights are loaded."""
    try:
        config = open_clip.get_model_config(model) or {}
    except Exception:  # no such model, or no network: an error when it is created
        return
    texts = config.get("text_cfg", {})
    by_name = "siglip" in model.lower() and not model.startswith(_SCHEMAS)  # as open_clip chooses a tokenizer
    if texts.get("hf_model_name") or (text and (texts.get("hf_tokenizer_name") or by_name)):
        optional("transformers", f"the text encoder of {model!r}", "extract")


def _check_distinct(features: npt.NDArray[np.float32], class_names: Sequence[str]) -> None:
    for start in range(0, len(features), _SAME_ROWS):
        nearly = features[start : start + _SAME_ROWS] @ features.T > 0.9999
        for a, b in np.argwhere(nearly).tolist():
            a += start
            if a < b and np.linalg.norm(features[a].astype(np.float64) - features[b]) < _SAME_DISTANCE:
                raise ValueError(
                    f"class_names must differ to the teacher, got the same features for {class_names[a]!r} and "
                    f"{class_names[b]!r} at rows {a} and {b}"
                )


def _check_image_size(name: str, image_size: int) -> None:
    """Check on the meta device that a model of timm takes images of this size, before its weights are loaded."""
    import torch

    timm = optional("timm", "a student", "extract")
    with _drawn_from_a_seed(), torch.device("meta"), torch.inference_mode():
        try:
            model = timm.create_model(name, pretrained=False, num_classes=0).eval()
        except Exception:  # an error when it is created with its weights
            return
        patch = getattr(getattr(model, "patch_embed", None), "patch_size", 1)
        for side in patch if isinstance(patch, tuple) else (patch,):
            if image_size % side:
                raise ValueError(f"image_size must be a multiple of {side}, the patches of {name!r}, got {image_size}")
        try:
            if hasattr(model, "set_input_size"):
                model.set_input_size(img_size=image_size)
            model(torch.empty(1, 3, image_size, image_size))
        except (AssertionError, RuntimeError, ValueError) as error:
            if not isinstance(error, NotImplementedError) and "meta" not in str(error):
                raise ValueError(f"image_size must suit {name!r}, got {image_size}: {error}") from error


def _timm_preprocess(timm: Any, model: Any, image_size: int | None) -> Any:
    config = timm.data.resolve_model_data_config(model)
    if image_size is not None:
        if hasattr(model, "set_input_size"):  # those whose weights depend on it
            model.set_input_size(img_size=image_size)
        config["input_size"] = (3, image_size, image_size)
    return timm.data.create_transform(**config, is_training=False)


def _of_hub(name: str) -> Any:
    hub = optional("torch.hub", "a student of torch.hub", "extract")
    repository, _, entry = name[len(_HUB) :].rpartition(":")
    if not repository or not entry:
        raise ValueError(f"expected {_HUB}REPOSITORY:ENTRY")
    if os.path.isdir(repository):
        return hub.load(repository, entry, source="local")
    return hub.load(repository, entry, trust_repo=True)


def _hub_preprocess(image_size: int | None) -> Any:
    transforms = optional("torchvision.transforms", "a student of torch.hub", "extract")
    size = image_size or _HUB_SIZE
    return transforms.Compose(
        [
            transforms.Resize(size * _HUB_RESIZE // _HUB_SIZE, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(_IMAGENET_MEAN, _IMAGENET_STD),
        ]
    )


def _description(library: str, model: str, weights: str, made: Any) -> dict[str, str]:
    return {"library": library, "model": model, "weights": weights, "weights_sha256": _digest(made)}


def _digest(model: Any) -> str:
    """SHA-256 of a model's parameters and buffers."""
    import torch

    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _steps(preprocess: Any) -> list[str]:
    """The steps of a preprocessing as text, the same in every process."""
    steps = getattr(preprocess, "transforms", [preprocess])
    return [
        f"{step.__module__}.{step.__qualname__}" if hasattr(step, "__qualname__") else " ".join(repr(step).split())
        for step in steps
    ]


def _device(device: str | None) -> str:
    import torch

    return device or ("cuda" if torch.cuda.is_available() else "cpu")


def _autocast(device: str, precision: str) -> Any:
    import torch

    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision)
    return torch.autocast(device.partition(":")[0], dtype=dtype, enabled=dtype is not None)


@contextmanager
def _drawn_from_a_seed() -> Iterator[None]:
    """Draw random weights from a fixed seed, and restore the global generator."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
