"""A restore's plan as people read it: in order, with what stays as it is and why. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ararat import human
from ararat.api.plan import Action, ClaimData, PlannedObject, PlannedVolume, RestorePlan
from ararat.cli import render, sections

HEADERS = ("KIND", "CREATE", "UPDATE", "LEAVE", "NAMES")
VOLUME_HEADERS = ("VOLUME", "COMES BACK", "SIZE", "CLASS")
#: Lines of one section; ``-o json`` has all of them.
LINES = 40
_NAMES = 4


def dry_run(plan: RestorePlan) -> str:
    """What ``--dry-run`` prints."""
    head = f"Restore of backup {plan.backup}: this is what it would do; nothing was done."
    mapped = [f"{old} as {new}" for old, new in plan.namespaces.items() if old != new]
    parts = [
        head,
        render.section("Namespaces under other names:", render.bullets(mapped)),
        render.section("In this order:", order(plan)),
        *_details(plan),
        sections.warnings(plan.warnings[:LINES], len(plan.warnings)),
        render.section("Would fail:", _some(sections.failure(item) for item in plan.failures)),
    ]
    return "\n".join(part for part in parts if part)


def executed(plan: RestorePlan) -> str:
    """What ``describe`` says about objects that were not simply created."""
    return "\n".join(part for part in _details(plan) if part)


def order(plan: RestorePlan) -> str:
    """Kind by kind, in the order in which they are made."""
    rows = []
    for resource, found in _by_kind(plan.objects).items():
        counts = [
            sum(1 for item in found if item.action is action)
            for action in (Action.CREATE, Action.UPDATE, Action.LEAVE)
        ]
        more = plan.omitted.get(resource, 0)
        counts[0] += more
        names = render.listing([item.path for item in found], empty="", limit=_NAMES)
        rows.append((resource, *(str(count) if count else "" for count in counts), names))
    known = {row[0] for row in rows}
    rows += [
        (resource, str(count), "", "", "")
        for resource, count in plan.omitted.items()
        if resource not in known
    ]
    return render.table(HEADERS, rows, indent="  ") if rows else ""


def volumes(planned: Sequence[PlannedVolume]) -> str:
    rows = [
        (volume.volume, _comes_back(volume), volume.size, _class(volume))
        for volume in planned[:LINES]
    ]
    if len(planned) > LINES:
        rows.append((f"and {len(planned) - LINES} more", "", "", ""))
    return render.table(VOLUME_HEADERS, rows, indent="  ") if rows else ""


def _details(plan: RestorePlan) -> list[str]:
    held = [
        f"{item.path} for {', '.join(item.gate)}"
        for item in plan.objects
        if item.gate and item.action is Action.CREATE
    ]
    hooked = [
        f"{item.path}: {item.hooks}"
        for item in plan.objects
        if item.hooks and item.action is Action.CREATE
    ]
    updated = [_changed(item) for item in plan.objects if _is(item, Action.UPDATE, "Updated")]
    modified = [
        f"{item.resource} {item.path}: {', '.join(item.modifiers)}"
        for item in plan.objects
        if item.modifiers
    ]
    left = [item for item in plan.objects if _is(item, Action.LEAVE, "LeftAlone")]
    differing = [_changed(item) for item in left if item.differs]
    same = len(left) - len(differing)
    if same:
        differing.append(f"{human.plural(same, 'object')} as in the backup")
    return [
        render.section("Volumes:" if plan.dry_run else "Claims:", volumes(plan.volumes)),
        render.section("Pods held until their volumes are filled:", _some(held)),
        render.section("Hooks that run in pods then:", _some(hooked)),
        render.section("Changed by resource modifiers:", _some(modified)),
        render.section("Existing, updated:", _some(updated)),
        render.section("Existing, left alone:", _some(differing)),
        render.section("Not brought back:", _some(_skipped(plan.objects))),
    ]


def _is(item: PlannedObject, action: Action, outcome: str) -> bool:
    return item.outcome == outcome if item.outcome else item.action is action


def _changed(item: PlannedObject) -> str:
    fields = f": {', '.join(item.differs)}" if item.differs else ""
    return f"{item.resource} {item.path}{fields}"


def _skipped(objects: Iterable[PlannedObject]) -> list[str]:
    """One line for all objects of a kind that stay out for one reason."""
    groups: dict[tuple[str, str], list[PlannedObject]] = {}
    for item in objects:
        if item.action is Action.SKIP:
            groups.setdefault((item.resource, item.message or item.reason), []).append(item)
    return [
        f"{resource} {render.listing([i.path for i in items], empty='', limit=_NAMES)}: {why}"
        for (resource, why), items in sorted(groups.items())
    ]


def _by_kind(objects: Iterable[PlannedObject]) -> Mapping[str, list[PlannedObject]]:
    found: dict[str, list[PlannedObject]] = {}
    for item in objects:
        if item.action is not Action.SKIP:
            found.setdefault(item.resource, []).append(item)
    return found


def _comes_back(volume: PlannedVolume) -> str:
    match volume.data:
        case ClaimData.FILES:
            return f"{human.size(volume.bytes)} in {human.plural(volume.files, 'file')}"
        case ClaimData.OWN_VOLUME:
            return f"on its own volume {volume.own_volume}"
        case ClaimData.MISSING:
            return "held: the backup has no data for it"
        case ClaimData.EMPTY:
            return "empty"


def _class(volume: PlannedVolume) -> str:
    if volume.old_class:
        return f"{volume.storage_class or 'the default'} (was {volume.old_class})"
    return volume.storage_class


def _some(items: Iterable[str]) -> str:
    lines = list(items)
    more = [f"and {len(lines) - LINES} more (-o json shows all)"] if len(lines) > LINES else []
    return render.bullets([*lines[:LINES], *more])
