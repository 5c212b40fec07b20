from __future__ import annotations

import copy
from typing import Any

import pytest

from controller.restore.images import map_images, mapped
from controller.restore.transform import Target, prepare
from tests.unit.controller.restore.make import stored


@pytest.mark.parametrize(
    ("image", "new"),
    [
        ("docker.io/library/nginx:1", "mirror/library/nginx:1"),
        ("docker.io", "mirror"),
        ("docker.iox/nginx", "docker.iox/nginx"),
        ("docker.io/team/app@sha256:1", "ours/app@sha256:1"),
        ("nginx", "nginx"),
        ("old:5000/a:2", "new:443/a:2"),
    ],
)
def test_the_beginning_is_replaced_at_a_border(image: str, new: str) -> None:
    mapping = {"docker.io": "mirror", "docker.io/team/": "ours/", "old:5000": "new:443"}
    assert mapped(image, mapping) == new


SPEC = {
    "containers": [{"name": "a", "image": "old/a:1"}],
    "initContainers": [{"name": "i", "image": "old/i:1"}],
}


@pytest.mark.parametrize(
    ("resource", "body"),
    [
        ("pods", {"spec": SPEC}),
        ("deployments.apps", {"spec": {"template": {"spec": SPEC}}}),
        ("cronjobs.batch", {"spec": {"jobTemplate": {"spec": {"template": {"spec": SPEC}}}}}),
        ("podtemplates", {"template": {"spec": SPEC}}),
        ("controllerrevisions.apps", {"data": {"spec": {"template": {"spec": SPEC}}}}),
    ],
)
def test_everywhere_a_pod_is_described(resource: str, body: dict[str, Any]) -> None:
    changed = copy.deepcopy(body)
    map_images(resource, changed, {"old": "new"})
    assert str(changed) == str(body).replace("old/", "new/")
    untouched = copy.deepcopy(body)
    map_images("widgets.example.org", untouched, {"old": "new"})
    assert untouched == body


def test_a_revision_that_changes_is_found_by_its_content() -> None:
    revision = stored(
        "ControllerRevision",
        "db-5d",
        api_version="apps/v1",
        labels={"controller.kubernetes.io/hash": "5d", "app": "db"},
        data={"spec": {"template": {"spec": SPEC}}},
    )
    resource = "controllerrevisions.apps"
    same = prepare(resource, revision.body, Target()).body
    assert "controller.kubernetes.io/hash" in same["metadata"]["labels"]
    changed = prepare(resource, revision.body, Target(images={"old": "new"})).body
    assert changed["metadata"]["labels"] == {"app": "db"}
