"""Rules of the user that change objects on their way back. Pure.

Problem: what differs between two clusters (hosts, replicas, node selectors, annotations of a cloud)
is endless; a restore needs one place to say it.
Decision: rules come from a ConfigMap, in the format that Velero's users have (version ``v1``,
``resourceModifierRules``), and are applied last, to the object as it would be created: conditions
see its new namespace. All of a restore is planned before anything is created, so a rule that does
not fit an object refuses the restore, and names the rule, the object and the path. A rule that
changes what an object *is* (kind, name, namespace) is refused; a ``test`` that does not hold leaves
the object to the other rules; a rule that met no object is a warning.
Limits: values of JSON patches may be text that holds JSON, as in Velero: ``"3"`` is the number, and
``'"3"'`` the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml
from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from ararat.api.base import Model
from ararat.api.selector import LabelSelector
from ararat.errors import InvalidSpec
from ararat.kinds import Spellings, meant_by

from . import json_patch
from .json_patch import OPERATIONS, CannotPatch, DoesNotHold
from .metadata import OURS, drop
from .stored import Object
from .strategic_merge import strategic_merge

#: Kubernetes' own groups, without ``.k8s.io``; those without a dot are its own as well.
_BUILT_IN = frozenset(
    {
        "admissionregistration",
        "apiextensions",
        "apiregistration",
        "certificates",
        "coordination",
        "discovery",
        "events",
        "flowcontrol.apiserver",
        "networking",
        "node",
        "rbac.authorization",
        "resource",
        "scheduling",
        "storage",
    }
)


class InvalidModifiers(InvalidSpec):
    """The rules cannot be read, or cannot mean what they say."""

    default_reason = "InvalidResourceModifiers"


class _Strict(Model):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Match(_Strict):
    path: str
    value: Any = None


class Conditions(_Strict):
    group_resource: str
    resource_name_regex: str = ""
    namespaces: list[str] = []
    label_selector: LabelSelector | None = None
    matches: list[Match] = []

    @field_validator("resource_name_regex")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"{value!r} is no regular expression: {error}") from error
        return value


class Operation(_Strict):
    operation: str
    path: str
    source: str = Field(default="", alias="from")
    value: Any = None

    @model_validator(mode="before")
    @classmethod
    def _either_name(cls, data: Any) -> Any:
        """RFC 6902 says ``op``, Velero ``operation``."""
        if isinstance(data, dict) and "op" in data and "operation" not in data:
            return {"operation" if key == "op" else key: value for key, value in data.items()}
        return data

    @field_validator("operation")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in OPERATIONS:
            raise ValueError(f"{value!r} is none of {', '.join(OPERATIONS)}")
        return value

    @field_validator("path", "source")
    @classmethod
    def _pointer(cls, value: str) -> str:
        if value and not value.startswith("/"):
            raise ValueError(f"{value!r} must begin with '/'")
        return value


class PatchData(_Strict):
    patch_data: Any

    @field_validator("patch_data")
    @classmethod
    def _read(cls, value: Any) -> Any:
        read = yaml.safe_load(value) if isinstance(value, str) else value
        if not isinstance(read, dict):
            raise ValueError("patchData must be an object, as YAML or JSON")  # noqa: TRY004 - pydantic
        return read


class Rule(_Strict):
    conditions: Conditions
    patches: list[Operation] = []
    merge_patches: list[PatchData] = []
    strategic_patches: list[PatchData] = []

    @model_validator(mode="after")
    def _one_kind(self) -> Rule:
        kinds = [self.patches, self.merge_patches, self.strategic_patches]
        if sum(bool(kind) for kind in kinds) != 1:
            raise ValueError("give exactly one of patches, mergePatches, strategicPatches")
        return self


class _File(_Strict):
    version: Literal["v1"]
    resource_modifier_rules: list[Rule]


@dataclass
class Modifiers:
    """The rules of one restore, and which of them met an object."""

    rules: tuple[Rule, ...] = ()
    #: Of each rule: the kinds it means.
    kinds: tuple[frozenset[str], ...] = ()
    _used: set[int] = field(default_factory=set)

    def apply(self, resource: str, body: Object, *, where: str) -> tuple[Object, tuple[str, ...]]:
        """The changed object and the rules that changed it. Raises InvalidModifiers."""
        applied = []
        for number, (rule, kinds) in enumerate(zip(self.rules, self.kinds, strict=True), start=1):
            if resource not in kinds or not _meets(rule.conditions, body):
                continue
            self._used.add(number)
            name = f"rule {number} ({rule.conditions.group_resource})"
            try:
                changed = _patched(rule, resource, body)
            except DoesNotHold:
                continue
            except CannotPatch as error:
                raise InvalidModifiers(
                    f"resource modifiers: {name} does not fit {where}: {error.message}"
                ) from error
            _same_object(body, changed, name=name, where=where)
            if changed != body:
                applied.append(name)
            body = changed
        if applied:
            for holder in ("labels", "annotations"):
                drop(body["metadata"], holder, OURS)
        return body, tuple(applied)

    def unused(self) -> list[str]:
        """Rules that met no object: most likely a slip."""
        return [
            f"resource modifiers: rule {number} ({rule.conditions.group_resource}) met no object"
            for number, rule in enumerate(self.rules, start=1)
            if number not in self._used
        ]


def read(text: str) -> tuple[Rule, ...]:
    """The rules of a file. Raises InvalidModifiers."""
    try:
        document = yaml.safe_load(text)
        return tuple(_File.model_validate(document).resource_modifier_rules)
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        place = "" if line is None else f" (line {line + 1})"
        raise InvalidModifiers(f"resource modifiers are not YAML{place}") from error
    except ValidationError as error:
        raise InvalidModifiers(f"resource modifiers: {_first(error)}") from error


def resolve(rules: Iterable[Rule], known: Spellings) -> Modifiers:
    """Rules, with the kinds that they mean. Raises InvalidModifiers."""
    found, kinds = tuple(rules), []
    for number, rule in enumerate(found, start=1):
        word = rule.conditions.group_resource
        meant = set(known) if word == "*" else meant_by(known, word)
        if not meant:
            raise InvalidModifiers(
                f"resource modifiers: rule {number}: neither the backup nor the cluster has a kind "
                f"called {word!r}"
            )
        custom = sorted(kind for kind in meant if not _built_in(kind))
        if rule.strategic_patches and custom:
            raise InvalidModifiers(
                f"resource modifiers: rule {number}: {custom[0]} is no built-in kind: its lists "
                "cannot be merged by key; use mergePatches or patches"
            )
        kinds.append(frozenset(meant))
    return Modifiers(found, tuple(kinds))


def _meets(conditions: Conditions, body: Mapping[str, Any]) -> bool:
    metadata = body["metadata"]
    if conditions.namespaces and metadata.get("namespace") not in conditions.namespaces:
        return False
    if not re.search(conditions.resource_name_regex, metadata["name"]):
        return False
    selector = conditions.label_selector
    if selector is not None and not selector.matches(metadata.get("labels") or {}):
        return False
    for match in conditions.matches:
        test = {"op": "test", "path": match.path, "value": _value(match.value)}
        try:
            json_patch.apply(body, [test])
        except CannotPatch:
            return False
    return True


def _patched(rule: Rule, resource: str, body: Object) -> Object:
    result: Any = body
    if rule.patches:
        result = json_patch.apply(
            body,
            [
                {
                    "op": one.operation,
                    "path": one.path,
                    "from": one.source,
                    "value": _value(one.value),
                }
                for one in rule.patches
            ],
        )
    for merge in rule.merge_patches:
        result = json_patch.merge(result, merge.patch_data)
    for strategic in rule.strategic_patches:
        result = strategic_merge(resource, result, strategic.patch_data)
    if not isinstance(result, dict):
        raise CannotPatch("nothing is left of the object")
    return result


def _same_object(before: Object, after: Object, *, name: str, where: str) -> None:
    def identity(body: Mapping[str, Any]) -> list[Any]:
        metadata = body.get("metadata")
        inner = metadata if isinstance(metadata, dict) else {}
        return [
            body.get("apiVersion"),
            body.get("kind"),
            inner.get("name"),
            inner.get("namespace"),
        ]

    if identity(before) != identity(after):
        raise InvalidModifiers(
            f"resource modifiers: {name} would make {where} another object: apiVersion, kind, name "
            "and namespace cannot be changed (namespaces: --namespace-mappings)"
        )


def _value(value: Any) -> Any:
    """Text that holds JSON means what it holds."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value, parse_constant=lambda text: text)
    except ValueError:
        return value


def _built_in(resource: str) -> bool:
    group = resource.partition(".")[2]
    return "." not in group or group.removesuffix(".k8s.io") in _BUILT_IN


def _first(error: ValidationError) -> str:
    """``rule 2: conditions.groupResource: Field required``."""
    problem = error.errors()[0]
    place = list(problem["loc"])
    text = str(problem["msg"]).removeprefix("Value error, ")
    if len(place) > 1 and place[0] == "resourceModifierRules" and isinstance(place[1], int):
        rest = ".".join(str(part) for part in place[2:])
        return f"rule {place[1] + 1}: {rest + ': ' if rest else ''}{text}"
    return f"{'.'.join(str(part) for part in place) or 'the file'}: {text}"
