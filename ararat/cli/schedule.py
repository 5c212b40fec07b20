"""``ararat schedule``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ararat.cli import options, output, parse, runs, session
from ararat.cli.options import Output
from ararat.cli.settings import Settings, with_settings

if TYPE_CHECKING:
    from ararat.api import Schedule
    from ararat.api.schedule import ScheduleVerify
    from ararat.kube import KubeApi

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Make backups by the clock, and say how long they are kept.",
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the schedule.")]


@app.command()
@with_settings
def create(
    settings: Settings,
    name: Name,
    *,
    cron: Annotated[
        str,
        typer.Option(
            "--cron",
            "--schedule",
            help="'minute hour day month weekday', or @hourly, @daily, @weekly, @monthly, @yearly; "
            "with -random at a time of its own: @daily-random.",
            metavar="CRON",
        ),
    ],
    time_zone: Annotated[
        str, typer.Option("--time-zone", help="Such as Europe/Berlin.", metavar="ZONE")
    ] = "UTC",
    include_namespaces: options.IncludeNamespaces = None,
    exclude_namespaces: options.ExcludeNamespaces = None,
    include_resources: options.IncludeResources = None,
    exclude_resources: options.ExcludeResources = None,
    selector: options.Selector = None,
    or_selector: options.OrSelector = None,
    include_cluster_resources: options.IncludeClusterResources = None,
    ordered_resources: options.OrderedResources = None,
    default_volumes_to_fs_backup: Annotated[
        bool,
        typer.Option(
            "--default-volumes-to-fs-backup",
            help="All volumes but those that pods name in ararat.dev/backup-volumes-excludes.",
        ),
    ] = False,
    location: Annotated[
        str | None,
        typer.Option(
            "--location",
            "--storage-location",
            help="BackupLocation to write to. Default: the default one.",
            metavar="NAME",
        ),
    ] = None,
    keep_last: Annotated[
        int, typer.Option("--keep-last", min=0, help="Keep the newest N.", metavar="N")
    ] = 0,
    keep_hourly: Annotated[
        int, typer.Option("--keep-hourly", min=0, help="One for each of N hours.", metavar="N")
    ] = 0,
    keep_daily: Annotated[
        int, typer.Option("--keep-daily", min=0, help="One for each of N days.", metavar="N")
    ] = 0,
    keep_weekly: Annotated[
        int, typer.Option("--keep-weekly", min=0, help="One for each of N weeks.", metavar="N")
    ] = 0,
    keep_monthly: Annotated[
        int, typer.Option("--keep-monthly", min=0, help="One for each of N months.", metavar="N")
    ] = 0,
    keep_yearly: Annotated[
        int, typer.Option("--keep-yearly", min=0, help="One for each of N years.", metavar="N")
    ] = 0,
    verify_every: Annotated[
        str | None,
        typer.Option(
            "--verify-every",
            help="Read the newest Completed backup whole, this often: 7d, 36h. Default: never.",
            metavar="SPAN",
        ),
    ] = None,
    verify_run: Annotated[
        bool,
        typer.Option("--verify-run", help="With --verify-every: start its pods as well."),
    ] = False,
    ttl: Annotated[
        str | None,
        typer.Option("--ttl", help="None gets older than this: 36h, 90d.", metavar="SPAN"),
    ] = None,
    keep_at_least_completed: Annotated[
        int,
        typer.Option(
            "--keep-at-least-completed",
            min=0,
            help="Good copies of each volume that stay whatever else is said.",
            metavar="N",
        ),
    ] = 1,
    overlap: Annotated[
        str,
        typer.Option(
            "--overlap", help="While the last one runs: Forbid leaves a run out, Queue waits."
        ),
    ] = "Forbid",
    catch_up_within: Annotated[
        str,
        typer.Option(
            "--catch-up-within",
            help="Make up for a missed run, once, if it was due no longer ago.",
            metavar="SPAN",
        ),
    ] = "12h",
    paused: Annotated[bool, typer.Option("--paused", help="Make it, and let it rest.")] = False,
    dry_run: options.DryRun = False,
    form: options.OutputOption = Output.TABLE,
) -> None:
    """Back up by the clock.

    \b
      ararat schedule create nightly --cron '30 2 * * *' --time-zone Europe/Berlin \\
          --include-namespaces wp --keep-daily 7 --keep-weekly 5 --keep-monthly 12
      ararat schedule create all --cron @daily-random --ttl 14d
      ararat schedule create often --cron '*/15 * * * *' --include-namespaces db --overlap Queue

    \b
    Without any --keep-... and --ttl backups are kept for 30 days. The last good copy of each volume
    always stays (--keep-at-least-completed).
    """
    from ararat.api import Schedule
    from ararat.api.backup import BackupSpec, BackupVolumes, VolumePolicy
    from ararat.api.base import Meta
    from ararat.api.schedule import Overlap, Retention, ScheduleSpec, ScheduleStatus

    _check_times(
        cron, time_zone, ttl=ttl, catch_up_within=catch_up_within, verify_every=verify_every
    )
    if overlap not in list(Overlap):
        raise typer.BadParameter(f"--overlap takes Forbid or Queue, not {overlap!r}")
    policy = VolumePolicy.OPT_OUT if default_volumes_to_fs_backup else VolumePolicy.OPT_IN
    template = BackupSpec(
        **runs.selection(
            include_namespaces=include_namespaces,
            exclude_namespaces=exclude_namespaces,
            include_resources=include_resources,
            exclude_resources=exclude_resources,
            selector=selector,
            include_cluster_resources=include_cluster_resources,
        ),
        or_label_selectors=parse.selectors(or_selector, beside=selector),
        ordered_resources=parse.words(ordered_resources or ()),
        volumes=BackupVolumes(default_policy=policy),
        location=location,
    )
    schedule = Schedule(
        metadata=Meta(name=parse.object_name(name, kind="schedule"), namespace=settings.namespace),
        spec=ScheduleSpec(
            cron=cron,
            time_zone=time_zone,
            paused=paused,
            overlap=Overlap(overlap),
            catch_up_within=catch_up_within,
            template=template,
            verify=_verify(verify_every, run=verify_run),
            retention=Retention(
                keep_last=keep_last,
                keep_hourly=keep_hourly,
                keep_daily=keep_daily,
                keep_weekly=keep_weekly,
                keep_monthly=keep_monthly,
                keep_yearly=keep_yearly,
                ttl=ttl,
                keep_at_least_completed=keep_at_least_completed,
            ),
        ),
        status=ScheduleStatus(),
    )
    if dry_run:
        runs.print_only(schedule, form)
        return
    made = session.run(settings, lambda api: _make(api, settings, schedule))
    if form.for_machines:
        output.objects([made], form, single=True)
    else:
        output.text(
            f"schedule {name} created; a backup right now: "
            f"'ararat backup create --from-schedule {name} --wait{settings.flags}'"
        )


@app.command()
@with_settings
def get(
    settings: Settings, names: options.Names = None, form: options.OutputOption = Output.TABLE
) -> None:
    """List schedules: when each is due next, and how the last backup went.

    \b
      ararat schedule get
      ararat schedule get nightly -o yaml
    """
    from ararat.api import Schedule
    from ararat.api.base import utcnow
    from ararat.cli import schedule_view
    from ararat.cli.objects import find_all, parsed

    found = session.run(settings, lambda api: find_all(api, settings, Schedule, names or []))
    if form.for_machines:
        output.objects(found, form, single=len(names or []) == 1)
    elif not found:
        session.note(f"there is no schedule in namespace {settings.namespace}")
    else:
        output.text(schedule_view.table(parsed(Schedule, found), utcnow()))


@app.command()
@with_settings
def describe(settings: Settings, name: Name) -> None:
    """Show everything about a schedule: when it runs, what it keeps, its backups.

    \b
      ararat schedule describe nightly
    """
    from ararat.api import Backup, Schedule
    from ararat.api.base import utcnow
    from ararat.cli import schedule_view
    from ararat.cli.objects import all_of, find, parsed

    async def body(api: KubeApi) -> tuple[Schedule, list[Backup]]:
        schedule = Schedule.parse(await find(api, settings, Schedule, name))
        backups = parsed(Backup, await all_of(api, settings, Backup))
        return schedule, [backup for backup in backups if backup.spec.schedule == name]

    schedule, backups = session.run(settings, body)
    output.text(schedule_view.describe(schedule, backups, utcnow()))


@app.command()
@with_settings
def retention(
    settings: Settings,
    name: Name,
    *,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only show it: the controller is who acts on it anyway."),
    ] = True,
    form: options.OutputOption = Output.TABLE,
) -> None:
    """Show which backup of a schedule is kept by which rule, and which would go now.

    \b
      ararat schedule retention nightly --dry-run
    """
    import json

    from ararat.api import Schedule
    from ararat.cli import remote, schedule_view
    from ararat.cli.objects import find

    del dry_run

    async def body(api: KubeApi) -> bytes:
        await find(api, settings, Schedule, name)
        return await remote.show(api, settings, "retention", name)

    rows = json.loads(session.run(settings, body))
    output.document(rows, form) if form.for_machines else output.text(schedule_view.kept(rows))


@app.command()
@with_settings
def pause(settings: Settings, name: Name) -> None:
    """Let a schedule rest. What is due meanwhile is not made up for.

    \b
      ararat schedule pause nightly
    """
    _patch(settings, name, paused=True)
    output.text(f"schedule {name} rests until 'ararat schedule unpause {name}{settings.flags}'")


@app.command()
@with_settings
def unpause(settings: Settings, name: Name) -> None:
    """Let a schedule go on.

    \b
      ararat schedule unpause nightly
    """
    _patch(settings, name, paused=False)
    output.text(f"schedule {name} goes on; see 'ararat schedule get {name}{settings.flags}'")


@app.command()
@with_settings
def delete(
    settings: Settings,
    name: Name,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a schedule. Its backups stay, and nothing deletes them by their age any more.

    \b
      ararat schedule delete nightly
    """
    from ararat.api import Schedule
    from ararat.cli.confirm import confirm
    from ararat.cli.objects import find
    from ararat.human import plural
    from ararat.kube import of

    async def look(api: KubeApi) -> int:
        found = Schedule.parse(await find(api, settings, Schedule, name))
        return found.status.backups

    count = session.run(settings, look)
    confirm("Delete it?", yes=yes, about=f"schedule {name}: its {plural(count, 'backup')} stay")

    async def body(api: KubeApi) -> None:
        await api.delete(of(Schedule), name, namespace=settings.namespace)

    session.run(settings, body)
    output.text(f"schedule {name} deleted")


