"""What only the controller can read, asked by running ``python -m controller show`` in its pod.

Manifests and logs are in the location, and some of that is encrypted: the command line has neither
the location's credentials nor the key, and does not need them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

from ararat.api import names
from ararat.cli.settings import Settings
from ararat.errors import AccessDenied, AraratError, NotFound
from ararat.kube import ApiUnavailable, ExecFailed, KubeApi, KubeObject
from ararat.kube.resources import DEPLOYMENTS, LEASES, PODS

CONTAINER = "controller"
#: Without a byte.
SHOW_SECONDS = 60.0
#: Between two attempts to follow a log.
FOLLOW_AGAIN_SECONDS = 1.0
_LABELS = f"app.kubernetes.io/name=ararat,{names.COMPONENT}={names.COMPONENT_CONTROLLER}"
_COMMAND = ("python", "-m", "controller")


async def show(api: KubeApi, settings: Settings, what: str, name: str) -> bytes:
    """What ``controller show WHAT NAME`` prints.

    Raises NotFound where no controller runs, AraratError with the controller's own sentence.
    """
    output = bytearray()
    async for part in ask(api, settings, ["show", what, name], about=f"the {what} of {name}"):
        output += part
    return bytes(output)


async def check_location(api: KubeApi, settings: Settings, name: str) -> bytes:
    """The lines of ``controller check-location NAME``. Raises as ``show`` does."""
    output = bytearray()
    about = f"the next step of its check of {name}"
    async for part in ask(api, settings, ["check-location", name], about=about):
        output += part
    return bytes(output)


async def ask(
    api: KubeApi, settings: Settings, arguments: Sequence[str], *, about: str
) -> AsyncGenerator[bytes, None]:
    """What ``python -m controller ...`` prints, as it comes; each piece has a deadline.

    Raises as ``show`` does.
    """
    pod = choose_pod(
        [obj async for obj in api.list(PODS, namespace=settings.namespace, labels=_LABELS)]
    )
    if pod is None:
        raise NotFound(
            f"no controller is running in namespace {settings.namespace}: see "
            f"'kubectl -n {settings.namespace} get pods'"
        )
    command = [*_COMMAND, *arguments]
    loop = asyncio.get_running_loop()
    try:
        async with (
            asyncio.timeout(SHOW_SECONDS) as deadline,
            aclosing(api.exec_stream(settings.namespace, pod, CONTAINER, command)) as parts,
        ):
            async for part in parts:
                deadline.reschedule(None)
                yield part
                deadline.reschedule(loop.time() + SHOW_SECONDS)
    except TimeoutError as error:
        raise ApiUnavailable(
            f"the controller did not show {about} within {SHOW_SECONDS:.0f} s"
        ) from error
    except ExecFailed as error:
        # The sentence it printed is the message; which pod said so is of no interest.
        _, found, said = error.message.partition("error: ")
        raise AraratError(said if found else error.message, reason=error.reason) from error


async def follow_log(
    api: KubeApi, settings: Settings, what: str, name: str, *, ended: Callable[[], Awaitable[bool]]
) -> AsyncIterator[str]:
    """The lines of a run's log as they are written, in the end those that were missed.

    It goes on with another controller when the one that leads is lost. ``ended``: whether the run
    has. Raises what it raises, and AccessDenied where this user may not exec.
    """
    shown: set[str] = set()
    while not await ended():
        try:
            async with aclosing(_live(api, settings, what, name)) as lines:
                async for line in lines:
                    if line not in shown:
                        shown.add(line)
                        yield line
        except AccessDenied:
            raise
        except AraratError:
            pass  # nobody leads, or not any more, or it has not begun with this run
        if not await ended():
            await asyncio.sleep(FOLLOW_AGAIN_SECONDS)
    try:
        stored = await show(api, settings, what, name)
    except AraratError:
        return  # one that failed before it began keeps none
    for line in stored.decode(errors="replace").splitlines():
        if line not in shown:
            yield line


async def _live(
    api: KubeApi, settings: Settings, what: str, name: str
) -> AsyncGenerator[str, None]:
    lease = await api.get(LEASES, names.CONTROLLER_LEASE, namespace=settings.namespace)
    pod = (lease.get("spec") or {}).get("holderIdentity")
    if not pod:
        raise NotFound("no controller leads at the moment")
    command = [*_COMMAND, "show", "--follow", what, name]
    rest = b""
    stream = api.exec_stream(settings.namespace, pod, CONTAINER, command)
    async for part in stream:
        *whole, rest = (rest + part).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace")


async def controllers(api: KubeApi, settings: Settings) -> list[KubeObject]:
    """Deployments that run the controller: one, where Ararat is installed."""
    found = api.list(DEPLOYMENTS, namespace=settings.namespace, labels=_LABELS)
    return [deployment async for deployment in found]


def choose_pod(pods: list[KubeObject]) -> str | None:
    """The name of a pod to run a command in: a ready one, else a running one."""
    running = [pod for pod in pods if pod.get("status", {}).get("phase") == "Running"]
    running = [pod for pod in running if not pod["metadata"].get("deletionTimestamp")]
    best = sorted(running, key=lambda pod: (not _ready(pod), str(pod["metadata"]["name"])))
    return str(best[0]["metadata"]["name"]) if best else None


def _ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
