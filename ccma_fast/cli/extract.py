"""The command ``ccma-fast extract``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..images.encoders import DEFAULT_STUDENT, DEFAULT_TEMPLATE, PRECISIONS
from ..system.streams import tell
from .argument_types import at_least_0, at_least_1
from .command import Command
from .ranks import ranks_of_command

if TYPE_CHECKING:
    from ..images.extract import Extraction
    from ..system.ranks import Ranks

__all__ = ["COMMAND"]

_DESCRIPTION = """\
Embed images by a vision model (the student) and a vision-language model (the teacher), and class names by the latter,
into folders that ccma-fast select takes. Images that cannot be read are skipped and listed; they are no rows.
Needs: pip install 'ccma-fast[extract]'

  IMAGES                  folders with all that is below them; a .csv or .parquet file with the paths in a column
                          image_path, and perhaps labels in a column label; or .tar files as WebDataset writes them
  MODEL                   as open_clip, timm or torch.hub spell it: ViT-B-32 with --pretrained laion2b_s34b_b79k,
                          hf-hub:ORGANISATION/NAME, local-dir:PATH; vit_base_patch14_dinov2.lvd142m,
                          torch.hub:facebookresearch/dinov2:dinov2_vits14
"""

_EPILOG = """\
folders in DIR, each with the rows of its shards (float16), what they are, and a manifest:
  student, teacher        img_emb/img_emb_0.npy, ... and metadata/metadata_0.parquet with image_path; the same images
  classes                 text_emb/text_emb_0.npy and metadata/metadata_0.parquet with caption

The same command again goes on after a kill, which costs five minutes of work at most, and takes in images that were
added since and those that were skipped but can be read now, behind those that are there. Images that are gone are
named, and not offered for labelling until they are there again; one that was renamed keeps its row; where a file was
changed, nothing is done.

Under torchrun all its processes work together, on one machine or on several: each shard is made by one of them, on a
GPU of its own where there are several, and the files are those that one process writes. All must see IMAGES and DIR.
torchrun sets OMP_NUM_THREADS=1 where it starts several processes on a machine: on a CPU the rows are those of one
process with one thread, and may differ from those of more threads in their last bits.

examples:
  ccma-fast extract photos --out pool
  ccma-fast extract photos --out pool --student vit_base_patch14_dinov2.lvd142m --image-size 224 \\
                    --teacher ViT-B-32 --pretrained laion2b_s34b_b79k --class-names names.txt --templates openai \\
                    --precision bf16 --workers 8
  torchrun --nproc-per-node 8 -m ccma_fast extract photos --out pool
  ccma-fast select --features pool/student --teacher-images pool/teacher --teacher-classes pool/classes --budget 100

