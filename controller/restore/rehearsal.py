"""What a dry run asks the API server: whether it would take the objects that it does not have yet.

Problem: quotas, policies, webhooks and newer validation refuse objects at three in the morning that
were fine where they came from.
Decision: planned objects are sent to the API server as a dry run of its own, admission included;
what it refuses is a failure of the plan, in its own words. At most a few hundred, of every kind and
namespace some, within half a minute; how many were not asked about is said.
Limits: a namespace that is not there takes nothing, not even for trial. Objects are tried one by
one: a quota that the tenth of them would exceed lets each pass. A webhook that cannot be tried
(its side effects are not declared) is not asked. What is refused because of an object that the
restore itself brings is not a refusal.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Mapping, Sequence

from ararat.api.backup import Failure
from ararat.api.plan import Action
from ararat.concurrency import for_each
from ararat.errors import AraratError, Conflict, NotFound, Retryable
from ararat.human import plural
from ararat.kube.api import KubeApi
from ararat.kube.errors import KindNotServed
from ararat.kube.resources import ResourceType

from .create import failing_webhook
from .plan import Item, Plan

#: So many are tried at most, in so many seconds, so many at a time.
MOST = 300
SECONDS = 30.0
_AT_ONCE = 8
#: What others must find before they are accepted.
_NEEDED = frozenset(
    {
        "serviceaccounts",
        "priorityclasses.scheduling.k8s.io",
        "runtimeclasses.node.k8s.io",
        "roles.rbac.authorization.k8s.io",
        "clusterroles.rbac.authorization.k8s.io",
    }
)
_CANNOT_BE_TRIED = "does not support dry run"


async def rehearse(
    api: KubeApi,
    plan: Plan,
    *,
    namespaces: Iterable[str],
    served: Mapping[str, ResourceType],
    most: int = MOST,
) -> tuple[list[Failure], list[str]]:
    """What would be refused, and warnings. ``namespaces``: those that exist."""
    there = frozenset(namespaces)
    creating = [item for item in plan.items if item.action is Action.CREATE]
    possible = [
        item
        for item in creating
        if item.resource in served and (not item.namespace or item.namespace in there)
    ]
    brought = {item.name for item in creating if item.resource in _NEEDED}
    chosen = some_of_each(possible, most)
    failures: dict[str, Failure] = {}
    asked = 0

    async def ask(item: Item) -> None:
        nonlocal asked
        failure = await _refusal(api, item, served[item.resource], brought)
        asked += 1
        if failure is not None:
            failures[item.id] = failure

    try:
        async with asyncio.timeout(SECONDS):
            await for_each(chosen, ask, at_once=_AT_ONCE)
    except (TimeoutError, Retryable):
        pass  # a busy server: what was asked counts, and the rest is said
    warnings = []
    if asked < len(creating):
        new = len({item.namespace for item in creating if item.namespace} - there)
        where = f" ({plural(new, 'namespace')} not there yet)" if new else ""
        warnings.append(
            f"the API server was asked about {asked} of {plural(len(creating), 'object')} to create"
            f"{where}: what it would refuse of the others is not known"
        )
    return [failures[item.id] for item in chosen if item.id in failures], warnings


def some_of_each(items: Sequence[Item], most: int) -> list[Item]:
    """The first of every kind in every namespace, then the second of each, and so on. Pure."""
    groups: dict[tuple[str, str], list[Item]] = {}
    for item in items:
        groups.setdefault((item.resource, item.namespace or ""), []).append(item)
    rounds = itertools.zip_longest(*groups.values())
    return [item for each in rounds for item in each if item is not None][:most]


async def _refusal(
    api: KubeApi, item: Item, rt: ResourceType, brought: Iterable[str]
) -> Failure | None:
    assert item.body is not None
    body = {**item.body, "apiVersion": rt.api_version}
    try:
        await api.create(rt, body, namespace=item.namespace, dry_run=True)
    except KindNotServed:
        return None  # said already
    except (NotFound, Conflict):
        return None  # it came, or its namespace went, in this moment
    except AraratError as exc:
        webhook = failing_webhook(exc)
        if isinstance(exc, Retryable) and not webhook:
            raise
        if _CANNOT_BE_TRIED in exc.message or any(name in exc.message for name in brought):
            return None
        reason = "WebhookFailing" if webhook else exc.reason
        return Failure(object=item.id, reason=reason, message=f"would be refused: {exc.message}")
    return None
