"""The plan of a restore, put beside it in the cluster: a ConfigMap that goes with the Restore.

Also an installation that may not write to its location shows what it did. Names of objects are in
it, and never their content.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable

from ararat.api import names
from ararat.api.plan import KEY, RestorePlan
from ararat.kube.api import PatchType
from ararat.kube.resources import CONFIG_MAPS
from ararat.naming import label_value, object_name

from .create import Result
from .run import Look


def name_of(look: Look) -> str:
    return object_name(look.restore.name, "plan", unique=(look.restore.uid,))


async def write(look: Look, plan: RestorePlan) -> str:
    """Put it there, or put it in the place of the one that is; returns the ConfigMap's name."""
    restore, name = look.restore, name_of(look)
    body = {
        "metadata": {
            "labels": {names.RESTORE: label_value(restore.name), names.RESTORE_UID: restore.uid},
            "ownerReferences": [
                {
                    "apiVersion": look.raw["apiVersion"],
                    "kind": look.raw["kind"],
                    "name": restore.name,
                    "uid": restore.uid,
                }
            ],
        },
        "binaryData": {KEY: base64.b64encode(plan.pack()).decode()},
    }
    await look.context.api.patch(
        CONFIG_MAPS, name, body, namespace=restore.metadata.namespace, kind=PatchType.APPLY
    )
    return name


def with_results(plan: RestorePlan, results: Iterable[Result]) -> RestorePlan:
    """The plan as it was carried out; what has no result of its own was created."""
    found = {result.item.id: result for result in results}
    objects = []
    for planned in plan.objects:
        result = found.get(f"{planned.resource} {planned.path}")
        if planned.action == "Skip":
            objects.append(planned)
        elif result is None:
            objects.append(planned.model_copy(update={"outcome": "Created"}))
        else:
            objects.append(
                planned.model_copy(
                    update={
                        "outcome": str(result.outcome),
                        "reason": result.reason,
                        "message": result.message,
                        "differs": list(result.differs),
                    }
                )
            )
    return plan.model_copy(update={"objects": objects})
