"""What Backups and Restores have in common: both are made, followed, cancelled, and leave a log."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from ararat.cli import output, parse, render, session
from ararat.cli.options import Output
from ararat.cli.settings import Settings

if TYPE_CHECKING:
    from ararat.api import Resource
    from ararat.cli.follow import Run
    from ararat.kube import KubeApi, KubeObject

R = TypeVar("R", bound="Resource[Any, Any]")

_CODES = {
    "Completed": session.OK,
    "PartiallyFailed": session.PARTIAL,
    "Passed": session.OK,
    "Inconclusive": session.PARTIAL,
}


def selection(
    *,
    include_namespaces: Sequence[str] | None,
    exclude_namespaces: Sequence[str] | None,
    include_resources: Sequence[str] | None,
    exclude_resources: Sequence[str] | None,
    selector: str | None,
    include_cluster_resources: str | None,
) -> dict[str, Any]:
    """The fields of a spec that say which objects are meant. Raises typer.BadParameter."""
    return {
        "included_namespaces": _all_if_star(parse.words(include_namespaces or ())),
        "excluded_namespaces": parse.words(exclude_namespaces or ()),
        "included_resources": _all_if_star(parse.words(include_resources or ())),
        "excluded_resources": parse.words(exclude_resources or ()),
        "label_selector": parse.selector(selector),
        "include_cluster_resources": parse.tristate(
            include_cluster_resources, option="--include-cluster-resources"
        ),
    }


def print_only(resource: Resource[Any, Any], form: Output) -> None:
    """--dry-run: the object as it would be sent."""
    from ararat.cli.objects import to_send

    shown = Output.JSON if form is Output.JSON else Output.YAML
    output.objects([to_send(resource)], shown, single=True)


def exit_code(phase: str) -> int:
    """0 Completed or Passed, 3 PartiallyFailed or Inconclusive, 1 everything else."""
    return _CODES.get(phase, session.FAILED)


def make(
    settings: Settings,
    run: Run,
    resource: R,
    *,
    check: Callable[[KubeApi, Settings, R], Awaitable[None]],
    summary: Callable[[KubeObject, Settings], str],
    wait: bool,
    form: Output,
) -> None:
    """Check, create, and follow where that is wanted. Ends in typer.Exit with the right code."""
    from ararat.cli import follow as following
    from ararat.cli.objects import NOUNS, create

    noun, name = NOUNS[run.kind], resource.name
    made = False

    async def body(api: KubeApi) -> KubeObject:
        nonlocal made
        await check(api, settings, resource)
        created = await create(api, settings, resource)
        made = True
        if not wait:
            return created
        screen = following.screen_for(machine_output=form.for_machines)
        return await following.follow(api, settings, run, created, screen)

    try:
        obj = session.run(settings, body)
    except KeyboardInterrupt:
        if not made:
            raise
        following.interrupted(noun, name, settings)
        raise typer.Exit(session.INTERRUPTED) from None
    if wait:
        _finish(obj, settings, summary=summary, form=form)
    elif form.for_machines:
        output.objects([obj], form, single=True)
    else:
        output.text(
            f"{noun} {name} created; follow it with 'ararat {noun} wait {name}{settings.flags}'"
        )


def wait(
    settings: Settings,
    run: Run,
    name: str,
    *,
    summary: Callable[[KubeObject, Settings], str],
    form: Output,
) -> None:
    """Follow a run that is there already. Ends in typer.Exit with the right code."""
    from ararat.cli import follow as following
    from ararat.cli.objects import NOUNS, find

    async def body(api: KubeApi) -> KubeObject:
        obj = await find(api, settings, run.kind, name)
        screen = following.screen_for(machine_output=form.for_machines)
        return await following.follow(api, settings, run, obj, screen)

    try:
        obj = session.run(settings, body)
    except KeyboardInterrupt:
        following.interrupted(NOUNS[run.kind], name, settings)
        raise typer.Exit(session.INTERRUPTED) from None
    _finish(obj, settings, summary=summary, form=form)


def _finish(
    obj: KubeObject,
    settings: Settings,
    *,
    summary: Callable[[KubeObject, Settings], str],
    form: Output,
) -> None:
    if form.for_machines:
        output.objects([obj], form, single=True)
    else:
        output.text(summary(obj, settings))
    raise typer.Exit(exit_code(str(obj.get("status", {}).get("phase", ""))))


def cancel(settings: Settings, run: Run, name: str) -> None:
    """Ask for the end of a run."""
    from ararat.cli.objects import NOUNS, find
    from ararat.errors import InvalidSpec
    from ararat.kube import of

    noun = NOUNS[run.kind]

    async def body(api: KubeApi) -> None:
        found = run.kind.parse(await find(api, settings, run.kind, name))
        phase = found.status.phase
        if phase.terminal:
            raise InvalidSpec(f"{noun} {name} has ended already: it is {phase}")
        patch = {"spec": {"cancel": True}}
        await api.patch(of(run.kind), name, patch, namespace=settings.namespace)

    session.run(settings, body)
    output.text(f"{noun} {name} is being cancelled; see 'ararat {noun} get {name}{settings.flags}'")


def retry(settings: Settings, name: str) -> None:
    """Ask for another attempt at the volumes that a restore could not fill."""
    from ararat.api import Restore, names
    from ararat.api.base import utcnow
    from ararat.api.restore import ReleaseAction, RestorePhase
    from ararat.cli.objects import find
    from ararat.errors import InvalidSpec
    from ararat.kube import of

    async def body(api: KubeApi) -> None:
        found = Restore.parse(await find(api, settings, Restore, name))
        phase = found.status.phase
        if phase is RestorePhase.CANCELLED:
            raise InvalidSpec(f"restore {name} was cancelled: to begin anew, create another one")
        if phase not in (RestorePhase.PARTIALLY_FAILED, RestorePhase.FAILED):
            raise InvalidSpec(
                f"restore {name} is {phase}: only one that has failed, or of which some volumes "
                "failed, can be tried again"
            )
        # What was told to fail is to be filled after all.
        kept = [e.to_dict() for e in found.spec.released if e.action is ReleaseAction.START]
        patch: dict[str, Any] = {
            "metadata": {"annotations": {names.RETRY: utcnow().isoformat()}},
            "spec": {"released": kept},
        }
        await api.patch(of(Restore), name, patch, namespace=settings.namespace)

    session.run(settings, body)
    output.text(f"restore {name} is tried again; see 'ararat restore wait {name}{settings.flags}'")


def logs(settings: Settings, run: Run, name: str, form: Output, *, follow: bool = False) -> None:
    """Print the stored log of a run that has ended; or of one under way, as it grows."""
    if follow:
        _follow_logs(settings, run, name, form)
        return
    from ararat.cli import remote
    from ararat.cli.objects import NOUNS, find
    from ararat.errors import InvalidSpec

    noun = NOUNS[run.kind]

    async def body(api: KubeApi) -> bytes:
        found = run.kind.parse(await find(api, settings, run.kind, name))
        if not found.status.phase.terminal:
            raise InvalidSpec(
                f"{noun} {name} is {found.status.phase}, its log is stored when it ends: "
                f"until then follow it with 'ararat {noun} logs {name} -f{settings.flags}'"
            )
        return await remote.show(api, settings, f"{noun}-log", name)

    for line in session.run(settings, body).decode(errors="replace").splitlines():
        output.text(line if form is Output.JSON else _readable(line))


def _follow_logs(settings: Settings, run: Run, name: str, form: Output) -> None:
    from ararat.cli import remote
    from ararat.cli.objects import NOUNS, find
    from ararat.errors import NotFound
    from ararat.kube import of

    async def body(api: KubeApi) -> None:
        uid = (await find(api, settings, run.kind, name))["metadata"]["uid"]

        async def ended() -> bool:
            try:
                raw = await api.get(of(run.kind), name, namespace=settings.namespace)
            except NotFound:
                return True
            found = run.kind.parse(raw)
            return bool(found.uid != uid or found.status.phase.terminal)

        what = f"{NOUNS[run.kind]}-log"
        async for line in remote.follow_log(api, settings, what, name, ended=ended):
            output.text(line if form is Output.JSON else _readable(line))

    try:
        session.run(settings, body)
    except KeyboardInterrupt:
        raise typer.Exit(session.INTERRUPTED) from None


def reject_yaml(form: Output) -> None:
    """Logs are lines: JSON or text."""
    if form is Output.YAML:
        raise typer.BadParameter("a log is printed as lines of text or, with -o json, of JSON")


def _readable(line: str) -> str:
    try:
        parsed = json.loads(line)
    except ValueError:
        return line
    return render.log_line(parsed) if isinstance(parsed, dict) else line


def _all_if_star(patterns: list[str]) -> list[str]:
    return [] if patterns == ["*"] else patterns
