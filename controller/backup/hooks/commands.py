"""Commands in one pod: started, tried again while that is safe, given up.

Problem: a pod that cannot be reached for a moment must not stay frozen, one that is gone must not
be waited for, and a name may be another pod's by now.
Decision: a pre hook is tried again only while it certainly was not started; a post hook also when
it is not known whether it ended, until its deadline or until its pod is gone.
Limits: a pod that took the name while its pre hooks ran may have met them; its post hooks run
there as well.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from ararat.errors import NotFound, Retryable
from ararat.hooks import Hook, When
from ararat.kube.api import KubeApi
from ararat.kube.resources import PODS
from controller.hooks import execute, kept
from controller.hooks.results import HookResult, Means

from .record import Record


async def means_of(api: KubeApi, known: Record, hooks: Iterable[Hook]) -> dict[str, Means]:
    """What each container of the hooks has. Raises the API's errors, where nobody answers."""
    found: dict[str, Means] = {}
    for container in {hook.container: None for hook in hooks}:
        for left, pause in zip((3, 2, 1, 0), kept.pauses(), strict=False):
            try:
                found[container] = await execute.means_of(
                    api, known.pod.namespace, known.pod.name, container
                )
                break
            except Retryable:
                if not left:
                    raise
                await asyncio.sleep(pause)
    return found


async def run_pre(
    api: KubeApi, known: Record, index: int, *, patience: float, until: float
) -> HookResult:
    """``patience``: see ``execute.run``. ``until``: monotonic seconds of the last attempt."""
    return await _run(api, known, index, When.PRE, patience=patience, until=until)


async def run_post(
    api: KubeApi, known: Record, index: int, *, patience: float, until: float
) -> HookResult:
    """As ``run_pre``, and nothing is tried in a pod that is gone."""
    if (why := await _gone(api, known, until)) is not None:
        return _not_run(known, index, why, when=When.POST)
    return await _run(api, known, index, When.POST, patience=patience, until=until)


async def replaced(api: KubeApi, known: Record) -> dict[str, Any] | None:
    """Changes to the record where the pod's name is another pod's by now. Raises Retryable."""
    try:
        pod = await api.get(PODS, known.pod.name, namespace=known.pod.namespace)
    except NotFound:
        return {"message": f"pod {known.id} went away while its pre hooks ran"}
    uid = pod["metadata"]["uid"]
    if uid == known.pod.uid:
        return None
    return {"message": f"pod {known.id} was replaced while its pre hooks ran", "also": uid}


async def _run(
    api: KubeApi, known: Record, index: int, when: When, *, patience: float, until: float
) -> HookResult:
    hook = (known.pre if when is When.PRE else known.post)[index].hook()
    means = known.means.get(hook.container, Means.NONE)
    for pause in kept.pauses():
        try:
            result = await execute.run(
                api,
                (known.pod.namespace, known.pod.name),
                hook,
                when=when,
                means=means,
                patience=patience,
            )
        except Retryable as exc:
            result = _not_started(known, index, exc.message, when=when)
        else:
            retry = when is When.POST and (
                result.lost
                or (result.reason == "NotStarted" and await _restarting(api, known, hook.container))
            )
            if not retry:
                return result
        if time.monotonic() + pause > until or (when is When.PRE and pause > 2):
            return result
        # A post hook is better run twice than not at all.
        if when is When.POST and (gone := await _gone(api, known, until)) is not None:
            return _not_run(known, index, gone, when=when)
        await asyncio.sleep(pause)
    raise AssertionError("unreachable")


async def _gone(api: KubeApi, known: Record, until: float) -> str | None:
    """Why no command can be run in the pod any more; None: it is there."""
    for pause in kept.pauses():
        try:
            pod = await api.get(PODS, known.pod.name, namespace=known.pod.namespace)
        except NotFound:
            return "the pod is gone"
        except Retryable:
            if time.monotonic() + pause > until:
                return None
            await asyncio.sleep(pause)
            continue
        if pod["metadata"]["uid"] not in (known.pod.uid, known.also):
            return "the pod was replaced by another"
        if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            return "the pod has ended"
        return None
    raise AssertionError("unreachable")


async def _restarting(api: KubeApi, known: Record, container: str) -> bool:
    """Whether the container is not running now, but may be again."""
    try:
        pod = await api.get(PODS, known.pod.name, namespace=known.pod.namespace)
    except Retryable:
        return True
    except NotFound:
        return False
    for status in (pod.get("status") or {}).get("containerStatuses") or []:
        if status.get("name") == container:
            return "running" not in (status.get("state") or {})
    return False


def _not_run(known: Record, index: int, why: str, *, when: When) -> HookResult:
    return _without_end(known, index, "PodGone", f"was not run: {why}", when=when)


def _not_started(known: Record, index: int, why: str, *, when: When) -> HookResult:
    return _without_end(known, index, "NotStarted", f"could not be started: {why}", when=when)


def _without_end(known: Record, index: int, reason: str, said: str, *, when: When) -> HookResult:
    hook = (known.pre if when is When.PRE else known.post)[index]
    return HookResult(
        when=when,
        container=hook.container,
        command=hook.command,
        on_error=hook.on_error,
        reason=reason,
        message=f"{when} hook of {known.id} (container {hook.container}) {said}",
        started=time.time(),
    )
