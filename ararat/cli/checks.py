"""What is looked at before anything is made: each mistake is one sentence, and nothing is touched.

The controller checks the same again, for those who write objects by hand; here a person hears of it
at once, with what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from ararat.api import Backup, BackupLocation
from ararat.api.location import LocationPhase
from ararat.api.names import COMPONENT, COMPONENT_CONTROLLER
from ararat.cli.objects import all_of, find, like, parsed
from ararat.cli.settings import Settings
from ararat.errors import AccessDenied, InvalidSpec, NotFound
from ararat.kube import KubeApi
from ararat.kube.resources import DEPLOYMENTS, NAMESPACES
from ararat.newest import newest_completed

#: Of the controller: whether verifications may start pods.
RUN_VARIABLE = "ARARAT_VERIFICATION_RUN"


async def writable_location(api: KubeApi, settings: Settings, name: str | None) -> BackupLocation:
    """The location that a new backup goes to.

    Raises NotFound or InvalidSpec: there is none, it is not Available, or it may not be written.
    """
    location = choose_location(await _locations(api, settings), name, flags=settings.flags)
    if location.read_only:
        raise InvalidSpec(
            f"location {location.name} is ReadOnly here: this cluster only restores from it; "
            "choose another with --location"
        )
    check_available(location, flags=settings.flags)
    return location


async def restorable_backup(api: KubeApi, settings: Settings, name: str) -> Backup:
    """The backup to restore from, with its location looked at.

    Raises NotFound or InvalidSpec: there is none, it has not ended, holds nothing, or its location
    cannot be read.
    """
    backup = Backup.parse(await find(api, settings, Backup, name))
    phase = backup.status.phase
    if not phase.terminal:
        raise InvalidSpec(
            f"backup {name} is {phase}: wait for its end with "
            f"'ararat backup wait {name}{settings.flags}'"
        )
    if not phase.restorable:
        why = f": {backup.status.message}" if backup.status.message else ""
        raise InvalidSpec(f"backup {name} is {phase}, there is nothing to restore{why}")
    where = backup.status.location or backup.spec.location
    location = choose_location(await _locations(api, settings), where)
    check_available(location, flags=settings.flags)
    return backup


async def running_allowed(api: KubeApi, settings: Settings) -> None:
    """Whether verifications may start pods, as far as this user may see it.

    Raises InvalidSpec: the controller would refuse.
    """
    labels = f"{COMPONENT}={COMPONENT_CONTROLLER}"
    try:
        found = api.list(DEPLOYMENTS, namespace=settings.namespace, labels=labels)
        deployments = [raw async for raw in found]
    except AccessDenied:
        return  # the controller says it
    for raw in deployments:
        for container in raw["spec"]["template"]["spec"]["containers"]:
            env = {one["name"]: one.get("value") for one in container.get("env") or []}
            if env.get(RUN_VARIABLE) == "true":
                return
    if deployments:
        raise InvalidSpec(
            "Ararat may not start pods of backups here, because that needs the right to remove "
            "namespaces: set the chart's value verification.run.enabled to true, or leave --run"
            " out",
            reason="RunNotAllowed",
        )


async def newest_of(api: KubeApi, settings: Settings, schedule: str) -> str:
    """The backup that a restore from a schedule takes. Raises InvalidSpec: there is none."""
    locations = await _locations(api, settings)
    read_only = {location.name for location in locations if location.read_only}
    backups = parsed(Backup, await all_of(api, settings, Backup))
    return newest_completed(backups, schedule, ours=lambda name: name not in read_only).name


async def matching_namespaces(
    api: KubeApi, included: Sequence[str], excluded: Sequence[str]
) -> None:
    """Raises InvalidSpec where the patterns select nothing. Who may not list is not asked."""
    if not included:
        return
    try:
        names = [str(obj["metadata"]["name"]) async for obj in api.list(NAMESPACES)]
    except AccessDenied:
        return
    check_patterns(names, included, excluded)


def check_patterns(names: Sequence[str], included: Sequence[str], excluded: Sequence[str]) -> None:
    """Raises InvalidSpec where a pattern selects no name, or all that is selected is excluded."""
    for pattern in included:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InvalidSpec(f"no namespace matches {pattern!r}{like(pattern, names)}")
    chosen = [name for name in names if any(fnmatchcase(name, p) for p in included)]
    if all(any(fnmatchcase(name, pattern) for pattern in excluded) for name in chosen):
        raise InvalidSpec("every namespace that is included is excluded as well: nothing is left")


def choose_location(
    locations: Sequence[BackupLocation], name: str | None, *, flags: str = ""
) -> BackupLocation:
    """The named location, or the default one. Raises NotFound, InvalidSpec."""
    names = sorted(location.name for location in locations)
    if not names:
        raise NotFound(
            f"there is no backup location yet: make one with 'ararat location create{flags}'"
        )
    known = f"there {'is' if len(names) == 1 else 'are'} {', '.join(names)}"
    if name is not None:
        found = next((location for location in locations if location.name == name), None)
        if found is None:
            raise NotFound(f"there is no location {name!r} ({known})")
        return found
    defaults = [location for location in locations if location.spec.default]
    if len(defaults) != 1:
        some = f"{len(defaults)} locations are" if defaults else "no location is"
        raise InvalidSpec(f"{some} the default one: say which with --location ({known})")
    return defaults[0]


def check_available(location: BackupLocation, *, flags: str = "") -> None:
    """Raises InvalidSpec where the location cannot be used now."""
    if location.available:
        return
    if location.status.phase is LocationPhase.UNAVAILABLE:
        why = location.status.message or "no reason given"
        raise InvalidSpec(f"location {location.name} is Unavailable: {why}")
    raise InvalidSpec(
        f"location {location.name} was not looked at yet: wait until 'ararat location get{flags}' "
        "says Available; if it never does, the controller is not running"
    )


async def _locations(api: KubeApi, settings: Settings) -> list[BackupLocation]:
    return parsed(BackupLocation, await all_of(api, settings, BackupLocation))
