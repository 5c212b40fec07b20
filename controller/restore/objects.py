"""The first half of a restore: its API objects, while volumes begin to be filled already.

The pipeline runs to its end within one look, because its order is its state: a controller that
takes over runs it again, and objects made before are recognised. Beside it a ticker writes how far
it is and gives node jobs to the pods that are scheduled already.
"""

from __future__ import annotations

import asyncio

from ararat.api.backup import Failure
from ararat.api.plan import RestorePlan
from ararat.api.restore import ExistingResourcePolicy
from ararat.concurrency import stop
from ararat.errors import AraratError, Retryable
from ararat.naming import label_value
from controller.location.open import OpenLocation

from . import plan_record, results
from .create import Creator, Outcome
from .filling import step
from .pipeline import Pipeline, Tally
from .plan import Plan
from .progress import STATUS_LIMIT, count_objects, unique
from .run import Look

_TICK_SECONDS = 2.0
_NAMED = 5


async def restore_objects(look: Look, location: OpenLocation, plan: Plan) -> bool:
    """Carry the plan out. False: a cancel came in between. Raises Retryable."""
    context = look.context
    creator = Creator(
        context.api,
        look.restore.uid,
        served={rt.qualified: rt for rt in (await context.api.discover()).resources},
        update=look.restore.spec.existing_resource_policy is ExistingResourcePolicy.UPDATE,
        coming=plan.brings,
        own_namespaces=(
            frozenset(plan.namespaces.values()) if look.restore.spec.isolated else frozenset()
        ),
    )
    pipeline = Pipeline(
        context.api,
        plan,
        creator,
        restore=label_value(look.restore.name),
        gate_image=context.gate_image,
        cancelled=look.cancel_asked,
    )
    look.log.info("restoring objects", total=plan.total)
    ticker = asyncio.create_task(_tick(look, location, pipeline.tally))
    try:
        finished = await pipeline.run()
    finally:
        await stop(ticker)
    tally = pipeline.tally
    await _conclude(look, location, plan, tally, finished=finished)
    return finished


async def _conclude(
    look: Look, location: OpenLocation, plan: Plan, tally: Tally, *, finished: bool
) -> None:
    memory = look.memory
    failures = unique([*plan.failures, *_failures(tally)])
    warnings = [*plan.warnings, *tally.warnings, *_warnings(tally)]
    document = plan.document(backup=look.restore.backup)
    if finished:
        document = plan_record.with_results(document, tally.results)
    unkept = await _keep_beside(look, document)
    warnings += [unkept] if unkept else []
    memory.failures, memory.warnings = failures, warnings
    memory.record = {"plan": document.to_dict()}
    for failure in failures:
        look.log.error(
            "object failed",
            object=failure.object,
            reason=failure.reason,
            message=failure.message,
        )
    for warning in warnings:
        look.log.warning("to look at", message=warning)
    look.log.info(
        "objects restored",
        created=tally.created,
        updated=tally.updated,
        left_alone=tally.left_alone,
        failed=tally.failed,
    )
    # Kept before status says that objects are done: whoever takes over finds them.
    await results.keep(look, location)
    await look.patch(
        {
            "plan": plan_record.name_of(look),
            "objects": count_objects(tally).to_dict(),
            "objectsDone": finished,
            "failures": [failure.to_dict() for failure in failures[:STATUS_LIMIT]],
            "failureCount": len(failures),
            "warnings": warnings[:STATUS_LIMIT],
            "warningCount": len(warnings),
        }
    )
    memory.objects = None  # Secrets among them: not held longer than needed


async def _keep_beside(look: Look, document: RestorePlan) -> str:
    """What a person should know; empty where it is there. Raises Retryable.

    It is more than a record: what is owed to claims that are lost and made again is known by it. A
    restore waits for it as long as that may help, and goes on without where it is refused.
    """
    try:
        await plan_record.write(look, document)
    except Retryable:
        raise
    except AraratError as exc:
        return (
            "the plan could not be stored: a claim that is deleted before it was filled, and made "
            f"again, is not known to be owed its data: {exc.message}"
        )
    return ""


async def _tick(look: Look, location: OpenLocation, tally: Tally) -> None:
    """Say how far it is; serve pods that are scheduled. Its own troubles wait for the next look."""
    while True:
        await asyncio.sleep(_TICK_SECONDS)
        try:
            await look.patch(
                {"objects": count_objects(tally).to_dict(), "message": tally.step or None}
            )
            if not look.cancel_asked():
                await step(look, location)
        except AraratError as exc:
            look.log.warning("will try again", reason=exc.reason, message=exc.message)


def _failures(tally: Tally) -> list[Failure]:
    return [
        Failure(object=result.item.id, reason=result.reason or "Failed", message=result.message)
        for result in tally.results
        if result.outcome is Outcome.FAILED
    ]


def _warnings(tally: Tally) -> list[str]:
    found = [
        f"{result.item.id}: {warning}" for result in tally.results for warning in result.warnings
    ]
    done = {Outcome.LEFT_ALONE: "left alone; it differs", Outcome.UPDATED: "updated"}
    found += [
        f"{result.item.id} exists and was {done[result.outcome]} in {', '.join(result.differs)}"
        for result in tally.results
        if result.outcome in done and result.differs
    ]
    return found
