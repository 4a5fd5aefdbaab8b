"""The table of what was measured, whatever part of it is there."""

from __future__ import annotations

from typing import Any

from ..tabulate import table

__all__ = ["report"]


def report(lines: list[dict[str, Any]], n_broken: int = 0) -> str:
    """Markdown: how the parts ended, the machine, and a table for each kind of line."""
    outcomes = [line for line in lines if line.get("what") == "outcome"]
    machine = next((line for line in lines if line.get("what") == "machine"), {})
    text = [f"# GPU run of {machine.get('date', 'an unknown date')}"]
    if machine:
        text.append(", ".join(f"{k}: {v}" for k, v in machine.items() if k not in ("what", "part")))
    text.append(_rows(outcomes, ("name", "status", "seconds")))
    if n_broken:
        text.append(f"{n_broken} broken lines were left out.")
    text += _tests(lines)
    ceilings = {line["ceiling"]: line for line in lines if line.get("what") == "ceiling"}
    kinds = dict.fromkeys(str(line.get("what")) for line in lines)
    for kind in kinds:
        if kind in ("outcome", "machine", "test", "begun"):
            continue
        found = [_with_shares(line, ceilings) for line in lines if line.get("what") == kind]
        text += [f"## {kind}", _rows(found)]
    return "\n\n".join(part for part in text if part) + "\n"


def _tests(lines: list[dict[str, Any]]) -> list[str]:
    """How many tests ended how, and which failed or took longest."""
    tests = [line for line in lines if line.get("what") == "test"]
    if not tests:
        return []
    counts: dict[str, int] = {}
    for test in tests:
        counts[test["outcome"]] = counts.get(test["outcome"], 0) + 1
    wrong = [test for test in tests if test["outcome"] not in ("passed", "skipped", "xfailed")]
    slow = sorted(tests, key=lambda test: -test["seconds"])[:5]
    return [
        "## tests",
        ", ".join(f"{n} {outcome}" for outcome, n in counts.items()),
        _rows(wrong + [test for test in slow if test not in wrong], ("id", "outcome", "seconds", "message")),
    ]


def _with_shares(line: dict[str, Any], ceilings: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Rates, and shares of the ceilings, of a line that names its bytes or operations."""
    found = dict(line)
    seconds = 1e-3 * line["ms"] if line.get("ms") else None
    for amount, unit, ceiling in (("bytes", "TB/s", "copy"), ("operations", "TFLOP/s", "bfloat16 product")):
        if amount not in found:
            continue
        n = found.pop(amount)
        if seconds:
            rate = n / seconds / 1e12
            found[unit] = rate
            if ceiling in ceilings:
                found[f"share of {ceiling}"] = rate / ceilings[ceiling]["rate"]
    return found


def _rows(lines: list[dict[str, Any]], names: tuple[str, ...] = ()) -> str:
    if not lines:
        return ""
    head = list(names) or list(dict.fromkeys(name for line in lines for name in line if name not in ("what", "part")))
    return table(head, [[_cell(line.get(name)) for name in head] for line in lines])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("\n", " ")[:300]
