"""Hooks of restored pods: what is asked for, and what becomes of the pod."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ararat.api.hooks import OnError, RestoreHooks
from ararat.errors import InvalidSpec
from controller.restore.hooks.inject import inject, injected, remove
from controller.restore.hooks.parse import check_spec, restore_hooks
from tests.unit.controller.restore.make import body, only, plan
from tests.unit.controller.restore.make import pod as stored_pod

POST = "post.hook.restore.ararat.dev/"
INIT = "init.hook.restore.ararat.dev/"


def pod(**annotations: str) -> dict[str, Any]:
    container = {
        "name": "app",
        "image": "app:1",
        "resources": {"limits": {"memory": "1Gi"}},
        "securityContext": {"runAsUser": 7},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    return {
        "metadata": {"namespace": "wp", "name": "db", "annotations": annotations},
        "spec": {"containers": [container, {"name": "side", "image": "s"}]},
    }


def spec(*post_hooks: dict[str, Any], **selection: Any) -> RestoreHooks:
    resource = {"name": "h", "postHooks": list(post_hooks), **selection}
    return RestoreHooks.model_validate({"resources": [resource]})


@pytest.mark.parametrize("owner", ["ararat.dev", "velero.io", "ark.heptio.com"])
def test_annotations(owner: str) -> None:
    prefix = f"post.hook.restore.{owner}/"
    texts = {
        "command": '["load", "it"]',
        "container": "side",
        "on-error": "Continue",
        "exec-timeout": "1m",
        "wait-timeout": "5m",
        "wait-for-ready": "true",
    }
    made = pod(**{prefix + key: text for key, text in texts.items()})
    (found,) = restore_hooks(made, RestoreHooks()).post
    assert (found.hook.command, found.hook.container) == (("load", "it"), "side")
    assert (found.hook.on_error, found.hook.timeout) == (OnError.CONTINUE, 60.0)
    assert (found.wait_timeout, found.wait_for_ready) == (300.0, True)


def test_defaults() -> None:
    (found,) = restore_hooks(pod(**{POST + "command": "load"}), RestoreHooks()).post
    assert (found.hook.container, found.hook.on_error) == ("app", OnError.FAIL)
    assert (found.hook.timeout, found.wait_timeout, found.wait_for_ready) == (30.0, None, False)
    assert restore_hooks(pod(), RestoreHooks()) == restore_hooks(pod(), RestoreHooks(skip=True))


@pytest.mark.parametrize(
    ("annotations", "words"),
    [
        ({POST + "command": "load", POST + "timeout": "5s"}, "no such setting of a hook"),
        ({POST + "exec-timeout": "5s"}, f"there is no {POST}command"),
        ({POST + "command": "load", POST + "wait-for-ready": "yes"}, "neither true nor false"),
        ({POST + "command": "load", POST + "wait-timeout": "0s"}, "no time at all"),
        ({POST + "command": "load", POST + "container": "none"}, "no container 'none'"),
        ({INIT + "command": '["a"'}, "begins like a JSON array"),
        ({INIT + "container-name": "x"}, f"there is no {INIT}container-image"),
        ({"post.hook.restore.velero.io/command": "[]"}, "must be a JSON array"),
    ],
)
def test_mistakes(annotations: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidSpec, match="pod wp/db: annotation") as caught:
        restore_hooks(pod(**annotations), RestoreHooks())
    assert words in caught.value.message


def test_an_init_container_sees_what_the_first_container_does() -> None:
    made = pod(**{INIT + "command": "fix", INIT + "timeout": "0"})
    found = restore_hooks(made, RestoreHooks())
    first = made["spec"]["containers"][0]
    (container,) = found.init
    assert container == {
        "name": "restore-init",
        "image": "app:1",
        "command": ["fix"],
        **{key: first[key] for key in ("volumeMounts", "securityContext", "resources")},
    }
    assert found.init_timeout == 0


def test_annotations_replace_the_spec_each_kind_for_itself() -> None:
    hooks = spec(
        {"exec": {"command": ["a"]}},
        {"exec": {"command": ["b"], "waitTimeout": "9s"}},
        {"init": {"initContainers": [{"name": "fix", "image": "fix:1"}], "timeout": "1m"}},
    )
    found = restore_hooks(pod(), hooks)
    assert [each.hook.command for each in found.post] == [("a",), ("b",)]
    assert [each.wait_timeout for each in found.post] == [None, 9.0]
    assert (found.init_timeout, found.text) == (60.0, "init container fix, 2 commands")
    found = restore_hooks(pod(**{POST + "command": "c"}), hooks)
    assert [each.hook.command for each in found.post] == [("c",)]
    assert found.init


@pytest.mark.parametrize(
    ("selection", "meant"),
    [
        ({"includedNamespaces": ["w*"]}, True),
        ({"includedNamespaces": ["other"]}, False),
        ({"excludedNamespaces": ["wp"]}, False),
        ({"labelSelector": {"matchLabels": {"app": "x"}}}, False),
    ],
)
def test_selectors(selection: dict[str, Any], meant: bool) -> None:
    hooks = spec({"exec": {"command": ["a"]}}, **selection)
    assert bool(restore_hooks(pod(), hooks)) is meant


@pytest.mark.parametrize(
    ("hooks", "words"),
    [
        (spec({"exec": {"command": ["a"]}}, includedResources=["deploy"]), "only pods have hooks"),
        (spec({"init": {"initContainers": [{"name": "a"}]}}), "an init container has no image"),
    ],
)
def test_mistakes_in_the_spec(hooks: RestoreHooks, words: str) -> None:
    with pytest.raises(InvalidSpec, match=words):
        check_spec(hooks)


def test_init_containers_stand_behind_the_gate_and_go_again() -> None:
    made = pod()
    made["spec"]["initContainers"] = [{"name": "restore-wait"}, {"name": "own"}]
    before = copy.deepcopy(made)
    for _ in range(2):
        inject(made, [{"name": "one", "image": "x"}, {"name": "two", "image": "x"}])
    names = [container["name"] for container in made["spec"]["initContainers"]]
    assert names == ["restore-wait", "one", "two", "own"]
    assert injected(made) == ["one", "two"]
    remove(made)
    assert made["spec"] == before["spec"]
    with pytest.raises(InvalidSpec, match="the pod has a container of that name"):
        inject(made, [{"name": "own", "image": "x"}])


def test_the_plan_tells_of_hooks_and_their_mistakes() -> None:
    texts = {INIT + "command": "fix", POST + "command": "load"}
    made = plan(stored_pod(owner=None, annotations=texts))
    assert only(made, "pods").hooks == "init container restore-init, a command"
    # Backed up and restored again, it has the init container once.
    again = plan(
        stored_pod(
            owner=None,
            annotations=body(made, "pods")["metadata"]["annotations"],
            initContainers=body(made, "pods")["spec"]["initContainers"],
        )
    )
    assert len(body(again, "pods")["spec"]["initContainers"]) == 1
    wrong = plan(stored_pod(owner=None, annotations={POST + "cmd": "load"}))
    assert [failure.reason for failure in wrong.failures] == ["InvalidHook"]
    assert only(wrong, "pods").body is not None
