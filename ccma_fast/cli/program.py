"""The program ``ccma-fast``.

Exit codes: 0; 2 with one line on stderr for anything wrong with what was given, or with a stdout that does not take the
results; 130 after Ctrl-C; 141 where the reader of stdout has gone. An output file is written whole or not at all.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from .. import __version__
from ..backends.choose import BACKENDS
from ..checks import integer_in, number_in
from ..config import PAPER_DATASETS, CCMAConfig
from ..images.encoders import DEFAULT_STUDENT, DEFAULT_TEMPLATE, PRECISIONS
from ..query.picks_file import SUFFIXES, as_bytes, as_csv, holds_picks_alone
from ..system.files import check_can_write, check_no_input, write_whole
from ..system.memory import check_memory_limit
from ..system.streams import discard_stdout, open_closed_streams, tell

if TYPE_CHECKING:
    from ..pool.rows import Rows
    from ..query.report import Report, Selection
    from ..research.results import Results
    from ..steps.teacher import Teacher

__all__ = ["main"]

# Options of select that name files.
_INPUTS = ("features", "labels", "class_names", "student_logits", "teacher_images", "teacher_classes", "teacher_logits")

_DESCRIPTION = "Choose which images to label, by Conformal Cross-Modal Acquisition (arXiv 2603.23159)."

_EPILOG = """\
examples:
  ccma-fast demo                                    the whole loop on real images, nothing to download
  ccma-fast extract photos --out pool               embeddings of the images in a folder, by DINOv2
  ccma-fast select --features x.npy --budget 100    100 rows of x.npy that cover it
  ccma-fast select --help                           with labels and a vision-language teacher
  ccma-fast simulate --help                         strategies compared where all labels are known
"""

_DEMO_DESCRIPTION = """\
Run active learning on the handwritten digits that scikit-learn ships, and compare this package's default acquisition
(ccma) with CCMA as published (ccma:paper), smallest margins and random choice. The teacher that both ask is the names
of the classes as printed in the fonts that matplotlib ships: nothing is downloaded. ccma also chooses its first labels
by the teacher, where the others draw theirs at random. Needs: pip install 'ccma-fast[demo]'

Prints the test accuracy against the number of labels and the labels needed for 80, 85 and 90 %, and writes
learning_curves.png, first_picks.png and accuracy.csv.
"""

_DEMO_EPILOG = """\
examples:
  ccma-fast demo                                    half a minute on 2 cores
  ccma-fast demo --seeds 1 --rounds 5               a quick look
  ccma-fast demo --seeds 10 --jobs 2 --out digits   a closer one, into the directory digits
"""

_SELECT_DESCRIPTION = """\
Choose the rows of a pool of N images whose labels teach a classifier the most. A matrix has one row per image, in the
same order everywhere, and is read in place, however large: a .npy, .h5, .parquet, .arrow or .safetensors file, as in
x.h5::key where that holds several, or a folder of shards, such as those of ccma-fast extract.

  no labels               rows that cover the pool, or with a zero-shot vision-language teacher the most central rows
                          of each class among those that it is surest of
  labels                  rows on which a classifier trained on the labels is uncertain, spread over the pool
  labels and a teacher    Conformal Cross-Modal Acquisition: the labels tell how far the teacher can be trusted; that
                          share of the rows is where it is sure and the classifier is not, balanced over its classes
"""

_SELECT_EPILOG = """\
labels are joined to rows by image_path, the ids of the images, where the features have ids (a folder of ccma-fast
extract or clip-retrieval, or a file with a column image_path) and the labels are a .csv or .parquet file that has this
column (as the output of this command then has it) or a folder of ccma-fast extract; else by index; else they stand in
the order of the rows, and no other column may name these.

