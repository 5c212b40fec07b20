"""Hooks of restored pods as people write them, turned into containers and commands. Pure.

Decision: Velero's and Ark's keys mean what they mean there, with three differences. What they guess
at is an error that names pod and key, as with a backup's hooks. An init container that an
annotation names mounts what the pod's first container mounts, and has its resources and security
context: without these it could not see the data, or would not be admitted. Nothing is waited for
without end: where no ``wait-timeout`` is set, the restore's own deadline holds.
Limits: ``init`` takes one container from annotations; a spec may have any number.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ararat.api.hooks import ExecRestoreHook, InitRestoreHook, OnError, RestoreHooks
from ararat.api.names import INIT_HOOK_RESTORE, POST_HOOK_RESTORE
from ararat.errors import InvalidSpec
from ararat.hooks import (
    DEFAULT_TIMEOUT,
    Hook,
    Raw,
    check_kinds,
    container_of,
    parse_command,
    parse_on_error,
    parse_timeout,
    pod_id,
    selects,
    settings,
)
from controller.restore.images import mapped

#: Of one pod: their record must fit into one object of the API.
MOST_HOOKS = 32
DEFAULT_NAME = "restore-init"
_EXEC_SUFFIXES = frozenset(
    {"container", "command", "on-error", "exec-timeout", "wait-timeout", "wait-for-ready"}
)
_INIT_SUFFIXES = frozenset({"container-image", "container-name", "command", "timeout"})
#: What the pod's first container lends to an init container that annotations name.
_LENT = ("volumeMounts", "securityContext", "resources", "imagePullPolicy")


@dataclass(frozen=True)
class ExecHook:
    """A command to run in a container of a restored pod."""

    hook: Hook
    #: Seconds; None: the restore's own deadline.
    wait_timeout: float | None = None
    #: Wait until the container is ready, not only running.
    wait_for_ready: bool = False


@dataclass(frozen=True)
class PodRestoreHooks:
    #: As in a pod's spec.
    init: tuple[dict[str, Any], ...] = ()
    #: Seconds that they are waited for; None: the restore's own deadline; 0: not at all.
    init_timeout: float | None = None
    post: tuple[ExecHook, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.init or self.post)

    @property
    def text(self) -> str:
        """For people: ``init container a, 2 commands``."""
        parts = [f"init container {container['name']}" for container in self.init]
        if self.post:
            parts.append("a command" if len(self.post) == 1 else f"{len(self.post)} commands")
        return ", ".join(parts)


def check_spec(hooks: RestoreHooks) -> None:
    """Raises InvalidSpec, which names the hook."""
    check_kinds(hooks.resources)
    for resource in hooks.resources:
        for action in resource.post_hooks:
            for container in action.init.init_containers if action.init else ():
                for field in ("name", "image"):
                    if not isinstance(container.get(field), str) or not container[field]:
                        raise InvalidSpec(
                            f"hooks: {resource.name or 'a hook'}: an init container has no {field}",
                            reason="InvalidHook",
                        )


def restore_hooks(
    pod: Raw, hooks: RestoreHooks, *, images: Mapping[str, str] | None = None
) -> PodRestoreHooks:
    """The hooks of a pod as it is in the target cluster: its annotations', else the spec's.

    ``images`` maps what annotations name; raises InvalidSpec, which names the pod and the
    annotation or hook.
    """
    if hooks.skip:
        return PodRestoreHooks()
    meant = [resource for resource in hooks.resources if selects(resource, pod)]
    init, init_timeout = _annotated_init(pod, images or {})
    post = _annotated_exec(pod)
    if not init:
        actions = [action.init for resource in meant for action in resource.post_hooks]
        init, init_timeout = _init_of_spec([action for action in actions if action is not None])
    if not post:
        post = tuple(
            _exec_of_spec(pod, action.exec, resource.name)
            for resource in meant
            for action in resource.post_hooks
            if action.exec is not None
        )
    if len(post) > MOST_HOOKS:
        raise InvalidSpec(
            f"pod {pod_id(pod)} has more than {MOST_HOOKS} hooks: join some of their commands",
            reason="InvalidHook",
        )
    return PodRestoreHooks(init, init_timeout, post)


def _annotated_exec(pod: Raw) -> tuple[ExecHook, ...]:
    found = settings(pod, POST_HOOK_RESTORE, known=_EXEC_SUFFIXES, wanted=("command",))
    if found is None:
        return ()
    hook = Hook(
        container=found.container(),
        command=found.parsed("command", parse_command) or (),
        on_error=found.parsed("on-error", parse_on_error) or OnError.FAIL,
        timeout=found.parsed("exec-timeout", parse_timeout) or DEFAULT_TIMEOUT,
    )
    ready = found.parsed("wait-for-ready", parse_flag) or False
    return (ExecHook(hook, found.parsed("wait-timeout", parse_timeout), ready),)


def _annotated_init(
    pod: Raw, images: Mapping[str, str]
) -> tuple[tuple[dict[str, Any], ...], float | None]:
    found = settings(
        pod, INIT_HOOK_RESTORE, known=_INIT_SUFFIXES, wanted=("container-image", "command")
    )
    if found is None:
        return (), None
    first = pod["spec"]["containers"][0]
    asked = found.found.get("container-image", "").strip()
    container: dict[str, Any] = {
        "name": found.found.get("container-name", "").strip() or DEFAULT_NAME,
        "image": mapped(asked, images) if asked else first["image"],
    }
    command = found.parsed("command", parse_command)
    if command is not None:
        container["command"] = list(command)
    container |= {key: copy.deepcopy(first[key]) for key in _LENT if first.get(key)}
    return (container,), found.parsed("timeout", parse_wait)


def _init_of_spec(
    found: list[InitRestoreHook],
) -> tuple[tuple[dict[str, Any], ...], float | None]:
    timeouts = [parse_wait(init.timeout) for init in found if init.timeout]
    containers = [copy.deepcopy(each) for init in found for each in init.init_containers]
    unlike = not timeouts or len(timeouts) < len(found)
    # Several together: each may take its time, one after the other.
    return tuple(containers), None if unlike else sum(timeouts)


def _exec_of_spec(pod: Raw, hook: ExecRestoreHook, name: str) -> ExecHook:
    try:
        if not hook.command[0]:
            raise InvalidSpec("the command is empty")
        made = Hook(
            container=container_of(pod, hook.container),
            command=tuple(hook.command),
            on_error=hook.on_error,
            timeout=parse_timeout(hook.exec_timeout),
        )
        wait = parse_timeout(hook.wait_timeout) if hook.wait_timeout is not None else None
    except InvalidSpec as exc:
        raise InvalidSpec(
            f"hook {name or 'without name'} for pod {pod_id(pod)}: {exc.message}",
            reason="InvalidHook",
        ) from None
    return ExecHook(made, wait, hook.wait_for_ready)


def parse_wait(text: str) -> float:
    """Seconds; ``0`` in any spelling is none. Raises InvalidSpec."""
    if text.rstrip("smh.").strip("0") == "" and text:
        return 0.0
    return parse_timeout(text)


def parse_flag(text: str) -> bool:
    """Raises InvalidSpec."""
    if text.lower() not in ("true", "false"):
        raise InvalidSpec(f"{text[:40]!r} is neither true nor false")
    return text.lower() == "true"
