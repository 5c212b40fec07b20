"""The master key in the cluster: a Secret in a namespace that the agents cannot read.

Problem: a key that is replaced by mistake makes every backup of this cluster unreadable.
Decision: an equal key is left alone; another one is replaced only on request, and never while this
cluster owns a location, for what it wrote there needs the old one.
Limits: a location that could never be opened with the old key has no owner here: it does not count.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from ararat import keys, layout
from ararat.api import BackupLocation
from ararat.cli.locations import cluster_uid
from ararat.cli.objects import all_of, parsed
from ararat.cli.settings import Settings
from ararat.errors import Conflict, InvalidSpec, NotFound
from ararat.kube import ApiNotFound, KubeApi, KubeObject
from ararat.kube.resources import SECRETS
from ararat.restic import keyfile

SECRET = "master-key"  # noqa: S105 - its name, not its content
FIELD = "key"


class Outcome(StrEnum):
    CREATED = "stored"
    REPLACED = "stored in place of the former one"
    UNCHANGED = "was there already"


async def export(api: KubeApi, settings: Settings) -> keys.KeyExport:
    """The key with the ids of this cluster's locations. Raises NotFound: there is none yet."""
    try:
        secret = await api.get(SECRETS, SECRET, namespace=settings.keys_namespace)
    except ApiNotFound as error:
        raise NotFound(
            f"there is no key in namespace {settings.keys_namespace}: it is made when the first "
            f"location becomes Available (see 'ararat location get{settings.flags}')"
        ) from error
    return keys.export_key(master_of(secret), await location_ids(api, settings))


async def store(
    api: KubeApi, settings: Settings, imported: keys.KeyExport, *, replace: bool
) -> Outcome:
    """Make it this installation's key. Raises Conflict where another one is in use."""
    namespace = settings.keys_namespace
    try:
        existing = await api.get(SECRETS, SECRET, namespace=namespace)
    except ApiNotFound:
        return await _create(api, namespace, imported.master)
    present = master_of(existing)
    if present == imported.master:
        return Outcome.UNCHANGED
    await _check_replaceable(api, settings, keys.fingerprint(present), replace=replace)
    patch = {
        "metadata": {"resourceVersion": existing["metadata"]["resourceVersion"]},
        "data": _data(imported.master),
    }
    await api.patch(SECRETS, SECRET, patch, namespace=namespace)
    return Outcome.REPLACED


def password_by_directory(exported: keys.KeyExport, directory: str, *, location: str | None) -> str:
    """``location``: name or id; not needed where the export knows only one."""
    ids = {one.id for one in exported.locations if location in (None, one.name, one.id)}
    if not ids and location is not None:
        ids = {location}  # one that was made after the export: its id stands in location.json
    if len(ids) != 1:
        known = ", ".join(one.name for one in exported.locations) or "none"
        raise InvalidSpec(f"say which location it is in with --location (the export has {known})")
    path = directory.strip("/")
    name = layout.repository_name(
        path if path.startswith(f"{layout.REPOSITORIES}/") else f"{layout.REPOSITORIES}/{path}"
    )
    return keys.repository_password(exported.master, ids.pop(), name)


def password_by_key_file(exported: keys.KeyExport, data: bytes) -> str:
    """Raises WrongKey: the key file is another master key's, or not one of ours."""
    who = keyfile.identity(data)
    if who is None:
        raise InvalidSpec("this key file was not written by Ararat: it says nothing about itself")
    keys.check_fingerprint(exported.master, who.fingerprint, what="the key file")
    password = keys.repository_password(exported.master, who.location_id, who.repository_name)
    keyfile.unwrap(data, password=password)  # it really opens
    return password


def master_of(secret: KubeObject) -> bytes:
    """Raises InvalidSpec where the Secret holds no key, never showing what it holds."""
    try:
        text = base64.b64decode(secret["data"][FIELD], validate=True)
    except (KeyError, TypeError, binascii.Error):
        raise InvalidSpec(f"secret {SECRET} holds no key in {FIELD!r}") from None
    return keys.decode_master_key(text)


def owned(locations: Iterable[BackupLocation], cluster: str) -> list[str]:
    """Names of the locations that this cluster writes to."""
    return sorted(location.name for location in locations if location.status.owner == cluster)


async def _create(api: KubeApi, namespace: str, master: bytes) -> Outcome:
    body: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET, "namespace": namespace},
        "type": "Opaque",
        "data": _data(master),
    }
    try:
        await api.create(SECRETS, body, namespace=namespace)
    except ApiNotFound as error:
        raise NotFound(
            f"namespace {namespace} does not exist: install Ararat first, its chart makes it"
        ) from error
    return Outcome.CREATED


async def _check_replaceable(
    api: KubeApi, settings: Settings, present: str, *, replace: bool
) -> None:
    if not replace:
        raise Conflict(
            f"this installation has another key, {present}: export it first, then say --replace"
        )
    locations = parsed(BackupLocation, await all_of(api, settings, BackupLocation))
    mine = owned(locations, await cluster_uid(api))
    if mine:
        raise Conflict(
            f"key {present} stays: this cluster owns {', '.join(mine)}, and what it wrote there "
            "needs that key; set these locations to ReadOnly and have them taken over, or delete "
            "their BackupLocations first"
        )


async def location_ids(api: KubeApi, settings: Settings) -> dict[str, str]:
    locations = parsed(BackupLocation, await all_of(api, settings, BackupLocation))
    return {one.name: one.status.location_id for one in locations if one.status.location_id}


def _data(master: bytes) -> dict[str, str]:
    return {FIELD: base64.b64encode(master.hex().encode()).decode()}
