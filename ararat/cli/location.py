"""``ararat location``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ararat.cli import options, output, parse, runs, session
from ararat.cli.options import Output
from ararat.cli.settings import Settings, with_settings

if TYPE_CHECKING:
    from ararat.api import BackupLocation
    from ararat.kube import KubeApi, KubeObject

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Say where backups are kept.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the location.")]
#: How long --wait waits for the controller's first look.
LOOK_SECONDS = 120


@app.command()
@with_settings
def create(
    settings: Settings,
    name: Name,
    *,
    path: Annotated[
        str | None,
        typer.Option(
            "--path", help="A directory that every node sees under this path.", metavar="DIR"
        ),
    ] = None,
    azure_account: Annotated[
        str | None,
        typer.Option("--azure-account", help="Azure storage account.", metavar="NAME"),
    ] = None,
    container: Annotated[
        str | None,
        typer.Option("--container", help="Blob container; it must exist.", metavar="NAME"),
    ] = None,
    prefix: Annotated[
        str, typer.Option("--prefix", help="Folder within the container.", metavar="PATH")
    ] = "",
    endpoint: Annotated[
        str | None,
        typer.Option(
            "--endpoint",
            help="Blob service URL, for private endpoints and emulators.",
            metavar="URL",
        ),
    ] = None,
    authentication: Annotated[
        str,
        typer.Option(
            "--authentication",
            help="WorkloadIdentity, ManagedIdentity, ServicePrincipal, AccountKey or SAS.",
        ),
    ] = "WorkloadIdentity",
    client_id: Annotated[
        str | None,
        typer.Option(
            "--client-id", help="Client ID of a service principal or identity.", metavar="ID"
        ),
    ] = None,
    tenant_id: Annotated[
        str | None,
        typer.Option("--tenant-id", help="Tenant ID of a service principal.", metavar="ID"),
    ] = None,
    cloud: Annotated[
        str | None,
        typer.Option("--cloud", help="AzurePublic, AzureUSGovernment or AzureChina."),
    ] = None,
    credentials_secret: Annotated[
        str | None,
        typer.Option(
            "--credentials-secret",
            help="Secret in Ararat's namespace with the key accountKey, sas, clientSecret or "
            "clientCertificate.",
            metavar="NAME",
        ),
    ] = None,
    access_tier: Annotated[
        str | None, typer.Option("--access-tier", help="Hot, Cool or Cold.", metavar="TIER")
    ] = None,
    ca_bundle: Annotated[
        Path | None,
        typer.Option(
            "--ca-bundle", help="PEM file of certificates to trust as well.", metavar="FILE"
        ),
    ] = None,
    access_mode: Annotated[
        str, typer.Option("--access-mode", help="ReadWrite, or ReadOnly to restore only.")
    ] = "ReadWrite",
    default: Annotated[
        bool, typer.Option("--default", help="Use it where a backup names no location.")
    ] = False,
    wait: Annotated[
        bool,
        typer.Option("--wait", "-w", help="Wait until it is Available, or it is known why not."),
    ] = False,
    dry_run: options.DryRun = False,
    form: options.OutputOption = Output.TABLE,
) -> None:
    """Make a backup location: a Blob container, or a directory that all nodes share.

    \b
      kubectl -n ararat create secret generic azure --from-literal=accountKey=...
      ararat location create prod --azure-account prodbackups --container backups \\
        --authentication AccountKey --credentials-secret azure --default --wait

    \b
    In a cluster that only restores what another one backs up:
      ararat location create prod --azure-account prodbackups --container backups \\
        --access-mode ReadOnly

    \b
    A shared directory:
      ararat location create nas --path /mnt/nas/backups
    """
    from ararat.api import BackupLocation
    from ararat.api.base import Meta
    from ararat.api.location import BackupLocationStatus

    spec = _spec(
        path=path,
        azure={
            "accountName": azure_account,
            "container": container,
            "prefix": prefix,
            "endpoint": endpoint,
            "authentication": authentication,
            "clientID": client_id,
            "tenantID": tenant_id,
            "cloud": cloud,
            "credentialsSecret": credentials_secret,
            "accessTier": access_tier,
            "caBundle": _pem(ca_bundle),
        },
        rest={"accessMode": access_mode, "default": default},
    )
    meta = Meta(name=parse.object_name(name, kind="location"), namespace=settings.namespace)
    location = BackupLocation(metadata=meta, spec=spec, status=BackupLocationStatus())
    if dry_run:
        runs.print_only(location, form)
        return

    async def body(api: KubeApi) -> KubeObject:
        from ararat.cli import locations

        await locations.check_new(api, settings, location)
        obj = await locations.create(api, settings, location)
        return await locations.looked_at(api, settings, obj, LOOK_SECONDS) if wait else obj

    obj = session.run(settings, body)
    if form.for_machines:
        output.objects([obj], form, single=True)
    else:
        output.text(_outcome(BackupLocation.parse(obj), settings))
    if wait and not BackupLocation.parse(obj).available:
        raise typer.Exit(session.FAILED)


@app.command()
@with_settings
def get(
    settings: Settings, names: options.Names = None, form: options.OutputOption = Output.TABLE
) -> None:
    """List locations and whether they can be used.

    \b
      ararat location get
      ararat location get prod -o yaml
    """
    from ararat.api import BackupLocation
    from ararat.api.base import utcnow
    from ararat.cli import location_view
    from ararat.cli.objects import find_all, parsed

    found = session.run(settings, lambda api: find_all(api, settings, BackupLocation, names or []))
    if form.for_machines:
        output.objects(found, form, single=len(names or []) == 1)
    elif not found:
        session.note(f"there is no location in namespace {settings.namespace}")
    else:
        output.text(location_view.table(parsed(BackupLocation, found), utcnow()))


@app.command()
@with_settings
def check(settings: Settings, name: Name, form: options.OutputOption = Output.TABLE) -> None:
    """Try a location out, from inside the cluster: reach, log in, list, write, read, delete.

    Shows how long requests take, how fast data goes up and down, whose location it is, and which
    restic is used. A ReadOnly location is not written to. What is written for the check is removed.
    Ends with 1 where a step fails.

    \b
      ararat location check prod
      ararat location check prod -o json
    """
    import json

    from ararat.cli import location_view, remote

    printed = session.run(settings, lambda api: remote.check_location(api, settings, name))
    steps = [json.loads(line) for line in printed.splitlines()]
    if form.for_machines:
        output.document({"location": name, "steps": steps}, form)
    else:
        output.text(location_view.checks(steps))
    if any(step["ok"] is False for step in steps):
        raise typer.Exit(session.FAILED)


@app.command("take-over")
@with_settings
def take_over(
    settings: Settings,
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Make this cluster the one that writes to a location, in place of its present owner.

    One cluster writes to a location; the others read. Take over when the owner is gone for good, or
    after its location was set to ReadOnly: two writers would ruin each other's backups.

    \b
      ararat location take-over prod
    """
    from ararat.cli import locations
    from ararat.cli.confirm import confirm

    owner, cluster = session.run(settings, lambda api: locations.owner_of(api, settings, name))
    confirm(
        "Take it over?",
        yes=yes,
        about=f"location {name} belongs to cluster {owner}; this is cluster {cluster}.\n"
        "If that cluster still writes to it, both will ruin each other's backups.",
    )
    session.run(settings, lambda api: locations.ask_take_over(api, settings, name, owner))
    output.text(
        f"the controller takes {name} over from cluster {owner}; see "
        f"'ararat location get{settings.flags}'"
    )


