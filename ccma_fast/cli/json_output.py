"""JSON on stdout."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

from ..system.json_text import finite

__all__ = ["add_json_option", "print_json"]


def add_json_option(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup, help_text: str = "print JSON to stdout"
) -> None:
    parser.add_argument("--json", action="store_true", help=help_text)


def print_json(content: Mapping[str, Any]) -> None:
    """Print a record; NaN becomes null."""
    sys.stdout.write(json.dumps(finite(content), allow_nan=False, indent=1) + "\n")
    sys.stdout.flush()