output, one entry per pick, in the order of choice (the first ones matter most):
  rank                    1, 2, 3, ...
  index                   row of the features, counted from 0; never a row that has a label
  image_path              the image's id, where the features have ids
  score                   delta: disagreement and uncertainty; nan (in JSON null) where there were no labels
  represents              candidate rows that the pick stands for, itself included
  .csv has these columns; .json has them as lists, and the report; .npy has the indices alone (int64).

examples:
  ccma-fast select --features x.npy --budget 100 --out picks.csv
  ccma-fast select --features x.npy --labels y.npy --teacher-images v.npy --teacher-classes t.npy \\
                   --budget 100 --out picks.csv
  ccma-fast select --features x.npy --student-logits z.npy --teacher-logits zt.npy --budget 100 > picks.csv

The same call in Python: ccma_fast.select(features, budget, labels=..., teacher=ccma_fast.Teacher(...)).
"""

_EXTRACT_DESCRIPTION = """\
Embed images by a vision model (the student) and a vision-language model (the teacher), and class names by the latter,
into folders that ccma-fast select takes. Images that cannot be read are skipped and listed; they are no rows. Needs:
pip install 'ccma-fast[extract]'

  IMAGES                  folders with all that is below them; a .csv or .parquet file with the paths in a column
                          image_path, and perhaps labels in a column label; or .tar files as WebDataset writes them
  MODEL                   as open_clip, timm or torch.hub spell it: ViT-B-32 with --pretrained laion2b_s34b_b79k,
                          hf-hub:ORGANISATION/NAME, local-dir:PATH; vit_base_patch14_dinov2.lvd142m,
                          torch.hub:facebookresearch/dinov2:dinov2_vits14
"""

_EXTRACT_EPILOG = """\
folders in DIR, each with the rows of its shards (float16), what they are, and a manifest:
  student, teacher        img_emb/img_emb_0.npy, ... and metadata/metadata_0.parquet with image_path; the same images
  classes                 text_emb/text_emb_0.npy and metadata/metadata_0.parquet with caption

The same command again goes on after a kill, and takes in images that were added since and those that were skipped but
can be read now, behind those that are there. Images that are gone are named, and not offered for labelling until they
are there again; one that was renamed keeps its row; where a file was changed, nothing is done.

examples:
  ccma-fast extract photos --out pool
  ccma-fast extract photos --out pool --student vit_base_patch14_dinov2.lvd142m --image-size 224 \\
                    --teacher ViT-B-32 --pretrained laion2b_s34b_b79k --class-names names.txt --templates openai \\
                    --precision bf16 --workers 8
  ccma-fast select --features pool/student --teacher-images pool/teacher --teacher-classes pool/classes --budget 100

The same call in Python: ccma_fast.extract(images, out, student=..., teacher=..., ...).
"""

_SIMULATE_DESCRIPTION = """\
Compare strategies on a pool whose labels are all known: a few rows get their label, a classifier is trained on them and
measured on the test rows, the strategy chooses more rows, and so on; for every strategy and seed. The defaults are the
paper's protocol: as many first labels and labels per round as there are classes, 20 rounds, 5 seeds.

Prints the area under the learning curve (the mean accuracy over the numbers of labels) and the accuracy at the end.
"""

_SIMULATE_EPILOG = """\
strategies:
  random                  a name; with --teacher-images or --teacher-logits every strategy may use the teacher
  ccma:kappa=5            a name with constants of ccma_fast.CCMAConfig
  ccma:paper              the published constants
  margins:start=NAME      another choice of the first labels than --start
  all                     every strategy that there is

files in DIR, which a report is made from; a run that was interrupted goes on when the same command is given again, and
so does one that is to have more strategies, seeds or rounds:
  results.csv             strategy, seed, round, n_labels, accuracy, macro_auroc, macro_f1, and conformal diagnostics
  picks.csv, timings.csv  the rows chosen and the seconds taken in each round
  results.json            the results with every argument, the versions and a fingerprint of the data
  map.npz                 the pool in the plane
  run.json, rounds/       what is needed to go on

