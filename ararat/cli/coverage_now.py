"""``ararat coverage``: what a backup would read, of the cluster as it is now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ararat.cli import options, output, parse, session
from ararat.cli.options import Output
from ararat.cli.settings import Settings, with_settings

if TYPE_CHECKING:
    from ararat.kube import KubeApi


VolumePolicies = Annotated[
    Path | None,
    typer.Option(
        "--volume-policies",
        help="File (YAML or JSON) with a list of policies, as in spec.volumes.policies.",
        metavar="FILE",
    ),
]
IncludeUnmounted = Annotated[
    bool,
    typer.Option(
        "--include-unmounted-claims",
        help="Also claims that no running pod mounts, each through a short-lived pod of ours.",
    ),
]
EveryVolume = Annotated[
    bool,
    typer.Option(
        "--default-volumes-to-fs-backup",
        help="All volumes but those that pods name in ararat.dev/backup-volumes-excludes. "
        "Default: only those that they name in ararat.dev/backup-volumes.",
    ),
]


@with_settings
def coverage(
    settings: Settings,
    namespaces: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAMESPACE]...", help="Which, globs allowed; all if none."),
    ] = None,
    *,
    exclude_namespaces: options.ExcludeNamespaces = None,
    selector: options.Selector = None,
    default_volumes_to_fs_backup: EveryVolume = False,
    volume_policies: VolumePolicies = None,
    include_unmounted_claims: IncludeUnmounted = False,
    unprotected: Annotated[
        bool, typer.Option("--unprotected", help="Only volumes that would not be read.")
    ] = False,
    form: options.OutputOption = Output.TABLE,
) -> None:
    """Show what a backup made now would read: every volume, and why another is left out.

    Nothing is made. The options are those of 'ararat backup create'.

    \b
      ararat coverage
      ararat coverage wp 'shop-*' --unprotected
      ararat coverage wp --default-volumes-to-fs-backup --include-unmounted-claims
      ararat coverage -o json | jq '.volumes[] | select(.coverage=="Unprotected")'
    """
    from ararat.api.backup import BackupSpec
    from ararat.cli import render
    from ararat.cli.coverage import of_plan, plan_table

    spec = BackupSpec(
        included_namespaces=parse.words(namespaces or ()),
        excluded_namespaces=parse.words(exclude_namespaces or ()),
        label_selector=parse.selector(selector),
        volumes=volumes(
            every=default_volumes_to_fs_backup,
            policies=volume_policies,
            unmounted=include_unmounted_claims,
        ),
    )

    async def body(api: KubeApi) -> bytes:
        from ararat.cli import remote

        return await remote.show(api, settings, "coverage", json.dumps(spec.to_dict()))

    found: dict[str, Any] = json.loads(session.run(settings, body))
    if unprotected:
        found["volumes"] = [v for v in found["volumes"] if v["coverage"] != "BackedUp"]
    if form.for_machines:
        output.objects([found], form, single=True)
    else:
        rows = of_plan(found["volumes"])
        output.text(plan_table(rows) if rows else "no volume to show")
        total = found["coverage"]["text"].replace("backed up", "would be read")
        count = render.listing(found["namespaces"], empty="none")
        session.note(f"{total}; namespaces: {count}")


def volumes(*, every: bool, policies: Path | None, unmounted: bool) -> Any:
    """``spec.volumes`` of a backup. Raises typer.BadParameter."""
    from ararat.api.backup import BackupVolumes, VolumePolicy
    from ararat.api.volumepolicy import UnmountedClaims

    return BackupVolumes(
        default_policy=VolumePolicy.OPT_OUT if every else VolumePolicy.OPT_IN,
        policies=_policies(policies) if policies else [],
        unmounted=UnmountedClaims.BACKUP if unmounted else UnmountedClaims.SKIP,
    )


def _policies(file: Path) -> Any:
    import yaml
    from pydantic import TypeAdapter, ValidationError

    from ararat.api.volumepolicy import VolumePolicyRule

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"--volume-policies: {file} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        text = " ".join(str(error).split())
        raise typer.BadParameter(f"--volume-policies: {file} is not YAML: {text}") from error
    if isinstance(content, dict) and set(content) == {"policies"}:
        content = content["policies"]
    try:
        return TypeAdapter(list[VolumePolicyRule]).validate_python(content)
    except ValidationError as error:
        why = session.explain(error)
        raise typer.BadParameter(f"--volume-policies: {file}: {why}") from error
