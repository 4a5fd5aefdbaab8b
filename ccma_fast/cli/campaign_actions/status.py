"""The action ``ccma-fast campaign status``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..command import Command
from ..json_output import add_json_option, print_json
from .shared import add_file_argument, open_campaign, printable

if TYPE_CHECKING:
    from ...campaign.status import ModelChecks, Share, Status

__all__ = ["ACTION"]

_DESCRIPTION = """\
How a campaign stands: labels and refusals, what is out, people and how far they agree, how often what the models had
said was right, and whether their predictions still change.
"""

_EPILOG = """\
Times are in UTC (Z), intervals of 95 %. Images that are out wait for answers: nobody has answered, or fewer people than
are to. An annotator's agreement is how often they said what most of the others said about an image. Audits are random
images of the pool (ccma-fast campaign audit); picks are those that queries chose, which are harder. What ten labels or
more changed is the share of random images whose predicted class is another one: the accuracy on the pool cannot have
changed by more. Predictions are stable when Cohen's kappa of three such changes in a row is 0.99 on average (Bloodgood
and Vijay-Shanker 2009): then more labels of the same kind bring little.

example:
  ccma-fast campaign status birds.campaign
"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_file_argument(parser)
    add_json_option(parser)


def _run(arguments: argparse.Namespace) -> None:
    with open_campaign(arguments, with_pool=False) as campaign:
        status = campaign.status()
    if arguments.json:
        print_json(status.to_dict())
    else:
        print("\n".join(_lines(status)))


def _lines(status: Status) -> Iterator[str]:
    yield f"images       {status.n_rows}"
    yield f"labelled     {status.n_labelled}"
    yield f"refused      {status.n_refused}"
    undecided = f", {status.n_undecided} of them answered, but not by enough people yet" if status.n_undecided else ""
    yield f"out          {status.n_out}{undecided}"
    counts = sorted(status.by_class.items(), key=lambda pair: -pair[1])
    shown = ", ".join(f"{printable(name)} {n}" for name, n in counts[:8])
    yield f"classes      {len(counts)}" + (f": {shown}{', ...' if len(counts) > 8 else ''}" if counts else "")
    for entry in status.annotators:
        seconds = "" if entry.median_seconds is None else f", {entry.median_seconds:.1f} s each"
        others = "" if not entry.with_others.n else f", as most of the others {_share(entry.with_others)}"
        name = printable(entry.name) or "(no name)"
        waiting = f", {entry.n_waiting} images wait for them" if entry.n_waiting else ""
        counted = f"{entry.n_labels} labels, {entry.n_refusals} refusals{waiting}"
        yield f"annotator    {name}: {counted}{seconds}{others}"
    if status.n_several:
        yield f"agreement    Krippendorff's alpha {status.alpha:.3f} on {status.n_several} images"
    yield from _checks("audits", status.audits)
    yield from _checks("picks", status.picks)
    for batch in status.batches:
        what = "audit" if batch.is_audit else "batch"
        found = batch.agreement
        changed = ""
        if found is not None:
            by = _interval(found.changed, found.low, found.high)
            changed = f", chosen after {found.n_new} more labels, which changed {by} of the predictions"
        counted = f"{batch.n_labelled} labelled, {batch.n_refused} refused, {batch.n_out} out"
        yield f"{what} {batch.number:<6} {batch.issued[:16]}Z: {batch.n_images} images, {counted}{changed}"
    if status.is_stable is not None:
        yield f"predictions  {'are stable' if status.is_stable else 'still change'}"


def _checks(name: str, checks: ModelChecks) -> Iterator[str]:
    for what, share in zip(
        ("likeliest class right", "student's set right", "teacher's set right"), checks, strict=True
    ):
        if share.n:
            yield f"{name:12} {what} {_share(share)}"


def _share(share: Share) -> str:
    return f"{_interval(share.share, share.low, share.high)} of {share.n}"


def _interval(value: float, low: float, high: float) -> str:
    return f"{100 * value:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


ACTION = Command(
    summary="tell how it stands",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    add_arguments=_add_arguments,
    run=_run,
    prints_tables=True,
)
