"""Which pods have hooks, and which volumes are read between whose. Pure.

Decision: a volume is read between the pre and the post hooks of *every* pod in the backup that
mounts it, not only of the pod that it is read through: replicas that share a claim all write to
it. Pods that are tied together by such volumes make a group; so does a pod alone. Each group
freezes, is read and thaws on its own, beside all others.
What the plan keeps are counts: commands may hold passwords, and the plan is stored in the clear.
They are parsed again when it is time, from the annotations as they are then.
Limits: only pods that run have hooks run; the others' volumes are not read either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ararat import naming
from ararat.api.backup import BackupHooks, HookResource
from ararat.api.base import Model
from ararat.api.manifest import Coverage
from ararat.api.nodejob import PodReference
from ararat.errors import InvalidSpec
from ararat.hooks import (
    Hook,
    PodHooks,
    When,
    backup_hook,
    check_kinds,
    from_spec,
    pod_id,
    selects,
)
from controller.backup.volumes import PlannedVolume, claims_of

#: Hooks of one pod, before and after: their record must fit into one object of the API.
MOST_HOOKS = 32
Raw = Mapping[str, Any]


class PlannedHooks(Model):
    """A pod whose hooks are to be run."""

    pod: PodReference
    #: Of pods, and of the volumes that are read between their hooks.
    group: str
    pre: int
    post: int


def hooks_of(pod: Raw, hooks: BackupHooks) -> PodHooks:
    """The hooks of a pod: those of its annotations, else those that the spec has for it.

    Raises InvalidSpec, which names the pod and the annotation or hook.
    """
    pre, post = backup_hook(pod, When.PRE), backup_hook(pod, When.POST)
    meant = [resource for resource in hooks.resources if selects(resource, pod)]
    found = PodHooks(
        pre=(pre,) if pre else _of_spec(pod, meant, When.PRE),
        post=(post,) if post else _of_spec(pod, meant, When.POST),
    )
    if len(found.pre) + len(found.post) > MOST_HOOKS:
        raise InvalidSpec(
            f"pod {pod_id(pod)} has more than {MOST_HOOKS} hooks: join some of their commands",
            reason="InvalidHook",
        )
    longest = sum(hook.timeout for hook in found.pre)
    if longest > hooks.max_freeze_seconds:
        raise InvalidSpec(
            f"pod {pod_id(pod)}: its pre hooks may take {longest:g} s, and hooks.maxFreezeSeconds "
            f"is {hooks.max_freeze_seconds}: raise that, or shorten their timeouts",
            reason="InvalidHook",
        )
    return found


def plan_hooks(
    pods: Sequence[Raw], volumes: Sequence[PlannedVolume], hooks: BackupHooks, *, unique: str
) -> tuple[list[PlannedHooks], list[PlannedVolume]]:
    """The pods whose hooks are run, and the volumes, each with the group it is read in.

    ``unique`` tells the groups of this backup from those of others. Raises InvalidSpec, which
    names every pod with a mistake in its annotations.
    """
    check_kinds(hooks.resources)
    found: dict[str, tuple[Raw, PodHooks]] = {}
    mistakes = []
    for pod in pods:
        try:
            commands = hooks_of(pod, hooks)
        except InvalidSpec as exc:
            mistakes.append(exc.message)
            continue
        if commands and runs(pod):
            found[pod["metadata"]["uid"]] = (pod, commands)
    if mistakes:
        raise InvalidSpec("; ".join(mistakes), reason="InvalidHook")
    if not found:
        return [], list(volumes)
    sharers = _sharers(pod for pod, _ in found.values())
    union = _Union(found)
    tied: list[str | None] = []
    for volume in volumes:
        uids = _bracketing(volume, found.keys(), sharers)
        tied.append(uids[0] if uids else None)
        for uid in uids[1:]:
            union.join(uids[0], uid)
    groups = {uid: naming.digest(unique, union.root(uid)) for uid in found}
    planned = [
        PlannedHooks(
            pod=PodReference(
                namespace=pod["metadata"]["namespace"], name=pod["metadata"]["name"], uid=uid
            ),
            group=groups[uid],
            pre=len(commands.pre),
            post=len(commands.post),
        )
        for uid, (pod, commands) in found.items()
    ]
    grouped = [
        volume.model_copy(update={"group": groups[uid]}) if uid is not None else volume
        for volume, uid in zip(volumes, tied, strict=True)
    ]
    return sorted(planned, key=lambda p: (p.pod.namespace, p.pod.name)), grouped


def runs(pod: Raw) -> bool:
    """Whether commands can be run in the pod: it runs, and is not on its way out."""
    terminating = bool(pod["metadata"].get("deletionTimestamp"))
    return (pod.get("status") or {}).get("phase") == "Running" and not terminating


def _bracketing(
    volume: PlannedVolume, hooked: Iterable[str], sharers: Mapping[tuple[str, str], list[str]]
) -> list[str]:
    """UIDs of the pods with hooks between which a volume is read."""
    if volume.coverage is not Coverage.BACKED_UP:
        return []
    if volume.claim is not None:
        uids = list(sharers.get((volume.pod.namespace, volume.claim.name), ()))
    else:
        uids = []
    if volume.pod.uid in hooked and volume.pod.uid not in uids:
        uids.append(volume.pod.uid)
    return sorted(uids)


def _sharers(pods: Iterable[Raw]) -> dict[tuple[str, str], list[str]]:
    """(namespace, claim) → UIDs of the pods that mount it."""
    found: dict[tuple[str, str], list[str]] = {}
    for pod in pods:
        for claim in claims_of(pod):
            key = (pod["metadata"]["namespace"], claim)
            found.setdefault(key, []).append(pod["metadata"]["uid"])
    return found


def _of_spec(pod: Raw, meant: Sequence[HookResource], when: When) -> tuple[Hook, ...]:
    found: list[Hook] = []
    for resource in meant:
        actions = resource.pre if when is When.PRE else resource.post
        found += from_spec(pod, (action.exec for action in actions), name=resource.name)
    return tuple(found)


class _Union:
    """Sets that are joined: the root of each member is the smallest of its set."""

    def __init__(self, members: Iterable[str]) -> None:
        self._parent = {member: member for member in members}

    def root(self, member: str) -> str:
        while self._parent[member] != member:
            self._parent[member] = self._parent[self._parent[member]]
            member = self._parent[member]
        return member

    def join(self, one: str, other: str) -> None:
        low, high = sorted((self.root(one), self.root(other)))
        self._parent[high] = low
