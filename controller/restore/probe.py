"""Proof that pods made by others are held, before any of them can be made.

Problem: a label on a namespace holds nobody until the API server has heard of it, and of the
webhooks, and can reach them; a Deployment created a second too early starts on an empty volume.
Decision: a pod that mounts a pending claim is sent as a dry run; it must come back with our gate.
Until then no pod and no owner of pods is created. Where the webhooks are not installed at all, the
restore goes on and says what that means. A refusal that has nothing to do with us (quota, a policy)
proves nothing either way, and is reported.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ararat import gate, naming
from ararat.errors import AraratError, NotFound, Retryable
from ararat.kube.api import KubeApi
from ararat.kube.resources import MUTATING_WEBHOOKS, PODS

#: Name of both webhook configurations.
CONFIGURATION = "ararat-gate"
_SECONDS = 60.0
_PAUSE = 0.5
_ACCOUNT_SECONDS = 10.0


class NotHeld(Retryable):
    """The webhooks do not hold pods (yet)."""

    default_reason = "WebhookNotHolding"


@dataclass(frozen=True)
class Proof:
    #: What a person should know; empty where pods are held.
    warnings: tuple[str, ...] = ()


async def prove_held(
    api: KubeApi,
    claims: Mapping[str, str],
    *,
    image: str,
    restore_uid: str,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Proof:
    """``claims``: one pending claim of each namespace. Raises NotHeld, Retryable."""
    if not claims:
        return Proof()
    try:
        await api.get(MUTATING_WEBHOOKS, CONFIGURATION)
    except NotFound:
        return Proof(
            (
                "the webhooks are not installed: pods that others make while volumes are being "
                "filled are not held",
            )
        )
    warnings = []
    for namespace, claim in sorted(claims.items()):
        warning = await _prove(api, namespace, claim, image=image, uid=restore_uid, sleep=sleep)
        if warning:
            warnings.append(warning)
    return Proof(tuple(warnings))


async def _prove(
    api: KubeApi,
    namespace: str,
    claim: str,
    *,
    image: str,
    uid: str,
    sleep: Callable[[float], Awaitable[None]],
) -> str:
    body = probe_pod(claim, image=image, uid=uid)
    waited = 0.0
    said = ""
    while waited < _SECONDS:
        try:
            made = await api.create(PODS, body, namespace=namespace, dry_run=True)
        except Retryable as exc:
            said = exc.message
        except AraratError as exc:
            # The namespace's default account is made by the cluster, a moment later.
            if "service account" not in exc.message or waited > _ACCOUNT_SECONDS:
                return f"namespace {namespace}: whether pods are held cannot be told: {exc.message}"
            said = exc.message
        else:
            if gate.is_gated(made):
                return ""
            said = f"a pod in namespace {namespace} is not held by the webhook yet"
        await sleep(_PAUSE)
        waited += _PAUSE
    raise NotHeld(f"{said}; see the controller's log and its service")


def probe_pod(claim: str, *, image: str, uid: str) -> dict[str, Any]:
    """A pod that is never made; it passes the ``restricted`` profile."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": naming.object_name("ararat-probe", claim, uid)},
        "spec": {
            "automountServiceAccountToken": False,
            "restartPolicy": "Never",
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "probe",
                    "image": image,
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [{"name": "claim", "mountPath": "/claim"}],
                }
            ],
            "volumes": [{"name": "claim", "persistentVolumeClaim": {"claimName": claim}}],
        },
    }
