"""``ararat backup delete|pin|unpin``, and a backup made from a schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ararat.cli import output, parse, runs, session
from ararat.cli.options import Output
from ararat.cli.settings import Settings, with_settings

if TYPE_CHECKING:
    from ararat.api import Backup, DeleteBackupRequest
    from ararat.kube import KubeApi

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the backup.")]
#: How long a person waits for a deletion before being told how to look later.
WAIT_SECONDS = 300.0
_LOOK_SECONDS = 0.5


def register(app: typer.Typer) -> None:
    """Put the verbs among those of ``ararat backup``."""
    for verb in (delete, pin, unpin):
        app.command(verb.__name__)(verb)


@with_settings
def delete(
    settings: Settings,
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Which backups.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Until they are gone, or it is refused.")
    ] = True,
) -> None:
    """Delete backups, with all that is stored of them. It cannot be undone.

    \b
      ararat backup delete mybackup
      ararat backup delete old-1 old-2 --yes --no-wait

    \b
    (kubectl delete backup only removes the object: the backup is still in its location, and the
    object comes back.)
    """
    from ararat.api import Backup
    from ararat.cli.confirm import confirm
    from ararat.cli.objects import find

    async def look(api: KubeApi) -> list[Backup]:
        return [Backup.parse(await find(api, settings, Backup, name)) for name in names]

    backups = session.run(settings, look)
    for backup in backups:
        if not backup.status.phase.terminal:
            from ararat.errors import InvalidSpec

            raise InvalidSpec(
                f"backup {backup.name} is {backup.status.phase}: end it with "
                f"'ararat backup cancel {backup.name}{settings.flags}' first"
            )
    confirm(
        "Delete, with all that is stored?", yes=yes, about="\n".join(_about(b) for b in backups)
    )

    async def body(api: KubeApi) -> list[DeleteBackupRequest]:
        made = [await _request(api, settings, backup) for backup in backups]
        return [await _ended(api, settings, request) for request in made] if wait else made

    failed = False
    for request in session.run(settings, body):
        failed = _report(request, settings, waited=wait) or failed
    if failed:
        raise typer.Exit(session.FAILED)


@with_settings
def pin(settings: Settings, name: Name) -> None:
    """Keep a backup whatever its age and whatever its schedule's retention says.

    \b
      ararat backup pin mybackup
    """
    _pin(settings, name, pinned=True)
    output.text(f"backup {name} is pinned: only 'ararat backup delete' deletes it")


@with_settings
def unpin(settings: Settings, name: Name) -> None:
    """Let a pinned backup run out again, by its ttl or its schedule's retention.

    \b
      ararat backup unpin mybackup
    """
    _pin(settings, name, pinned=False)
    output.text(f"backup {name} is no longer pinned: its age counts again, from when it began")


def create_from_schedule(
    settings: Settings,
    schedule_name: str,
    name: str | None,
    *,
    wait: bool,
    dry_run: bool,
    form: Output,
) -> None:
    """A backup as the schedule would make it, now."""
    from ararat.api import Backup, Schedule
    from ararat.api.backup import BackupStatus
    from ararat.api.base import Meta, utcnow
    from ararat.api.names import SCHEDULE
    from ararat.cli import backup
    from ararat.cli.follow import BACKUP
    from ararat.cli.objects import find
    from ararat.naming import label_value

    async def look(api: KubeApi) -> Schedule:
        return Schedule.parse(await find(api, settings, Schedule, schedule_name))

    schedule = session.run(settings, look)
    chosen = name or parse.derived_restore_name(schedule_name, utcnow())
    made = Backup(
        metadata=Meta(
            name=parse.object_name(chosen, kind="backup"),
            namespace=settings.namespace,
            labels={SCHEDULE: label_value(schedule_name)},
        ),
        spec=schedule.spec.template.model_copy(
            update={"schedule": schedule_name, "ttl": None, "pinned": False, "cancel": False}
        ),
        status=BackupStatus(),
    )
    if dry_run:
        runs.print_only(made, form)
        return
    runs.make(
        settings, BACKUP, made, check=backup.check, summary=backup.summary, wait=wait, form=form
    )


def _pin(settings: Settings, name: str, *, pinned: bool) -> None:
    from ararat.api import Backup
    from ararat.cli.objects import find
    from ararat.kube import of

    async def body(api: KubeApi) -> None:
        await find(api, settings, Backup, name)
        patch = {"spec": {"pinned": pinned}}
        await api.patch(of(Backup), name, patch, namespace=settings.namespace)

    session.run(settings, body)


def _about(backup: Backup) -> str:
    """What a person should see of a backup before it goes."""
    began = backup.status.start_time or backup.metadata.creation_timestamp
    of = f" of schedule {backup.spec.schedule}" if backup.spec.schedule else ""
    when = f", began {began:%Y-%m-%d %H:%M} UTC" if began else ""
    pinned = ", PINNED" if backup.spec.pinned else ""
    return f"backup {backup.name}{of}: {backup.status.phase}{when}{pinned}"


async def _request(api: KubeApi, settings: Settings, backup: Backup) -> DeleteBackupRequest:
    from ararat import naming
    from ararat.api import DeleteBackupRequest
    from ararat.api.base import Meta
    from ararat.api.deletion import (
        DeleteBackupRequestSpec,
        DeleteBackupRequestStatus,
        DeletionPhase,
    )
    from ararat.kube import AlreadyExists, of

    request = DeleteBackupRequest(
        metadata=Meta(
            name=naming.object_name(backup.name, unique=(backup.uid,)),
            namespace=settings.namespace,
        ),
        spec=DeleteBackupRequestSpec(backup=backup.name, backup_uid=backup.uid),
        status=DeleteBackupRequestStatus(),
    )
    kind = of(DeleteBackupRequest)
    for _ in range(2):
        try:
            raw = await api.create(kind, request.manifest(), namespace=settings.namespace)
            return DeleteBackupRequest.parse(raw)
        except AlreadyExists:
            raw = await api.get(kind, request.name, namespace=settings.namespace)
            standing = DeleteBackupRequest.parse(raw)
            if standing.status.phase is not DeletionPhase.REFUSED:
                return standing  # under way: wait for it
            await api.delete(kind, request.name, namespace=settings.namespace, uid=standing.uid)
    return standing


async def _ended(
    api: KubeApi, settings: Settings, request: DeleteBackupRequest
) -> DeleteBackupRequest:
    import asyncio

    from ararat.api import DeleteBackupRequest
    from ararat.kube import ApiNotFound, of

    end = asyncio.get_running_loop().time() + WAIT_SECONDS
    while asyncio.get_running_loop().time() < end and not request.status.phase.terminal:
        await asyncio.sleep(_LOOK_SECONDS)
        try:
            raw = await api.get(of(DeleteBackupRequest), request.name, namespace=settings.namespace)
        except ApiNotFound:
            return request
        request = DeleteBackupRequest.parse(raw)
    return request


def _report(request: DeleteBackupRequest, settings: Settings, *, waited: bool) -> bool:
    """Say what came of it; True: it failed."""
    from ararat.api.deletion import DeletionPhase

    name, status = request.spec.backup, request.status
    if status.phase is DeletionPhase.COMPLETED:
        kept = f"; {status.kept_snapshots} snapshots stay" if status.kept_snapshots else ""
        gone = f", its repository too ({', '.join(status.removing)})" if status.removing else ""
        output.text(f"backup {name} deleted{gone}{kept}")
        return False
    if status.phase is DeletionPhase.REFUSED:
        session.note(f"error: backup {name} is not deleted: {status.message}")
        return True
    why = f": {status.message}" if status.message else ""
    output.text(
        f"backup {name} is being deleted{why}; see 'kubectl get deletebackuprequests "
        f"-n {settings.namespace} {request.name}'"
    )
    return waited