The same call in Python: ccma_fast.extract(images, out, student=..., teacher=..., ...).
"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", metavar="IMAGES", help="where they are, see above")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the pool, new or one to go on with")

    parser.add_argument(
        "--image-suffixes",
        nargs="+",
        metavar="SUFFIX",
        help="what names of images end with in folders and .tar files, e.g. jpg seg.png (default: of all formats)",
    )
    parser.add_argument(
        "--labels-from-folders",
        action="store_true",
        help="the label of an image is the name of the folder below IMAGES in which it lies",
    )

    student = parser.add_argument_group("the student")
    student.add_argument(
        "--student",
        default=DEFAULT_STUDENT,
        metavar="MODEL",
        help=f"vision model of timm or torch.hub, or none (default: {DEFAULT_STUDENT}, DINOv2)",
    )
    student.add_argument(
        "--student-weights",
        choices=("pretrained", "random"),
        default="pretrained",
        help="random: of a fixed seed, to try the command without a download (default: pretrained)",
    )
    student.add_argument(
        "--image-size", type=at_least_1, metavar="N", help="height and width of its input (default: as it was trained)"
    )

    teacher = parser.add_argument_group("the teacher (optional)")
    teacher.add_argument("--teacher", metavar="MODEL", help="vision-language model of open_clip")
    teacher.add_argument("--pretrained", metavar="TAG", help="its weights, as open_clip calls them; or random")
    teacher.add_argument(
        "--class-names", metavar="FILE", help="one name per line, or .json with a list, in the order of the classes"
    )
    teacher.add_argument(
        "--templates",
        nargs="+",
        default=[DEFAULT_TEMPLATE],
        metavar="TEXT",
        help="prompts with {} for the name, averaged; or openai or simple, open_clip's sets of 80 and 7 "
        f"(default: {DEFAULT_TEMPLATE!r})",
    )

    work = parser.add_argument_group("how")
    work.add_argument("--normalize", action="store_true", help="write rows of unit length")
    work.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of the models (default: fp32)")
    work.add_argument("--device", metavar="NAME", help="as PyTorch spells it (default: cuda where there is one)")
    work.add_argument("--batch-size", type=at_least_1, default=64, metavar="N", help="images (default: 64)")
    work.add_argument(
        "--workers",
        type=at_least_0,
        default=1,
        metavar="N",
        help="processes that decode images; 0: this one, which a decoder that crashes would end (default: 1)",
    )
    work.add_argument(
        "--shard-size",
        type=at_least_1,
        default=10_000,
        metavar="N",
        help="images of a shard (default: 10000)",
    )
    work.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def _run(arguments: argparse.Namespace) -> None:
    with ranks_of_command("auto") as ranks:
        found = _extracted(arguments, ranks)
    if ranks is None or ranks.rank == 0:
        _tell(found)


def _extracted(arguments: argparse.Namespace, ranks: Ranks | None) -> Extraction:
    from ..images.extract import extract

    templates = arguments.templates
    return extract(
        arguments.images,
        arguments.out,
        image_suffixes=arguments.image_suffixes,
        labels_from_folders=arguments.labels_from_folders,
        student=None if arguments.student == "none" else arguments.student,
        student_weights=arguments.student_weights,
        image_size=arguments.image_size,
        teacher=arguments.teacher,
        pretrained=arguments.pretrained,
        class_names=arguments.class_names,
        templates=templates[0] if len(templates) == 1 else templates,
        normalize=arguments.normalize,
        precision=arguments.precision,
        device=arguments.device,
        batch_size=arguments.batch_size,
        workers=arguments.workers,
        shard_size=arguments.shard_size,
        progress=not arguments.quiet,
        group=ranks,
    )


def _tell(found: Extraction) -> None:
    _tell_changes(found)
    print(f"{found.n_rows} images, {len(found.skipped)} skipped")
    for option, folder in (
        ("--features", found.student),
        ("--teacher-images", found.teacher),
        ("--teacher-classes", found.classes),
    ):
        if folder is not None:
            print(f"{option:18} {folder}")


def _tell_changes(found: Extraction) -> None:
    """Say on stderr which images are no rows, and what became of those that were."""
    unchanged = {*found.not_tried}
    for image, why in found.skipped.items():
        again = " (not tried again, for its file is the same)" if image in unchanged else ""
        tell(f"skipped {_printable(image)}: {why}{again}")
    for before, now in found.renamed.items():
        tell(f"renamed {_printable(before)} -> {_printable(now)}")
    for images, what in (
        (found.repaired, "skipped before, can be read now"),
        (found.vanished, "gone: their rows are not offered for labelling"),
        (found.elsewhere, "rows and none of these images, but may be where they were: they are offered for labelling"),
    ):
        if images:
            tell(f"{len(images)} {what}, first {_printable(images[0])}")
    if found.left_out:
        kinds = {_printable(kind): n for kind, n in found.left_out.items()}
        tell(f"left out: {', '.join(f'{n} {kind}' for kind, n in kinds.items())}")


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)


COMMAND = Command(
    summary="embed images for a pool",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    add_arguments=_add_arguments,
    run=_run,
    runs_on_ranks=True,
)
