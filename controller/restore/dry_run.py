"""A restore that only says what it would do.

Decision: it is the same plan, made by the same code in the same place as that of a restore: what it
shows is what would happen. It goes on until the plan is stored, and ends; nothing else is written,
in the cluster or in the location.
"""

from __future__ import annotations

from dataclasses import replace

from ararat.api.base import utcnow
from ararat.api.plan import Action
from ararat.api.restore import ObjectCounts, RestorePhase
from ararat.human import plural
from controller.location.open import OpenLocation

from . import plan_record
from .begin import plan, survey, terminating
from .foresight import foresee
from .plan import Plan
from .progress import STATUS_LIMIT
from .rehearsal import rehearse
from .run import Look


async def dry_run(look: Look, location: OpenLocation) -> None:
    """Make the plan, store it, end. Raises AraratError."""
    start = utcnow().isoformat()
    made = await plan(look, location)
    existing = await survey(look)
    made = await foresee(
        look.context.api, made, existing, policy=look.restore.spec.existing_resource_policy
    )
    refused, unknown = await rehearse(
        look.context.api,
        made,
        namespaces=existing.namespaces,
        served={rt.qualified: rt for rt in existing.served},
    )
    made = replace(made, failures=(*made.failures, *refused))
    warnings = [*made.warnings, *unknown]
    blocked = terminating(existing)
    if blocked:
        warnings.insert(0, f"the restore would wait: {blocked}")
    document = made.document(backup=look.restore.backup, dry_run=True)
    name = await plan_record.write(look, document.model_copy(update={"warnings": warnings}))
    counts = _counts(made)
    await look.end(
        RestorePhase.COMPLETED,
        reason="DryRun",
        message=f"dry run, nothing was done: {counts.text}",
        status={
            "startTime": start,
            "plan": name,
            "objects": counts.to_dict(),
            "warnings": warnings[:STATUS_LIMIT],
            "warningCount": len(warnings),
            "failures": [failure.to_dict() for failure in made.failures[:STATUS_LIMIT]],
            "failureCount": len(made.failures),
        },
    )
    look.memory.objects = None  # Secrets among them


def _counts(made: Plan) -> ObjectCounts:
    actions = [item.action for item in made.items]
    create, update, leave = (
        actions.count(action) for action in (Action.CREATE, Action.UPDATE, Action.LEAVE)
    )
    parts = [f"{plural(create, 'object')} to create"]
    parts += [f"{update} to update"] if update else []
    parts += [f"{leave} to leave alone"] if leave else []
    return ObjectCounts(total=made.total, text=", ".join(parts))
