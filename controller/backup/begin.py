"""The first step of a backup: decide everything, claim the name, keep the plan, make the jobs.

Nothing is written anywhere before validation has ended: a Backup that asks for what is not there
fails with one sentence and has touched nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from ararat import naming
from ararat.api import Backup
from ararat.api.backup import BackupPhase, BackupStatus
from ararat.api.manifest import Coverage
from ararat.api.names import LOCATION
from ararat.api.nodejob import RepositoryReference
from ararat.concurrency import for_each
from ararat.errors import AccessDenied, Conflict, InvalidSpec
from ararat.human import plural
from ararat.kube.informer import INACTIVITY_SECONDS, RETRY_CAP
from controller.backup import store
from controller.backup.jobs import build_job, job_name
from controller.backup.outcome import count_coverage
from controller.backup.plan import BackupPlan, make_plan, scope_of
from controller.backup.queueing import Turn, turn_of
from controller.backup.run import JOBS, Look
from controller.backup.volumes import PlannedVolume
from controller.context import Context
from controller.location.open import OpenLocation

#: Seconds until a queued backup is looked at again, should no event bring it up sooner.
_QUEUED_SECONDS = 10.0
_CREATE_AT_ONCE = 16
#: Node jobs made in one look: a cancel and the hooks of other pods must not wait for all of them.
CREATE_IN_ONE_LOOK = 500
#: Repositories found or made at once: to make one takes restic processes of some 40 MiB each, while
#: another one may be storing API objects.
REPOSITORIES_AT_ONCE = 2
#: A job that was made and that the cache does not show by then was deleted unseen: a watch that had
#: died is given up after so long, and what takes its place has shown all there is by then.
_UNSEEN_SECONDS = INACTIVITY_SECONDS + RETRY_CAP


def location_name(context: Context, backup: Backup) -> str:
    """The location that a backup goes to. Raises InvalidSpec: none is named or default."""
    named = backup.status.location or backup.spec.location
    if named:
        return named
    defaults = sorted(
        str(raw["metadata"]["name"])
        for raw in context.locations_informer.items()
        if raw["spec"].get("default")
    )
    if len(defaults) == 1:
        return defaults[0]
    if defaults:
        raise InvalidSpec(
            f"several locations are default ({', '.join(defaults)}): name one in spec.location",
            reason="AmbiguousLocation",
        )
    raise InvalidSpec(
        "no location is named and none is the default: see `ararat location get`",
        reason="LocationNotFound",
    )


async def begin(
    look: Look, *, beginning: Callable[[], Mapping[str, frozenset[str]]]
) -> float | None:
    """Take a New or Queued backup to InProgress, or leave it Queued.

    ``beginning``: what other backups that this process began have taken (see queueing).

    Raises InvalidSpec, AccessDenied, NotFound, Conflict, WrongKey (the backup fails), Retryable.
    """
    context, backup = look.context, look.backup
    location = await context.location(location_name(context, backup))
    if location.resource.read_only:
        raise AccessDenied(
            f"location {location.name} is ReadOnly: backups can only be restored from it",
            reason="LocationReadOnly",
        )
    if backup.status.phase is BackupPhase.QUEUED:
        # Whose turn it is costs one listing; a plan costs many, and this is asked often.
        own = frozenset({context.namespace, context.keys_namespace})
        scope = await scope_of(context.api, backup.spec, own=own)
        turn = turn_of(backup, scope.namespaces, _others(context), beginning=beginning())
        if turn is not None:
            return await _queue(look, scope.namespaces, turn)
    plan = await make_plan(context, backup)
    others = _others(context)
    turn = turn_of(backup, plan.namespaces, others, beginning=beginning())
    if turn is not None:
        return await _queue(look, plan.namespaces, turn)
    look.memory.namespaces = frozenset(plan.namespaces)  # nothing is awaited since the question
    await store.claim_name(
        location,
        backup,
        cluster_uid=context.cluster_uid,
        live_uids=frozenset(other.uid for other in others) - {backup.uid},
    )
    plan = await store.write_plan(location, backup, plan)
    await look.hold(labels={LOCATION: naming.label_value(location.name)})
    await _announce(look, location, plan)
    look.memory.plan = plan
    return None


async def _queue(look: Look, namespaces: Sequence[str], turn: Turn) -> float:
    """Say where it stands, and to others what it waits for."""
    await look.patch(
        {
            "phase": BackupPhase.QUEUED.value,
            "message": turn.message,
            "queuePosition": turn.position,
            "namespaces": list(namespaces[:100]),
            "namespaceCount": len(namespaces),
        }
    )
    return _QUEUED_SECONDS


def missing_jobs(look: Look, plan: BackupPlan, jobs: Collection[str]) -> list[PlannedVolume] | None:
    """Volumes whose node job is to be made now; None: every job that is expected is there.

    ``jobs``: what the cache shows. It is behind what was made, at ten thousand jobs by seconds.
    """
    memory = look.memory
    if memory.expected is None:
        memory.expected = {
            job_name(look.backup, v): v for v in plan.volumes if v.coverage is Coverage.BACKED_UP
        }
    missing = [name for name in memory.expected if name not in jobs]
    if not missing:
        return None
    seen_by = time.monotonic() - _UNSEEN_SECONDS
    due = [name for name in missing if memory.made.get(name, seen_by) <= seen_by]
    return [volume for name in due if not (volume := memory.expected[name]).helper]


async def create_jobs_of(
    look: Look, location: OpenLocation, wanted: Sequence[PlannedVolume]
) -> None:
    """The node jobs of these volumes; those that exist already stay as they are."""
    context, backup = look.context, look.backup
    references: dict[str, RepositoryReference] = {}

    async def refer(namespace: str) -> None:
        current = await context.repositories.volumes(location, namespace)
        references[namespace] = await context.repository_reference(
            owner=backup,
            location=location,
            directory=current.directory,
            repository_name=current.repository_name,
            key_id=current.key_id,
        )

    # Most of them are there; those that are not are made, by a restic process each.
    namespaces = sorted({v.pod.namespace for v in wanted})
    await for_each(namespaces, refer, at_once=REPOSITORIES_AT_ONCE)

    async def create(body: dict[str, Any]) -> None:
        name = body["metadata"]["name"]
        try:
            await context.api.create(JOBS, body, namespace=context.namespace)
        except Conflict:
            pass  # made before: by this controller, or by one that was killed
        else:
            look.log.info("node job created", job=name)
        look.memory.made[name] = time.monotonic()

    bodies = [
        build_job(
            backup,
            volume,
            namespace=context.namespace,
            cluster_uid=context.cluster_uid,
            repository=references[volume.pod.namespace],
        )
        for volume in wanted
    ]
    await for_each(bodies, create, at_once=_CREATE_AT_ONCE)


async def _announce(look: Look, location: OpenLocation, plan: BackupPlan) -> None:
    to_read = sum(v.coverage is Coverage.BACKED_UP for v in plan.volumes)
    look.log.info(
        "backup began", location=location.name, namespaces=plan.namespaces, volumes=to_read
    )
    for volume in plan.volumes:
        if volume.coverage is not Coverage.BACKED_UP:
            look.log.info(
                "volume not read",
                volume=volume.id,
                coverage=volume.coverage.value,
                reason=volume.reason,
                message=volume.message,
            )
    counts = count_coverage(plan.volumes)
    # Before anything was read nothing is backed up; the text says what is to be.
    counts = counts.model_copy(
        update={"backed_up": 0, "text": counts.text.replace("backed up", "to read")}
    )
    status = BackupStatus(
        phase=BackupPhase.IN_PROGRESS,
        start_time=look.context.now(),
        location=location.name,
        namespaces=plan.namespaces[:100],
        namespace_count=len(plan.namespaces),
        coverage=counts,
    )
    await look.patch({**status.to_dict(), "message": None, "queuePosition": None})
    await look.context.events.event(
        look.raw, reason="BackupStarted", message=f"reading {plural(to_read, 'volume')}"
    )


def _others(context: Context) -> list[Backup]:
    found = []
    for raw in context.backups.items():
        try:
            found.append(Backup.parse(raw))
        except ValidationError:
            continue  # its own look at it says what is wrong
    return found
