"""The action ``ccma-fast campaign status``."""

from __future__ import annotations

import argparse

from ..command import Command
from ..json_output import add_json_option, print_json
from .shared import add_file_argument, open_campaign

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
        print(status)


ACTION = Command(
    summary="tell how it stands",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    add_arguments=_add_arguments,
    run=_run,
    prints_tables=True,
)
