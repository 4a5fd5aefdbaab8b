"""Turn the JSON of a benchmark run into tables and a picture::

python -m bench.tabulate bench/results/run.json --output bench/results/run.md --picture bench/results/run.png

A run may come in parts, several files that are named one after the other.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import marks
from .marks import OURS

_LEGEND = """\
Median, interquartile range (IQR) and the fastest of all rounds, of wall time. "ccma_fast is faster by" is the
contender's median over ours in the same run, and in brackets the range from the quartiles of both; below 1 ours is
slower, as it must be than a floor. "CPU of others" is what other processes took of the machine meanwhile. It lengthens
the times, most of all those of libraries whose threads wait for each other, so that no ratio is given where either of
the two saw more than 10 %.

k-means: SuperKMeans and fastkmeans start from rows of their own choice, all others from the same; the hierarchical
SuperKMeans does 3 + 5 iterations on two levels."""


def main() -> None:
    """Read one file, write one."""
    parser = argparse.ArgumentParser(prog="python -m bench.tabulate", description=__doc__.split("::")[0])
    parser.add_argument("json", type=Path, nargs="+", help="what pytest wrote with --benchmark-json; parts of one run")
    parser.add_argument("--output", type=Path, help="the markdown file to write (default: print)")
    parser.add_argument("--picture", type=Path, help="the .png or .svg to write (default: none)")
    parser.add_argument("--joined", type=Path, help="the .json of all parts to write (default: none)")
    arguments = parser.parse_args()
    run = joined([json.loads(file.read_text(encoding="utf-8")) for file in arguments.json])
    if arguments.joined is not None:
        arguments.joined.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    if arguments.picture is not None:
        from .picture import figure  # needs matplotlib

        figure(run).savefig(arguments.picture, dpi=150)
    text = report(run)
    if arguments.output is None:
        print(text, end="")
    else:
        arguments.output.write_text(text, encoding="utf-8")


def joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Parts of a run as one; of a benchmark that was run twice the later one holds.

    Raises
    ------
    ValueError
        They come from different machines, versions or commits.
    """
    machine = {**parts[0]["machine_info"]}
    # Which of them are loaded depends on what is measured.
    machine["openblas"] = sorted({library for part in parts for library in part["machine_info"]["openblas"]})
    for part in parts:
        if {**part["machine_info"], "openblas": machine["openblas"]} != machine:
            raise ValueError("expected parts of one run, got different machines or versions")
        if any(part["commit_info"][key] != parts[0]["commit_info"][key] for key in ("id", "dirty")):
            raise ValueError("expected parts of one run, got different commits")
    benchmarks = {b["fullname"]: b for part in parts for b in part["benchmarks"]}
    return {**parts[0], "machine_info": machine, "benchmarks": list(benchmarks.values())}


def report(run: dict[str, Any]) -> str:
    """The whole document."""
    by_title: dict[str, list[dict[str, Any]]] = {}
    for benchmark in run["benchmarks"]:
        by_title.setdefault(benchmark["extra_info"]["title"], []).append(benchmark)
    parts = [heading(run), _LEGEND]
    reached = marks_table(run["benchmarks"])
    if reached is not None:
        parts += ["## Marks", reached]
    for title, benchmarks in by_title.items():
        parts += [f"## {title}", _times(benchmarks)]
        if any("stages_ms" in b["extra_info"] for b in benchmarks):
            parts += ["Of this, by stage:", _stages(benchmarks)]
    return "\n\n".join(parts) + "\n"


def marks_table(benchmarks: list[dict[str, Any]]) -> str | None:
    """The marks that there are numbers for, with the range from the quartiles of the times; None if there are none."""
    found = marks.rows(benchmarks)
    head = ["mark", "wanted", "measured", "from", "to", "met"]
    lines = []
    for mark, measured, is_disturbed in found:
        verdict = "disturbed" if is_disturbed else "yes" if mark.is_met(measured.value) else "no"
        lines.append([mark.what, mark.wanted, *(f"{value:.4g}" for value in measured), verdict])
    return table(head, lines) if lines else None


def heading(run: dict[str, Any]) -> str:
    machine, commit = run["machine_info"], run["commit_info"]
    changes = ", with uncommitted changes" if commit.get("dirty") else ""
    lines = [
        f"# Benchmarks of {run['datetime'][:10]}",
        "",
        f"- Machine: {machine['cpu']} ({machine['architecture']}), {machine['processors']} processors, "
        f"{machine['memory_gib']} GiB, {machine['system']}; of interest: {', '.join(machine['instruction_sets'])}",
        f"- Threads: {machine['threads']} for every contender; backend of ccma_fast: {machine['backend']}",
        f"- Versions: {', '.join(f'{name} {version}' for name, version in machine['versions'].items())}",
        f"- Commit: {str(commit.get('id'))[:12]}{changes}",
    ]
    if machine["openblas"]:
        lines.insert(-1, f"- OpenBLAS: {'; '.join(machine['openblas'])}")
    return "\n".join(lines)


def _times(benchmarks: list[dict[str, Any]]) -> str:
    qualities = list(dict.fromkeys(name for b in benchmarks for name in b["extra_info"].get("quality", {})))
    ours = {b["group"]: b for b in benchmarks if b["extra_info"]["contender"] == OURS}
    head = ["shape", "dtype", "contender", "backend", "median [ms]", "IQR [ms]", "fastest [ms]", "rounds"]
    head += [f"{OURS} is faster by [×]", *qualities, "CPU of others [%]"]
    rows = []
    for b in benchmarks:
        info, stats = b["extra_info"], b["stats"]
        rows.append(
            [
                ", ".join(f"{key} = {value}" for key, value in info["shape"].items()),
                info["dtype"],
                info["contender"],
                info["backend"],
                *(f"{_digits(1e3 * stats[name])}" for name in ("median", "iqr", "min")),
                str(stats["rounds"]),
                _ratio(b, ours.get(b["group"])) if info["contender"] != OURS else "1",
                *(_digits(info.get("quality", {}).get(name)) for name in qualities),
                _digits(info.get("others_cpu_percent")),
            ]
        )
    return table(head, rows)


def _stages(benchmarks: list[dict[str, Any]]) -> str:
    staged = [b["extra_info"] for b in benchmarks if "stages_ms" in b["extra_info"]]
    names = list(dict.fromkeys(name for info in staged for name in info["stages_ms"]))
    rows = [
        [", ".join(f"{k} = {v}" for k, v in info["shape"].items()), *(_digits(info["stages_ms"].get(n)) for n in names)]
        for info in staged
    ]
    return table(["shape", *(f"{name} [ms]" for name in names)], rows)


def _ratio(theirs: dict[str, Any], ours: dict[str, Any] | None) -> str:
    if ours is None:
        return ""
    if marks.disturbed(theirs, ours):
        return "disturbed"
    value, low, high = map(_digits, marks.ratio(theirs, ours))
    return f"{value} ({low} to {high})"


def _digits(value: float | None) -> str:
    """Three significant digits; whole numbers whole."""
    if value is None:
        return ""
    if isinstance(value, int):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *map(list, rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    main()
