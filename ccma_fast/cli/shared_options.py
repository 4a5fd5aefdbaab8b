"""Options that commands share, and what they mean."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from ..backends.choose import BACKENDS
from ..config import HEADS, PAPER_DATASETS, CCMAConfig
from .argument_types import above_0, config, memory_limit

if TYPE_CHECKING:
    from ..steps.teacher import Teacher

__all__ = [
    "add_backend_option",
    "add_config_options",
    "add_memory_option",
    "add_teacher_options",
    "config_from",
    "teacher_from",
]


def add_teacher_options(parser: argparse.ArgumentParser) -> None:
    teacher = parser.add_argument_group("the teacher (optional)")
    teacher.add_argument(
        "--teacher-images", metavar="V.npy", help="N x E image embeddings of a vision-language model, e.g. of CLIP"
    )
    teacher.add_argument(
        "--teacher-classes", metavar="T.npy", help="C x E text embeddings of the class names, by the same model"
    )
    teacher.add_argument(
        "--teacher-logits", metavar="ZT.npy", help="N x C logits of any other teacher, instead of the two embeddings"
    )
    teacher.add_argument(
        "--temperature",
        type=above_0,
        metavar="TAU",
        help="what cosine similarities (default: 0.03) or teacher logits (default: 1) are divided by",
    )
    teacher.add_argument(
        "--force",
        action="store_true",
        help="take matrices that by manifests, ids or shards are of other images or another model; the report says so",
    )


def teacher_from(arguments: argparse.Namespace, class_names: str | None = None) -> Teacher | None:
    """The teacher that the options ask for; None where they ask for none."""
    from ..steps.teacher import Teacher

    embeddings = (arguments.teacher_images, arguments.teacher_classes)
    if arguments.teacher_logits is not None and embeddings != (None, None):
        raise ValueError("give either --teacher-logits or --teacher-images and --teacher-classes, not both")
    if (embeddings[0] is None) != (embeddings[1] is None):
        raise ValueError("--teacher-images and --teacher-classes must be given together")
    temperature = {} if arguments.temperature is None else {"temperature": arguments.temperature}
    if arguments.teacher_logits is not None:
        return Teacher.from_logits(
            arguments.teacher_logits, class_names=class_names, force=arguments.force, **temperature
        )
    if embeddings[0] is not None:
        return Teacher(*embeddings, class_names=class_names, force=arguments.force, **temperature)
    if temperature:
        raise ValueError("--temperature needs a teacher: --teacher-images and --teacher-classes, or --teacher-logits")
    return None


def add_config_options(group: argparse._ArgumentGroup) -> None:
    """What :func:`config_from` reads."""
    group.add_argument(
        "--config",
        type=config,
        default="default",
        metavar="NAME",
        help="constants of the method: default; paper, the published run; or paper:SET, the published run on SET, one "
        f"of {', '.join(PAPER_DATASETS)}",
    )
    group.add_argument(
        "--head",
        choices=HEADS,
        help="the classifier: distilled (labels, and the teacher as far as these show that it helps), ridge (labels "
        "alone) or published (as in the paper) (default: that of --config, distilled where this is not given)",
    )


def config_from(arguments: argparse.Namespace) -> CCMAConfig:
    """The constants of --config, with the classifier of --head where that is given."""
    config: CCMAConfig = arguments.config
    return config if arguments.head is None else replace(config, head=arguments.head)


def add_backend_option(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--backend", choices=BACKENDS, default="auto", help="what computes (default: auto)")


def add_memory_option(group: argparse._ArgumentGroup, what: str) -> None:
    group.add_argument(
        "--memory-limit",
        metavar="BYTES",
        type=memory_limit,
        help=f"{what}, such as 4GB (default: a quarter of the machine's or control group's)",
    )
