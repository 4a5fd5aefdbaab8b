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

from ._extras import optional
from ._validate import check_choice, check_integer
from .manifest import Manifest, Shard, chained

__all__ = [
    "DEFAULT_STUDENT",
    "DEFAULT_TEMPLATE",
    "PRECISIONS",
    "RANDOM",
    "Encoder",
    "class_features",
    "open_clip_encoder",
    "prompt_templates",
    "vision_encoder",
]

DEFAULT_STUDENT = "vit_small_patch14_dinov2.lvd142m"
DEFAULT_TEMPLATE = "a photo of a {}"
PRECISIONS = ("fp32", "fp16", "bf16")
RANDOM = "random"
"""In place of a tag: random weights of a fixed seed."""

_HUB = "torch.hub:"
_SCHEMAS = ("hf-hub:", "local-dir:")

# What torch.hub's vision models are trained with, DINOv2 among them.
_HUB_SIZE, _HUB_RESIZE = 224, 256
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, eq=False)
class Encoder:
    """A model, what it does to an image, and how to tell it from others.

    Attributes
    ----------
    model : torch.nn.Module
        On its device, in evaluation mode.
    preprocess : callable
        From a PIL image in RGB to a float32 tensor of shape (3, H, W).
    encode_image : callable
        From a batch of those to embeddings, shape (B, D).
    description : dict of str
        As :attr:`ccma_fast.manifest.Manifest.encoder`.
    device : str
    """

    model: Any
    preprocess: Callable[[Any], Any]
    encode_image: Callable[[Any], Any]
    description: dict[str, str]
    device: str

    def manifest(self, *, precision: str, normalized: bool) -> Manifest:
        """What is to be said of embeddings of images by this encoder, of which there are none yet."""
        from PIL import Image

        blank = self.preprocess(Image.new("RGB", (64, 64)))[None]
        shape = self.embed(blank, precision=precision, normalize=normalized).shape
        if len(shape) != 2:
            raise ValueError(
                f"{self.description['model']!r} must give one vector for each image, got shape {shape} for one"
            )
        return Manifest(self.description, _steps(self.preprocess), precision, normalized, "float16", n_columns=shape[1])

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


def open_clip_encoder(model: str, pretrained: str | None, *, device: str | None = None) -> Encoder:
    """A vision-language model, as ``open_clip.create_model_and_transforms`` makes it.

    Parameters
    ----------
    model : str
        A name of open_clip, ``hf-hub:`` and ``local-dir:`` included.
    pretrained : str or None
        The tag of the weights, or the path of a checkpoint; None for ``hf-hub:`` and ``local-dir:``, which bring
        theirs. "random" takes random weights of a fixed seed: for trying things out where nothing can be downloaded.
    device : str, optional
        As PyTorch spells it; a CUDA device by default where there is one.

    Raises
    ------
    ValueError
        A name without weights, or one that open_clip does not know.
    ImportError
        open_clip is not installed.
    """
    open_clip = optional("open_clip", "a teacher", "extract")
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
        A name that is not known, or a model that does not give one vector for each image.
    ImportError
        timm or torchvision is not installed.
    """
    check_choice("weights", weights, ("pretrained", RANDOM))
    if image_size is not None:
        check_integer("image_size", image_size, minimum=1)
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
    encoder: Encoder, class_names: Sequence[str], templates: Sequence[str]
) -> tuple[npt.NDArray[np.float32], Manifest]:
    """Text embeddings of classes, as ``open_clip.build_zero_shot_classifier`` makes them.

    The unit embeddings of a class's prompts are averaged, and the mean is divided by its length.

    Parameters
    ----------
    encoder : Encoder
        Of :func:`open_clip_encoder`.
    class_names, templates : sequence of str

    Returns
    -------
    features : ndarray, shape (C, D), float32
    manifest : Manifest
        Without files.
    """
    open_clip = optional("open_clip", "class features", "extract")
    name = encoder.description["model"]
    classifier = open_clip.build_zero_shot_classifier(
        encoder.model, open_clip.get_tokenizer(name), list(class_names), list(templates), device=encoder.device
    )
    features = np.ascontiguousarray(classifier.T.float().cpu().numpy())
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
    """The steps of a preprocessing as texts that are the same in every process."""
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
    """Random weights are the same every time, and the global generator is as it was."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
