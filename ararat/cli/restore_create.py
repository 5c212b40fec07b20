"""``ararat restore create``: what to restore, into what, and how."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ararat.cli import options, output, parse, runs, session
from ararat.cli.options import Output
from ararat.cli.settings import Settings, with_settings

if TYPE_CHECKING:
    from ararat.api import Restore
    from ararat.kube import KubeApi, KubeObject

Mapping = list[str] | None


class VolumesMode(StrEnum):
    NEW_POD = "new-pod"
    IN_PLACE = "in-place"
    NONE = "none"


class ExistingDataChoice(StrEnum):
    REFUSE = "refuse"
    MERGE = "merge"
    REPLACE = "replace"


class VerifyLevel(StrEnum):
    NONE = "none"
    SAMPLE = "sample"
    FULL = "full"


class ExistingPolicy(StrEnum):
    NONE = "none"
    UPDATE = "update"


@with_settings
def create(
    settings: Settings,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="Name of the restore. Default: the backup's and the time."
        ),
    ] = None,
    *,
    from_backup: Annotated[
        str, typer.Option("--from-backup", help="Backup to restore.", metavar="BACKUP")
    ] = "",
    from_schedule: Annotated[
        str,
        typer.Option(
            "--from-schedule",
            help="Restore the newest Completed backup of this schedule.",
            metavar="SCHEDULE",
        ),
    ] = "",
    include_namespaces: options.IncludeNamespaces = None,
    exclude_namespaces: options.ExcludeNamespaces = None,
    include_resources: options.IncludeResources = None,
    exclude_resources: options.ExcludeResources = None,
    selector: options.Selector = None,
    or_selector: options.OrSelector = None,
    include_cluster_resources: options.IncludeClusterResources = None,
    namespace_mappings: Annotated[
        Mapping,
        typer.Option(
            "--namespace-mappings",
            help="Restore into other namespaces; comma list, may be repeated.",
            metavar="OLD:NEW",
        ),
    ] = None,
    storage_class_mappings: Annotated[
        Mapping,
        typer.Option(
            "--storage-class-mappings",
            help="Provision claims from other storage classes.",
            metavar="OLD:NEW",
        ),
    ] = None,
    image_mappings: Annotated[
        Mapping,
        typer.Option(
            "--image-mappings",
            help="Replace the beginning of image names; OLD=NEW where a name holds a ':'.",
            metavar="OLD:NEW",
        ),
    ] = None,
    existing: Annotated[
        ExistingPolicy,
        typer.Option(
            "--existing-resource-policy",
            help="What exists: none leaves it alone, update makes it as it is in the backup.",
        ),
    ] = ExistingPolicy.NONE,
    resource_modifiers: Annotated[
        str,
        typer.Option(
            "--resource-modifiers",
            "--resource-modifier-configmap",
            help="ConfigMap in Ararat's namespace with rules that change objects.",
            metavar="NAME",
        ),
    ] = "",
    reuse_volumes: Annotated[
        bool,
        typer.Option(
            "--reuse-volumes",
            help="Attach the old disks of claims without file data: only where nobody else does.",
        ),
    ] = False,
    preserve_node_ports: Annotated[
        bool,
        typer.Option("--preserve-nodeports", help="Keep node ports that nobody had asked for."),
    ] = False,
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing", help="Let pods start on volumes whose data the backup does not have."
        ),
    ] = False,
    existing_data: Annotated[
        ExistingDataChoice,
        typer.Option(
            "--existing-data",
            help="New volumes that are not empty: refuse fails them, merge overwrites files of the "
            "same name, replace removes the others too.",
        ),
    ] = ExistingDataChoice.REFUSE,
    volumes: Annotated[
        VolumesMode,
        typer.Option(
            "--volumes",
            help="new-pod fills the volumes of restored pods, in-place writes into claims that "
            "exist and restores no objects, none restores objects only.",
        ),
    ] = VolumesMode.NEW_POD,
    verify: Annotated[
        VerifyLevel,
        typer.Option(
            "--verify",
            help="After a volume is filled: sample counts all files and reads some back, full "
            "reads all back, none believes restic.",
        ),
    ] = VerifyLevel.SAMPLE,
    include: Annotated[
        Mapping,
        typer.Option(
            "--include",
            help="In place: only this claim, as named in the backup; comma list, may be repeated.",
            metavar="NAMESPACE/CLAIM",
        ),
    ] = None,
    no_hooks: Annotated[
        bool,
        typer.Option(
            "--no-hooks",
            help="Run no hooks in restored pods, neither init containers nor commands.",
        ),
    ] = False,
    path: Annotated[
        list[str] | None,
        typer.Option(
            "--path",
            help="In place: only this file or directory of the volume; may be repeated.",
        ),
    ] = None,
    delete_extra: Annotated[
        bool,
        typer.Option(
            "--delete-extra", help="In place: remove what the backup does not have there."
        ),
    ] = False,
    scale_down: Annotated[
        bool,
        typer.Option(
            "--scale-down",
            help="In place: scale the workloads that use the claims to zero first, and up again "
            "however it ends.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: options.Wait = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Have the controller plan, print the plan, do nothing."),
    ] = False,
    manifest: Annotated[
        bool,
        typer.Option("--manifest", help="Print the Restore (-o yaml or json) and make nothing."),
    ] = False,
    form: options.OutputOption = Output.TABLE,
) -> None:
    """Restore a backup. What exists in the cluster is left alone; pods wait for their data.

    \b
    First see what it would do: what is created, left alone and why, from which classes
      ararat restore create --from-backup mybackup --dry-run

    \b
      ararat restore create --from-backup mybackup --wait
      ararat restore create myrestore --from-backup mybackup -w
      ararat restore create --from-schedule nightly --wait    # its newest Completed backup

    \b
    Beside the original, on other disks:
      ararat restore create --from-backup mybackup --namespace-mappings wp:wp-copy
      ararat restore create --from-backup mybackup --storage-class-mappings gp2:managed-csi

    \b
    Over what exists, making it as it was:
      ararat restore create --from-backup mybackup --existing-resource-policy update

    \b
    Data only, into the claim of a running pod:
      ararat restore create --from-backup mybackup --volumes in-place --include wp/data
      ararat restore create --from-backup mybackup --volumes in-place --include wp/data \\
        --path uploads/2026 --delete-extra
      ararat restore create --from-backup mybackup --volumes in-place --include wp/db --scale-down

    \b
    With --wait the exit code is
      0 Completed   3 PartiallyFailed   1 Failed or Cancelled
    """
    from ararat.api import Restore
    from ararat.api.base import Meta, utcnow
    from ararat.api.hooks import RestoreHooks
    from ararat.api.nodejob import ExistingData
    from ararat.api.restore import RestoreSpec, RestoreStatus, RestoreVolumes
    from ararat.cli.follow import RESTORE

    source = _source(from_backup, from_schedule)
    in_place = volumes is VolumesMode.IN_PLACE
    if not in_place and (include or path or delete_extra or scale_down):
        raise typer.BadParameter(
            "--include, --path, --delete-extra and --scale-down go with --volumes in-place; to "
            "choose namespaces say --include-namespaces"
        )
    if in_place and dry_run:
        raise typer.BadParameter("--dry-run plans objects; a restore in place restores none")
    name = name or parse.derived_restore_name(source, utcnow(), dry_run=dry_run)
    spec = RestoreSpec(
        **runs.selection(
            include_namespaces=include_namespaces,
            exclude_namespaces=exclude_namespaces,
            include_resources=include_resources,
            exclude_resources=exclude_resources,
            selector=selector,
            include_cluster_resources=include_cluster_resources,
        ),
        or_label_selectors=parse.selectors(or_selector, beside=selector),
        backup=from_backup,
        schedule=from_schedule,
        namespace_mapping=parse.namespace_mapping(namespace_mappings or ()),
        storage_class_mapping=parse.mapping(
            storage_class_mappings or (), option="--storage-class-mappings"
        ),
        image_mapping=parse.image_mapping(image_mappings or ()),
        existing_resource_policy=existing.value.capitalize(),
        resource_modifiers=resource_modifiers
        and parse.object_name(resource_modifiers, kind="ConfigMap"),
        preserve_node_ports=preserve_node_ports,
        volumes=RestoreVolumes(
            mode=_MODES[volumes.value],
            include=parse.words(include or ()),
            paths=path or [],
            delete_extra=delete_extra,
            existing_data=ExistingData(existing_data.value.capitalize()),
            scale_down=scale_down,
            allow_missing=allow_missing,
            reuse=reuse_volumes,
            verify=verify.value.capitalize(),
        ),
        hooks=RestoreHooks(skip=no_hooks),
        dry_run=dry_run,
    )
    meta = Meta(name=parse.object_name(name, kind="restore"), namespace=settings.namespace)
    restore = Restore(metadata=meta, spec=spec, status=RestoreStatus())
    if manifest:
        runs.print_only(restore, form)
        return
    if dry_run:
        _print_plan(settings, restore, form)
        return
    if in_place:
        _ask_in_place(restore, yes=yes)
    runs.make(settings, RESTORE, restore, check=_check, summary=summary, wait=wait, form=form)


def _source(from_backup: str, from_schedule: str) -> str:
    """The name of what is restored, which is one or the other."""
    if bool(from_backup) == bool(from_schedule):
        raise typer.BadParameter("say what to restore: --from-backup, or --from-schedule")
    if from_schedule:
        return parse.object_name(from_schedule, kind="schedule")
    return parse.object_name(from_backup, kind="backup")


_MODES = {"new-pod": "NewPod", "in-place": "InPlace", "none": "None"}


def _ask_in_place(restore: Restore, *, yes: bool) -> None:
    from ararat.cli.confirm import confirm

    wanted = restore.spec.volumes
    where = ", ".join(wanted.include) or "every claim that the backup has data for"
    what = ", ".join(wanted.paths) or "everything"
    source = f"backup {restore.spec.backup}"
    if restore.spec.schedule:
        source = f"the newest Completed backup of schedule {restore.spec.schedule}"
    how = "while pods run"
    if wanted.scale_down:
        how = "while the workloads that use it are scaled to zero"
    about = f"{what} in {where} becomes what it was in {source}, {how}"
    if wanted.delete_extra:
        about += "; what the backup does not have there is REMOVED"
    confirm("Write into it?", yes=yes, about=about)


def _print_plan(settings: Settings, restore: Restore, form: Output) -> None:
    from ararat.cli import plan, plan_view, render

    made = session.run(settings, lambda api: plan.make(api, settings, restore, check=_check))
    if form is Output.TABLE:
        output.text(plan_view.dry_run(made))
        return
    document = made.to_dict()
    output.text(render.as_json(document) if form is Output.JSON else render.as_yaml(document))


async def _check(api: KubeApi, settings: Settings, restore: Restore) -> None:
    from ararat.cli import checks

    name = restore.spec.backup
    if restore.spec.schedule:
        name = await checks.newest_of(api, settings, restore.spec.schedule)
    await checks.restorable_backup(api, settings, name)


def summary(obj: KubeObject, settings: Settings) -> str:
    """What the end of a restore is told in."""
    from ararat.api import Restore
    from ararat.cli import restore_view

    return restore_view.summary(Restore.parse(obj), flags=settings.flags)
