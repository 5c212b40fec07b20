"""Which resources an API server serves, each in one version.

Problem: groups serve several versions, and a resource may exist in only some of them (CronJob in
1.20); an aggregated API whose backend is away must not hide everything else.
Decision: every version of every group is asked; a resource is taken from the group's preferred
version, else from the first that has it, in the server's order. A version that does not answer is
named in ``failed_groups`` and the rest is returned.
Limits: a failure of the two root documents is an error: nothing is known then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from .api import Discovery
from .errors import ApiError
from .resources import ResourceType

Fetch = Callable[[str], Awaitable[Mapping[str, Any]]]
#: Requests in flight: a cluster with many operators has a hundred groups.
PARALLEL = 8


async def discover(fetch: Fetch) -> Discovery:
    groups = await fetch("/apis")
    core = await fetch("/api/v1")
    versions = [version for group in groups.get("groups") or [] for version in _versions(group)]
    answers: dict[str, Mapping[str, Any] | None] = {}
    gate = asyncio.Semaphore(PARALLEL)

    async def one(version: str) -> None:
        async with gate:
            try:
                answers[version] = await fetch(f"/apis/{version}")
            except ApiError:
                answers[version] = None

    async with asyncio.TaskGroup() as tasks:
        for version in versions:
            tasks.create_task(one(version))

    found: dict[tuple[str, str], ResourceType] = {}
    for resource in parse_resources("v1", core):
        found[resource.group, resource.plural] = resource
    for version in versions:
        for resource in parse_resources(version, answers[version] or {}):
            found.setdefault((resource.group, resource.plural), resource)
    failed = [version for version in versions if answers[version] is None]
    return Discovery(resources=list(found.values()), failed_groups=failed)


def _versions(group: Mapping[str, Any]) -> Iterator[str]:
    """``group/version``, the preferred one first."""
    preferred = (group.get("preferredVersion") or {}).get("groupVersion")
    if preferred:
        yield preferred
    for version in group.get("versions") or []:
        if version["groupVersion"] != preferred:
            yield version["groupVersion"]


def parse_resources(group_version: str, document: Mapping[str, Any]) -> Iterator[ResourceType]:
    """The resources of one APIResourceList, without subresources."""
    group, _, version = group_version.rpartition("/")
    for raw in document.get("resources") or []:
        if "/" in raw["name"]:
            continue
        yield ResourceType(
            group=group,
            version=version,
            plural=raw["name"],
            kind=raw["kind"],
            namespaced=bool(raw.get("namespaced")),
            verbs=tuple(raw.get("verbs") or ()),
            short_names=tuple(raw.get("shortNames") or ()),
            singular=raw.get("singularName") or raw["kind"].lower(),
            categories=tuple(raw.get("categories") or ()),
        )