examples:
  ccma-fast simulate --features x.npy --labels y.npy --test-features tx.npy --test-labels ty.npy --out run
  ccma-fast simulate --features x.npy --labels y.npy --test-features tx.npy --test-labels ty.npy \\
                     --teacher-images v.npy --teacher-classes t.npy --strategies ccma ccma:kappa=5 margins random \\
                     --jobs 2 --out run

The same call in Python: ccma_fast.simulate(features, labels, test_features=..., test_labels=..., ...).
"""

_REPORT_DESCRIPTION = """\
Tables and pictures of a run of ccma-fast simulate, finished or not: area under the learning curves, paired differences
to a reference strategy, labels to reach an accuracy, the conformal sets over the rounds, the effect of kappa, time per
stage, and a map of pool and picks. Needs: pip install 'ccma-fast[plot]'

Prints the tables, and writes the pictures as PNG and report.html, one file that holds everything and needs no network.
"""

_REPORT_EPILOG = """\
examples:
  ccma-fast report run                              into the folder of the run itself
  ccma-fast report run --baseline random --targets 70 75 --out pictures
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``ccma-fast``.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the program's name; those of the process by default.

    Returns
    -------
    int
        The exit code: 0, 2 (bad input, or a stdout that takes nothing; one line on stderr says which), 130 (Ctrl-C) or
        141 (the reader of stdout has gone).
    """
    closed = open_closed_streams()
    program = "ccma-fast"
    try:
        try:
            arguments = _parser().parse_args(argv)
        except SystemExit as stop:  # argparse has printed what there is to say
            code = stop.code if isinstance(stop.code, int) else 0
        else:
            program = f"ccma-fast {arguments.command}"
            if 1 in closed and _only_prints(arguments):
                raise OSError("stdout is closed, and the results would be lost; expected --out, or an open stdout")
            arguments.run(arguments)
            code = 0
    except KeyboardInterrupt:
        code = _fail(program, "interrupted", 130)
    except BrokenPipeError:
        code = 141
    except (ValueError, TypeError, OSError, ImportError) as error:
        code = _fail(program, f"error: {error}", 2)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = 141
    except OSError as error:  # no space left, say; not said again where it was the error above
        code = code or _fail(program, f"error: cannot write to stdout: {error}", 2)
    else:
        return code
    discard_stdout()
    return code


def _only_prints(arguments: argparse.Namespace) -> bool:
    """Whether the results of a command stand nowhere but on stdout."""
    if arguments.command == "select":
        return arguments.out is None or arguments.plan
    return arguments.command == "simulate" and arguments.out is None


def _fail(program: str, message: str, code: int) -> int:
    tell(f"{program}: {' '.join(message.split())}")
    return code


class _StoreOnce(argparse.Action):
    """Takes a value, and no second one in its place."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        given = namespace.__dict__.setdefault("_given", set())
        if self.dest in given:
            raise argparse.ArgumentError(self, "must be given once")
        given.add(self.dest)
        setattr(namespace, self.dest, values)


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)
        for action in (None, "store"):
            self.register("action", action, _StoreOnce)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        # Here and not in the outer parser's parse_args, so that the error names the command.
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="ccma-fast", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=f"ccma-fast {__version__}")
    commands = parser.add_subparsers(
        title="commands", dest="command", metavar="{demo,extract,select,simulate,report}", required=True
    )
    _add_demo(commands)
    _add_extract(commands)
    _add_select(commands)
    _add_simulate(commands)
    _add_report(commands)
    return parser


