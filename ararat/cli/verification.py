"""``ararat backup verify`` and ``ararat verification``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ararat.cli import options, output, parse, runs, session
from ararat.cli.options import Output
from ararat.cli.settings import Settings, with_settings

if TYPE_CHECKING:
    from ararat.api import BackupVerification
    from ararat.api.verification import VerificationRun
    from ararat.kube import KubeApi, KubeObject

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="See what reading whole backups found."
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the verification.")]


def register(backup: typer.Typer) -> None:
    """Put ``verify`` among the verbs of ``ararat backup``."""
    backup.command("verify")(verify)


@with_settings
def verify(
    settings: Settings,
    name: Annotated[str, typer.Argument(metavar="BACKUP", help="Backup to verify.")],
    *,
    run: Annotated[
        bool,
        typer.Option(
            "--run",
            help="Start its pods as well, in namespaces that are closed to all others and removed.",
        ),
    ] = False,
    probe: Annotated[
        str | None,
        typer.Option(
            "--probe",
            help="With --run: a shell command that must succeed in the pods, once they are ready.",
            metavar="COMMAND",
        ),
    ] = None,
    probe_pods: Annotated[
        str | None,
        typer.Option(
            "--probe-pods", help="Only in pods with these labels: app=db.", metavar="SELECTOR"
        ),
    ] = None,
    probe_container: Annotated[
        str | None,
        typer.Option(
            "--probe-container", help="Default: the pod's first container.", metavar="NAME"
        ),
    ] = None,
    include_namespaces: Annotated[
        list[str] | None,
        typer.Option(
            "--include-namespaces",
            help="With --run: namespaces to start. Default: all of the backup's.",
            metavar="LIST",
        ),
    ] = None,
    run_timeout: Annotated[
        str | None,
        typer.Option(
            "--run-timeout",
            help="With --run: from the first volume to the last answer. Default: 1h.",
            metavar="SPAN",
        ),
    ] = None,
    wait: options.Wait = False,
    manifest: Annotated[
        bool,
        typer.Option(
            "--manifest", help="Print the BackupVerification (-o yaml or json) and make nothing."
        ),
    ] = False,
    form: options.OutputOption = Output.TABLE,
) -> None:
    """Read everything of a backup, and compare it with what the backup promises.

    \b
    Every volume is restored into a scratch volume of Ararat's own, read whole from the disk,
    compared with the manifest, and removed; API objects are read and parsed. Nothing of the backup
    and nothing of yours is changed. It takes as long as a restore, and as much room as the largest
    volumes need (docs/verification.md).

    \b
      ararat backup verify mybackup --wait
      ararat backup verify mybackup            # then: ararat verification get
      ararat backup get                        # the result and its age, with each backup

    \b
      ararat backup verify mybackup --run --wait
      ararat backup verify mybackup --run --probe 'pg_isready -U app' --probe-pods app=db --wait

    --run restores into namespaces of Ararat's own, starts the pods there and removes everything
    again. Pods that would use their node, jobs, rights and custom resources stay out. It must be
    allowed by the chart's value verification.run.enabled. More than one probe: edit --manifest.

    \b
    With --wait the exit code is
      0 Passed   3 Inconclusive (something could not be tried)   1 Failed or Cancelled
    """
    from ararat.api import BackupVerification
    from ararat.api.base import Meta, utcnow
    from ararat.api.verification import BackupVerificationSpec, BackupVerificationStatus
    from ararat.cli.follow import VERIFICATION

    parse.object_name(name, kind="backup")
    made = BackupVerification(
        metadata=Meta(
            name=parse.object_name(parse.derived_restore_name(name, utcnow()), kind="verification"),
            namespace=settings.namespace,
        ),
        spec=BackupVerificationSpec(
            backup=name,
            run=_run(
                run=run,
                probe=probe,
                pods=probe_pods,
                container=probe_container,
                namespaces=include_namespaces,
                timeout=run_timeout,
            ),
        ),
        status=BackupVerificationStatus(),
    )
    if manifest:
        runs.print_only(made, form)
        return
    runs.make(settings, VERIFICATION, made, check=_check, summary=_summary, wait=wait, form=form)


@app.command()
@with_settings
def get(
    settings: Settings, names: options.Names = None, form: options.OutputOption = Output.TABLE
) -> None:
    """List verifications, the newest first; or the named ones.

    \b
      ararat verification get
      ararat verification get mybackup-20261123060000 -o json
    """
    from ararat.api import BackupVerification
    from ararat.api.base import utcnow
    from ararat.cli import verification_view
    from ararat.cli.objects import find_all, parsed

    found = session.run(
        settings, lambda api: find_all(api, settings, BackupVerification, names or [])
    )
    if form.for_machines:
        output.objects(found, form, single=len(names or []) == 1)
    elif not found:
        session.note(f"there is no verification in namespace {settings.namespace}")
    else:
        output.text(verification_view.table(parsed(BackupVerification, found), utcnow()))


@app.command()
@with_settings
def describe(settings: Settings, name: Name) -> None:
    """Show everything about a verification: what it found, and what it waits for.

    \b
      ararat verification describe mybackup-20261123060000
    """
    from ararat.api import BackupVerification
    from ararat.api.base import utcnow
    from ararat.cli import verification_view
    from ararat.cli.objects import find

    found = session.run(settings, lambda api: find(api, settings, BackupVerification, name))
    output.text(verification_view.describe(BackupVerification.parse(found), utcnow()))


@app.command()
@with_settings
def wait(settings: Settings, name: Name, form: options.OutputOption = Output.TABLE) -> None:
    """Follow a verification to its end, as 'ararat backup verify --wait' does.

    \b
      ararat verification wait mybackup-20261123060000
    """
    from ararat.cli.follow import VERIFICATION

    runs.wait(settings, VERIFICATION, name, summary=_summary, form=form)


@app.command()
@with_settings
def cancel(settings: Settings, name: Name) -> None:
    """End a verification that is under way; its scratch volumes go.

    \b
      ararat verification cancel mybackup-20261123060000
    """
    from ararat.cli.follow import VERIFICATION

    runs.cancel(settings, VERIFICATION, name)


def _run(
    *,
    run: bool,
    probe: str | None,
    pods: str | None,
    container: str | None,
    namespaces: list[str] | None,
    timeout: str | None,
) -> VerificationRun | None:
    """Raises typer.BadParameter."""
    from ararat.api.verification import VerificationProbe, VerificationRun

    if not run:
        if probe or pods or container or namespaces or timeout:
            raise typer.BadParameter("probes, namespaces and a timeout are for --run: add it")
        return None
    if not probe and (pods or container):
        raise typer.BadParameter("--probe-pods and --probe-container are for --probe: add it")
    wanted = VerificationRun(included_namespaces=parse.words(namespaces or ()))
    if timeout:
        span = parse.span(timeout, option="--run-timeout")
        wanted = wanted.model_copy(update={"timeout": span})
    if not probe:
        return wanted
    asked = VerificationProbe(
        label_selector=parse.selector(pods),
        container=container or "",
        command=["sh", "-c", probe],
    )
    return wanted.model_copy(update={"probes": [asked]})


async def _check(api: KubeApi, settings: Settings, made: BackupVerification) -> None:
    """Raises NotFound, InvalidSpec: what would end at once is said before."""
    from ararat.api import Backup
    from ararat.cli import checks
    from ararat.cli.objects import find
    from ararat.errors import InvalidSpec

    backup = Backup.parse(await find(api, settings, Backup, made.spec.backup))
    phase = backup.status.phase
    if phase.terminal and not phase.restorable:
        raise InvalidSpec(f"backup {backup.name} is {phase}: it holds nothing to verify")
    if made.spec.run is not None:
        await checks.running_allowed(api, settings)


def _summary(obj: KubeObject, settings: Settings) -> str:
    from ararat.api import BackupVerification
    from ararat.cli import verification_view

    return verification_view.summary(BackupVerification.parse(obj), flags=settings.flags)
