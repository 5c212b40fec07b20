"""Hooks as people write them, in annotations or in a spec, turned into commands to run. Pure.

Problem: an application must be made quiet before its files are read, and every word of how is
written by hand on its pods, in the spelling of whichever tool came first.
Decision: Velero's and Ark's keys mean what they mean there: the command is a JSON array, or else
one single word (no shell splits it); the container is the pod's first one; 30 s; Fail. What those
tools guess at, a command that is no JSON, an unknown ``on-error``, a timeout without a unit, is an
error that names pod and key: a database that was not made quiet must not look like one that was.
Limits: nothing is substituted in a command, and nothing is fed to its standard input.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from ararat.api.hooks import TIMEOUT_PATTERN, ExecHook, OnError, PodSelection
from ararat.api.names import POST_HOOK_BACKUP, PRE_HOOK_BACKUP
from ararat.errors import InvalidSpec

DEFAULT_TIMEOUT = 30.0
_PARTS = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SUFFIXES = frozenset({"container", "command", "on-error", "timeout"})
#: Keys that are ours alone: what follows them and means nothing is a typing mistake.
_OURS = ".ararat.dev/"
_POD_WORDS = frozenset({"po", "pod", "pods", "*"})
Raw = Mapping[str, Any]
T = TypeVar("T")


class When(StrEnum):
    PRE = "pre"
    POST = "post"
    #: An init container of a restored pod.
    INIT = "init"


@dataclass(frozen=True)
class Hook:
    """A command to run in a container of a pod."""

    container: str
    command: tuple[str, ...]
    on_error: OnError = OnError.FAIL
    #: Seconds.
    timeout: float = DEFAULT_TIMEOUT


@dataclass(frozen=True)
class PodHooks:
    pre: tuple[Hook, ...] = ()
    post: tuple[Hook, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.pre or self.post)


def parse_command(text: str) -> tuple[str, ...]:
    """A JSON array of words, or one word. Raises InvalidSpec."""
    if not text.strip():
        raise InvalidSpec("the command is empty")
    if not text.lstrip().startswith("["):
        return (text,)
    try:
        words = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidSpec("the command begins like a JSON array and is none") from None
    if not words or not all(isinstance(word, str) for word in words) or not words[0]:
        raise InvalidSpec("the command must be a JSON array of strings, the program first")
    return tuple(words)


def parse_timeout(text: str) -> float:
    """Seconds. Raises InvalidSpec."""
    if not re.fullmatch(TIMEOUT_PATTERN, text):
        raise InvalidSpec(f"{text[:40]!r} is no span of time: write it as 30s or 1m30s")
    seconds = sum(float(count) * _SECONDS[unit] for count, unit in _PARTS.findall(text))
    if seconds <= 0:
        raise InvalidSpec(f"{text[:40]!r} is no time at all: write it as 30s or 1m30s")
    return seconds


def parse_on_error(text: str) -> OnError:
    """Raises InvalidSpec."""
    try:
        return OnError(text)
    except ValueError:
        raise InvalidSpec(f"{text[:40]!r} is neither Fail nor Continue") from None


def backup_hook(pod: Raw, when: When) -> Hook | None:
    """The hook that the pod's annotations name, whatever spelling of the keys is used.

    Raises InvalidSpec, which names the pod and the annotation.
    """
    prefixes = PRE_HOOK_BACKUP if when is When.PRE else POST_HOOK_BACKUP
    return annotated(pod, prefixes)


def annotated(pod: Raw, prefixes: Sequence[str]) -> Hook | None:
    """The hook under the first of these prefixes that names a command.

    Raises InvalidSpec, which names the pod and the annotation.
    """
    found = settings(pod, prefixes, known=_SUFFIXES, wanted=("command",))
    if found is None:
        return None
    on_error = found.parsed("on-error", parse_on_error)
    return Hook(
        container=found.container(),
        command=found.parsed("command", parse_command) or (),
        on_error=on_error or OnError.FAIL,
        timeout=found.parsed("timeout", parse_timeout) or DEFAULT_TIMEOUT,
    )


@dataclass(frozen=True)
class Settings:
    """What one spelling of the keys says about a hook of a pod."""

    pod: Raw
    prefix: str
    found: Mapping[str, str]

    def parsed(self, suffix: str, parse: Callable[[str], T]) -> T | None:
        """None: it is not said. Raises InvalidSpec, which names the pod and the annotation."""
        text = self.found.get(suffix)
        if text is None:
            return None
        try:
            return parse(text if suffix == "command" else text.strip())
        except InvalidSpec as exc:
            raise _mistake(self.pod, self.prefix + suffix, exc.message) from None

    def container(self) -> str:
        """The container that is meant. Raises InvalidSpec."""
        try:
            return container_of(self.pod, self.found.get("container", "").strip())
        except InvalidSpec as exc:
            raise _mistake(self.pod, f"{self.prefix}container", exc.message) from None


def settings(
    pod: Raw, prefixes: Sequence[str], *, known: frozenset[str], wanted: Sequence[str]
) -> Settings | None:
    """What stands under the first of these prefixes that says one of what is ``wanted``.

    Raises InvalidSpec, which names the pod and the annotation.
    """
    annotations: Mapping[str, str] = pod["metadata"].get("annotations") or {}
    for prefix in prefixes:
        found = {
            key.removeprefix(prefix): text
            for key, text in annotations.items()
            if key.startswith(prefix)
        }
        unknown = sorted(found.keys() - known) if _OURS in prefix else []
        if unknown:
            listed = ", ".join(sorted(known))
            raise _mistake(pod, prefix + unknown[0], f"no such setting of a hook: say {listed}")
        if not found.keys().isdisjoint(wanted):
            return Settings(pod, prefix, found)
        if found and _OURS in prefix:
            missing = f"there is no {prefix}{wanted[0]}"
            raise _mistake(pod, prefix + sorted(found)[0], missing)
    return None


def container_of(pod: Raw, name: str | None) -> str:
    """The container that is meant: the named one, or the first. Raises InvalidSpec."""
    containers = [str(c["name"]) for c in pod["spec"].get("containers") or []]
    if not name:
        return containers[0]
    if name not in containers:
        raise InvalidSpec(f"the pod has no container {name!r} (it has: {', '.join(containers)})")
    return name


def from_spec(pod: Raw, hooks: Iterable[ExecHook], *, name: str) -> tuple[Hook, ...]:
    """The hooks of a spec, for this pod. Raises InvalidSpec, which names the pod and the hook."""
    found = []
    for hook in hooks:
        try:
            if not hook.command or not hook.command[0]:
                raise InvalidSpec("the command is empty")
            found.append(
                Hook(
                    container=container_of(pod, hook.container),
                    command=tuple(hook.command),
                    on_error=hook.on_error,
                    timeout=parse_timeout(hook.timeout),
                )
            )
        except InvalidSpec as exc:
            raise InvalidSpec(
                f"hook {name or 'without name'} for pod {pod_id(pod)}: {exc.message}",
                reason="InvalidHook",
            ) from None
    return tuple(found)


def check_kinds(resources: Iterable[PodSelection]) -> None:
    """Raises InvalidSpec where the spec asks for hooks of something that has none."""
    for resource in resources:
        for word in [*resource.included_resources, *resource.excluded_resources]:
            if word.lower() not in _POD_WORDS:
                raise InvalidSpec(
                    f"hooks: {resource.name or 'a hook'} names {word!r}: only pods have hooks",
                    reason="InvalidHook",
                )


def selects(resource: PodSelection, pod: Raw) -> bool:
    """Whether the hooks are meant for this pod."""
    namespace = pod["metadata"]["namespace"]
    included = resource.included_namespaces or ["*"]
    if not any(fnmatchcase(namespace, pattern) for pattern in included):
        return False
    if any(fnmatchcase(namespace, pattern) for pattern in resource.excluded_namespaces):
        return False
    if any(word.lower() in _POD_WORDS for word in resource.excluded_resources):
        return False
    selector = resource.label_selector
    return selector is None or selector.matches(pod["metadata"].get("labels") or {})


def pod_id(pod: Raw) -> str:
    return f"{pod['metadata'].get('namespace', '')}/{pod['metadata']['name']}"


def _mistake(pod: Raw, key: str, message: str) -> InvalidSpec:
    return InvalidSpec(f"pod {pod_id(pod)}: annotation {key}: {message}", reason="InvalidHook")
