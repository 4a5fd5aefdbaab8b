"""The command ``ccma-fast campaign`` and its actions."""

from __future__ import annotations

import argparse
from importlib import import_module

from .command import Command

__all__ = ["ACTIONS", "COMMAND"]

ACTIONS = (
    "init",
    "next",
    "label",
    "export",
    "import_",
    "status",
    "undo",
    "log",
    "classes",
    "audit",
    "settings",
)
"""Modules of :mod:`.campaign_actions`, in the order of the help; a trailing underscore is no part of the name."""

_DESCRIPTION = """\
A labelling campaign: batches of images, answers of people who may be late, several, wrong or unsure, in one file that
loses nothing. Everything that happens is an event in that file; an undo is one too.
"""

_EPILOG = """\
a campaign, from its first batch to its labels:
  ccma-fast campaign init birds.campaign --features pool --class-names birds.txt --images photos
  ccma-fast campaign next birds.campaign --budget 100
  ccma-fast label birds.campaign --annotator ana --out ana.html       the page in which ana labels; she exports a file
  ccma-fast campaign import birds.campaign answers-*.json
  ccma-fast campaign status birds.campaign
  ccma-fast campaign export birds.campaign --to labels --out labels.csv

Images are known by their ids: the pool may grow, or come from another encoder, while a campaign goes on. Several people
and programs of one machine may use the file at the same time. `ccma-fast campaign ACTION --help` tells more.
"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    names = [module.rstrip("_") for module in ACTIONS]
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    for name, module in zip(names, ACTIONS, strict=True):
        action = _load(module)
        action.add_arguments(
            actions.add_parser(name, help=action.summary, description=action.description, epilog=action.epilog)
        )


def _run(arguments: argparse.Namespace) -> None:
    module = next(module for module in ACTIONS if module.rstrip("_") == arguments.action)
    _load(module).run(arguments)


def _load(module: str) -> Command:
    action: Command = import_module(f".campaign_actions.{module}", __package__).ACTION
    return action


COMMAND = Command(
    summary="have images labelled by people, over days",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    add_arguments=_add_arguments,
    run=_run,
    prints_tables=True,
)
