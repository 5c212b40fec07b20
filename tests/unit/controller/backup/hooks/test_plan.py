"""Which pods have hooks, and which volumes are read between them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ararat.api.backup import BackupHooks, HookResource
from ararat.api.hooks import ExecHook, HookAction
from ararat.api.manifest import Coverage
from ararat.api.nodejob import ClaimReference, PodReference
from ararat.api.selector import LabelSelector
from ararat.errors import InvalidSpec
from controller.backup.hooks.plan import MOST_HOOKS, hooks_of, plan_hooks
from controller.backup.volumes import PlannedVolume

PRE, POST = "pre.hook.backup.ararat.dev/command", "post.hook.backup.velero.io/command"


def pod(
    name: str,
    *claims: str,
    hooks: dict[str, str] | None = None,
    phase: str = "Running",
    namespace: str = "wp",
    labels: dict[str, str] | None = None,
    terminating: bool = False,
) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "namespace": namespace,
        "name": name,
        "uid": f"uid-{name}",
        "annotations": hooks or {},
        "labels": labels or {},
    }
    if terminating:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    volumes = [{"name": c, "persistentVolumeClaim": {"claimName": c}} for c in claims]
    spec = {"containers": [{"name": "main"}], "volumes": volumes}
    return {"metadata": metadata, "spec": spec, "status": {"phase": phase}}


def volume(
    of: str, name: str, *, claim: bool = True, coverage: Coverage = Coverage.BACKED_UP
) -> PlannedVolume:
    return PlannedVolume(
        pod=PodReference(namespace="wp", name=of, uid=f"uid-{of}"),
        node="n1",
        volume=name,
        volume_type="persistentVolumeClaim" if claim else "emptyDir",
        coverage=coverage,
        claim=ClaimReference(name=name) if claim else None,
    )


def action(*command: str, **settings: Any) -> HookAction:
    return HookAction(exec=ExecHook(command=list(command), **settings))


BOTH = {PRE: "freeze", POST: "thaw"}


def test_pods_and_their_volumes() -> None:
    pods = [
        pod("db", "data", hooks=BOTH),
        pod("plain", "other"),
        pod("pending", hooks=BOTH, phase="Pending"),
        pod("done", hooks=BOTH, phase="Succeeded"),
        pod("leaving", hooks=BOTH, terminating=True),
        pod("alone", hooks={POST: "only after"}),
    ]
    volumes = [
        volume("db", "data"),
        volume("db", "scratch", claim=False),
        volume("db", "skipped", coverage=Coverage.SKIPPED),
        volume("plain", "other"),
    ]
    planned, grouped = plan_hooks(pods, volumes, BackupHooks(), unique="b1")
    assert [(p.pod.name, p.pre, p.post) for p in planned] == [("alone", 0, 1), ("db", 1, 1)]
    alone, db = (p.group for p in planned)
    assert alone != db
    assert [v.group for v in grouped] == [db, db, "", ""]
    assert [v.model_copy(update={"group": ""}) for v in grouped] == volumes
    # Nothing of the commands is in what is stored in the clear.
    assert "freeze" not in json.dumps([p.to_dict() for p in planned])
    again, _ = plan_hooks(pods, volumes, BackupHooks(), unique="b2")
    assert {p.group for p in again}.isdisjoint({alone, db})


def test_pods_that_share_claims_are_one_group() -> None:
    pods = [
        pod("a", "shared", hooks=BOTH),
        pod("b", "shared", "chain", hooks=BOTH),
        pod("c", "chain", hooks=BOTH),
        pod("d", "own", hooks=BOTH),
        pod("reader", "shared", "unshared"),
    ]
    volumes = [
        volume("reader", "shared"),  # read through a pod that has no hooks
        volume("reader", "unshared"),
        volume("c", "chain"),
        volume("d", "own"),
    ]
    planned, grouped = plan_hooks(pods, volumes, BackupHooks(), unique="b")
    groups = {p.pod.name: p.group for p in planned}
    assert groups["a"] == groups["b"] == groups["c"] != groups["d"]
    assert [v.group for v in grouped] == [groups["a"], "", groups["a"], groups["d"]]


def test_annotations_replace_the_hooks_of_the_spec_each_for_its_own_time() -> None:
    resource = HookResource(pre=[action("spec-pre")], post=[action("spec-post"), action("more")])
    hooks = BackupHooks(resources=[resource])
    found = hooks_of(pod("db", hooks={PRE: "mine"}), hooks)
    assert [h.command for h in found.pre] == [("mine",)]
    assert [h.command for h in found.post] == [("spec-post",), ("more",)]


@pytest.mark.parametrize(
    ("resource", "selects"),
    [
        ({}, True),
        ({"included_namespaces": ["w*"]}, True),
        ({"included_namespaces": ["x*"]}, False),
        ({"excluded_namespaces": ["wp"]}, False),
        ({"included_resources": ["pods"]}, True),
        ({"excluded_resources": ["po"]}, False),
        ({"label_selector": LabelSelector(match_labels={"app": "db"})}, True),
        ({"label_selector": LabelSelector(match_labels={"app": "web"})}, False),
    ],
)
def test_whom_the_spec_selects(resource: dict[str, Any], selects: bool) -> None:
    hooks = BackupHooks(resources=[HookResource(pre=[action("a")], **resource)])
    assert bool(hooks_of(pod("db", labels={"app": "db"}), hooks)) is selects


def test_mistakes_are_told_all_at_once() -> None:
    pods = [pod("a", hooks={PRE: "[1"}), pod("b", hooks=BOTH), pod("c", hooks={POST: ""})]
    with pytest.raises(InvalidSpec) as caught:
        plan_hooks(pods, [], BackupHooks(), unique="b")
    assert "pod wp/a: annotation" in caught.value.message
    assert "pod wp/c: annotation" in caught.value.message


def test_what_does_not_fit() -> None:
    many = HookResource(pre=[action("a")] * (MOST_HOOKS + 1))
    with pytest.raises(InvalidSpec, match="more than 32 hooks"):
        hooks_of(pod("db"), BackupHooks(resources=[many]))
    slow = HookResource(pre=[action("a", timeout="6m"), action("b", timeout="5m")])
    with pytest.raises(InvalidSpec, match="may take 660 s, and hooks"):
        hooks_of(pod("db"), BackupHooks(resources=[slow]))
    assert hooks_of(pod("db"), BackupHooks(resources=[slow], max_freeze_seconds=700))
    wrong = BackupHooks(resources=[HookResource(included_resources=["deployments"])])
    with pytest.raises(InvalidSpec, match="only pods have hooks"):
        plan_hooks([], [], wrong, unique="b")
