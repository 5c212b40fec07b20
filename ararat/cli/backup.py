"""``ararat backup``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ararat.cli import coverage_now, options, output, parse, runs, session
from ararat.cli.options import Output
from ararat.cli.settings import Settings, with_settings

if TYPE_CHECKING:
    from ararat.api import Backup
    from ararat.api.manifest import ManifestHooks
    from ararat.cli.coverage import Row
    from ararat.kube import KubeApi, KubeObject

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Make backups and see what became of them."
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the backup.")]


@app.command()
@with_settings
def create(
    settings: Settings,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Name of the backup; needed without a schedule."),
    ] = None,
    *,
    from_schedule: Annotated[
        str | None,
        typer.Option(
            "--from-schedule",
            help="What this schedule backs up, now. Everything else is its business.",
            metavar="SCHEDULE",
        ),
    ] = None,
    include_namespaces: options.IncludeNamespaces = None,
    exclude_namespaces: options.ExcludeNamespaces = None,
    include_resources: options.IncludeResources = None,
    exclude_resources: options.ExcludeResources = None,
    selector: options.Selector = None,
    or_selector: options.OrSelector = None,
    include_cluster_resources: options.IncludeClusterResources = None,
    ordered_resources: options.OrderedResources = None,
    default_volumes_to_fs_backup: coverage_now.EveryVolume = False,
    volume_policies: coverage_now.VolumePolicies = None,
    include_unmounted_claims: coverage_now.IncludeUnmounted = False,
    location: Annotated[
        str | None,
        typer.Option(
            "--location",
            "--storage-location",
            help="BackupLocation to write to. Default: the default one.",
            metavar="NAME",
        ),
    ] = None,
    ttl: Annotated[
        str | None,
        typer.Option(
            "--ttl", help="Deleted when it is older: 36h, 90d. Default: 30d.", metavar="SPAN"
        ),
    ] = None,
    wait: options.Wait = False,
    dry_run: options.DryRun = False,
    form: options.OutputOption = Output.TABLE,
) -> None:
    """Back up namespaces: their objects, and the files in the volumes that pods name.

    \b
    Name a pod's volumes first, then back up:
      kubectl annotate pods -n wp -l app=mariadb ararat.dev/backup-volumes=data
      ararat backup create mybackup --include-namespaces wp --wait

    \b
    More:
      ararat backup create all --exclude-namespaces kube-system
      ararat backup create web -l app=web --default-volumes-to-fs-backup
      ararat backup create mybackup --include-namespaces wp --dry-run -o yaml
      ararat backup create --from-schedule nightly --wait

    \b
    With --wait the exit code is
      0 Completed   3 PartiallyFailed   1 Failed or Cancelled
    """
    if from_schedule is not None:
        from ararat.cli import life

        life.create_from_schedule(
            settings, from_schedule, name, wait=wait, dry_run=dry_run, form=form
        )
        return
    if name is None:
        raise typer.BadParameter("a backup needs a NAME, or --from-schedule SCHEDULE")
    from ararat.api import Backup
    from ararat.api.backup import BackupSpec, BackupStatus
    from ararat.api.base import Meta

    spec = BackupSpec(
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
        volumes=coverage_now.volumes(
            every=default_volumes_to_fs_backup,
            policies=volume_policies,
            unmounted=include_unmounted_claims,
        ),
        location=location,
        ttl=parse.span(ttl, option="--ttl"),
    )
    meta = Meta(name=parse.object_name(name, kind="backup"), namespace=settings.namespace)
    backup = Backup(metadata=meta, spec=spec, status=BackupStatus())
    if dry_run:
        runs.print_only(backup, form)
        return
    from ararat.cli.follow import BACKUP

    runs.make(settings, BACKUP, backup, check=check, summary=summary, wait=wait, form=form)


@app.command()
@with_settings
def get(
    settings: Settings, names: options.Names = None, form: options.OutputOption = Output.TABLE
) -> None:
    """List backups, the newest first; or the named ones.

    \b
      ararat backup get
      ararat backup get mybackup -o yaml
    """
    from ararat.api import Backup
    from ararat.api.base import utcnow
    from ararat.cli import backup_view
    from ararat.cli.objects import find_all, parsed

    found = session.run(settings, lambda api: find_all(api, settings, Backup, names or []))
    if form.for_machines:
        output.objects(found, form, single=len(names or []) == 1)
    elif not found:
        session.note(f"there is no backup in namespace {settings.namespace}")
    else:
        output.text(backup_view.table(parsed(Backup, found), utcnow()))


@app.command()
@with_settings
def describe(settings: Settings, name: Name) -> None:
    """Show everything about a backup: outcome, each volume, failures, what was asked for.

    \b
      ararat backup describe mybackup
    """
    from ararat.api import Backup
    from ararat.api.base import utcnow
    from ararat.cli import backup_view
    from ararat.cli.objects import find

    async def body(api: KubeApi) -> tuple[Backup, list[Row], list[ManifestHooks]]:
        backup = Backup.parse(await find(api, settings, Backup, name))
        return backup, *await _rows(api, settings, backup)

    backup, rows, hooks = session.run(settings, body)
    output.text(backup_view.describe(backup, rows, utcnow(), hooks=hooks))


@app.command()
@with_settings
def logs(
    settings: Settings,
    name: Name,
    *,
    follow: options.Follow = False,
    form: options.OutputOption = Output.TABLE,
) -> None:
    """Print the log of a backup, as it is kept beside it in the location when it has ended.

    \b
      ararat backup logs mybackup
      ararat backup logs mybackup -f          # while it runs
      ararat backup logs mybackup -o json | jq .event
    """
    from ararat.cli.follow import BACKUP

    runs.reject_yaml(form)
    runs.logs(settings, BACKUP, name, form, follow=follow)


@app.command()
@with_settings
def wait(settings: Settings, name: Name, form: options.OutputOption = Output.TABLE) -> None:
    """Follow a backup to its end, as 'create --wait' does.

    \b
      ararat backup wait mybackup
    """
    from ararat.cli.follow import BACKUP

    runs.wait(settings, BACKUP, name, summary=summary, form=form)


@app.command()
@with_settings
def cancel(settings: Settings, name: Name) -> None:
    """End a backup that is under way. What it had stored is used by the next one.

    \b
      ararat backup cancel mybackup
    """
    from ararat.cli.follow import BACKUP

    runs.cancel(settings, BACKUP, name)


Volume = Annotated[
    str,
    typer.Argument(
        metavar="NAMESPACE/CLAIM",
        help="Volume; NAMESPACE/POD/VOLUME for one that lives with its pod.",
    ),
]


@app.command()
@with_settings
def ls(
    settings: Settings,
    name: Name,
    volume: Volume,
    path: Annotated[
        str, typer.Argument(metavar="[PATH]", help="Directory or file. Default: the volume's root.")
    ] = "/",
    *,
    form: options.OutputOption = Output.TABLE,
) -> None:
    """List a directory of a volume as it is in a backup. Nothing is restored.

    \b
      ararat backup ls mybackup wp/uploads
      ararat backup ls mybackup wp/uploads 2026/11 -o json
    """
    from ararat.cli import files

    entries = session.run(settings, lambda api: files.entries(api, settings, name, volume, path))
    if form.for_machines:
        output.document(entries, form)
    else:
        output.text(files.table(entries))


@app.command()
@with_settings
def cat(
    settings: Settings,
    name: Name,
    volume: Volume,
    path: Annotated[str, typer.Argument(metavar="PATH", help="File, from the volume's root.")],
) -> None:
    """Print one file of a volume as it is in a backup, byte by byte. Nothing is restored.

    \b
      ararat backup cat mybackup wp/uploads 2026/11/photo.jpg > photo.jpg
    """
    from ararat.cli import files

    session.run(settings, lambda api: files.cat(api, settings, name, volume, path))


async def check(api: KubeApi, settings: Settings, backup: Backup) -> None:
    from ararat.cli import checks

    spec = backup.spec
    await checks.writable_location(api, settings, spec.location)
    await checks.matching_namespaces(api, spec.included_namespaces, spec.excluded_namespaces)


def summary(obj: KubeObject, settings: Settings) -> str:
    from ararat.api import Backup
    from ararat.cli import backup_view

    return backup_view.summary(Backup.parse(obj), flags=settings.flags)


async def _rows(
    api: KubeApi, settings: Settings, backup: Backup
) -> tuple[list[Row], list[ManifestHooks]]:
    """From the manifest where there is one, for it knows all volumes; else from the node jobs."""
    from ararat.api import PodVolumeBackup, names
    from ararat.api.manifest import Manifest
    from ararat.cli import coverage, remote
    from ararat.errors import AraratError
    from ararat.kube import of

    if backup.status.phase.restorable:
        try:
            shown = await remote.show(api, settings, "manifest", backup.name)
            manifest = Manifest.model_validate_json(shown)
            return coverage.of_manifest(manifest), manifest.hooks
        except (AraratError, ValueError) as error:
            session.note(f"warning: the manifest cannot be shown: {session.explain(error)}")
    jobs = api.list(
        of(PodVolumeBackup),
        namespace=settings.namespace,
        labels=f"{names.BACKUP_UID}={backup.uid}",
    )
    return coverage.of_backup_jobs([PodVolumeBackup.parse(job) async for job in jobs]), []
