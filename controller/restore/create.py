"""Creates one object of the plan, tolerantly.

Problem: one object that cannot be made must not stop the others, a controller that was killed must
not take its own work for somebody else's, and what the API server refuses *now* (an account that
is just being made, a webhook that is just starting, load) it may accept a moment later.
Decision: an object that exists is compared, and what differs is reported; it is left alone, or
patched where the restore asks for that. With this restore's label on it, it counts as made.
Refusals that pass by are tried again for a while, all others become a failure with a reason. If the
API server itself does not answer, that is an error of the whole restore, which goes on later, and
not a failure of ten thousand objects.
"""

from __future__ import annotations

import asyncio
import copy
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ararat.api.plan import Action
from ararat.errors import AraratError, Conflict, InvalidSpec, NotFound, Retryable
from ararat.kube.api import KubeApi
from ararat.kube.errors import AlreadyExists, ApiConflict, Forbidden, Invalid, KindNotServed
from ararat.kube.resources import SERVICE_ACCOUNTS, ResourceType

from .differences import differences, update
from .metadata import made_by
from .plan import Item
from .stored import Object
from .workloads import merge_account

#: Seconds between attempts at an object that may be accepted a moment later; 25 s in all. An API
#: server takes up to a few seconds to serve a definition that is Established, longer when busy; a
#: webhook and an API of somebody else come back with their pod.
_PAUSES = (0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 5.0, 8.0)


_WEBHOOK = re.compile(r'failed calling webhook "([^"]+)"')
#: How often an update is tried that somebody else's writing undoes.
_UPDATE_ATTEMPTS = 5


class CannotUpdate(InvalidSpec):
    """What exists cannot be made as it is in the backup."""

    default_reason = "CannotUpdate"


class WebhookFailing(InvalidSpec):
    """A webhook that must be asked does not answer."""

    default_reason = "WebhookFailing"


class Outcome(StrEnum):
    CREATED = "Created"
    UPDATED = "Updated"
    LEFT_ALONE = "LeftAlone"
    FAILED = "Failed"


@dataclass(frozen=True)
class Result:
    item: Item
    outcome: Outcome
    reason: str = ""
    message: str = ""
    #: Fields in which the existing object differs from the backup's.
    differs: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass
