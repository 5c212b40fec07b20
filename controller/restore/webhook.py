"""The admission webhooks over HTTPS; every replica serves them.

Decision: claims and the restore are read live, never from a cache: a claim that was marked a moment
ago must count. What cannot be decided within the deadline is an error, and ``failurePolicy: Fail``
makes the API server refuse the pod, whose maker tries again; only namespaces that carry the label
are ever asked about, so a dead webhook blocks nobody else. Claims are asked about, too, unless a
restore makes them: see ``remade``.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import structlog
from aiohttp import web
from pydantic import ValidationError

from ararat.api import Restore
from ararat.api.names import RESTORE, RESTORE_UID
from ararat.errors import AraratError, NotFound
from ararat.kube.api import KubeApi
from ararat.kube.resources import PVCS
from controller.certificates import ServerCertificate

from .admission import ALLOWED, Claims, Verdict, claims_to_read, mutate, pending_volumes, validate
from .claims import pending_for
from .gate import GateSettings
from .remade import Debts, mark
from .run import RESTORES

MUTATE_PATH = "/mutate-pods"
VALIDATE_PATH = "/validate-pods"
CLAIMS_PATH = "/mutate-claims"
#: Below the 5 s that the API server gives us.
_DEADLINE_SECONDS = 4.0
#: The API server sends at most 3 MiB.
_BODY_BYTES = 8 << 20

_log = structlog.get_logger("webhook")


@dataclass(frozen=True)
class Webhook:
    """Answers for one installation."""

    api: KubeApi
    #: Ararat's own.
    namespace: str
    gate_image: str
    gate_pull_policy: str = ""

    def application(self) -> web.Application:
        app = web.Application(client_max_size=_BODY_BYTES)
        app.router.add_post(MUTATE_PATH, self._handler(self._mutate))
        app.router.add_post(VALIDATE_PATH, self._handler(self._validate))
        app.router.add_post(CLAIMS_PATH, self._handler(self._mark))
        return app

    @cached_property
    def _debts(self) -> Debts:
        return Debts(self.api, self.namespace)

    def _handler(
        self, decide: Callable[[dict[str, Any]], Awaitable[Verdict]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            try:
                review = await request.json()
                asked = review["request"]
                uid = asked["uid"]
            except (ValueError, KeyError, TypeError):
                return web.Response(status=400, text="not an AdmissionReview")
            try:
                async with asyncio.timeout(_DEADLINE_SECONDS):
                    verdict = await decide(asked)
            except (AraratError, TimeoutError) as exc:
                message = getattr(exc, "message", "no answer in time")
                _log.warning("undecided", namespace=asked.get("namespace"), error=message)
                return web.Response(status=500, text=f"Ararat could not decide: {message}")
            return web.json_response(answer(uid, verdict))

        return handle

    async def _mutate(self, asked: dict[str, Any]) -> Verdict:
        pod = asked.get("object") or {}
        claims = await self._claims(pod, str(asked.get("namespace")))
        pending = pending_volumes(pod, claims)
        settings = None
        if pending.restore_uid is not None:
            settings = await self._settings(pending.restore_uid, claims)
        verdict = mutate(pod, claims, settings, namespace=str(asked.get("namespace")))
        if verdict is not ALLOWED:
            metadata = pod.get("metadata") or {}
            _log.info(
                "pod held" if verdict.allowed else "pod refused",
                namespace=asked.get("namespace"),
                pod=metadata.get("name") or metadata.get("generateName"),
                volumes=list(pending.volumes.values()),
                message=verdict.message,
            )
        return verdict

    async def _mark(self, asked: dict[str, Any]) -> Verdict:
        claim = asked.get("object") or {}
        name = (claim.get("metadata") or {}).get("name")
        if not name or pending_for(claim) is not None:
            return ALLOWED
        path = f"{asked.get('namespace')}/{name}"
        restore = await self._debts.owed_by(path)
        if restore is None:
            return ALLOWED
        _log.info("claim made again", claim=path, restore=restore.name)
        return Verdict(allowed=True, patch=mark(claim, restore))

    async def _validate(self, asked: dict[str, Any]) -> Verdict:
        pod = asked.get("object") or {}
        return validate(pod, await self._claims(pod, str(asked.get("namespace"))))

    async def _claims(self, pod: dict[str, Any], namespace: str) -> Claims:
        async def read(name: str) -> tuple[str, dict[str, Any] | None]:
            try:
                return name, await self.api.get(PVCS, name, namespace=namespace)
            except NotFound:
                return name, None

        return dict(await asyncio.gather(*(read(name) for name in claims_to_read(pod))))

    async def _settings(self, restore_uid: str, claims: Claims) -> GateSettings:
        """Of the restore with this UID; where it is gone, of one that blocks."""
        async for raw in self.api.list(RESTORES, namespace=self.namespace):
            if raw["metadata"].get("uid") != restore_uid:
                continue
            try:
                restore = Restore.parse(raw)
            except ValidationError:
                break
            return GateSettings(
                image=self.gate_image,
                pull_policy=self.gate_pull_policy,
                restore=restore.name,
                restore_uid=restore_uid,
                no_progress_seconds=restore.spec.gate.no_progress_seconds,
                hooks=restore.spec.hooks,
                images=restore.spec.image_mapping,
            )
        return GateSettings(
            image=self.gate_image,
            pull_policy=self.gate_pull_policy,
            restore=_name_on(claims),
            restore_uid=restore_uid,
        )


async def serve_webhooks(webhook: Webhook, certificate: ServerCertificate, *, port: int) -> None:
    """Serve until cancelled, from the moment that there is a certificate; for every replica."""
    runner = web.AppRunner(webhook.application(), access_log=None)
    await runner.setup()
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(certificate.run())
            while not certificate.ready:  # noqa: ASYNC110 - once, for a second or two
                await asyncio.sleep(0.2)
            await web.TCPSite(runner, port=port, ssl_context=certificate.context).start()
            _log.info("serving", port=port)
    finally:
        await runner.cleanup()


def answer(uid: str, verdict: Verdict) -> dict[str, Any]:
    """The AdmissionReview to send back."""
    response: dict[str, Any] = {"uid": uid, "allowed": verdict.allowed}
    if not verdict.allowed:
        response["status"] = {"code": 403, "message": f"Ararat: {verdict.message}"}
    if verdict.patch:
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(json.dumps(list(verdict.patch)).encode()).decode()
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": response,
    }


def _name_on(claims: Claims) -> str:
    """The name of a restore that is gone, as far as its claims tell."""
    for claim in claims.values():
        labels = (claim or {}).get("metadata", {}).get("labels") or {}
        if RESTORE in labels:
            return str(labels[RESTORE])
    return "unknown"


def configurations(
    *, name: str, namespace: str, service: str, ca_bundle: str = ""
) -> list[dict[str, Any]]:
    """Both webhook configurations, as the chart installs them (without the bundle)."""

    def webhook(path: str, domain: str, resource: str = "pods", **more: Any) -> dict[str, Any]:
        return {
            "name": f"{domain}.ararat.dev",
            "admissionReviewVersions": ["v1"],
            "clientConfig": {
                "service": {"name": service, "namespace": namespace, "path": path, "port": 443},
                **({"caBundle": ca_bundle} if ca_bundle else {}),
            },
            "rules": [
                {
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE"],
                    "resources": [resource],
                    "scope": "Namespaced",
                }
            ],
            "namespaceSelector": {
                "matchExpressions": [{"key": "ararat.dev/restoring", "operator": "Exists"}]
            },
            "failurePolicy": "Fail",
            "matchPolicy": "Equivalent",
            "sideEffects": "None",
            "timeoutSeconds": 5,
            **more,
        }

    head = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
    gates = webhook(MUTATE_PATH, "gate", reinvocationPolicy="IfNeeded")
    others = {"matchExpressions": [{"key": RESTORE_UID, "operator": "DoesNotExist"}]}
    marks = webhook(CLAIMS_PATH, "claims", "persistentvolumeclaims", objectSelector=others)
    return [
        {**head, "kind": "MutatingWebhookConfiguration", "webhooks": [gates, marks]},
        {
            **head,
            "kind": "ValidatingWebhookConfiguration",
            "webhooks": [webhook(VALIDATE_PATH, "gate-check")],
        },
    ]
