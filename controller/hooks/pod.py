"""The pod that a hook is for, by its UID: a command goes to a name, and names are used again."""

from __future__ import annotations

from typing import Any

from ararat.api.nodejob import PodReference
from ararat.errors import NotFound
from ararat.kube.api import KubeApi
from ararat.kube.resources import PODS


async def live_pod(api: KubeApi, pod: PodReference) -> dict[str, Any] | None:
    """The very pod that is meant, asked of the server; None: it is gone. Raises Retryable."""
    try:
        found = await api.get(PODS, pod.name, namespace=pod.namespace)
    except NotFound:
        return None
    return found if found["metadata"]["uid"] == pod.uid else None