def _add_demo(commands: Any) -> None:
    demo = commands.add_parser(
        "demo", help="run the whole loop on real images", description=_DEMO_DESCRIPTION, epilog=_DEMO_EPILOG
    )
    demo.set_defaults(run=_run_demo)
    demo.add_argument("--seeds", type=_at_least_1, default=3, metavar="N", help="repetitions (default: 3)")
    demo.add_argument(
        "--rounds", type=_at_least_1, default=20, metavar="N", help="queries per repetition (default: 20)"
    )
    demo.add_argument("--budget", type=_at_least_1, default=10, metavar="N", help="labels per query (default: 10)")
    demo.add_argument("--jobs", type=_at_least_1, default=1, metavar="N", help="processes (default: 1)")
    demo.add_argument(
        "--out", default="ccma-fast-demo", metavar="DIR", help="directory for the pictures (default: ccma-fast-demo)"
    )
    demo.add_argument("-q", "--quiet", action="store_true", help="print the tables only, no progress bar")


def _add_extract(commands: Any) -> None:
    extract = commands.add_parser(
        "extract", help="embed images for a pool", description=_EXTRACT_DESCRIPTION, epilog=_EXTRACT_EPILOG
    )
    extract.set_defaults(run=_run_extract)
    extract.add_argument("images", nargs="+", metavar="IMAGES", help="where they are, see above")
    extract.add_argument("--out", required=True, metavar="DIR", help="folder of the pool, new or one to go on with")

    extract.add_argument(
        "--image-suffixes",
        nargs="+",
        metavar="SUFFIX",
        help="what names of images end with in folders and .tar files, e.g. jpg seg.png (default: of all formats)",
    )
    extract.add_argument(
        "--labels-from-folders",
        action="store_true",
        help="the label of an image is the name of the folder below IMAGES in which it lies",
    )

    student = extract.add_argument_group("the student")
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
        "--image-size", type=_at_least_1, metavar="N", help="height and width of its input (default: as it was trained)"
    )

    teacher = extract.add_argument_group("the teacher (optional)")
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

    work = extract.add_argument_group("how")
    work.add_argument("--normalize", action="store_true", help="write rows of unit length")
    work.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of the models (default: fp32)")
    work.add_argument("--device", metavar="NAME", help="as PyTorch spells it (default: cuda where there is one)")
    work.add_argument("--batch-size", type=_at_least_1, default=64, metavar="N", help="images (default: 64)")
    work.add_argument(
        "--workers",
        type=_at_least_0,
        default=1,
        metavar="N",
        help="processes that decode images; 0: this one, which a decoder that crashes would end (default: 1)",
    )
    work.add_argument(
        "--shard-size",
        type=_at_least_1,
        default=10_000,
        metavar="N",
        help="images of a shard, which ends after five minutes all the same (default: 10000)",
    )
    work.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def _add_select(commands: Any) -> None:
    select = commands.add_parser(
        "select",
        help="choose which rows of a pool to label",
        description=_SELECT_DESCRIPTION,
        epilog=_SELECT_EPILOG,
    )
    select.set_defaults(run=_run_select)

    pool = select.add_argument_group("the pool")
    pool.add_argument(
        "--features",
        required=True,
        metavar="X.npy",
        help="embeddings that the classifier is trained on, e.g. of DINOv2: N x D numbers",
    )
    pool.add_argument("--budget", required=True, type=_at_least_1, metavar="B", help="how many rows to choose")
    pool.add_argument(
        "--labels",
        metavar="Y.npy",
        nargs="+",
        action="extend",
        help="N classes from 0 to C-1, -1 (or NaN) where a row has no label; or a .csv or .parquet file with columns "
        "index (a row) or image_path, and label, such as the output of this command with a column added; several files "
        "are joined",
    )
    pool.add_argument(
        "--class-names",
        metavar="FILE",
        help="what classes are called: one name per line, or .json; labels may then be names (default: as "
        "--teacher-classes knows them)",
    )
    pool.add_argument(
        "--student-logits", metavar="Z.npy", help="N x C logits of a classifier of your own, instead of training one"
    )

    _add_teacher_options(select)

    method = select.add_argument_group("the method")
    _add_config_option(method)
    method.add_argument(
        "--subpool-size",
        type=_rows_or_all,
        metavar="S",
        help="rows of a diverse subpool to score instead of all, never more than a third of the unlabelled ones "
        f"(default: that of --config: all, or {CCMAConfig.paper().subpool_size} as published)",
    )
    method.add_argument(
        "--kappa",
        type=_at_least_1,
        metavar="K",
        help=f"candidates per pick (default: that of --config, {CCMAConfig.kappa})",
    )
    method.add_argument("--seed", type=_at_least_0, default=0, metavar="N", help="same seed, same picks (default: 0)")
    method.add_argument("--backend", choices=BACKENDS, default="auto", help="what computes (default: auto)")
    _add_memory_option(method, "what it may add to the process's memory")

    output = select.add_argument_group("output")
    output.add_argument(
        "--out",
        type=_output_file,
        metavar="FILE",
        help=f"file for the picks, by its suffix {', '.join(SUFFIXES)}; an existing .csv or .json file is replaced "
        "where it has the columns above and no others (default: CSV to stdout)",
    )
    output.add_argument(
        "--overwrite", action="store_true", help="replace whatever --out is, also where it may be somebody's work"
    )
    output.add_argument("-q", "--quiet", action="store_true", help="no report on stderr")
    output.add_argument(
        "--plan",
        action="store_true",
        help="choose nothing: print what it would read, the memory and the time that it would take, stage by stage",
    )


