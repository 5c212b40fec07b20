"""What a backup would read of the cluster as it is now, without making one."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from ararat.api.backup import BackupSpec
from ararat.api.names import COMPONENT, COMPONENT_AGENT
from ararat.errors import InvalidSpec
from ararat.kube.api import KubeApi
from ararat.kube.resources import PODS
from controller.config import Config
from controller.context import ready_nodes
from controller.location.open import first_error

from .outcome import count_coverage, volume_result
from .plan import scope_of, volumes_of


async def live_coverage(config: Config, api: KubeApi, text: str) -> dict[str, Any]:
    """``text``: a Backup's spec as JSON. The same plan that a backup makes, as the manifest has it.

    Raises InvalidSpec, and the API's errors.
    """
    try:
        spec = BackupSpec.model_validate_json(text)
    except ValidationError as exc:
        raise InvalidSpec(first_error(exc)) from exc
    scope = await scope_of(api, spec, own=frozenset({config.namespace, config.keys_namespace}))
    labels = f"{COMPONENT}={COMPONENT_AGENT}"
    agents = [pod async for pod in api.list(PODS, namespace=config.namespace, labels=labels)]
    ready = frozenset(node for node, up in ready_nodes(agents).items() if up)
    _, planned = await volumes_of(api, spec, scope, agent_nodes=ready, host_paths=config.host_paths)
    volumes = [
        volume_result(v, None, cluster_uid="").model_copy(
            update={"coverage": v.coverage, "reason": v.reason, "message": v.message}
        )
        for v in planned
    ]
    return {
        "namespaces": scope.namespaces,
        "coverage": count_coverage(volumes).to_dict(),
        "volumes": [v.to_dict() for v in volumes],
    }
