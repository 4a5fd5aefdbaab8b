"""The command line: ``python -m bench.gpu --help``."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
import time
from pathlib import Path
from typing import Any

from . import ab, parts, report, results, warm
from .runner import Outcome, run

# What measures each part that `measure` names, and prints a line for each thing measured. Imported when it runs: what
# runs the parts loads neither PyTorch nor Triton, and cannot fail with them.
_MEASURES = {
    "smoke": "smoke:smoke",
    "sanitized": "smoke:sanitized",
    "ceilings": "scores:ceilings",
    "scores": "scores:scores",
    "assign": "clusters:assign",
    "select": "queries:select",
    "rest": "queries:rest",
    "counters": "clusters:counters",
    "more": "queries:more",
}


def main() -> None:
    """Runs what was asked for; the exit status says whether something failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description="Everything that needs a GPU, in parts.")
    commands = parser.add_subparsers(dest="command", required=True)
    whole = commands.add_parser("run", help="all parts, one after the other")
    whole.add_argument("--dry-run", action="store_true", help="tiny sizes, in Triton's interpreter")
    whole.add_argument("--no-hang", action="store_true", help="of a dry run the first half: nothing is killed")
    whole.add_argument("--all-tests", action="store_true", help="of a dry run: all tests, some minutes")
    one = commands.add_parser("measure", help="one part, in this process")
    one.add_argument("name", choices=_MEASURES)
    one.add_argument("--small", action="store_true", help="tiny sizes")
    again = commands.add_parser("report", help="the table of what was measured")
    checked = commands.add_parser("verify", help="whether a cache has what the smoke check launches")
    for command in (whole, one, again, checked):
        command.add_argument("--output", type=Path, required=True, help="the folder of the results")
    _add_cache(commands)
    _add_comparison(commands)
    arguments = parser.parse_args()
    if arguments.command in _OTHERS:
        sys.exit(_OTHERS[arguments.command](arguments))
    out: Path = arguments.output.resolve()
    if arguments.command == "measure":
        sys.exit(_measure(arguments.name, out, small=arguments.small))
    if arguments.command == "report":
        (out / "gpu.md").write_text(report.report(*results.read(out / "gpu.jsonl")), "utf-8")
        return
    out.mkdir(parents=True, exist_ok=True)
    if not arguments.dry_run:
        outcomes = run(parts.of_card(out), out, deadline=_deadline())
        sys.exit(any(outcome.status != "ok" for outcome in outcomes))
    planned = parts.dry(out, all_tests=arguments.all_tests)
    good = all(outcome.status == "ok" for outcome in run(planned, out, deadline=time.monotonic() + 7200))
    if not arguments.no_hang:
        hanging = parts.hanging(planned, results.HANG)
        killed = run(hanging, out, deadline=time.monotonic() + 7200, name="hang")
        good = good and all(map(_was_killed, killed))
    sys.exit(not good)


def _add_cache(commands: Any) -> None:
    heated = commands.add_parser(
        "warm", help="compile recorded launches into Triton's cache, for a card that is not here"
    )
    heated.add_argument("launches", type=Path)
    heated.add_argument("--expect-all", action="store_true", help="fail where something was not in the cache yet")
    for name, args in {"pack": ("cache", "archive"), "unpack": ("archive", "cache")}.items():
        moved = commands.add_parser(name, help=f"{args[0]} to {args[1]}")
        for arg in args:
            moved.add_argument(arg, type=Path)


def _add_comparison(commands: Any) -> None:
    both = commands.add_parser("ab", help="two variants of one kernel, in turn")
    one = commands.add_parser("ab-serve", help=argparse.SUPPRESS)
    for command in (both, one):
        command.add_argument("kernel", choices=("assign", "update", "score", "threshold", "features"))
        command.add_argument("--dtype", default="bfloat16", choices=("float32", "float16", "bfloat16"))
        command.add_argument("--columns", type=_count, default=768)
        command.add_argument("--classes", type=_count, default=1000)
        command.add_argument("--small", action="store_true", help="tiny sizes")
    both.add_argument(
        "variants", nargs=2, metavar="VARIANT", help="a source folder, a commit, or NAME=VALUE of _configs"
    )
    both.add_argument("--rounds", type=_count, default=15)
    one.add_argument("--setting", default="")


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"at least 1, got {number}")
    return number


def _ab(arguments: argparse.Namespace) -> int:
    options = {name: getattr(arguments, name) for name in ("dtype", "columns", "classes")}
    with contextlib.ExitStack() as stack:
        variants = [stack.enter_context(ab.variant(text)) for text in arguments.variants]
        small = arguments.small
        return ab.compare(arguments.kernel, variants, rounds=arguments.rounds, small=small, options=options)


def _ab_serve(arguments: argparse.Namespace) -> None:
    options = {name: getattr(arguments, name) for name in ("dtype", "columns", "classes")}
    ab.serve(arguments.kernel, small=arguments.small, setting=arguments.setting, options=options)


# What is not a part.
_OTHERS = {
    "ab": _ab,
    "ab-serve": _ab_serve,
    "warm": lambda of: warm.warm(of.launches, expect_all=of.expect_all),
    "pack": lambda of: warm.pack(of.cache, of.archive),
    "unpack": lambda of: warm.unpack(of.archive, of.cache),
    "verify": lambda of: warm.verify(of.output.resolve()),
}


def _measure(name: str, out: Path, *, small: bool) -> int:
    found = results.Results(out / "gpu.jsonl", name)
    found.add(what="begun")
    from .launches import prepare

    prepare()
    module, function = _MEASURES[name].split(":")
    n_wrong: int = getattr(importlib.import_module(f".{module}", __package__), function)(found, out, small=small)
    return int(n_wrong > 0)


def _deadline() -> float:
    """When the run must be over, from when the script started, which also installs."""
    started = float(os.environ.get("CCMA_BENCH_START", time.time()))
    return time.monotonic() + parts.DEADLINE - (time.time() - started)


def _was_killed(outcome: Outcome) -> bool:
    return outcome.status.startswith("timed out")


if __name__ == "__main__":
    main()