def _check_times(
    cron: str,
    time_zone: str,
    *,
    ttl: str | None,
    catch_up_within: str,
    verify_every: str | None = None,
) -> None:
    from ararat import duration
    from ararat.cron import timetable
    from ararat.errors import InvalidSpec

    try:
        timetable(cron, zone=time_zone, seed="")
        for span in (ttl, catch_up_within, verify_every):
            if span is not None:
                duration.parse(span)
    except InvalidSpec as error:
        raise typer.BadParameter(error.message) from error


def _verify(every: str | None, *, run: bool) -> ScheduleVerify | None:
    from ararat.api.schedule import ScheduleVerify
    from ararat.api.verification import VerificationRun

    if every is None:
        if run:
            raise typer.BadParameter("--verify-run needs --verify-every: say how often")
        return None
    return ScheduleVerify(every=every, run=VerificationRun() if run else None)


async def _make(api: KubeApi, settings: Settings, schedule: Schedule) -> dict[str, object]:
    from ararat.cli import checks
    from ararat.cli.objects import create as make

    await checks.writable_location(api, settings, schedule.spec.template.location)
    return await make(api, settings, schedule)


def _patch(settings: Settings, name: str, *, paused: bool) -> None:
    from ararat.api import Schedule
    from ararat.cli.objects import find
    from ararat.kube import of

    async def body(api: KubeApi) -> None:
        await find(api, settings, Schedule, name)
        patch = {"spec": {"paused": paused}}
        await api.patch(of(Schedule), name, patch, namespace=settings.namespace)

    session.run(settings, body)
