"""What pods are told whose restore was cancelled.

Problem: they stay held, and without a word whoever comes next sees pods that wait for no reason.
Decision: as long as the Restore exists, every pod that stands at one of its gates learns that it
was cancelled, also one that is made or scheduled later: in its condition, as an Event, and in the
gate's log. A gate whose own node job was stopped has that from its agent; the others are answered.
Limits: the gates of a Restore that is deleted are not answered, since its node jobs go with it.
"""

from __future__ import annotations

from ararat.api.nodejob import Answer, Role

from .filling import apply
from .jobs import Decision, plan_job
from .letting_go import units_unread
from .run import Look
from .telling import Verdict, Word, tell


async def tell_cancelled(look: Look) -> None:
    """Nothing is written where it is known already. Raises AraratError."""
    if not any(pod.held for pod in look.pods()):
        return
    restore = look.restore
    deleted = restore.metadata.deletion_timestamp is not None
    what = "deleted" if deleted else "cancelled"
    cause = f"restore {restore.name} was {what} before this volume was filled"
    if not deleted:
        cause += f"; to start on what is there: ararat restore release {restore.name}"
    verdict = Verdict(holds=False, reason="Cancelled", message=cause)
    units = [
        unit
        for unit in await units_unread(look)
        if not unit.completed and not unit.let_go and unit.word is None
    ]
    await tell(
        look, [Word(u, holder, verdict, blocked=True) for u in units for holder in u.holders]
    )
    if deleted:
        return
    unanswered = [
        plan_job(restore, unit, holder, role=Role.ANSWER, answer=Answer.FAILED, cause=cause)
        for unit in units
        for holder in unit.holders
        if holder.pod.node and not unit.jobs_of(holder)
    ]
    await apply(look, None, Decision(create=unanswered))