class Creator:
    """Makes objects in one cluster for one restore."""

    api: KubeApi
    restore_uid: str
    #: ``deployments.apps`` → the version the cluster prefers.
    served: Mapping[str, ResourceType] = field(default_factory=dict)
    #: Make what exists as it is in the backup.
    update: bool = False
    #: Namespaces that this restore made: what the cluster put into them may be added to.
    own_namespaces: frozenset[str] = frozenset()
    #: Whether a kind that is not served may be in a moment; else nothing is waited for.
    coming: Callable[[ResourceType], bool] = lambda _: False
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    #: Kinds and webhooks that were waited for in vain: the next object of one fails at once.
    _unserved: set[str] = field(default_factory=set)
    _silent: set[str] = field(default_factory=set)

    async def create(self, item: Item) -> Result:
        """Never raises for the object itself; Retryable where the API server is away."""
        if item.body is None:
            raise ValueError(f"{item.id} has nothing to create")
        try:
            if item.action in (Action.LEAVE, Action.UPDATE):
                return await self._compare(item, item.type)
            return await self._create(item, item.body)
        except Retryable as exc:
            await self.api.server_version()  # raises: it is not about this object
            return Result(item, Outcome.FAILED, exc.reason, exc.message)
        except AraratError as exc:
            return Result(item, Outcome.FAILED, exc.reason, exc.message)

    async def _create(self, item: Item, body: Object) -> Result:
        rt = item.type
        warnings: list[str] = []
        pauses = iter(_PAUSES)
        while True:
            try:
                await self.api.create(rt, body, namespace=item.namespace)
                return Result(item, Outcome.CREATED, warnings=tuple(warnings))
            except AlreadyExists:
                try:
                    return await self._compare(item, rt, warnings=tuple(warnings))
                except NotFound as exc:  # deleted in between: create again
                    error: AraratError = exc
            except KindNotServed as exc:
                error = exc
                other = self._other_version(rt)
                if other is not None:
                    warnings.append(f"created as {other.api_version} instead of {rt.api_version}")
                    rt, body = other, {**body, "apiVersion": other.api_version}
                    continue
            except Invalid as exc:
                free = _without_node_ports(item, body, exc)
                if free is None:
                    raise
                warnings.append("its node ports are taken here: it gets others")
                body = free
                continue
            except Forbidden as exc:
                if not _passes_by(exc):
                    raise
                error = exc
            except Conflict as exc:  # "object is being deleted" and the like
                error = exc
            except Retryable as exc:
                error = exc
            pause = next(pauses, None)
            if isinstance(error, KindNotServed) and (
                pause is None or rt.qualified in self._unserved or not self._may_come(rt)
            ):
                self._unserved.add(rt.qualified)
                raise Invalid(
                    f"this cluster does not serve {rt.qualified} ({rt.api_version})",
                    reason="KindNotServed",
                )
            webhook = failing_webhook(error)
            if webhook and (pause is None or webhook in self._silent):
                self._silent.add(webhook)
                raise WebhookFailing(
                    f"webhook {webhook} of this cluster must be asked first and does not answer: "
                    f"mend or remove it, then restore again: {error.message}"
                ) from error
            if pause is None:
                raise error
            await self.sleep(max(pause, getattr(error, "retry_after", None) or 0.0))

    async def _compare(
        self, item: Item, rt: ResourceType, *, warnings: tuple[str, ...] = ()
    ) -> Result:
        assert item.body is not None
        existing = await self.api.get(rt, item.name, namespace=item.namespace)
        if made_by(existing, self.restore_uid):
            return Result(item, Outcome.CREATED, warnings=warnings)
        if item.resource == "serviceaccounts" and item.namespace in self.own_namespaces:
            patch = merge_account(existing, item.body)
            if patch is not None:
                await self.api.patch(SERVICE_ACCOUNTS, item.name, patch, namespace=item.namespace)
            return Result(item, Outcome.CREATED, "Merged", "the cluster had made it already")
        differs = tuple(differences(item.resource, existing, item.body))
        if self.update and differs:
            updated = await self._update(item, rt, existing)
            if updated:
                return Result(
                    item, Outcome.UPDATED, "Updated", "existed", differs=differs, warnings=warnings
                )
        return Result(
            item,
            Outcome.LEFT_ALONE,
            reason="Exists",
            message="exists already",
            differs=differs,
            warnings=warnings,
        )

    async def _update(self, item: Item, rt: ResourceType, existing: Object) -> bool:
        """Whether there was something to patch. Raises CannotUpdate."""
        assert item.body is not None
        for _ in range(_UPDATE_ATTEMPTS):
            patch = update(item.resource, existing, item.body)
            if patch is None:
                return False
            try:
                await self.api.patch(rt, item.name, patch, namespace=item.namespace)
            except ApiConflict:  # somebody wrote in between: look again
                existing = await self.api.get(rt, item.name, namespace=item.namespace)
                continue
            except (Invalid, Forbidden) as exc:
                raise _cannot_update(item, exc) from exc
            return True
        raise CannotUpdate(
            f"{item.id} exists and changes all the time: what writes to it must be stopped first"
        )

    def _may_come(self, rt: ResourceType) -> bool:
        return rt.qualified in self.served or self.coming(rt)

    def _other_version(self, rt: ResourceType) -> ResourceType | None:
        """Another version of the same kind, if that is the one the cluster serves."""
        served = self.served.get(rt.qualified)
        if served is None or served.version == rt.version:
            return None
        return served


def _cannot_update(item: Item, error: Invalid | Forbidden) -> CannotUpdate:
    fields = ", ".join(dict.fromkeys(error.fields)) if isinstance(error, Invalid) else ""
    return CannotUpdate(
        f"exists, and {fields or 'it'} cannot be changed to what the backup has: delete the object "
        f"and restore it again, or leave it as it is (existingResourcePolicy None): {error.message}"
    )


def _passes_by(error: Forbidden) -> bool:
    """Refusals that end by themselves: the namespace's accounts and their tokens are being made."""
    text = error.message.lower()
    return "service account" in text or "serviceaccount" in text


def failing_webhook(error: AraratError) -> str:
    """The name of the webhook that the API server could not ask."""
    found = _WEBHOOK.search(error.message)
    return found[1] if found else ""


def _without_node_ports(item: Item, body: Object, error: Invalid) -> Object | None:
    """The service without the node ports it asked for, if the refusal was about those."""
    if item.resource != "services":
        return None
    if not any("nodePort" in name for name in error.fields) and (
        "port is already allocated" not in error.message
    ):
        return None
    ports = (body.get("spec") or {}).get("ports") or []
    if not any("nodePort" in port for port in ports):
        return None
    freed = copy.deepcopy(body)
    for port in freed["spec"]["ports"]:
        port.pop("nodePort", None)
    freed["spec"].pop("healthCheckNodePort", None)
    return freed