def _add_report(commands: Any) -> None:
    report = commands.add_parser(
        "report", help="tables and pictures of a run", description=_REPORT_DESCRIPTION, epilog=_REPORT_EPILOG
    )
    report.set_defaults(run=_run_report)
    report.add_argument("folder", metavar="RUN", help="folder that ccma-fast simulate wrote")
    report.add_argument("--out", metavar="DIR", help="directory for the files (default: RUN)")
    report.add_argument(
        "--baseline", metavar="NAME", help="the strategy that the others are compared with (default: the first)"
    )
    report.add_argument(
        "--targets",
        type=_percentage,
        nargs="+",
        default=[0.8, 0.85, 0.9],
        metavar="P",
        help="accuracies in %% whose price in labels is stated (default: 80 85 90)",
    )


def _add_simulate(commands: Any) -> None:
    simulate = commands.add_parser(
        "simulate",
        help="compare strategies on a pool whose labels are known",
        description=_SIMULATE_DESCRIPTION,
        epilog=_SIMULATE_EPILOG,
    )
    simulate.set_defaults(run=_run_simulate)

    pool = simulate.add_argument_group("the data")
    pool.add_argument("--features", required=True, metavar="X.npy", help="embeddings of the pool: N x D numbers")
    pool.add_argument(
        "--labels", required=True, metavar="Y.npy", help="their N classes, numbers from 0 to C-1 or names"
    )
    pool.add_argument(
        "--test-features", required=True, metavar="TX.npy", help="embeddings of the test images: M x D numbers"
    )
    pool.add_argument("--test-labels", required=True, metavar="TY.npy", help="their M classes")
    pool.add_argument(
        "--class-names",
        metavar="FILE",
        help="what the classes are called: one name per line in their order, or .json with a list or a mapping; needed "
        "where labels are names that the teacher does not know",
    )
    _add_teacher_options(simulate)

    protocol = simulate.add_argument_group("the comparison")
    protocol.add_argument(
        "--strategies",
        nargs="+",
        default=["ccma", "random", "margins"],
        metavar="NAME",
        help="what is compared, see below (default: ccma random margins)",
    )
    protocol.add_argument(
        "--seeds",
        nargs="+",
        type=_at_least_0,
        default=[1, 10, 100, 1000, 10000],
        metavar="N",
        help="one repetition each (default: 1 10 100 1000 10000)",
    )
    protocol.add_argument("--rounds", type=_at_least_1, default=20, metavar="N", help="queries (default: 20)")
    protocol.add_argument("--budget", type=_at_least_1, metavar="B", help="labels per query (default: C)")
    protocol.add_argument("--n-start", type=_at_least_1, metavar="N", help="first labels (default: C)")
    protocol.add_argument(
        "--start", default="random", metavar="NAME", help="strategy that chooses the first labels (default: random)"
    )
    _add_config_option(protocol)
    protocol.add_argument("--backend", choices=BACKENDS, default="auto", help="what computes (default: auto)")
    protocol.add_argument("--jobs", type=_at_least_1, default=1, metavar="N", help="processes (default: 1)")
    _add_memory_option(protocol, "what all jobs together may add to memory")

    output = simulate.add_argument_group("output")
    output.add_argument("--out", metavar="DIR", help="folder of the run, new or one to go on with")
    output.add_argument("-q", "--quiet", action="store_true", help="print the table only, no progress bar")


