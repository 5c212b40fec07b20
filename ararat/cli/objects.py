"""Reading and making Ararat's own objects, with errors that a person can act upon."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from pydantic import ValidationError

from ararat.api import (
    Backup,
    BackupLocation,
    BackupVerification,
    Resource,
    Restore,
    Schedule,
)
from ararat.api.base import Meta, utcnow
from ararat.cli import render, session
from ararat.cli.settings import Settings
from ararat.errors import NotFound
from ararat.kube import AlreadyExists, ApiNotFound, KubeApi, KubeObject, of

Kind = type[Resource[Any, Any]]
T = TypeVar("T", bound=Resource[Any, Any])

#: What the command line calls them.
NOUNS: dict[Kind, str] = {
    Backup: "backup",
    Restore: "restore",
    BackupLocation: "location",
    Schedule: "schedule",
    BackupVerification: "verification",
}


async def all_of(api: KubeApi, settings: Settings, kind: Kind) -> list[KubeObject]:
    """Every object of the kind, newest first."""
    found = [obj async for obj in api.list(of(kind), namespace=settings.namespace)]
    return sorted(found, key=lambda obj: str(obj["metadata"]["creationTimestamp"]), reverse=True)


async def find(api: KubeApi, settings: Settings, kind: Kind, name: str) -> KubeObject:
    """The object. Raises NotFound with a name that is similar, or how to list them."""
    try:
        return await api.get(of(kind), name, namespace=settings.namespace)
    except ApiNotFound:
        names = [str(obj["metadata"]["name"]) for obj in await all_of(api, settings, kind)]
    noun = NOUNS[kind]
    hint = like(name, names) or f"; 'ararat {noun} get{settings.flags}' lists what there is"
    raise NotFound(f"there is no {noun} {name!r} in namespace {settings.namespace}{hint}")


async def find_all(
    api: KubeApi, settings: Settings, kind: Kind, names: Sequence[str]
) -> list[KubeObject]:
    """The named objects in that order, or all of them."""
    if not names:
        return await all_of(api, settings, kind)
    return [await find(api, settings, kind, name) for name in names]


def parsed(kind: type[T], found: Iterable[KubeObject]) -> list[T]:
    """The objects as models; one that is no valid object is named on stderr and left out.

    Rules across fields are not in the CRDs, so that somebody may have stored such an object.
    """
    result = []
    for obj in found:
        try:
            result.append(kind.parse(obj))
        except ValidationError as error:
            name, why = obj["metadata"]["name"], session.explain(error)
            session.note(f"warning: {NOUNS[kind]} {name} is not valid and left out: {why}")
    return result


async def create(api: KubeApi, settings: Settings, resource: Resource[Any, Any]) -> KubeObject:
    """Make it. Raises AlreadyExists with what is there, NotFound where the namespace is missing."""
    kind = type(resource)
    noun, name = NOUNS[kind], resource.name
    try:
        return await api.create(of(kind), to_send(resource), namespace=settings.namespace)
    except AlreadyExists as error:
        existing = kind.parse(await api.get(of(kind), name, namespace=settings.namespace))
        raise AlreadyExists(taken(noun, existing, utcnow())) from error
    except ApiNotFound as error:
        raise NotFound(
            f"namespace {settings.namespace} does not exist: is Ararat installed elsewhere? "
            "say where with --namespace or ARARAT_NAMESPACE"
        ) from error


def to_send(resource: Resource[Any, Any]) -> dict[str, Any]:
    """Its manifest without what is empty: what was not said is not stored."""
    manifest = resource.manifest()
    return {**manifest, "spec": _without_empty(manifest["spec"])}


def _without_empty(value: dict[str, Any]) -> dict[str, Any]:
    cleaned = {k: _without_empty(v) if isinstance(v, dict) else v for k, v in value.items()}
    return {k: v for k, v in cleaned.items() if v not in ("", [], {})}


def taken(noun: str, existing: Resource[Any, Any], now: datetime) -> str:
    """Why a name cannot be used."""
    phase = getattr(existing.status, "phase", None)
    since = existing.metadata.creation_timestamp
    state = f" ({phase}, made {render.age(since, now)} ago)" if phase else ""
    return f"there is a {noun} {existing.name!r} already{state}: choose another name"


def meta(settings: Settings, name: str) -> Meta:
    return Meta(name=name, namespace=settings.namespace)


def like(name: str, names: Iterable[str]) -> str:
    """``; did you mean 'wordpress'?``, or nothing."""
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
