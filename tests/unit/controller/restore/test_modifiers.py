from __future__ import annotations

from typing import Any

import pytest

from ararat.kinds import known_kinds
from controller.restore.modifiers import InvalidModifiers, Modifiers, read, resolve
from controller.restore.planner import make_plan
from controller.restore.stored import StoredObject
from tests.unit.controller.restore.make import (
    GATE,
    OWN,
    body,
    claim,
    existing,
    gated,
    manifest,
    only,
    pod,
    restore,
    stored,
    volume,
)

#: As Velero's users have them.
FILE = """
version: v1
resourceModifierRules:
- conditions:
    groupResource: persistentvolumeclaims
    resourceNameRegex: "^data-"
    namespaces: [copy]
  patches:
  - operation: replace
    path: /spec/storageClassName
    value: premium
- conditions:
    groupResource: deployments.apps
    labelSelector:
      matchLabels: {tier: web}
    matches:
    - path: /spec/replicas
      value: "3"
  patches:
  - {operation: test, path: /spec/replicas, value: "3"}
  - {operation: replace, path: /spec/replicas, value: "1"}
  - {operation: add, path: /metadata/annotations, value: '{"number": "1"}'}
- conditions:
    groupResource: deployments.apps
  strategicPatches:
  - patchData: |
      spec: {template: {spec: {containers: [{name: web, image: web:2}]}}}
- conditions:
    groupResource: configmaps
  mergePatches:
  - patchData: |
      {"data": {"host": "new", "old": null},
       "metadata": {"labels": {"ararat.dev/restore-uid": "x"}}}
"""


def deployment(replicas: int = 3, tier: str = "web") -> StoredObject:
    return stored(
        "Deployment",
        "web",
        api_version="apps/v1",
        labels={"tier": tier},
        spec={
            "replicas": replicas,
            "template": {"spec": {"containers": [{"name": "web", "image": "web:1", "tty": True}]}},
        },
    )


def modifiers(text: str, *objects: StoredObject) -> Modifiers:
    return resolve(read(text), known_kinds([obj.type for obj in objects]))


def planned(text: str, *objects: StoredObject, data: bool = False, **spec: Any) -> Any:
    others = (claim(), deployment(), stored("ConfigMap", "c"))
    return make_plan(
        restore(**spec),
        manifest(*((volume(),) if data else ())),
        objects,
        existing(),
        gate=GATE,
        own_namespaces=OWN,
        modifiers=modifiers(text, *objects, *others),
    )


def test_rules_change_what_they_mean() -> None:
    settings = stored("ConfigMap", "c", data={"host": "old", "old": "x", "kept": "y"})
    made = planned(FILE, claim(), deployment(), settings, namespaceMapping={"wp": "copy"})
    assert body(made, "persistentvolumeclaims")["spec"]["storageClassName"] == "premium"
    web = body(made, "deployments.apps")
    assert web["spec"]["replicas"] == 1
    assert web["metadata"]["annotations"] == {"number": "1"}
    assert web["spec"]["template"]["spec"]["containers"] == [
        {"name": "web", "image": "web:2", "tty": True}
    ]
    assert body(made, "configmaps")["data"] == {"host": "new", "kept": "y"}
    # Nothing of ours can be set, or taken away, by a rule.
    assert body(made, "configmaps")["metadata"]["labels"]["ararat.dev/restore-uid"] == "restore-uid"
    assert only(made, "deployments.apps").modifiers == (
        "rule 2 (deployments.apps)",
        "rule 3 (deployments.apps)",
    )
    assert not [warning for warning in made.warnings if "modifiers" in warning]


@pytest.mark.parametrize("obj", [deployment(replicas=2), deployment(tier="db")])
def test_conditions_that_do_not_hold(obj: StoredObject) -> None:
    made = planned(FILE, obj)
    assert body(made, "deployments.apps")["spec"]["replicas"] == obj.spec["replicas"]
    assert only(made, "deployments.apps").modifiers == ("rule 3 (deployments.apps)",)
    assert [warning for warning in made.warnings if "modifiers" in warning] == [
        "resource modifiers: rule 1 (persistentvolumeclaims) met no object",
        "resource modifiers: rule 2 (deployments.apps) met no object",
        "resource modifiers: rule 4 (configmaps) met no object",
    ]


def rule(kind: str = "configmaps", patches: str = "", **more: str) -> str:
    lines = [f"  {key}: {value}" for key, value in more.items()]
    patches = f"  patches: {patches}" if patches else ""
    head = f"version: v1\nresourceModifierRules:\n- conditions: {{groupResource: {kind}}}\n"
    return head + "\n".join([patches, *lines])


def test_a_failed_test_leaves_the_object_alone() -> None:
    text = rule(
        patches="[{op: test, path: /data/a, value: x}, {op: remove, path: /data}]",
    )
    made = planned(text, stored("ConfigMap", "c", data={"a": "y"}))
    assert body(made, "configmaps")["data"] == {"a": "y"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file: Input should be"),
        ("a: [", "resource modifiers are not YAML (line 1)"),
        ("version: v2\nresourceModifierRules: []", "version: Input should be 'v1'"),
        (rule(patches="[{op: swap, path: /a}]"), "rule 1: patches.0.operation: 'swap' is none of"),
        (rule(patches="[{op: add, path: a}]"), "rule 1: patches.0.path: 'a' must begin with '/'"),
        (rule(), "rule 1: give exactly one of patches, mergePatches, strategicPatches"),
        (rule(patches="[{op: remove, path: /a, worth: x}]"), "rule 1: patches.0.worth: Extra"),
        (rule(mergePatches="[{patchData: '[1]'}]"), "rule 1: mergePatches.0.patchData"),
        (rule("'*', resourceNameRegex: '('"), "conditions.resourceNameRegex: '(' is no regular"),
        (rule("configmap-s", patches="[{op: remove, path: /a}]"), "a kind called 'configmap-s'"),
        (
            rule(patches="[{op: remove, path: /data/no}]"),
            "does not fit ConfigMap wp/c: path /data/no",
        ),
        (rule(patches="[{op: replace, path: /kind, value: Secret}]"), "another object"),
        (rule(patches="[{op: replace, path: /metadata/name, value: d}]"), "another object"),
        (rule(patches="[{op: remove, path: /metadata}]"), "another object"),
        (rule(patches="[{op: replace, path: '', value: 3}]"), "nothing is left"),
        (
            rule("widgets.example.org", strategicPatches="[{patchData: {spec: {}}}]"),
            "widgets.example.org is no built-in kind",
        ),
    ],
)
def test_rules_that_cannot_be_meant_refuse_the_restore(text: str, said: str) -> None:
    widget = stored("Widget", "w", api_version="example.org/v1")
    with pytest.raises(InvalidModifiers) as failed:
        planned(text, stored("ConfigMap", "c", data={"a": "b"}), widget)
    assert failed.value.message.startswith("resource modifiers")
    assert said in failed.value.message
    assert "\n" not in failed.value.message


def test_a_volume_that_a_rule_takes_out_is_not_waited_for() -> None:
    text = rule(
        "pods",
        patches="[{op: remove, path: /spec/volumes/0}, "
        "{op: remove, path: /spec/containers/0/volumeMounts/0}]",
    )
    held = pod(claims={"data": "data-db-0"})
    assert gated(planned(text, held, claim(), data=True)) == ()