def _add_memory_option(command: Any, what: str) -> None:
    command.add_argument(
        "--memory-limit",
        metavar="BYTES",
        type=_memory_limit,
        help=f"{what}, such as 4GB (default: a quarter of the machine's or control group's)",
    )


def _add_teacher_options(command: Any) -> None:
    teacher = command.add_argument_group("the teacher (optional)")
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
        type=_above_0,
        metavar="TAU",
        help="what cosine similarities (default: 0.03) or teacher logits (default: 1) are divided by",
    )
    teacher.add_argument(
        "--force",
        action="store_true",
        help="take matrices that by manifests, ids or shards are of other images or another model; the report says so",
    )


def _add_config_option(method: Any) -> None:
    method.add_argument(
        "--config",
        type=_config,
        default="default",
        metavar="NAME",
        help="constants of the method: default; paper, the published run; or paper:SET, the published run on SET, one "
        f"of {', '.join(PAPER_DATASETS)}",
    )


def _run_demo(arguments: argparse.Namespace) -> None:
    from ..research.demo import run

    _forgive_terminal()
    run(
        arguments.out,
        seeds=arguments.seeds,
        rounds=arguments.rounds,
        budget=arguments.budget,
        jobs=arguments.jobs,
        quiet=arguments.quiet,
    )


def _run_extract(arguments: argparse.Namespace) -> None:
    from ..images.extract import extract

    templates = arguments.templates
    found = extract(
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
    )
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
    print(f"{found.n_rows} images, {len(found.skipped)} skipped")
    for option, folder in (
        ("--features", found.student),
        ("--teacher-images", found.teacher),
        ("--teacher-classes", found.classes),
    ):
        if folder is not None:
            print(f"{option:18} {folder}")


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)


def _run_report(arguments: argparse.Namespace) -> None:
    from ..research.report.report import write_report

    _forgive_terminal()
    tables = write_report(arguments.folder, arguments.out, baseline=arguments.baseline, targets=arguments.targets)
    print(f"{tables}\n\nEverything on one page: {Path(arguments.out or arguments.folder) / 'report.html'}")


