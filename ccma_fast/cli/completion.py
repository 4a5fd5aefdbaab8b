"""The command ``ccma-fast completion``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from ..system.extras import optional
from .command import Command

__all__ = ["COMMAND"]

SHELLS = ("bash", "zsh", "fish", "tcsh")

_DESCRIPTION = """\
Print a script that makes a shell complete commands, options, their choices and files of the right kind when Tab is
pressed. The script holds all of them, so that nothing is started then; write it anew after an update of this package.
"""

_EPILOG = """\
where shells look for it (bash needs the package bash-completion), in a folder that has to be there:
  mkdir -p ~/.local/share/bash-completion/completions
  ccma-fast completion bash > ~/.local/share/bash-completion/completions/ccma-fast
  ccma-fast completion zsh > ~/.zfunc/_ccma-fast
  ccma-fast completion fish > ~/.config/fish/completions/ccma-fast.fish
  ccma-fast completion tcsh > ~/.ccma-fast.completion.csh

Needed beside it:
  in ~/.zshrc     fpath=(~/.zfunc $fpath); autoload -U compinit; compinit
  in ~/.tcshrc    source ~/.ccma-fast.completion.csh

For one session of bash alone:
  eval "$(ccma-fast completion bash)"

Needs: pip install 'ccma-fast[completion]'
"""

# What the arguments of some names are, in every command: suffixes of files, or folders alone.
_ROWS = (".npy", ".h5", ".hdf5", ".parquet", ".arrow", ".safetensors")
_LABELS = (".csv", ".tsv", ".txt", ".parquet", ".npy", ".h5", ".hdf5")
_MASKS = (".csv", ".tsv", ".txt", ".parquet", ".npy")
_NAMES = (".txt", ".json", ".csv", ".tsv")
_ANY, _FOLDER = (), None
_FILES: dict[str, tuple[str, ...] | None] = {
    **dict.fromkeys(("features", "test_features", "student_logits", "probabilities"), _ROWS),
    **dict.fromkeys(("teacher_images", "teacher_classes", "teacher_logits"), _ROWS),
    **dict.fromkeys(("labels", "test_labels"), _LABELS),
    **dict.fromkeys(("exclude", "pending", "include"), _MASKS),
    **dict.fromkeys(("audit", "label_errors", "people"), (".csv",)),
    **dict.fromkeys(("campaign", "files"), _ANY),
    "class_names": _NAMES,
    "class_distribution": (".npy", ".json"),
    "parent": (".selection.json",),
    "folder": _FOLDER,
    "images": _FOLDER,
    "extract images": (".csv", ".tsv", ".txt", ".parquet", ".tar"),
    "select out": (".csv", ".json", ".npy"),
    "campaign next out": (".csv", ".json", ".npy"),
    "campaign audit out": (".csv", ".json", ".npy"),
    "campaign export out": _ANY,
    "predict out": (".csv", ".parquet", ".npy"),
    "autolabel out": (".csv",),
    "label out": (".html",),
    **dict.fromkeys(("demo out", "extract out", "simulate out", "report out"), _FOLDER),
}

# Arguments whose words are no paths, though those of other commands under these names are.
_NO_FILES = {"campaign label images", "campaign export images", "campaign import images"}

_STRATEGIES = {"strategies", "start"}


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="for which shell")


def _run(arguments: argparse.Namespace) -> None:
    from .program import whole_parser

    shtab = optional("shtab", "ccma-fast completion", "completion")
    parser = whole_parser()
    for words, action in _actions(parser, ()):
        _describe(action, " ".join((*words, action.dest)), shtab)
    sys.stdout.write(f"{shtab.complete(parser, arguments.shell)}\n")
    sys.stdout.flush()


def _actions(parser: argparse.ArgumentParser, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every argument, with the words of its command."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for entry in action._get_subactions():
                below = action.choices[entry.dest]
                below.description = entry.help  # of which shells show one line
                yield from _actions(below, (*words, entry.dest))
        else:
            yield words, action


def _describe(action: Any, name: str, shtab: Any) -> None:
    """Say how an argument is completed, in the terms of shtab."""
    if action.dest in _STRATEGIES:
        from ..strategies import names

        action.choices = [*names(), *(["all"] if action.dest == "strategies" else [])]
    key = name if name in _FILES else action.dest
    if key not in _FILES or name in _NO_FILES or action.choices:
        return
    suffixes = _FILES[key]
    if suffixes is _FOLDER:
        action.complete = shtab.DIRECTORY
    else:
        action.complete = shtab.glob(*(f"*{suffix}" for suffix in suffixes)) if suffixes else shtab.FILE


COMMAND = Command(
    summary="print a script by which a shell completes this program's arguments",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    add_arguments=_add_arguments,
    run=_run,
    results_only_on_stdout=lambda _: True,
)
