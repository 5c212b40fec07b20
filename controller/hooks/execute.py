"""One command in one container, and how it is brought to an end.

Problem: whoever asked for a command may die or lose the connection, and the command runs on. A
pre hook that outlives its pod's post hook leaves the pod frozen for good.
Decision: the command ends itself. Before anything is frozen the container is asked what it has
(``timeout``, or a shell with ``sleep`` and ``kill``), and hooks run below that: when their time is
over they are killed there, whoever is or is not connected. Where it has neither, as in images
without a shell, the command runs as it is, and is waited for beyond its time.
Limits: below busybox' ``timeout`` and below a shell only the command itself is killed, not what it
started and did not wait for.
"""

from __future__ import annotations

import math
import time

from ararat.errors import AraratError, Retryable
from ararat.hooks import Hook, When
from ararat.kube.api import KubeApi
from ararat.kube.errors import ExecFailed, ExecInterrupted

from .results import HookResult, Means

#: What is kept of either stream, in bytes.
OUTPUT_LIMIT = 4096
#: How much later than its timeout a command that ends itself has certainly ended: the time from
#: asking for it to its start is part of this.
GRACE_SECONDS = 10.0
_PROBE_SECONDS = 15.0
#: What a shell says on its standard output about its container.
_PROBE = (
    "if timeout -s KILL 5 true >/dev/null 2>&1; then echo timeout; "
    "elif sleep 0 >/dev/null 2>&1; then echo shell; fi"
)
#: $1 is the time, the rest is the command. Both streams of the watchdog are closed: it may outlive
#: the command for a moment, and must not keep the connection open.
_WATCHDOG = (
    't=$1; shift; "$@" & p=$!; '
    '(sleep "$t"; kill -9 "$p") >/dev/null 2>&1 & w=$!; '
    'wait "$p"; c=$?; kill "$w" 2>/dev/null; exit "$c"'
)
_KILLED = frozenset({124, 137})


async def means_of(api: KubeApi, namespace: str, pod: str, container: str) -> Means:
    """What there is to end a command with. Raises the API's errors, where nobody could ask."""
    try:
        result = await api.exec(
            namespace, pod, container, ["sh", "-c", _PROBE], timeout=_PROBE_SECONDS
        )
    except ExecFailed:
        return Means.NONE  # no shell
    match result.stdout.strip():
        case b"timeout":
            return Means.TIMEOUT
        case b"shell":
            return Means.SHELL
    return Means.NONE


def words(hook: Hook, means: Means) -> list[str]:
    """What is run, so that it ends by itself where that is possible."""
    limit = str(max(1, math.ceil(hook.timeout)))
    match means:
        case Means.TIMEOUT:
            return ["timeout", "-s", "KILL", limit, *hook.command]
        case Means.SHELL:
            return ["sh", "-c", _WATCHDOG, "ararat-hook", limit, *hook.command]
    return list(hook.command)


async def run(
    api: KubeApi,
    pod: tuple[str, str],
    hook: Hook,
    *,
    when: When,
    means: Means,
    patience: float,
) -> HookResult:
    """Run a hook to its end. Never raises for what becomes of the command.

    ``pod``: namespace and name. ``patience``: how long a command that nothing can end is waited
    for. Raises Retryable only where the command was certainly not started.
    """
    namespace, name = pod
    began, clock = time.time(), time.monotonic()
    limit = hook.timeout + GRACE_SECONDS if means is not Means.NONE else patience
    what = f"{when} hook of {namespace}/{name} (container {hook.container})"

    def result(
        reason: str = "", message: str = "", *, code: int | None = None, lost: bool = False
    ) -> HookResult:
        return HookResult(
            when=when,
            container=hook.container,
            command=list(hook.command),
            on_error=hook.on_error,
            exit_code=code,
            reason=reason,
            message=f"{what} {message}" if message else "",
            started=began,
            seconds=round(time.monotonic() - clock, 3),
            lost=lost,
        )

    try:
        ran = await api.exec(
            namespace,
            name,
            hook.container,
            words(hook, means),
            timeout=max(1.0, limit),
            output_limit=OUTPUT_LIMIT,
        )
    except ExecInterrupted as exc:
        timed_out = exc.reason == "ExecTimeout"
        said = (
            "did not end in time, and may still be running" if timed_out else "lost its connection"
        )
        return result("TimedOut" if timed_out else "Interrupted", said, lost=True)
    except Retryable:
        raise
    except AraratError as exc:
        # What the runtime says may quote the command: it is kept where the output is.
        found = result("NotStarted", "could not be started")
        return found.model_copy(update={"stderr": exc.message})
    spent = time.monotonic() - clock
    late = spent >= hook.timeout and (means is Means.NONE or ran.exit_code in _KILLED)
    if late:
        found = result("TimedOut", f"was ended after {hook.timeout:g} s", code=ran.exit_code)
        if means is Means.NONE:
            found = result("TimedOut", f"took longer than {hook.timeout:g} s", code=ran.exit_code)
    elif ran.exit_code:
        found = result("ExitCode", f"ended with exit code {ran.exit_code}", code=ran.exit_code)
    else:
        found = result(code=0)
    return found.model_copy(update={"stdout": _text(ran.stdout), "stderr": _text(ran.stderr)})


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
