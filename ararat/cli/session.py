"""From a command to the cluster and back: connections, and how errors reach a person.

Decision: whatever goes wrong becomes one line on stderr, ``error: ...``, and an exit code. A
traceback is for those who set ARARAT_DEBUG.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from ararat.cli.settings import Settings
from ararat.errors import AraratError

if TYPE_CHECKING:
    from ararat.kube import KubeApi

T = TypeVar("T")

#: Exit codes; a table of them stands in the help of ``ararat``.
OK, FAILED, USAGE, PARTIAL, INTERRUPTED = 0, 1, 2, 3, 130
#: Deadline of one call: a person waits for it.
CALL_SECONDS = 15
_NOT_INSTALLED = (
    "this cluster does not serve Ararat's kinds: install it with the chart (helm install ararat "
    "charts/ararat -n ararat --create-namespace), or choose another cluster with --context"
)


def debugging() -> bool:
    return os.environ.get("ARARAT_DEBUG", "") not in ("", "0")


def run(settings: Settings, body: Callable[[KubeApi], Awaitable[T]]) -> T:
    """Connect, run ``body``, disconnect. Ctrl-C cancels the body and raises KeyboardInterrupt."""
    import asyncio

    from ararat import log
    from ararat.kube import connect

    log.configure("debug" if debugging() else "error", json=False)

    async def connected() -> T:
        async with connect(settings.kubeconfig, settings.context, timeout=CALL_SECONDS) as api:
            return await body(api)

    return asyncio.run(connected())


def note(text: str) -> None:
    """For the person, not for the pipe."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def explain(error: Exception) -> str:
    """One line for a person. May show a bug's own text."""
    if isinstance(error, AraratError):
        from ararat.kube import KindNotServed

        if isinstance(error, KindNotServed) and "ararat.dev" in error.message:
            return _NOT_INSTALLED
        return _one_line(error.message)
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        return _one_line("; ".join(_problem(problem) for problem in error.errors()))
    return _one_line(f"{type(error).__name__}: {error} (this is a bug; ARARAT_DEBUG=1 shows where)")


def _problem(problem: object) -> str:
    assert isinstance(problem, dict)
    where = ".".join(str(part) for part in problem["loc"])
    text = str(problem["msg"]).removeprefix("Value error, ")
    return f"{where}: {text}" if where else text


def _one_line(text: str) -> str:
    return " ".join(text.split()) or "unknown error"