@app.command()
@with_settings
def recover(settings: Settings, name: Name) -> None:
    """Write a location's lost location.json anew, from the key files of its repositories.

    For a location that is Unavailable with the reason LocationLost. The installation must have the
    location's master key: 'ararat key import' brings an exported one. Nothing else is changed, and
    nothing happens where location.json is there.

    \b
      ararat key import ararat-key.json
      ararat location recover prod
    """
    from ararat.cli import locations

    session.run(settings, lambda api: locations.ask_recovery(api, settings, name))
    output.text(f"the controller recovers {name}; see 'ararat location get{settings.flags}'")


def _spec(*, path: str | None, azure: dict[str, Any], rest: dict[str, Any]) -> Any:
    """Raises typer.BadParameter, in the words of the options, or the model's own sentence."""
    from pydantic import ValidationError

    from ararat.api.location import BackupLocationSpec

    given = {key: value for key, value in azure.items() if value not in (None, "")}
    if (path is None) == (azure["accountName"] is None):
        raise typer.BadParameter("say either --path, or --azure-account and --container")
    if path is not None:
        where: dict[str, Any] = {"filesystem": {"path": path}}
    elif azure["container"] is None:
        raise typer.BadParameter("--azure-account needs --container")
    else:
        where = {"azure": given}
    try:
        return BackupLocationSpec.model_validate({**where, **rest})
    except ValidationError as error:
        raise typer.BadParameter(session.explain(error)) from error


def _pem(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"--ca-bundle: {path} cannot be read: {error}") from error
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise typer.BadParameter(f"--ca-bundle: {path} holds no PEM certificate")
    return text


def _outcome(location: BackupLocation, settings: Settings) -> str:
    phase = location.status.phase
    if phase is None:
        return (
            f"location {location.name} created; see whether it is Available with "
            f"'ararat location get{settings.flags}'"
        )
    message = f": {location.status.message}" if location.status.message else ""
    return f"location {location.name} is {phase}{message}"
