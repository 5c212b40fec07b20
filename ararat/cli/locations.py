"""What the commands about locations ask of the cluster."""

from __future__ import annotations

import asyncio

from ararat.api import BackupLocation, names
from ararat.cli import objects
from ararat.cli.settings import Settings
from ararat.concurrency import stop
from ararat.errors import InvalidSpec, NotFound
from ararat.kube import Informer, KubeApi, KubeObject, of
from ararat.kube.errors import ApiNotFound
from ararat.kube.resources import NAMESPACES, SECRETS

_TYPE = of(BackupLocation)
create = objects.create


async def check_new(api: KubeApi, settings: Settings, location: BackupLocation) -> None:
    """Raises InvalidSpec where there is a default already, NotFound where a Secret is missing."""
    existing = await objects.all_of(api, settings, BackupLocation)
    others = objects.parsed(BackupLocation, existing)
    default = next((other.name for other in others if other.spec.default), None)
    if location.spec.default and default not in (None, location.name):
        raise InvalidSpec(
            f"location {default} is the default one already: leave --default out, or set "
            f"spec.default of {default} to false first"
        )
    azure = location.spec.azure
    if azure is None or azure.credentials_secret is None:
        return
    try:
        await api.get(SECRETS, azure.credentials_secret, namespace=settings.namespace)
    except ApiNotFound as error:
        raise NotFound(
            f"there is no secret {azure.credentials_secret!r} in namespace {settings.namespace}: "
            "make it first with 'kubectl create secret generic'"
        ) from error


async def looked_at(
    api: KubeApi, settings: Settings, obj: KubeObject, seconds: float
) -> KubeObject:
    """The location once the controller has said whether it is Available. Raises InvalidSpec."""
    name = str(obj["metadata"]["name"])
    informer = Informer(api, _TYPE, namespace=settings.namespace, fields=f"metadata.name={name}")
    changed = asyncio.Event()
    informer.on_change(lambda *_: changed.set())
    task = asyncio.ensure_future(informer.run())
    try:
        async with asyncio.timeout(seconds):
            while True:
                await changed.wait()
                changed.clear()
                current = informer.get(name, settings.namespace)
                if current is not None and BackupLocation.parse(current).status.phase is not None:
                    return current
    except TimeoutError:
        raise InvalidSpec(
            f"location {name} was made, but nobody looked at it within {seconds:.0f} s: is the "
            f"controller running? see 'kubectl -n {settings.namespace} get pods'"
        ) from None
    finally:
        await stop(task)


async def owner_of(api: KubeApi, settings: Settings, name: str) -> tuple[str, str]:
    """(owner of the location, this cluster). Raises InvalidSpec where nothing is to be taken."""
    location = BackupLocation.parse(await objects.find(api, settings, BackupLocation, name))
    cluster = await cluster_uid(api)
    owner = location.status.owner
    if not owner:
        raise InvalidSpec(f"location {name} has no owner that is known here: nothing to take over")
    if owner == cluster:
        raise InvalidSpec(f"location {name} belongs to this cluster already")
    if location.read_only:
        raise InvalidSpec(
            f"location {name} is ReadOnly here, so this cluster does not want to write to it: set "
            "spec.accessMode to ReadWrite first"
        )
    return owner, cluster


async def ask_take_over(api: KubeApi, settings: Settings, name: str, owner: str) -> None:
    """Tell the controller from whom; it refuses if the owner is another one by then."""
    patch = {"metadata": {"annotations": {names.TAKE_OVER: owner}}}
    await api.patch(_TYPE, name, patch, namespace=settings.namespace)


async def ask_recovery(api: KubeApi, settings: Settings, name: str) -> None:
    """Tell the controller to write location.json anew; it does so only where that is lost."""
    patch = {"metadata": {"annotations": {names.RECOVER: "true"}}}
    await api.patch(_TYPE, name, patch, namespace=settings.namespace)


async def cluster_uid(api: KubeApi) -> str:
    """The UID of kube-system: what a location calls its owner."""
    namespace = await api.get(NAMESPACES, "kube-system")
    return str(namespace["metadata"]["uid"])
