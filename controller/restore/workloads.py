"""Jobs, StatefulSets, accounts, token Secrets and namespaces, as they can be created again. Pure.

Decision: a Job's selector and its ``controller-uid`` labels are generated anew unless the user
manages the selector himself. A StatefulSet's templates follow the storage classes of its claims. A
Secret that the user made for a service account's token keeps its name, and its token is made anew
by the cluster (the old one was signed by another). Accounts forget the token Secrets that an older
cluster made for them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .classes import StorageClasses
from .metadata import drop
from .stored import Object, StoredObject

_JOB_LABELS = frozenset(
    {
        "controller-uid",
        "job-name",
        "batch.kubernetes.io/controller-uid",
        "batch.kubernetes.io/job-name",
    }
)
TOKEN_TYPE = "kubernetes.io/service-account-token"  # noqa: S105 - a type
ACCOUNT_NAME = "kubernetes.io/service-account.name"
_ACCOUNT_UID = frozenset({"kubernetes.io/service-account.uid"})


def prepare_job(job: Object) -> None:
    spec = job["spec"]
    if spec.get("manualSelector"):
        return
    spec.pop("selector", None)
    drop(job["metadata"], "labels", _JOB_LABELS)
    drop(spec.get("template", {}).get("metadata") or {}, "labels", _JOB_LABELS)


def prepare_stateful_set(stateful_set: Object, *, classes: StorageClasses) -> list[str]:
    warnings = []
    for template in stateful_set["spec"].get("volumeClaimTemplates") or []:
        template.pop("status", None)
        resolution = classes.resolve(template["spec"].get("storageClassName"))
        if resolution.name is not None:
            template["spec"]["storageClassName"] = resolution.name
        if resolution.warning:
            warnings.append(f"claims of {template['metadata']['name']}: {resolution.warning}")
    return warnings


def prepare_namespace(namespace: Object) -> None:
    """The server's own finalizer and label go; the label follows the new name."""
    namespace.pop("spec", None)
    drop(namespace["metadata"], "labels", frozenset({"kubernetes.io/metadata.name"}))


def prepare_account(account: Object) -> None:
    pattern = re.compile(
        rf"^{re.escape(account['metadata']['name'])}-(token|dockercfg)-[a-z0-9]{{5}}$"
    )
    for field in ("secrets", "imagePullSecrets"):
        if field in account:
            kept = [ref for ref in account[field] or [] if not pattern.match(ref.get("name", ""))]
            account[field] = kept
            if not kept:
                account.pop(field)


def is_automatic_token(secret: StoredObject) -> bool:
    """Whether the cluster made this token Secret by itself (1.23 and before)."""
    account = secret.annotations.get(ACCOUNT_NAME, "")
    return secret.body.get("type") == TOKEN_TYPE and bool(
        re.match(rf"^{re.escape(account)}-token-[a-z0-9]{{5}}$", secret.name)
    )


def prepare_secret(secret: Object) -> None:
    if secret.get("type") != TOKEN_TYPE:
        return
    drop(secret["metadata"], "annotations", _ACCOUNT_UID)
    drop(secret, "data", frozenset({"token", "ca.crt", "namespace"}))


def merge_account(existing: Mapping[str, Any], wanted: Mapping[str, Any]) -> Object | None:
    """A merge patch that adds to an existing account what the stored one has; None: nothing.

    Only additions: pull secrets, mountable secrets, labels and annotations that are not there. A
    new namespace's ``default`` account is made by the cluster before the restore can make it, and
    without its pull secrets no pod there would start.
    """
    patch: Object = {}
    for field in ("imagePullSecrets", "secrets"):
        have = list(existing.get(field) or [])
        names = {reference.get("name") for reference in have}
        missing = [ref for ref in wanted.get(field) or [] if ref.get("name") not in names]
        if missing:
            patch[field] = have + missing
    metadata = {}
    for field in ("labels", "annotations"):
        have_keys = existing["metadata"].get(field) or {}
        added = {
            key: value
            for key, value in (wanted["metadata"].get(field) or {}).items()
            if key not in have_keys
        }
        if added:
            metadata[field] = added
    if metadata:
        patch["metadata"] = metadata
    return patch or None
