"""A restore's plan, read from the ConfigMap beside it: by the CLI and by the controller."""

from __future__ import annotations

from ararat.api import Restore
from ararat.api.plan import RestorePlan, in_config_map
from ararat.errors import NotFound
from ararat.kube.api import KubeApi, KubeObject
from ararat.kube.resources import CONFIG_MAPS


async def plan_map(api: KubeApi, restore: Restore) -> KubeObject | None:
    """The ConfigMap; None where there is none (yet), or none could be stored."""
    if not restore.status.plan:
        return None
    try:
        return await api.get(CONFIG_MAPS, restore.status.plan, namespace=restore.metadata.namespace)
    except NotFound:
        return None


async def stored_plan(api: KubeApi, restore: Restore) -> RestorePlan | None:
    """What is in it. Raises Damaged."""
    found = await plan_map(api, restore)
    return None if found is None else in_config_map(found)
