"""A gate is admitted wherever its pod is: by the API server's own check of the restricted profile.

Kubernetes 1.20 does not have it. Limits: no kubelet runs the pods here; tests/e2e does that, with a
read-only root, another user, a quota and a LimitRange.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from ararat.kube.errors import Forbidden
from ararat.kube.resources import NAMESPACES, PODS
from controller.restore.gate import GateSettings, add_gate
from tests.component.controller.restore.world import World

NAMESPACE = "restricted"
SETTINGS = GateSettings(image="agent:1", restore="back", restore_uid="uid")


def restricted_pod(**security: Any) -> dict[str, Any]:
    own = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {
        "metadata": {"name": "app", "namespace": NAMESPACE},
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
                **security,
            },
            "containers": [{"name": "app", "image": "app:1", "securityContext": own}],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
    }


@pytest.mark.parametrize("security", [{}, {"runAsUser": 12345, "fsGroup": 5}], ids=str)
async def test_under_the_restricted_profile(world: World, security: dict[str, Any]) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    name = f"{NAMESPACE}-{len(security)}"
    await world.api.create(NAMESPACES, {"metadata": {"name": name, "labels": labels}})
    pod = restricted_pod(**security)
    pod["metadata"]["namespace"] = name
    add_gate(pod, ["data"], SETTINGS)
    made = await world.api.create(PODS, pod, namespace=name, dry_run=True)
    assert made["spec"]["initContainers"][0]["name"] == "restore-wait"
    # The check is really made: of each setting that the profile asks for.
    for setting in ("allowPrivilegeEscalation", "capabilities"):
        lax = deepcopy(pod)
        del lax["spec"]["initContainers"][0]["securityContext"][setting]
        with pytest.raises(Forbidden, match="restore-wait"):
            await world.api.create(PODS, lax, namespace=name, dry_run=True)
