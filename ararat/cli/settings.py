"""Which cluster and which namespace: options that every command takes.

``with_settings`` adds them to a command's own, so that they are written down once.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

DEFAULT_NAMESPACE = "ararat"


@dataclass(frozen=True)
class Settings:
    """Where Ararat is."""

    namespace: str = DEFAULT_NAMESPACE
    """Ararat's own namespace: its objects, controller and agents are there."""
    kubeconfig: str | None = None
    context: str | None = None

    @property
    def keys_namespace(self) -> str:
        return os.environ.get("ARARAT_KEYS_NAMESPACE") or f"{self.namespace}-keys"

    @property
    def flags(self) -> str:
        """What to add to a command that is shown to people, so that it does the same here."""
        return "" if self.namespace == DEFAULT_NAMESPACE else f" -n {self.namespace}"


Namespace = Annotated[
    str,
    typer.Option(
        "--namespace",
        "-n",
        envvar="ARARAT_NAMESPACE",
        help="Ararat's own namespace.",
        metavar="NAME",
    ),
]
Kubeconfig = Annotated[
    str | None, typer.Option("--kubeconfig", help="Path of the kubeconfig.", metavar="FILE")
]
Context = Annotated[
    str | None, typer.Option("--context", help="Context in the kubeconfig.", metavar="NAME")
]

_OPTIONS: dict[str, tuple[Any, Any]] = {
    "namespace": (Namespace, DEFAULT_NAMESPACE),
    "kubeconfig": (Kubeconfig, None),
    "context": (Context, None),
}


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose first parameter is a Settings, as one that takes the options instead."""
    signature = inspect.signature(command, eval_str=True)
    own = list(signature.parameters.values())[1:]
    added = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
        )
        for name, (annotation, default) in _OPTIONS.items()
    ]

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        settings = Settings(**{name: kwargs.pop(name) for name in _OPTIONS})
        command(settings, *args, **kwargs)

    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    # Typer reads these two to find the options.
    wrapper.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*parameters, *added]
    )
    wrapper.__annotations__ = {p.name: p.annotation for p in [*parameters, *added]}
    return wrapper
