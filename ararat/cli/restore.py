"""``ararat restore``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ararat.cli import options, output, runs, session
from ararat.cli.options import Output
from ararat.cli.restore_create import create, summary
from ararat.cli.settings import Settings, with_settings

if TYPE_CHECKING:
    from ararat.api import Restore
    from ararat.api.plan import RestorePlan
    from ararat.cli.coverage import Row
    from ararat.kube import KubeApi

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Bring back what a backup holds."
)

app.command()(create)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the restore.")]


@app.command()
@with_settings
def get(
    settings: Settings, names: options.Names = None, form: options.OutputOption = Output.TABLE
) -> None:
    """List restores, the newest first; or the named ones.

    \b
      ararat restore get
      ararat restore get myrestore -o yaml
    """
    from ararat.api import Restore
    from ararat.api.base import utcnow
    from ararat.cli import restore_view
    from ararat.cli.objects import find_all, parsed

    found = session.run(settings, lambda api: find_all(api, settings, Restore, names or []))
    if form.for_machines:
        output.objects(found, form, single=len(names or []) == 1)
    elif not found:
        session.note(f"there is no restore in namespace {settings.namespace}")
    else:
        output.text(restore_view.table(parsed(Restore, found), utcnow()))


@app.command()
@with_settings
def describe(settings: Settings, name: Name) -> None:
    """Show everything about a restore: outcome, each volume, what stayed as it was, failures.

    \b
      ararat restore describe myrestore
    """
    from ararat.api import Restore
    from ararat.api.base import utcnow
    from ararat.cli import restore_view
    from ararat.cli.objects import find
    from ararat.plans import stored_plan

    async def body(api: KubeApi) -> tuple[Restore, list[Row], RestorePlan | None]:
        restore = Restore.parse(await find(api, settings, Restore, name))
        rows = await _rows(api, settings, restore)
        return restore, rows, await stored_plan(api, restore)

    restore, rows, made = session.run(settings, body)
    output.text(restore_view.describe(restore, rows, utcnow(), made))


@app.command()
@with_settings
def logs(
    settings: Settings,
    name: Name,
    *,
    follow: options.Follow = False,
    form: options.OutputOption = Output.TABLE,
) -> None:
    """Print the log of a restore, as it is kept in the backup's location when it has ended.

    \b
      ararat restore logs myrestore
      ararat restore logs myrestore -f        # while it runs
    """
    from ararat.cli.follow import RESTORE

    runs.reject_yaml(form)
    runs.logs(settings, RESTORE, name, form, follow=follow)


@app.command()
@with_settings
def wait(settings: Settings, name: Name, form: options.OutputOption = Output.TABLE) -> None:
    """Follow a restore to its end, as 'create --wait' does.

    \b
      ararat restore wait myrestore
    """
    from ararat.cli.follow import RESTORE

    runs.wait(settings, RESTORE, name, summary=summary, form=form)


@app.command()
@with_settings
def cancel(settings: Settings, name: Name) -> None:
    """End a restore that is under way. Pods whose volumes are not filled stay held.

    \b
      ararat restore cancel myrestore
    """
    from ararat.cli.follow import RESTORE

    runs.cancel(settings, RESTORE, name)


@app.command()
@with_settings
def retry(settings: Settings, name: Name) -> None:
    """Try again what a restore could not do, when the cause is mended.

    One that had begun goes on where it was, and fills the volumes that failed; their pods stay held
    until then. One that is Failed had changed nothing, and begins anew.

    \b
      ararat restore retry myrestore
    """
    runs.retry(settings, name)


@app.command()
@with_settings
def release(
    settings: Settings,
    name: Name,
    *,
    volume: Annotated[
        list[str] | None,
        typer.Option(
            "--volume",
            help="Only this volume; may be repeated. Default: every volume that is not filled.",
            metavar="NAMESPACE/CLAIM",
        ),
    ] = None,
    fail: Annotated[
        bool,
        typer.Option(
            "--fail", help="End the gates with code 1 instead: pods fail and do not start."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Stop waiting for volumes that cannot be filled: their pods start on what is there.

    A restore keeps pods from starting on partial data until it is complete. Release gives that up,
    for good: the claim is no longer owed its data. It works without the backup, and on restores
    that have failed or were cancelled. A volume that lives with its pod is NAMESPACE/POD/VOLUME.

    \b
      ararat restore release myrestore --volume wp/data
      ararat restore release myrestore --fail     pods fail; 'restore retry' still fills them
    """
    from ararat.api.restore import ReleaseAction
    from ararat.cli import release as releasing
    from ararat.cli.confirm import confirm

    held = session.run(settings, lambda api: releasing.held_back(api, settings, name))
    meant = releasing.chosen(held, volume or [])
    listed = "\n".join(f"  {each}  ({held.volumes[each]})" for each in meant)
    confirm(
        "Have their pods fail?" if fail else "Start their pods all the same?",
        yes=yes,
        about=f"restore {name} has not filled:\n{listed}",
    )
    action = ReleaseAction.FAIL if fail else ReleaseAction.START
    session.run(
        settings,
        lambda api: releasing.release(api, settings, held, volumes=volume or [], action=action),
    )
    output.text(
        f"released: {', '.join(meant)}; see 'ararat restore describe {name}{settings.flags}'"
    )


async def _rows(api: KubeApi, settings: Settings, restore: Restore) -> list[Row]:
    from ararat.api import PodVolumeRestore, names
    from ararat.cli import coverage
    from ararat.kube import of

    jobs = api.list(
        of(PodVolumeRestore),
        namespace=settings.namespace,
        labels=f"{names.RESTORE_UID}={restore.uid}",
    )
    return coverage.of_restore_jobs([PodVolumeRestore.parse(job) async for job in jobs])
