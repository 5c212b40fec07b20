"""Options that several commands take, each described once."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"

    @property
    def for_machines(self) -> bool:
        return self is not Output.TABLE


OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="How to print: table, json or yaml.")
]
Wait = Annotated[
    bool, typer.Option("--wait", "-w", help="Follow it to its end; the exit code says how it went.")
]
Follow = Annotated[
    bool, typer.Option("--follow", "-f", help="Print the log of a run under way as it grows.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the object (-o yaml or json) and make nothing.")
]
IncludeNamespaces = Annotated[
    list[str] | None,
    typer.Option(
        "--include-namespaces",
        help="Namespaces, globs allowed; comma list, may be repeated. Default: all.",
        metavar="LIST",
    ),
]
ExcludeNamespaces = Annotated[
    list[str] | None,
    typer.Option("--exclude-namespaces", help="Namespaces to leave out.", metavar="LIST"),
]
IncludeResources = Annotated[
    list[str] | None,
    typer.Option(
        "--include-resources",
        help="Kinds as kubectl takes them (deploy,jobs.batch). Default: all.",
        metavar="LIST",
    ),
]
ExcludeResources = Annotated[
    list[str] | None,
    typer.Option("--exclude-resources", help="Kinds to leave out.", metavar="LIST"),
]
Selector = Annotated[
    str | None,
    typer.Option(
        "--selector",
        "-l",
        help="Only objects with these labels, as kubectl takes it: app=web,tier!=db.",
        metavar="SELECTOR",
    ),
]
OrSelector = Annotated[
    list[str] | None,
    typer.Option(
        "--or-selector",
        help="Objects with these labels, or with those of the next --or-selector.",
        metavar="SELECTOR",
    ),
]
OrderedResources = Annotated[
    list[str] | None,
    typer.Option(
        "--ordered-resources",
        help="Kinds whose objects are read before all others, in this order.",
        metavar="LIST",
    ),
]
IncludeClusterResources = Annotated[
    str | None,
    typer.Option(
        "--include-cluster-resources",
        help="Objects outside namespaces: true all, false none. Default: those that are needed.",
        metavar="true|false",
    ),
]
Names = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]...", help="Which; all of them if none.")
]
