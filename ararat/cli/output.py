"""Printing results: to stdout, as a table for people or as JSON or YAML for machines."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ararat.cli import render
from ararat.cli.options import Output


def text(value: str) -> None:
    """One text and its newline."""
    sys.stdout.write(value + "\n")
    sys.stdout.flush()


def objects(found: Sequence[Mapping[str, Any]], output: Output, *, single: bool) -> None:
    """Objects as JSON or YAML: one as it is where one was asked for, else a List."""
    document(render.documents(found, single=single), output)


def document(value: Any, output: Output) -> None:
    """Plain data as JSON or YAML."""
    text(render.as_json(value) if output is Output.JSON else render.as_yaml(value))