def _forgive_terminal() -> None:
    """A terminal that knows no ± is no reason to lose the tables."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _run_select(arguments: argparse.Namespace) -> None:
    from dataclasses import replace

    from ..pool.open import open_rows
    from ..query.select import plan, select

    _check_output(arguments)
    config: CCMAConfig = arguments.config
    if arguments.subpool_size is not None:
        config = replace(config, subpool_size=None if arguments.subpool_size == "all" else arguments.subpool_size)
    if arguments.kappa is not None:
        config = replace(config, kappa=arguments.kappa)
    teacher = _teacher(arguments, arguments.class_names)
    features = open_rows(arguments.features, "features")
    labels = None if arguments.labels is None else [Path(file) for file in arguments.labels]
    asked: dict[str, Any] = {
        "labels": labels,
        "class_names": arguments.class_names,
        "teacher": teacher,
        "student_logits": arguments.student_logits,
        "config": config,
        "backend": arguments.backend,
        "memory_limit": arguments.memory_limit,
    }
    if arguments.plan:
        with _warnings_in_one_line():
            print(plan(features, arguments.budget, **asked))
        return
    with _warnings_in_one_line(of_teacher=arguments.quiet):  # else the report below has them
        picks = select(features, arguments.budget, random_state=arguments.seed, **asked)
    if arguments.out is None:
        sys.stdout.write(as_csv(picks))
        sys.stdout.flush()
    else:
        content = as_bytes(picks, arguments.out.suffix.lower())
        try:
            _check_output(arguments)  # again, for somebody may have worked on the file meanwhile
        except (OSError, ValueError):
            sys.stdout.write(as_csv(picks))  # rather than lost
            raise
        write_whole(arguments.out, lambda file: file.write(content))
    if not arguments.quiet:
        if teacher is not None and labels is not None and picks.report.n_labelled:
            tell(_diagnosis(teacher, labels, features, picks.report.warnings))
        tell(_summary(picks, arguments))


def _run_simulate(arguments: argparse.Namespace) -> None:
    from ..research.simulate import simulate
    from ..strategies import names

    _forgive_terminal()
    strategies = [name for given in arguments.strategies for name in (names() if given == "all" else [given])]
    results = simulate(
        arguments.features,
        arguments.labels,
        test_features=arguments.test_features,
        test_labels=arguments.test_labels,
        strategies=strategies,
        seeds=arguments.seeds,
        rounds=arguments.rounds,
        budget=arguments.budget,
        n_start=arguments.n_start,
        start=arguments.start,
        teacher=_teacher(arguments),
        class_names=arguments.class_names,
        config=arguments.config,
        out=arguments.out,
        jobs=arguments.jobs,
        progress=not arguments.quiet,
        force=arguments.force,
        backend=arguments.backend,
        memory_limit=arguments.memory_limit,
    )
    print(_areas(results))


def _areas(results: Results) -> str:
    """A table of the areas under the curves and the accuracies at the end, by falling area."""
    from ..research.curves import aligned, mean_percent, percent

    curves = [results.curve(strategy) for strategy in results.strategies]
    curves.sort(key=lambda curve: -float(curve.area.mean()))
    areas = [mean_percent(curve.area) for curve in curves]
    ends = [percent(float(curve.mean[-1]), float(curve.standard_error[-1])) for curve in curves]
    n_labels, n_seeds = curves[0].n_labels, len(results.seeds)
    spread = f"mean ± standard error over {n_seeds} seeds" if n_seeds > 1 else "one seed"
    table = aligned(
        "strategy",
        [curve.name for curve in curves],
        ["area under the curve", f"at {n_labels[-1]} labels"],
        [areas, ends],
    )
    return f"Test accuracy in %, {n_labels[0]} to {n_labels[-1]} labels, {spread}\n\n{table}"


def _teacher(arguments: argparse.Namespace, class_names: str | None = None) -> Teacher | None:
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


def _check_output(arguments: argparse.Namespace) -> None:
    """The output can be written, is none of the inputs, and takes nobody's work away."""
    if arguments.out is None:
        return
    check_can_write(arguments.out)
    out = repr(str(arguments.out))
    for name, source in _input_paths(arguments):
        check_no_input(arguments.out, [(f"--{name}", source)], what="--out")
        below = arguments.out.suffix.lower() != ".csv" and source.is_dir()
        if below and arguments.out.resolve().is_relative_to(source.resolve()):
            raise ValueError(
                f"--out {out} would be among the files of --{name} {str(source)!r}; expected another folder"
            )
    if not arguments.out.exists():
        return
    if not (arguments.overwrite or holds_picks_alone(arguments.out)):
        raise ValueError(
            f"--out {out} is there already and holds something else than picks, or more; expected another file, or "
            "--overwrite"
        )


