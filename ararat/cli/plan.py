"""The dry run of a restore, for its plan.

Decision: the controller makes the plan, because only it can read the backup. A dry run is a Restore
that does nothing else; its object goes when its plan has been read, also after Ctrl-C.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ararat.api import Restore
from ararat.api.plan import RestorePlan
from ararat.api.restore import RestorePhase
from ararat.cli import objects
from ararat.cli.settings import Settings
from ararat.errors import AraratError
from ararat.kube import ApiUnavailable, KubeApi, of
from ararat.plans import stored_plan

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

#: A dry run reads the backup's objects; large ones take a while.
SECONDS = 300.0
_LOOK_SECONDS = 0.3


async def make(
    api: KubeApi,
    settings: Settings,
    restore: Restore,
    *,
    check: Callable[[KubeApi, Settings, Restore], Awaitable[None]],
) -> RestorePlan:
    """Have the controller plan. Raises AraratError with its sentence where there is no plan."""
    await check(api, settings, restore)
    created = await objects.create(api, settings, restore)
    name, uid = restore.name, str(created["metadata"]["uid"])
    try:
        async with asyncio.timeout(SECONDS):
            while True:
                raw = await api.get(of(Restore), name, namespace=settings.namespace)
                found = Restore.parse(raw)
                if found.status.phase.terminal:
                    return await _result(api, found)
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError as error:
        raise ApiUnavailable(
            f"there is no plan after {SECONDS:.0f} s: does the controller run? see "
            f"'kubectl -n {settings.namespace} get pods'"
        ) from error
    finally:
        await api.delete(of(Restore), name, namespace=settings.namespace, uid=uid)


async def _result(api: KubeApi, restore: Restore) -> RestorePlan:
    plan = await stored_plan(api, restore)
    if plan is None or restore.status.phase is not RestorePhase.COMPLETED:
        raise AraratError(restore.status.message or "the controller made no plan")
    return plan