def _input_paths(arguments: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    """The files and folders that there are of the inputs, with their options."""
    for name in _INPUTS:
        given = getattr(arguments, name)
        for source in given if isinstance(given, list) else [given]:
            if source is not None:
                path = Path(source if os.path.exists(source) else source.partition("::")[0])
                if path.exists():
                    yield name.replace("_", "-"), path


def _diagnosis(teacher: Teacher, labels: list[Path], features: Rows, said: list[str]) -> str:
    """How good the teacher is on the labelled rows, without the warnings that are said elsewhere."""
    from dataclasses import replace

    from ..errors import LabelWarning, TeacherWarning
    from ..pool.labels import Classes, read_labels

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LabelWarning)  # said by the query
        warnings.simplefilter("ignore", TeacherWarning)  # part of what is found
        # The features may know ids where the teacher's rows do not.
        known = read_labels(labels, features, n_classes=teacher.n_classes, class_names=teacher.class_names)
        found = teacher.diagnose(Classes(known))
    found = replace(found, warnings=[text for text in found.warnings if text not in said])
    return f"the teacher on the labelled rows:\n{found}"


@contextmanager
def _warnings_in_one_line(*, of_teacher: bool = False) -> Iterator[None]:
    """As errors are said, without the line of a program: what labels and, if wanted, the teacher are warned of."""
    from ..errors import LabelWarning, TeacherWarning

    with warnings.catch_warnings():
        warnings.simplefilter("always", LabelWarning)
        warnings.simplefilter("always" if of_teacher else "ignore", TeacherWarning)
        others = warnings.showwarning

        def show(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
            if issubclass(category, (LabelWarning, TeacherWarning)):
                for text in str(message).splitlines():
                    tell(f"ccma-fast select: warning: {text}")
            else:
                others(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield


def _summary(picks: Selection, arguments: argparse.Namespace) -> str:
    report: Report = picks.report
    where = "" if arguments.out is None else f" -> {arguments.out}"
    there = " whose images are there" if report.n_vanished else ""
    more = f"but no more rows are unlabelled{there}"
    short = "" if len(picks) == arguments.budget else f" (budget {arguments.budget}, {more})"
    return f"{report}\n{len(picks)} picks{short}{where}"


def _at_least_1(text: str) -> int:
    return _integer(text, 1)


def _at_least_0(text: str) -> int:
    return _integer(text, 0)


def _integer(text: str, minimum: int) -> int:
    value = integer_in(text)
    if value is None:
        raise argparse.ArgumentTypeError(f"must be an integer, got {text!r:.80}")
    if value < minimum:
        raise argparse.ArgumentTypeError(f"must be at least {minimum}, got {value}")
    return value


def _above_0(text: str) -> float:
    value = number_in(text)
    if value is None:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r:.80}")
    if not 0.0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be finite and greater than 0, got {text}")
    return value


def _percentage(text: str) -> float:
    value = _above_0(text)
    if value > 100:
        raise argparse.ArgumentTypeError(f"must be at most 100, got {text}")
    return value / 100


def _memory_limit(text: str) -> int:
    try:
        number = integer_in(text)
        return check_memory_limit(text if number is None else number).limit
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("memory_limit ")) from None


def _rows_or_all(text: str) -> int | str:
    return text if text == "all" else _integer(text, 1)


def _config(text: str) -> CCMAConfig:
    if text == "default":
        return CCMAConfig()
    name, colon, dataset = text.partition(":")
    if name != "paper" or (colon and dataset not in PAPER_DATASETS):
        expected = ", ".join(["default", "paper", *(f"paper:{known}" for known in PAPER_DATASETS)])
        raise argparse.ArgumentTypeError(f"must be one of {expected}, got {text!r}")
    return CCMAConfig.paper(dataset or None)


def _output_file(text: str) -> Path:
    file = Path(text)
    if file.suffix.lower() not in SUFFIXES:
        raise argparse.ArgumentTypeError(f"must end in {', '.join(SUFFIXES)}, got {text!r}")
    return file
